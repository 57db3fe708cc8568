/**
 * Both directions of revision 1 over real sockets: our client and the servers of the existing programs, our server and
 * their clients, with connections cut at each stage.
 *
 * @module
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Option, Queue, Scope, Stream } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { bytesOf } from "../support/clientWorld.ts"
import * as CutProxy from "../support/CutProxy.ts"
import * as Live from "../support/live.ts"
import * as NodeClient from "../support/peers/NodeClient.ts"
import * as NodeServer from "../support/peers/NodeServer.ts"
import type { Exchange, PeerServer } from "../support/peers/PeerServer.ts"
import * as PythonClient from "../support/peers/PythonClient.ts"
import * as PythonServer from "../support/peers/PythonServer.ts"
import { temporaryFile, temporaryFolder, writeLegacy } from "../support/sqliteFiles.ts"

const { apiKey } = Live

const equal = (found: Uint8Array, wanted: Uint8Array) =>
  assert.isTrue(Buffer.from(found).equals(wanted), `${found.length} bytes, wanted ${wanted.length}`)

const servers = {
  Python: { make: PythonServer.make, keepsOpen: false },
  "Node.js": { make: NodeServer.make, keepsOpen: true },
  "plain text": {
    make: (options: NodeServer.Options) => NodeServer.make({ ...options, plainText: true }),
    keepsOpen: true
  }
}

const newClient = Effect.flatMap(temporaryFile, (file) => Live.client(file))

/** Takes from a server's exchanges until so many of them brought bytes or were cut. */
const bringing = (server: PeerServer, count: number): Effect.Effect<ReadonlyArray<Exchange>> =>
  Effect.gen(function*() {
    const found: Array<Exchange> = []
    while (found.length < count) {
      const exchange = yield* Queue.take(server.exchanges)
      if (exchange.bytes > 0 || exchange.cut) found.push(exchange)
    }
    return found
  })

interface Stage {
  readonly stage: string
  readonly when: CutProxy.When
  /** The server gets something of the chunk. */
  readonly arrives: boolean
}

const stages: ReadonlyArray<Stage> = [
  { stage: "before the request", when: CutProxy.afterRequest(0), arrives: false },
  { stage: "within the head", when: CutProxy.afterRequest(20), arrives: false },
  { stage: "after the head", when: CutProxy.afterBody(0), arrives: true },
  { stage: "within the body", when: CutProxy.afterBody(300), arrives: true },
  { stage: "before the answer", when: CutProxy.answerLost, arrives: true },
  { stage: "within the head of the answer", when: CutProxy.afterAnswer(12), arrives: true },
  { stage: "within the body of the answer", when: CutProxy.afterAnswer(170), arrives: true }
]

