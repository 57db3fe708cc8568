/**
 * Our client and our server over real sockets, a real buffer and real folders, with connections cut at each stage.
 *
 * @module
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Scope, Stream } from "effect"
import * as Fs from "node:fs"
import { bytesOf } from "../support/clientWorld.ts"
import * as CutProxy from "../support/CutProxy.ts"
import * as Live from "../support/live.ts"
import { raw, temporaryFile, temporaryFolder } from "../support/sqliteFiles.ts"

const equal = (found: Uint8Array, wanted: Uint8Array) =>
  assert.isTrue(Buffer.from(found).equals(wanted), `${found.length} bytes, wanted ${wanted.length}`)

const states = (outcomes: ReadonlyArray<{ readonly state: string }>) => outcomes.map(({ state }) => state)

const newClient = Effect.flatMap(temporaryFile, (file) => Live.client(file))

const stages: ReadonlyArray<readonly [string, CutProxy.When]> = [
  ["before the request", CutProxy.afterRequest(0)],
  ["within the head", CutProxy.afterRequest(20)],
  ["after the head", CutProxy.afterBody(0)],
  ["within the body", CutProxy.afterBody(300)],
  ["before the answer", CutProxy.answerLost],
  ["within the head of the answer", CutProxy.afterAnswer(12)],
  ["within the body of the answer", CutProxy.afterAnswer(250)]
]

describe("our client, our server", () => {
  it.scopedLive("delivers files of every size and name, each once and byte for byte", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const server = yield* Live.server(folder)
      const uploader = yield* newClient
      const files = [
        { name: "several.bin", onServer: "several.bin", size: 2500 },
        { name: "one.bin", onServer: "one.bin", size: 999 },
        { name: "multiple.bin", onServer: "multiple.bin", size: 3000 },
        { name: "empty", onServer: "empty", size: 0 },
        { name: "dir/two words.txt", onServer: "two words.txt", size: 1500 },
        { name: "日本 ü €.txt", onServer: "日本 ü €.txt", size: 1500 },
        { name: "other/one.bin", onServer: "one (1).bin", size: 10 }
      ].map((file, seed) => ({ ...file, bytes: bytesOf(file.size, seed) }))
      const last = files.at(-1)!
      for (const { bytes, name } of files.slice(0, -1)) yield* Live.add(uploader, name, bytes)
      const outcomes = [...yield* uploader.uploadAll({ endpoint: server.url })]
      // in a run of its own: of files that are sent at once, any may be the first of its name
      yield* Live.add(uploader, last.name, last.bytes)
      outcomes.push(...yield* uploader.uploadAll({ endpoint: server.url }))
      assert.sameDeepMembers(
        outcomes.map(({ path, serverName, state }) => ({ path, serverName, state })),
        files.map(({ name, onServer }) => ({
          path: name,
          serverName: Option.some(onServer),
          state: "delivered" as const
        }))
      )
      assert.deepStrictEqual(yield* Live.filesIn(folder), files.map(({ onServer }) => onServer).sort())
      for (const { bytes, onServer } of files) equal(yield* Live.read(folder, onServer), bytes)
      assert.deepStrictEqual(yield* Live.buffered(uploader), [])
    }))

  for (const by of ["reset", "close"] as const) {
    it.scopedLive(`has each file right and once, wherever the connection is cut (${by})`, () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const server = yield* Live.server(folder)
        // so that a cut can be planned for a certain chunk
        const uploader = yield* Effect.flatMap(
          temporaryFile,
          (file) => Live.client(file, { largestBody: 1000, parallel: 1 })
        )
        const bytes = bytesOf(3500)
        const names: Array<string> = []
        for (const [stage, when] of stages) {
          for (const at of [0, 1, 3]) {
            const proxy = yield* CutProxy.make({ target: server.port })
            const planned = yield* proxy.plan(CutProxy.cut(when, { by, skip: at }))
            const name = `${stage} ${at}`
            yield* Live.add(uploader, name, bytes)
            const outcomes = yield* uploader.uploadAll({ endpoint: proxy.url })
            yield* planned.done
            assert.deepStrictEqual(states(outcomes), ["delivered"], name)
            equal(yield* Live.read(folder, name), bytes)
            assert.deepStrictEqual(yield* Live.buffered(uploader), [])
            names.push(name)
          }
        }
        assert.deepStrictEqual(yield* Live.filesIn(folder), names.sort())
      }))
  }

  it.scopedLive("gets through however often the connection is cut", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const server = yield* Live.server(folder)
      const proxy = yield* CutProxy.make({ target: server.port })
      const cuts = [...stages, ...stages.toReversed()]
      for (const [at, [, when]] of cuts.entries()) {
        yield* proxy.plan(CutProxy.cut(when, { by: at % 2 === 0 ? "reset" : "close", skip: at % 3 === 0 ? 1 : 0 }))
      }
      const uploader = yield* newClient
      yield* Live.add(uploader, "a", bytesOf(20_500, 1))
      yield* Live.add(uploader, "b", bytesOf(20_500, 2))
      assert.deepStrictEqual(states(yield* uploader.uploadAll({ endpoint: proxy.url })), ["delivered", "delivered"])
      assert.isAbove(yield* proxy.connections, cuts.length)
      assert.deepStrictEqual(yield* Live.filesIn(folder), ["a", "b"])
      equal(yield* Live.read(folder, "a"), bytesOf(20_500, 1))
      equal(yield* Live.read(folder, "b"), bytesOf(20_500, 2))
    }))

  it.scopedLive("cuts large bodies off and sends them again", () =>
    Effect.gen(function*() {
      const MiB = 1024 * 1024
      const folder = yield* temporaryFolder
      const server = yield* Live.server(folder)
      const proxy = yield* CutProxy.make({ target: server.port })
      const first = yield* proxy.plan(CutProxy.cut(CutProxy.afterBody(100_000)))
      // the first request of a connection passes: it may be the question what has arrived
      for (const bytes of [900_000, 700_000, 500_000, 1]) {
        yield* proxy.plan(CutProxy.cut(CutProxy.afterBody(bytes), { skip: 1 }))
      }
      const uploader = yield* Effect.flatMap(temporaryFile, (file) => Live.client(file, { chunkSize: MiB }))
      const bytes = bytesOf(5 * MiB + 17)
      yield* Live.add(uploader, "a", bytes)
      assert.deepStrictEqual(states(yield* uploader.uploadAll({ endpoint: proxy.url })), ["delivered"])
      yield* first.done
      assert.isAtLeast(yield* proxy.connections, 3)
      equal(yield* Live.read(folder, "a"), bytes)
    }))

  it.scopedLive("goes on when the server was away and came back", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const port = yield* Live.freePort
      const uploader = yield* newClient
      const first = yield* Scope.make()
      const second = yield* Effect.scope
      yield* Scope.extend(Live.server(folder, { port }), first)
      const bytes = bytesOf(30_000)
      yield* Live.add(uploader, "a", bytes)
      let [waited, stopped] = [0, false]
      yield* Stream.runForEach(uploader.upload({ endpoint: `http://127.0.0.1:${port}/upload` }), (event) =>
        Effect.gen(function*() {
          if (event._tag === "Progress" && event.acknowledged >= 5000 && !stopped) {
            stopped = true
            yield* Scope.close(first, yield* Effect.exit(Effect.void))
          }
          if (event._tag === "Waiting" && ++waited === 2) {
            yield* Scope.extend(Live.server(folder, { port }), second)
          }
          if (event._tag === "Finished") {
            assert.strictEqual(event.state, "delivered")
          }
        }))
      assert.isAtLeast(waited, 2)
      assert.deepStrictEqual(yield* Live.filesIn(folder), ["a"])
      equal(yield* Live.read(folder, "a"), bytes)
    }))

  it.scopedLive("goes on when the program was ended and started again", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const server = yield* Live.server(folder)
      const file = yield* temporaryFile
      const bytes = bytesOf(30_000)
      yield* Effect.scoped(Effect.flatMap(Live.client(file), (uploader) => Live.add(uploader, "a", bytes)))
      let acknowledged = 0
      for (let run = 1; run <= 4; run++) {
        yield* Effect.scoped(Effect.gen(function*() {
          const uploader = yield* Live.client(file)
          const events = uploader.upload({ endpoint: server.url })
          yield* Stream.runForEachWhile(events, (event) =>
            Effect.sync(() => {
              if (event._tag === "Progress") {
                assert.isAtLeast(event.acknowledged, acknowledged)
                acknowledged = event.acknowledged
              }
              return acknowledged < run * 5000
            }))
        }))
        assert.deepStrictEqual(yield* Live.filesIn(folder), [])
      }
      const uploader = yield* Live.client(file)
      assert.deepStrictEqual(states(yield* uploader.uploadAll({ endpoint: server.url })), ["delivered"])
      equal(yield* Live.read(folder, "a"), bytes)
      assert.deepStrictEqual(yield* Live.filesIn(folder), ["a"])
    }))

  it.scopedLive("never sends bytes that were changed in the buffer on the disk", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const server = yield* Live.server(folder)
      const file = yield* temporaryFile
      yield* Effect.scoped(Effect.gen(function*() {
        const uploader = yield* Live.client(file)
        yield* Live.add(uploader, "a", bytesOf(3000))
        yield* Live.add(uploader, "b", bytesOf(3000))
      }))
      raw(file, (database) => database.exec("UPDATE pieces SET data = zeroblob(length) WHERE file = 1"))
      const uploader = yield* Live.client(file)
      assert.deepStrictEqual(states(yield* uploader.uploadAll({ endpoint: server.url })), ["failed", "delivered"])
      assert.deepStrictEqual(yield* Live.filesIn(folder), ["b"])
      assert.deepStrictEqual((yield* Live.buffered(uploader)).map(({ path }) => path), ["a"])
    }))

  it.scopedLive("stops at a wrong key, keeps the buffer, and goes on with the right one", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const server = yield* Live.server(folder)
      const file = yield* temporaryFile
      const bytes = bytesOf(2_500_000)
      yield* Effect.scoped(Effect.gen(function*() {
        const uploader = yield* Live.client(file, { key: "wrong", chunkSize: 1024 * 1024 })
        yield* Live.add(uploader, "a", bytes)
        for (let time = 0; time < 5; time++) {
          assert.strictEqual((yield* Effect.flip(uploader.uploadAll({ endpoint: server.url })))._tag, "KeyRefused")
        }
      }))
      assert.deepStrictEqual(Fs.readdirSync(folder).filter((name) => name !== ".indexedcp"), [])
      const uploader = yield* Live.client(file)
      assert.deepStrictEqual(states(yield* uploader.uploadAll({ endpoint: server.url })), ["delivered"])
      equal(yield* Live.read(folder, "a"), bytes)
    }))

  it.scopedLive("stops where there is no server of ours", () =>
    Effect.gen(function*() {
      const server = yield* Live.server(yield* temporaryFolder)
      const uploader = yield* newClient
      yield* Live.add(uploader, "a", bytesOf(10))
      const error = yield* Effect.flip(uploader.uploadAll({ endpoint: `http://127.0.0.1:${server.port}/elsewhere` }))
      assert.strictEqual(error._tag, "WrongEndpoint")
      assert.strictEqual((yield* Live.buffered(uploader)).length, 1)
    }))
})
