/**
 * Files that are sent from where they lie, receipts, and asking servers about them.
 *
 * @module
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import { describe, expect, it } from "@effect/vitest"
import { Array as Arr, Chunk, Effect, Fiber, Option, Stream, TestClock } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Source from "../../src/client/Source.ts"
import type * as Uploader from "../../src/client/Uploader.ts"
import type { UploadEvent } from "../../src/client/UploadEvent.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as World from "../support/clientWorld.ts"
import { temporaryFolder } from "../support/sqliteFiles.ts"

const { bytesOf, client, content, endpoint } = World

/** A file whose bytes the test can change; `read` counts those that were asked for. */
const changeable = (bytes: Uint8Array) => {
  const state = { bytes, version: 1, read: 0 }
  const source: Source.Source = {
    path: "big.bin",
    source: "/big.bin",
    name: "big.bin",
    bytes: () => Stream.sync(() => state.bytes),
    external: Effect.sync(() => {
      const { version } = state
      return {
        size: state.bytes.length,
        version: String(version),
        open: Effect.succeed((into, from) =>
          Effect.suspend(() => {
            state.read += into.length
            into.set(state.bytes.subarray(from, from + into.length))
            return state.version === version
              ? Effect.void
              : Effect.fail(new Source.SourceChanged({ path: "big.bin", message: "big.bin was changed" }))
          })
        )
      }
    })
  }
  const change = (next: Uint8Array) => {
    state.bytes = next
    state.version += 1
  }
  return { source, state, change }
}

const send = (uploader: Uploader.Uploader["Type"], source: Source.Source) =>
  Stream.runCollect(uploader.bufferAndUpload(source, { endpoint })).pipe(
    Effect.map(Chunk.toReadonlyArray),
    Effect.map((events) => events.at(-1) as Extract<UploadEvent, { readonly _tag: "Finished" }>)
  )

/** An upload that ends early, when so many bytes are acknowledged. */
const upTo = <E>(bytes: number, events: Stream.Stream<UploadEvent, E>) =>
  Stream.runDrain(Stream.takeUntil(events, (event) => event._tag === "Progress" && event.acknowledged >= bytes))

/** Chunks that are worth one hash for them and the whole file. */
const long = { chunkSize: 2 * 1024 * 1024, largestBody: 2 * 1024 * 1024 }