for (const [serverName, { keepsOpen, make }] of Object.entries(servers)) {
  const start = Effect.flatMap(temporaryFolder, (folder) => make({ folder, apiKey }))

  describe(`our client, ${serverName} server`, () => {
    it.scopedLive("delivers files of every size and name, each once and byte for byte", () =>
      Effect.gen(function*() {
        const server = yield* start
        const uploader = yield* newClient
        const files = [
          { name: "several.bin", onServer: "several.bin", size: 2500 },
          { name: "one.bin", onServer: "one.bin", size: 999 },
          { name: "multiple.bin", onServer: "multiple.bin", size: 3000 },
          { name: "empty", onServer: "empty", size: 0 },
          { name: "dir/two words.txt", onServer: "two words.txt", size: 1500 },
          { name: "ü €.txt", onServer: "%C3%BC%20%E2%82%AC.txt", size: 1500 }
        ].map((file, seed) => ({ ...file, bytes: bytesOf(file.size, seed) }))
        for (const { bytes, name } of files) yield* Live.add(uploader, name, bytes)
        const outcomes = yield* uploader.uploadAll({ endpoint: server.url })
        assert.sameDeepMembers(
          outcomes.map(({ path, serverName, state }) => ({ path, serverName, state })),
          files.map(({ name, onServer }) => ({
            path: name,
            serverName: Option.some(onServer),
            state: "delivered" as const
          }))
        )
        const exchanges = yield* Queue.takeN(server.exchanges, 3 + 1 + 3 + 1 + 2 + 2)
        assert.isTrue([...exchanges].every(({ cut, method, status }) => method === "POST" && status === 200 && !cut))
        assert.strictEqual(yield* Queue.size(server.exchanges), 0)
        assert.deepStrictEqual(
          yield* Live.filesIn(server.folder),
          files.map(({ onServer }) => onServer).sort()
        )
        for (const { bytes, onServer } of files) equal(yield* Live.read(server.folder, onServer), bytes)
        assert.deepStrictEqual(yield* Live.buffered(uploader), [])
      }))

    it.scopedLive("waits for a server that is not there yet", () =>
      Effect.gen(function*() {
        const port = yield* Live.freePort
        const folder = yield* temporaryFolder
        const uploader = yield* newClient
        const scope = yield* Effect.scope
        yield* Live.add(uploader, "a", bytesOf(2500))
        const started = yield* Deferred.make<PeerServer>()
        let waited = 0
        const events = uploader.upload({ endpoint: `http://127.0.0.1:${port}/upload` })
        yield* Stream.runForEach(events, (event) =>
          event._tag === "Waiting" && ++waited === 2
            ? Effect.intoDeferred(Scope.extend(make({ folder, apiKey, port }), scope), started)
            : Effect.void)
        assert.isAtLeast(waited, 2)
        yield* bringing(yield* Deferred.await(started), 3)
        equal(yield* Live.read(folder, "a"), bytesOf(2500))
        assert.deepStrictEqual(yield* Live.buffered(uploader), [])
      }))

    it.scopedLive("does not send again after a restart what was on its way, and goes on from there when asked to", () =>
      Effect.gen(function*() {
        const server = yield* start
        const file = yield* temporaryFile
        yield* Effect.scoped(Effect.gen(function*() {
          const proxy = yield* CutProxy.make({ target: server.port })
          if (!keepsOpen) yield* Effect.replicateEffect(proxy.plan(CutProxy.pass), 2)
          const stalled = yield* proxy.plan(CutProxy.stall(CutProxy.afterBody(0), { skip: keepsOpen ? 2 : 0 }))
          const uploader = yield* Live.client(file)
          yield* Live.add(uploader, "a", bytesOf(4500))
          const uploading = yield* Effect.fork(uploader.uploadAll({ endpoint: proxy.url }))
          yield* stalled.done
          yield* Fiber.interrupt(uploading)
          // the server has its way to itself again at another address
          yield* Live.move(file, proxy.url, server.url)
        }))
        yield* bringing(server, 3)
        const uploader = yield* Live.client(file)
        const again = (options: { readonly resendUnconfirmed?: boolean }) =>
          Effect.map(uploader.uploadAll({ endpoint: server.url, ...options }), ([outcome]) => outcome!.state)
        assert.strictEqual(yield* again({}), "unconfirmed")
        equal(yield* Live.read(server.folder, "a"), bytesOf(2000))
        assert.strictEqual(yield* again({ resendUnconfirmed: true }), "delivered")
        yield* bringing(server, 3)
        equal(yield* Live.read(server.folder, "a"), bytesOf(4500))
      }))

    it.scopedLive("goes on with what the Python client had half sent", () =>
      Effect.gen(function*() {
        const server = yield* start
        const file = yield* temporaryFile
        const bytes = bytesOf(4500)
        Fs.writeFileSync(Path.join(server.folder, "ü.bin"), bytes.subarray(0, 2000))
        writeLegacy(
          file,
          [2, 3, 4].map((index) => ["/home/me/ü.bin", index, bytes.subarray(index * 1000, (index + 1) * 1000)] as const)
        )
        const uploader = yield* Live.client(file)
        const [outcome] = yield* uploader.uploadAll({ endpoint: server.url })
        assert.deepInclude(outcome, { state: "delivered", serverName: Option.some("ü.bin") })
        yield* bringing(server, 3)
        equal(yield* Live.read(server.folder, "ü.bin"), bytes)
        assert.deepStrictEqual(yield* Live.filesIn(server.folder), ["ü.bin"])
        assert.deepStrictEqual(yield* Live.buffered(uploader), [])
      }))

    if (serverName === "plain text") return

    for (const by of ["reset", "close"] as const) {
      for (const at of [0, 1, 2]) {
        it.scopedLive(`never doubles chunk ${at}, nor calls it delivered, wherever the connection is cut (${by})`, () =>
          Effect.gen(function*() {
            const bytes = bytesOf(3000)
            const server = yield* start
            const uploader = yield* newClient
            for (const { arrives, stage, when } of stages) {
              const proxy = yield* CutProxy.make({ target: server.port })
              if (!keepsOpen) yield* Effect.replicateEffect(proxy.plan(CutProxy.pass), at)
              const planned = yield* proxy.plan(CutProxy.cut(when, { by, skip: keepsOpen ? at : 0 }))
              yield* Live.add(uploader, stage, bytes)
              const [outcome] = yield* uploader.uploadAll({ endpoint: proxy.url })
              yield* planned.done
              if (stage === "before the request" && outcome!.state === "delivered") {
                // the client saw the cut before it had sent a byte of the body: that is sure to be nowhere
                yield* bringing(server, 3)
                equal(yield* Live.read(server.folder, stage), bytes)
                continue
              }
              assert.strictEqual(outcome!.state, "unconfirmed", stage)
              assert.include(Option.getOrThrow(outcome!.error), `Chunk ${at} may or may not have arrived`)
              const arrived = (yield* bringing(server, at + (arrives ? 1 : 0))).reduce(
                (sum, { bytes }) => sum + bytes,
                0
              )
              const content = arrived === 0 ? new Uint8Array(0) : yield* Live.read(server.folder, stage)
              equal(content, bytes.subarray(0, arrived))
              assert.isAtLeast(arrived, at * 1000, stage)
              assert.isAtMost(arrived, (at + 1) * 1000, stage)
              // a second try changes nothing
              assert.strictEqual((yield* uploader.uploadAll({ endpoint: proxy.url }))[0]!.state, "unconfirmed", stage)
              if (arrived > 0) equal(yield* Live.read(server.folder, stage), content)
              assert.strictEqual((yield* Live.buffered(uploader)).length, 1)
              const resent = yield* uploader.uploadAll({ endpoint: proxy.url, resendUnconfirmed: true })
              assert.strictEqual(resent[0]!.state, "delivered", stage)
              const later = (yield* bringing(server, 3 - at)).map(({ bytes }) => bytes)
              assert.deepStrictEqual(later, Array.from({ length: 3 - at }, () => 1000), stage)
              if (arrived === at * 1000) equal(yield* Live.read(server.folder, stage), bytes)
            }
          }))
      }
    }
  })
}

