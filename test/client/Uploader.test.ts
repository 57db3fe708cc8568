/**
 * The uploading program against our server, all in memory, on the test clock.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Exit, Fiber, Option, Stream, TestClock } from "effect"
import * as Source from "../../src/client/Source.ts"
import * as Uploader from "../../src/client/Uploader.ts"
import type { UploadEvent } from "../../src/client/UploadEvent.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as World from "../support/clientWorld.ts"

const { bytesOf, client, content, endpoint, failing, losing, lost, refused, states } = World

describe("Uploader, to our server", () => {
  it.scoped.each([0, 1, 3, 4, 5, 8, 9])("delivers a file of %i bytes in chunks of 4", (size) =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, buffered, sends, upload } = yield* client(transport)
      const bytes = bytesOf(size)
      const file = yield* add("logs/a.bin", bytes)
      const { events, outcomes } = yield* upload()
      expect(outcomes).toEqual([
        expect.objectContaining({
          file: file.id,
          path: "logs/a.bin",
          state: "delivered",
          serverName: Option.some("a.bin"),
          size,
          sha256: Option.some(Sha256.of(bytes)),
          error: Option.none()
        })
      ])
      expect(yield* content(files, "a.bin")).toEqual(bytes)
      expect(yield* files.names).toEqual(["a.bin"])
      expect(yield* buffered).toEqual([])
      const chunks = Math.max(1, Math.ceil(size / 4))
      expect(sends().map(({ headers }) => headers)).toEqual(Array.from({ length: chunks }, (_, index) => ({
        "x-chunk-index": String(index),
        "x-chunk-offset": String(index * 4),
        "x-file-name": "logs/a.bin",
        "x-upload-id": sends()[0]!.id,
        "x-file-size": String(size),
        "content-digest": Sha256.toHeader(Sha256.of(bytes.subarray(index * 4, index * 4 + 4))),
        ...(index > 0 ? { "if-match": "*" } : {}),
        ...(index === chunks - 1 ? { "repr-digest": Sha256.toHeader(Sha256.of(bytes)) } : {})
      })))
      expect(events.map((event) => event._tag)).toEqual(
        // our server's memory layer keeps no folders
        ["Started", ...Array.from({ length: chunks }, () => "Progress"), "Warning", "Finished"]
      )
    }))

  it.scoped.each([
    ["two words.txt", "two words.txt"],
    ["Größe €.txt", "Größe €.txt"],
    ["日本/語 💾.bin", "語 💾.bin"],
    ["100%.txt", "100%.txt"],
    ["%41.txt", "%41.txt"]
  ])("keeps the name %s", ([name, onServer]) =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, upload } = yield* client(transport)
      yield* add(name!, bytesOf(9))
      const { outcomes } = yield* upload()
      expect(outcomes.map(({ serverName }) => serverName)).toEqual([Option.some(onServer)])
      expect(yield* files.names).toEqual([onServer])
    }))

  it.scoped("sends nothing but the first chunk until that has its answer", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const latch = yield* Deferred.make<void>()
      const { add, calls, upload } = yield* client(transport, {
        send: (proceed, number) => number === 0 ? Effect.zipRight(Deferred.await(latch), proceed) : proceed
      })
      yield* add("a", bytesOf(40))
      yield* add("b", bytesOf(40))
      const uploading = yield* Effect.fork(upload())
      yield* TestClock.adjust("1 hour")
      expect(calls.length).toBe(1)
      yield* Deferred.succeed(latch, undefined)
      expect(states((yield* Fiber.join(uploading)).outcomes)).toEqual(["delivered", "delivered"])
    }))

  it.scoped("sends the files in the order in which they were added, or only those it is asked for", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, buffered, upload } = yield* client(transport)
      yield* add("a", bytesOf(5))
      const second = yield* add("b", bytesOf(5))
      yield* add("c", bytesOf(5))
      expect((yield* upload({ files: [second.id] })).outcomes.map(({ path }) => path)).toEqual(["b"])
      expect(yield* files.names).toEqual(["b"])
      expect((yield* buffered).map(({ path }) => path)).toEqual(["a", "c"])
      expect((yield* upload()).outcomes.map(({ path }) => path)).toEqual(["a", "c"])
    }))

  it.scoped("keeps the file in the buffer until the server has said that it is complete", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const store = yield* World.memoryStore
      const held: Array<number> = []
      const see = Effect.map(Stream.runCount(store.list), (count) => held.push(count)).pipe(Effect.orDie)
      const { add, buffered, upload } = yield* client(transport, {
        send: (proceed, number) =>
          see.pipe(
            Effect.zipRight(proceed),
            Effect.map((answer) =>
              number === 2 ? { ...answer, receipt: { ...answer.receipt, complete: false } as never } : answer
            )
          ),
        ask: (proceed) => Effect.zipRight(see, proceed)
      }, { store })
      yield* add("a", bytesOf(10))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(held).toEqual([1, 1, 1, 1])
      expect(yield* buffered).toEqual([])
    }))

  it.scoped("gives two files of one name two names", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, upload } = yield* client(transport)
      yield* add("x/a.txt", bytesOf(5, 1))
      yield* add("y/a.txt", bytesOf(5, 2))
      const { outcomes } = yield* upload()
      expect(outcomes.map(({ serverName }) => serverName)).toEqual([Option.some("a.txt"), Option.some("a (1).txt")])
      expect(yield* content(files, "a (1).txt")).toEqual(bytesOf(5, 2))
    }))
})

describe("Uploader, progress", () => {
  const acknowledged = (events: ReadonlyArray<UploadEvent>) =>
    events.flatMap((event) => event._tag === "Started" || event._tag === "Progress" ? [event.acknowledged] : [])

  it.scoped("tells how many bytes are acknowledged", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, upload } = yield* client(transport, losing(1))
      yield* add("a", bytesOf(10))
      expect(acknowledged((yield* upload()).events)).toEqual([0, 4, 8, 10])
    }))

  it.scoped("never passes the size nor falls, whatever a server says", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const said = [9000, 0, 5]
      const { add, upload } = yield* client(transport, {
        send: (proceed, number) =>
          Effect.map(proceed, (answer) => ({
            ...answer,
            receipt: { ...answer.receipt, bytesReceived: said[number] ?? 0 } as never
          }))
      })
      yield* add("a", bytesOf(12))
      const told = acknowledged((yield* upload()).events)
      expect(Math.max(...told)).toBeLessThanOrEqual(12)
      expect(told).toEqual(told.toSorted((a, b) => a - b))
    }))

  it.scoped("goes on where the run before had come to", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, upload } = yield* client(transport, failing(refused(401), 2))
      yield* add("a", bytesOf(12))
      yield* Effect.flip(upload())
      expect(acknowledged((yield* upload()).events)).toEqual([8, 12])
    }))
})

describe("Uploader, its other ways in", () => {
  const failingSource: Source.Source = Source.stream(
    "a",
    Stream.concat(Stream.make(bytesOf(9)), Stream.fail("the disk is gone"))
  )

  it.scoped("buffers and uploads in one go", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, buffered, uploader } = yield* client(transport)
      yield* add("other", bytesOf(3))
      const events = yield* Stream.runCollect(
        uploader.bufferAndUpload(Source.stream("a", Stream.make(bytesOf(5), bytesOf(0), bytesOf(7))), { endpoint })
      )
      expect(Chunk.toReadonlyArray(events).at(-1)).toMatchObject({ _tag: "Finished", state: "delivered", size: 12 })
      expect(yield* content(files, "a")).toEqual(Uint8Array.from([...bytesOf(5), ...bytesOf(7)]))
      expect((yield* buffered).map(({ path }) => path)).toEqual(["other"])
    }))

  it.scoped("keeps in the buffer what it could not upload", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { buffered, uploader } = yield* client(transport, failing(refused(409), 0))
      const events = yield* Stream.runCollect(
        uploader.bufferAndUpload(Source.stream("a", Stream.make(bytesOf(5))), { endpoint })
      )
      expect(Chunk.toReadonlyArray(events).at(-1)).toMatchObject({ _tag: "Finished", state: "failed" })
      expect((yield* buffered).map(({ size }) => size)).toEqual([5])
    }))

  it.scoped("keeps and sends nothing of a source that fails half-way", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { buffered, calls, uploader } = yield* client(transport)
      const events = yield* Stream.runCollect(uploader.bufferAndUpload(failingSource, { endpoint }))
      expect(Chunk.toReadonlyArray(events).map(({ _tag }) => _tag)).toEqual(["Skipped"])
      expect(yield* buffered).toEqual([])
      expect(calls).toEqual([])
    }))

  it.scoped("finds a wrong URL before it reads the source", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { buffered, uploader } = yield* client(transport)
      const error = yield* Effect.flip(
        Stream.runDrain(uploader.bufferAndUpload(failingSource, { endpoint: "ftp://x" }))
      )
      expect(error._tag).toBe("InvalidEndpoint")
      expect(yield* buffered).toEqual([])
    }))

  it.scoped("stores a source in chunks of the size asked for, however its bytes come", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { buffered, store, uploader } = yield* client(transport)
      const bytes = bytesOf(23)
      const pieces = [[0, 1], [1, 6], [6, 6], [6, 10], [10, 19], [19, 23]].map(([from, to]) => bytes.slice(from, to))
      const { file } = yield* uploader.add(Source.stream("a", Stream.fromIterable(pieces)))
      expect(file).toMatchObject({ size: 23, chunks: 6, chunkSize: 4, sha256: Option.some(Sha256.of(bytes)) })
      expect((yield* store.read(file.id, 0, 23)).bytes).toEqual(bytes)
      const again = yield* uploader.add(Source.stream("a", Stream.make(bytesOf(2))))
      expect(Option.map(again.replaced, ({ id }) => id)).toEqual(Option.some(file.id))
      expect((yield* buffered).map(({ size }) => size)).toEqual([2])
      yield* uploader.clear
      expect(yield* buffered).toEqual([])
    }))

  it.scoped("sends one chunk in revision 1, once", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { calls, sends, uploader } = yield* client(legacy.transport, failing(lost, 1))
      const chunk = { endpoint: "http://server", bytes: bytesOf(5), index: 3, fileName: "dir/a b.bin" }
      expect(yield* uploader.sendChunk(chunk)).toEqual({
        message: "Chunk received",
        actualFilename: "a b.bin",
        chunkIndex: 3,
        clientFilename: "dir/a b.bin"
      })
      expect(sends()[0]!.out.endpoint).toBe(endpoint)
      expect(sends()[0]!.headers).toEqual({
        "x-chunk-index": "3",
        "x-file-name": "dir/a b.bin",
        "content-digest": Sha256.toHeader(Sha256.of(bytesOf(5)))
      })
      expect(legacy.files.get("a b.bin")).toEqual(Buffer.from(bytesOf(5)))
      expect((yield* Effect.flip(uploader.sendChunk(chunk)))._tag).toBe("NoAnswer")
      expect(calls.length).toBe(2)
    }))

  it.effect("takes full URLs, and means /upload where there is no path", () =>
    Effect.gen(function*() {
      const right = {
        "http://server": "http://server/upload",
        "http://server/": "http://server/upload",
        "http://server:80/": "http://server/upload",
        "HTTPS://Server:444": "https://server:444/upload",
        "http://server/?a=b": "http://server/upload?a=b",
        "http://server/upload": "http://server/upload",
        "http://server/other/way/": "http://server/other/way/",
        "http://[::1]:3000": "http://[::1]:3000/upload"
      }
      for (const [url, endpoint] of Object.entries(right)) expect(yield* Uploader.endpointOf(url)).toBe(endpoint)
      for (
        const url of ["", "server", "server:3000", "localhost:3000/upload", "/upload", "ftp://server", "file:///x"]
      ) {
        expect((yield* Effect.flip(Uploader.endpointOf(url)))._tag).toBe("InvalidEndpoint")
      }
    }))

  it.scoped("ends with a wrong URL before it touches the buffer", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, buffered, calls, upload } = yield* client(transport)
      const file = yield* add("a", bytesOf(3))
      expect((yield* Effect.flip(upload({ endpoint: "server" })))._tag).toBe("InvalidEndpoint")
      expect(calls).toEqual([])
      expect(yield* buffered).toEqual([file])
    }))

  it.scoped.each([0, -1, 1.5, Number.NaN, 16 * 1024 * 1024 + 1])(
    "does not start with chunks of %d bytes",
    (chunkSize) =>
      Effect.gen(function*() {
        const { transport } = yield* World.server
        const exit = yield* Effect.exit(client(transport, {}, { chunkSize }))
        expect(Exit.isFailure(exit) && String(exit.cause)).toContain("InvalidChunkSize")
      })
  )

  it.scoped("goes on with an upload that was ended early", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, sends, upload, uploader } = yield* client(transport)
      yield* add("a", bytesOf(400))
      const some = yield* Stream.runCollect(Stream.take(uploader.upload({ endpoint }), 3))
      expect(Chunk.size(some)).toBe(3)
      expect(sends().length).toBeLessThan(40)
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(yield* content(files, "a")).toEqual(bytesOf(400))
    }))
})