describe("Uploader, direct", () => {
  it.scoped("sends a file from where it lies, and copies nothing into the buffer", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { buffered, sends, uploader } = yield* client(transport)
      const { source, state } = changeable(bytesOf(10))
      expect(yield* send(uploader, source)).toMatchObject({
        state: "delivered",
        sha256: Option.some(Sha256.of(bytesOf(10)))
      })
      expect(yield* content(files, "big.bin")).toEqual(bytesOf(10))
      // also for its hash, which goes with the last of its bytes
      expect(state.read).toBe(10)
      expect(sends().map(({ out }) => Option.isSome(Option.flatMap(out.chunk.upload, ({ sha256 }) => sha256))))
        .toEqual([false, false, true])
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(uploader.receipts))).toMatchObject([
        { sha256: Sha256.of(bytesOf(10)) }
      ])
      expect(yield* buffered).toEqual([])
    }))

  it.scoped("hashes each byte once for a server that takes that, as long as nothing goes wrong", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { sends, uploader } = yield* client(transport, {
        send: (proceed, number) => number === 3 ? Effect.fail(World.lost) : proceed
      }, long)
      const bytes = bytesOf(6 * long.chunkSize)
      const { source } = changeable(bytes)
      expect(yield* World.inTime(send(uploader, source))).toMatchObject({ state: "delivered" })
      const [before, after] = Arr.splitAt(
        sends().map(({ headers, offset }) => [
          offset! / long.chunkSize,
          headers["content-digest"] !== undefined,
          headers["prefix-digest"]
        ]),
        4
      )
      const prefix = (chunks: number) => Sha256.toHeader(Sha256.of(bytes.subarray(0, chunks * long.chunkSize)))
      expect(before).toEqual([
        // what it takes is shown by its first answer
        [0, true, undefined],
        [1, false, prefix(2)],
        [2, false, prefix(3)],
        [3, false, prefix(4)]
      ])
      expect(after[0]).toEqual([3, true, undefined])
      expect(after.every(([, isContent]) => isContent)).toBe(true)
      expect(Sha256.of((yield* content(files, "big.bin"))!)).toBe(Sha256.of(bytes))
    }))

  it.scoped("hashes each chunk by itself for a server that does not say that it takes anything else", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { sends, uploader } = yield* client(
        {
          ...transport,
          send: (out) => Effect.map(transport.send(out), ({ limit, receipt }) => ({ limit, receipt }))
        },
        {},
        long
      )
      yield* send(uploader, changeable(bytesOf(3 * long.chunkSize)).source)
      expect(sends().map(({ headers }) => headers["content-digest"] !== undefined)).toEqual([true, true, true])
    }))

  it.scoped("goes on where it was after an interruption, under the same upload id", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { sends, store, uploader } = yield* client(transport)
      const { source } = changeable(bytesOf(10))
      yield* upTo(8, uploader.bufferAndUpload(source, { endpoint }))
      const before = sends().length
      expect(yield* send(uploader, source)).toMatchObject({ state: "delivered" })
      expect(new Set(sends().map(({ id }) => id)).size).toBe(1)
      expect(sends().slice(before).map(({ offset }) => offset)).toEqual([8])
      expect(yield* content(files, "big.bin")).toEqual(bytesOf(10))
      expect(yield* store.adopted("/big.bin")).toEqual(Option.none())
    }))

  it.scoped("publishes nothing when the file changes while it is sent, and tells the server to forget it", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { change, source } = changeable(bytesOf(10))
      const { sends, store, uploader } = yield* client(transport, {
        send: (proceed, number) =>
          Effect.tap(proceed, () => number === 1 ? Effect.sync(() => change(bytesOf(10, 2))) : Effect.void)
      })
      const outcome = yield* send(uploader, source)
      expect(outcome).toMatchObject({ state: "failed", error: Option.some("big.bin was changed") })
      expect(yield* files.names).toEqual([])
      expect(yield* transport.state(endpoint, sends()[0]!.id!)).toEqual(Option.none())
      expect(yield* store.adopted("/big.bin")).toEqual(Option.none())
      expect(yield* send(uploader, source)).toMatchObject({ state: "delivered" })
      expect(yield* content(files, "big.bin")).toEqual(bytesOf(10, 2))
    }))

  it.scoped("begins anew when a half-sent file has changed since, and has the old part deleted", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { sends, uploader } = yield* client(transport)
      const { change, source } = changeable(bytesOf(10))
      yield* Stream.runDrain(
        Stream.takeUntil(uploader.bufferAndUpload(source, { endpoint }), (event) => event._tag === "Progress")
      )
      const first = sends()[0]!.id!
      change(bytesOf(7, 3))
      expect(yield* send(uploader, source)).toMatchObject({ state: "delivered", size: 7 })
      expect(yield* transport.state(endpoint, first)).toEqual(Option.none())
      expect(yield* content(files, "big.bin")).toEqual(bytesOf(7, 3))
    }))

  it.scoped("sends a file that was delivered before as a new upload", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { uploader } = yield* client(transport)
      const { source } = changeable(bytesOf(5))
      yield* send(uploader, source)
      expect(yield* send(uploader, source)).toMatchObject({ serverName: Option.some("big (1).bin") })
      expect(yield* files.names).toEqual(["big (1).bin", "big.bin"])
    }))
})