describe("our client, Python server that refuses the key", () => {
  it.scopedLive("finds the refusal each time, though the answer is often lost, and goes on with the right key", () =>
    Effect.gen(function*() {
      const MiB = 1024 * 1024
      const server = yield* PythonServer.make({ folder: yield* temporaryFolder, apiKey })
      const file = yield* temporaryFile
      const bytes = bytesOf(2 * MiB + 5)
      yield* Effect.scoped(Effect.gen(function*() {
        const uploader = yield* Live.client(file, { key: "wrong", chunkSize: MiB })
        yield* Live.add(uploader, "a", bytes)
        for (let time = 0; time < 20; time++) {
          const error = yield* Effect.flip(uploader.uploadAll({ endpoint: server.url }))
          assert.strictEqual(error._tag, "KeyRefused")
          assert.include(error.message, "Check the API key")
        }
        assert.strictEqual((yield* Live.buffered(uploader)).length, 1)
      }))
      assert.deepStrictEqual(yield* Live.filesIn(server.folder), [])
      const uploader = yield* Live.client(file, { chunkSize: MiB })
      const [outcome] = yield* uploader.uploadAll({ endpoint: server.url })
      assert.strictEqual(outcome!.state, "delivered")
      equal(yield* Live.read(server.folder, "a"), bytes)
    }))
})