describe("Uploader, direct, with a real file", () => {
  const changes: ReadonlyArray<readonly [string, (path: string) => void]> = [
    ["is written to", (path) => Fs.writeFileSync(path, bytesOf(40, 9))],
    ["grows", (path) => Fs.appendFileSync(path, "x")],
    ["is cut short", (path) => Fs.truncateSync(path, 8)],
    ["is replaced by another one of the same size and time", (path) => {
      const { atime, mtime } = Fs.statSync(path)
      Fs.writeFileSync(`${path}.new`, bytesOf(40, 9))
      Fs.utimesSync(`${path}.new`, atime, mtime)
      Fs.renameSync(`${path}.new`, path)
    }],
    ["is removed", (path) => Fs.rmSync(path)]
  ]
  for (const [what, change] of changes) {
    it.scoped(`publishes nothing when it ${what} meanwhile`, () =>
      Effect.gen(function*() {
        const path = Path.join(yield* temporaryFolder, "a.bin")
        Fs.writeFileSync(path, bytesOf(40))
        Fs.utimesSync(path, 1_000_000, 1_000_000)
        const { files, transport } = yield* World.server
        const { sends, store, uploader } = yield* client(transport, {
          send: (proceed, number) =>
            Effect.tap(proceed, () => Effect.sync(() => number === 3 ? change(path) : undefined))
        })
        const source = yield* Effect.provide(Source.file(path), NodeContext.layer)
        expect(yield* send(uploader, source)).toMatchObject({ state: "failed" })
        expect(yield* files.names).toEqual([])
        expect(yield* transport.state(endpoint, sends()[0]!.id!)).toEqual(Option.none())
        expect(yield* store.adopted(path)).toEqual(Option.none())
      }))
  }

  it.scoped("hashes again what an earlier program has sent: when that is no longer the same, nothing is published", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { sends, uploader } = yield* client(transport)
      const { source, state } = changeable(bytesOf(10))
      yield* upTo(4, uploader.bufferAndUpload(source, { endpoint }))
      // other bytes under the same version
      state.bytes = bytesOf(10, 5)
      expect(yield* send(uploader, source)).toMatchObject({ state: "failed" })
      expect(yield* files.names).toEqual([])
      expect(yield* transport.state(endpoint, sends()[0]!.id!)).toEqual(Option.none())
      expect(state.version).toBe(1)
      // begun anew after it was given up: what the server had of it may be what was wrong
      expect(yield* send(uploader, source)).toMatchObject({ state: "delivered" })
      expect(yield* content(files, "big.bin")).toEqual(bytesOf(10, 5))
    }))

  it.scoped("is compared with what the server says it has, also when all was sent by an earlier program", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const store = yield* World.memoryStore
      // the answer that says so is lost
      const first = yield* client(transport, {
        send: (proceed, number) => number === 2 ? Effect.zipRight(proceed, Effect.never) : proceed
      }, { store })
      const { source } = changeable(bytesOf(10))
      const fiber = yield* Effect.fork(Stream.runDrain(first.uploader.bufferAndUpload(source, { endpoint })))
      yield* TestClock.adjust("1 second")
      expect(first.sends()).toHaveLength(3)
      yield* Fiber.interrupt(fiber)
      const second = yield* client(transport, {}, { store })
      expect(yield* send(second.uploader, source)).toMatchObject({
        state: "delivered",
        sha256: Option.some(Sha256.of(bytesOf(10)))
      })
      expect(second.sends()).toEqual([])
    }))
})

describe("Uploader, add", () => {
  it.scoped("adds nothing of a file that changes while it is read", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { buffered, uploader } = yield* client(transport)
      const { change, source } = changeable(bytesOf(10))
      const growing = {
        ...source,
        external: Effect.map(source.external!, (external): Source.External => ({
          ...external,
          open: Effect.map(external.open, (read) => (into, from) =>
            Effect.zipRight(
              from === 8
                ? Effect.sync(() => change(bytesOf(20)))
                : Effect.void,
              read(into, from)
            ))
        }))
      }
      expect(yield* Effect.flip(uploader.add(growing))).toMatchObject({
        _tag: "SourceError",
        message: "big.bin was changed while it was added; add it again"
      })
      expect(yield* buffered).toEqual([])
      yield* uploader.add(source)
      expect(yield* buffered).toHaveLength(1)
    }))
})