const clients = { Python: PythonClient.make, "Node.js": NodeClient.make }

const fileWith = (name: string, bytes: Uint8Array) =>
  Effect.map(temporaryFolder, (folder) => {
    const path = Path.join(folder, name)
    Fs.writeFileSync(path, bytes)
    return path
  })

for (const [clientName, make] of Object.entries(clients)) {
  describe(`${clientName} client, our server`, () => {
    it.scopedLive("finds the bytes so far under the name in each answer", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const server = yield* Live.server(folder)
        const client = yield* make()
        for (const [name, size] of [["several.bin", 2500], ["one.bin", 999], ["Größe ÿ.bin", 3000]] as const) {
          const bytes = bytesOf(size)
          for (let index = 0; index * 1000 < size; index++) {
            const chunk = bytes.subarray(index * 1000, (index + 1) * 1000)
            const { json } = yield* client.uploadChunk(server.url, chunk, index, `/home/me/${name}`, apiKey)
            assert.deepStrictEqual(json, {
              message: "Chunk received",
              actualFilename: name,
              chunkIndex: index,
              clientFilename: `/home/me/${name}`
            })
            equal(yield* Live.read(folder, name), bytes.subarray(0, (index + 1) * 1000))
          }
        }
        assert.deepStrictEqual(yield* Live.filesIn(folder), ["Größe ÿ.bin", "one.bin", "several.bin"])
      }))

    for (const start of ["the chunk that was not acknowledged", "chunk 0"] as const) {
      it.scopedLive.each(["reset", "close"] as const)(
        `has its file right and once when it goes on from ${start}, wherever it was cut (%s)`,
        (by) =>
          Effect.gen(function*() {
            const bytes = bytesOf(3500)
            const path = yield* fileWith("data.bin", bytes)
            const folder = yield* temporaryFolder
            const server = yield* Live.server(folder)
            const client = yield* make()
            const names: Array<string> = []
            for (const { stage, when } of stages) {
              for (const at of [0, 1, 3]) {
                const proxy = yield* CutProxy.make({ target: server.port })
                const planned = yield* proxy.plan(CutProxy.cut(when, { by, skip: at }))
                const fileName = `${stage} ${at}`
                const options = { chunkSize: 1000, fileName }
                const failure = yield* Effect.flip(client.bufferAndUpload(path, proxy.url, apiKey, options))
                yield* planned.done
                assert.deepInclude(failure, { _tag: "NoAnswer", index: at }, stage)
                const from = start === "chunk 0" ? 0 : at
                const answers = yield* client.uploadFrom(from, path, proxy.url, apiKey, options)
                assert.isTrue(answers.every(({ json }) => json?.["actualFilename"] === fileName), stage)
                equal(yield* Live.read(folder, fileName), bytes)
                names.push(fileName)
              }
            }
            assert.deepStrictEqual(yield* Live.filesIn(folder), names.sort())
          })
      )
    }

    it.scopedLive("has a file of its own when another sends under the same name at the same time", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const server = yield* Live.server(folder)
        const senders = yield* Effect.forEach(
          ["127.0.0.2", "127.0.0.3"],
          (localAddress, seed) =>
            Effect.map(make({ localAddress }), (client) => ({ client, bytes: bytesOf(2500, seed) }))
        )
        const names: Array<Set<unknown>> = [new Set(), new Set()]
        for (let index = 0; index < 3; index++) {
          for (const [which, { bytes, client }] of senders.entries()) {
            const chunk = bytes.subarray(index * 1000, (index + 1) * 1000)
            const { json } = yield* client.uploadChunk(server.url, chunk, index, "data.bin", apiKey)
            names[which]!.add(json?.["actualFilename"])
          }
        }
        assert.deepStrictEqual(names, [new Set(["data.bin"]), new Set(["data (1).bin"])])
        equal(yield* Live.read(folder, "data.bin"), bytesOf(2500, 0))
        equal(yield* Live.read(folder, "data (1).bin"), bytesOf(2500, 1))
      }))

    it.scopedLive("leaves a file of that name as it is", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        Fs.writeFileSync(Path.join(folder, "data.bin"), "somebody else's")
        const server = yield* Live.server(folder)
        const client = yield* make()
        const path = yield* fileWith("data.bin", bytesOf(2500))
        const answers = yield* client.bufferAndUpload(path, server.url, apiKey, { chunkSize: 1000 })
        assert.deepStrictEqual(answers.map(({ json }) => json?.["actualFilename"]), answers.map(() => "data (1).bin"))
        equal(yield* Live.read(folder, "data (1).bin"), bytesOf(2500))
        equal(yield* Live.read(folder, "data.bin"), Buffer.from("somebody else's"))
      }))

    it.scopedLive("goes on after a restart of the server between two chunks", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const client = yield* make({ keepAlive: false })
        const bytes = bytesOf(4000)
        for (let index = 0; index < 4; index++) {
          yield* Effect.scoped(Effect.gen(function*() {
            const server = yield* Live.server(folder)
            const chunk = bytes.subarray(index * 1000, (index + 1) * 1000)
            const { json } = yield* client.uploadChunk(server.url, chunk, index, "data.bin", apiKey)
            assert.strictEqual(json?.["actualFilename"], "data.bin")
            equal(yield* Live.read(folder, "data.bin"), bytes.subarray(0, (index + 1) * 1000))
          }))
        }
        assert.deepStrictEqual(yield* Live.filesIn(folder), ["data.bin"])
      }))

    it.scopedLive("has its whole file under its name when the visible one is moved away in mid-upload", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const elsewhere = yield* temporaryFolder
        const server = yield* Live.server(folder)
        const client = yield* make()
        const bytes = bytesOf(3000)
        for (let index = 0; index < 3; index++) {
          const chunk = bytes.subarray(index * 1000, (index + 1) * 1000)
          yield* client.uploadChunk(server.url, chunk, index, "data.bin", apiKey)
          if (index === 1) Fs.renameSync(Path.join(folder, "data.bin"), Path.join(elsewhere, "moved.bin"))
        }
        equal(yield* Live.read(folder, "data.bin"), bytes)
        assert.deepStrictEqual(yield* Live.filesIn(folder), ["data.bin"])
        // a file put in its place in the meantime stays what it is
        Fs.writeFileSync(Path.join(folder, "other.new"), "mine")
        Fs.renameSync(Path.join(folder, "other.new"), Path.join(folder, "data.bin"))
        const { json } = yield* client.uploadChunk(server.url, bytesOf(10), 3, "data.bin", apiKey)
        assert.strictEqual(json?.["actualFilename"], "data (1).bin")
        equal(yield* Live.read(folder, "data.bin"), Buffer.from("mine"))
        equal(yield* Live.read(folder, "data (1).bin"), Uint8Array.from([...bytes, ...bytesOf(10)]))
      }))

    it.scopedLive("is refused with a wrong key, and nothing is kept", () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const server = yield* Live.server(folder)
        const client = yield* make()
        const failure = yield* Effect.exit(client.uploadChunk(server.url, bytesOf(1000), 0, "data.bin", "wrong"))
        assert.isTrue(Exit.isFailure(failure))
        assert.include(String(Exit.isFailure(failure) ? failure.cause : ""), "401")
        assert.deepStrictEqual(yield* Live.filesIn(folder), [])
      }))
  })
}