describe("Uploader, names at revision-1 servers", () => {
  it.scoped("sends files of one base name under different names, also after a restart, and each file once", () =>
    Effect.gen(function*() {
      const old = World.legacyServer()
      const store = yield* World.memoryStore
      const first = yield* client(old.transport, {}, { store })
      yield* first.add("x/a.txt", bytesOf(6))
      yield* first.add("y/a.txt", bytesOf(7, 2))
      yield* first.upload()
      const second = yield* client(old.transport, {}, { store })
      yield* second.add("a.txt", bytesOf(5, 3))
      yield* second.upload()
      expect([...old.files.keys()]).toEqual(["a.txt", "a (1).txt", "a (2).txt"])
      expect(World.inFile(old, "a.txt")).toEqual(bytesOf(6))
      expect(World.inFile(old, "a (1).txt")).toEqual(bytesOf(7, 2))
      expect(World.inFile(old, "a (2).txt")).toEqual(bytesOf(5, 3))
    }))

  it.scoped("sends a file beside one of its name that was half sent from where it lies under another one", () =>
    Effect.gen(function*() {
      const old = World.legacyServer()
      const store = yield* World.memoryStore
      const first = yield* client(old.transport, {}, { store })
      const { source } = changeable(bytesOf(10))
      yield* upTo(4, first.uploader.bufferAndUpload(source, { endpoint }))
      const second = yield* client(old.transport, {}, { store })
      yield* second.add("y/big.bin", bytesOf(7, 2))
      yield* second.upload()
      expect(World.inFile(old, "big (1).bin")).toEqual(bytesOf(7, 2))
      expect(yield* send(second.uploader, source)).toMatchObject({ state: "delivered" })
      expect(World.inFile(old, "big.bin")).toEqual(bytesOf(10))
    }))

  it.scoped("sends what was half sent and has changed since under another name, be it buffered or not", () =>
    Effect.gen(function*() {
      const old = World.legacyServer()
      const store = yield* World.memoryStore
      const { add, uploader } = yield* client(old.transport, {}, { store })
      const { change, source } = changeable(bytesOf(10))
      yield* upTo(4, uploader.bufferAndUpload(source, { endpoint }))
      change(bytesOf(9, 2))
      expect(yield* send(uploader, source)).toMatchObject({ state: "delivered" })
      expect(World.inFile(old, "big (1).bin")).toEqual(bytesOf(9, 2))
      yield* add("a.txt", bytesOf(10))
      yield* upTo(4, uploader.upload({ endpoint }))
      yield* add("a.txt", bytesOf(9, 2))
      yield* uploader.uploadAll({ endpoint })
      expect(World.inFile(old, "a (1).txt")).toEqual(bytesOf(9, 2))
    }))

  it.scoped.each([429, 400])(
    "sends a file that was refused with %i beside one that took its name meanwhile",
    (status) =>
      Effect.gen(function*() {
        const old = World.legacyServer()
        const { add, upload } = yield* client(old.transport, World.failing(World.refused(status), 0))
        yield* add("x/a.txt", bytesOf(6))
        yield* add("y/a.txt", bytesOf(7, 2))
        yield* upload()
        yield* upload()
        expect(old.files.size).toBe(2)
        expect(World.inFile(old, "a.txt")).toEqual(bytesOf(7, 2))
        expect(World.inFile(old, "a (1).txt")).toEqual(bytesOf(6))
      })
  )

  it.scoped("leaves names alone at our server, also such that it had when it was an old one", () =>
    Effect.gen(function*() {
      const old = World.legacyServer()
      const store = yield* World.memoryStore
      const first = yield* client(old.transport, {}, { store })
      yield* first.add("a.txt", bytesOf(6))
      yield* first.upload()
      const { files, transport } = yield* World.server
      const { add, upload } = yield* client(transport, {}, { store })
      yield* add("b.txt", bytesOf(3))
      yield* add("z/a.txt", bytesOf(9, 2))
      yield* upload()
      expect(yield* content(files, "a.txt")).toEqual(bytesOf(9, 2))
    }))

  it.scoped("leaves names alone at our server", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport)
      yield* add("x/a.txt", bytesOf(3))
      yield* add("y/a.txt", bytesOf(3, 2))
      yield* upload()
      expect(sends().map(({ headers }) => headers["x-file-name"])).toEqual(["x/a.txt", "y/a.txt"])
    }))
})

describe("Uploader, receipts", () => {
  const verdicts = (uploader: Uploader.Uploader["Type"]) =>
    Effect.map(
      Stream.runCollect(uploader.verify(endpoint)),
      (found) => Chunk.toReadonlyArray(found).map(({ receipt, verdict }) => [receipt.path, verdict])
    )

  it.scoped("keeps a receipt of each delivered file, and verifies it against what the server has now", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, upload, uploader } = yield* client(transport)
      for (const name of ["same", "changed", "gone"]) yield* add(name, bytesOf(6))
      yield* upload()
      yield* files.write("changed", bytesOf(6, 9))
      yield* files.remove("gone")
      expect(yield* verdicts(uploader)).toEqual([["same", "same"], ["changed", "different"], ["gone", "gone"]])
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(uploader.receipts))[0]).toMatchObject({
        path: "same",
        serverName: "same",
        size: 6,
        sha256: Sha256.of(bytesOf(6)),
        revision: 2,
        resent: false,
        endpoint
      })
    }))

  it.scoped("cannot verify what a revision-1 server has, and asks it nothing", () =>
    Effect.gen(function*() {
      const old = World.legacyServer()
      const { add, calls, upload, uploader } = yield* client(old.transport)
      yield* add("old", bytesOf(6))
      yield* upload()
      const before = calls.length
      expect(yield* verdicts(uploader)).toEqual([["old", "unverifiable"]])
      expect(calls.length).toBe(before)
    }))

  it.scoped("says that a server does not remember a file", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, upload, uploader } = yield* client(transport, {
        ask: () => Effect.succeedNone
      })
      yield* add("a", bytesOf(6))
      yield* upload()
      expect(yield* verdicts(uploader)).toEqual([["a", "unknown"]])
    }))
})
