import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as Body from "../../src/server/Body.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import * as RawFiles from "../support/rawFiles.ts"
import {
  abort,
  chunked,
  id,
  layer,
  layerOver,
  names,
  refusal,
  send1,
  send2,
  shown,
  state,
  unread
} from "../support/rawReceiver.ts"

const other = UploadId.make("u2")
const third = UploadId.make("u3")
const TiB = 1024 ** 4

/** A body whose pieces come when they are let go. */
const held = () => {
  const waiting: Array<(piece: IteratorResult<Uint8Array>) => void> = []
  const ready: Array<IteratorResult<Uint8Array>> = []
  const put = (piece: IteratorResult<Uint8Array>) => {
    const resolve = waiting.shift()
    if (resolve === undefined) ready.push(piece)
    else resolve(piece)
  }
  const begun = Deferred.unsafeMake<void>(0 as never)
  return {
    begun: Deferred.await(begun),
    send: (text: string) => Effect.sync(() => put({ done: false, value: new TextEncoder().encode(text) })),
    end: Effect.sync(() => put({ done: true, value: undefined })),
    body: (length?: number): Body.Body => ({
      length: Option.fromNullable(length),
      pieces: {
        [Symbol.asyncIterator]: () => ({
          next: () => {
            Deferred.unsafeDone(begun, Effect.void)
            const piece = ready.shift()
            return piece === undefined ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve(piece)
          }
        })
      }
    })
  }
}

describe("Limits of a store", () => {
  it.effect("are told to clients; a body above them is 413, unread", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.Receiver
      expect(receiver.limits).toMatchObject({ minAppendSize: 5, maxAppendSize: 10 })
      expect(yield* refusal(send2(0, unread(11)))).toBe(413)
      // the last one of a file may be shorter
      expect(yield* send2(0, "abc", { size: 3 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(
      layerOver(() => ({ limits: { minPiece: 5, maxPiece: 10, append: true } }), { maxChunkSize: 20 })
    )))
})

describe("Limits of a chunk", () => {
  const options = { maxChunkSize: 4 }

  it.effect("refuses a longer one by its length, unread, in both revisions", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, unread(5)))).toBe(413)
      expect(yield* refusal(send1(0, unread(5)))).toBe(413)
      expect(yield* refusal(state())).toBe(404)
      expect(yield* names).toEqual([])
      expect(yield* send2(0, "abcd")).toMatchObject({ bytesReceived: 4 })
    }).pipe(Effect.provide(layer(options))))

  it.effect("refuses a longer one whose length was not said, and keeps nothing of it", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, chunked("abc", "de")))).toBe(413)
      expect(yield* state()).toMatchObject({ bytesReceived: 0, missing: [] })
      yield* send1(0, "ab", { name: "old.txt" })
      expect(yield* refusal(send1(1, chunked("abc", "de"), { name: "old.txt" }))).toBe(413)
      expect(yield* shown("old.txt")).toBe("ab")
      expect(yield* send2(0, chunked("abcd"))).toMatchObject({ bytesReceived: 4 })
    }).pipe(Effect.provide(layer(options))))

  it.effect("holds for repeats, too, so that nobody sends more under the name of one", () =>
    Effect.gen(function*() {
      yield* send2(0, "abcd")
      expect(yield* refusal(send2(0, chunked("ab", "cd", "ef")))).toBe(413)
      expect(yield* send2(0, chunked("ab", "cd"))).toMatchObject({ duplicate: true })
    }).pipe(Effect.provide(layer(options))))

  it.effect("refuses names that are too long", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, unread(1), { name: "€".repeat(4) }))).toBe(400)
      expect(yield* refusal(send1(0, unread(1), { name: "x".repeat(11) }))).toBe(400)
      expect(yield* send2(0, "a", { name: "x".repeat(10) })).toMatchObject({ bytesReceived: 1 })
    }).pipe(Effect.provide(layer({ maxNameLength: 10 }))))
})

describe("Limits of a file", () => {
  const options = { maxFileSize: 6 }

  it.effect("refuses a longer one by its declared size and by where a chunk lies, unread", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, unread(2), { size: 7 }))).toBe(413)
      expect(yield* refusal(send2(5, unread(2)))).toBe(413)
      expect(yield* refusal(send2(7, unread(0)))).toBe(413)
      expect(yield* refusal(send1(0, unread(7)))).toBe(413)
      expect(yield* refusal(state())).toBe(404)
      expect(yield* send2(4, "ef", { size: 6 })).toMatchObject({ bytesReceived: 2 })
      expect(yield* send2(0, "abcd")).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer(options))))

  it.effect("refuses the bytes beyond it when nothing was declared, and keeps those before", () =>
    Effect.gen(function*() {
      yield* send2(0, chunked("abcd"))
      expect(yield* refusal(send2(4, chunked("ef", "g")))).toBe(413)
      expect(yield* state()).toMatchObject({ bytesReceived: 4 })
      yield* send1(0, "abcd", { name: "old.txt" })
      expect(yield* refusal(send1(1, unread(3), { name: "old.txt" }))).toBe(413)
      expect(yield* refusal(send1(1, chunked("efg"), { name: "old.txt" }))).toBe(413)
      expect(yield* shown("old.txt")).toBe("abcd")
      yield* send1(1, "ef", { name: "old.txt" })
      expect(yield* shown("old.txt")).toBe("abcdef")
    }).pipe(Effect.provide(layer(options))))

  it.effect("is 5 TiB unless set otherwise, and clients are told", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, unread(1), { size: 5 * TiB + 1 }))).toBe(413)
      expect(yield* refusal(send2(Number.MAX_SAFE_INTEGER, unread(1)))).toBe(413)
      expect(yield* send2(0, "a", { size: 5 * TiB })).toMatchObject({ bytesReceived: 1 })
      expect((yield* Receiver.Receiver).limits).toEqual({
        maxSize: 5 * TiB,
        maxAppendSize: 1024 ** 3,
        maxAge: 7 * 24 * 3600
      })
    }).pipe(Effect.provide(layer())))

  it.scoped("allocates nothing for a huge offset that comes first", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      yield* Effect.gen(function*() {
        yield* send2(4 * TiB, "end", { size: 4 * TiB + 3 })
        const parts = Path.join(folder, ".indexedcp/parts")
        const [part] = Fs.readdirSync(parts)
        expect(Fs.statSync(Path.join(parts, part!)).blocks * 512).toBeLessThan(1024 ** 2)
        expect(yield* state()).toMatchObject({ bytesReceived: 3, missing: [[0, 4 * TiB]] })
        yield* abort()
        expect(Fs.readdirSync(parts)).toEqual([])
      }).pipe(Effect.provide(
        Receiver.layer({ minFreeSpace: 0 }).pipe(
          // the declared size is far more than this disk has
          Layer.provide(UploadStoreFileSystem.layer({
            outputDir: folder,
            calls: { ...Fs.promises, statfs: () => Promise.resolve({ bavail: 5 * TiB, bsize: 1 }) } as never
          })),
          Layer.provide([UploadLedger.layerMemory, FilenameGenerator.layer])
        )
      ))
    }))
})

describe("Limits of a key", () => {
  it.effect("refuses one more open upload with 429, unread, and takes it when one has ended", () =>
    Effect.gen(function*() {
      yield* send2(0, "a", { id, size: 2 })
      yield* send2(0, "a", { id: other, size: 2, name: "b.txt" })
      const refused = yield* Effect.flip(send2(0, unread(1), { id: third }))
      expect(refused).toMatchObject({ status: 429, retryAfter: 60 })
      expect(yield* send2(0, "a", { id: third, principal: "somebody else" })).toMatchObject({ bytesReceived: 1 })
      expect(yield* send2(1, "b", { id: other })).toMatchObject({ complete: true })
      expect(yield* send2(0, "a", { id: third, size: 2 })).toMatchObject({ bytesReceived: 1 })
      yield* abort(third)
      expect(yield* send2(0, "a", { id: UploadId.make("u4") })).toMatchObject({ bytesReceived: 1 })
    }).pipe(Effect.provide(layer({ maxOpenUploads: 2 }))))

  it.effect("refuses a file that can never fit with 413, and bytes that do not fit now with 507, unread", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, unread(1), { size: 7 }))).toBe(413)
      yield* send2(0, "abcd", { size: 6 })
      expect(yield* refusal(send2(0, unread(3), { id: other }))).toBe(507)
      expect(yield* refusal(send2(0, unread(1), { id: other, size: 3 }))).toBe(507)
      expect(yield* refusal(send2(0, chunked("xyz"), { id: other }))).toBe(507)
      expect(yield* refusal(send1(0, unread(3)))).toBe(507)
      expect(yield* send2(0, "abcdef", { principal: "somebody else", size: 6 })).toMatchObject({ complete: true })
      expect(yield* send2(4, "ef")).toMatchObject({ complete: true })
      expect(yield* refusal(send2(0, unread(1), { id: third }))).toBe(507)
    }).pipe(Effect.provide(layer({ maxKeyBytes: 6 }))))

  it.effect("takes repeats of what it holds when the key is full", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc")
      yield* send2(3, "def")
      expect(yield* send2(3, "def", { size: 6 })).toMatchObject({ duplicate: true, complete: true })
      expect(yield* send2(3, chunked("def"))).toMatchObject({ duplicate: true, complete: true })
    }).pipe(Effect.provide(layer({ maxKeyBytes: 6 }))))

  it.effect("counts bodies in flight, so that several at once do not add more than one may", () =>
    Effect.gen(function*() {
      const first = held()
      const sending = yield* Effect.fork(send2(0, first.body(4)))
      yield* first.begun
      expect(yield* refusal(send2(4, unread(3)))).toBe(507)
      yield* Effect.andThen(first.send("abcd"), first.end)
      expect(yield* Fiber.join(sending)).toMatchObject({ bytesReceived: 4 })
      expect(yield* send2(4, "ef")).toMatchObject({ bytesReceived: 6 })
    }).pipe(Effect.provide(layer({ maxKeyBytes: 6 }))))

  it.effect("gives back what a body in flight had counted when it fails", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flip(send2(0, { ...unread(6) }))).toMatchObject({ _tag: "BodyCut" })
      expect(yield* send2(0, "abcdef", { size: 6 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer({ maxKeyBytes: 6 }))))

  it.effect("lets a key do only what it may", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.Receiver
      yield* send2(0, "a", { can: ["upload"] })
      expect(yield* refusal(send2(1, unread(1), { can: ["read", "abort"] }))).toBe(403)
      expect(yield* refusal(send1(0, unread(1), { can: [] }))).toBe(403)
      const may = (...can: ReadonlyArray<"upload" | "read" | "abort">) => ({ name: "default", can })
      expect(yield* refusal(receiver.state(may("upload", "abort"), id))).toBe(403)
      expect(yield* refusal(receiver.content(may("upload"), id))).toBe(403)
      expect(yield* refusal(receiver.abort(may("upload", "read"), id))).toBe(403)
      expect(yield* receiver.state(may("read"), id)).toMatchObject({ bytesReceived: 1 })
      yield* receiver.abort(may("abort"), id)
    }).pipe(Effect.provide(layer())))
})

describe("Limits of the disk", () => {
  const disk = { free: 100 }
  const small = layerOver(() => ({ free: Effect.sync(() => Option.some(disk.free)) }), { minFreeSpace: 90 })

  it.live("leaves bytes free: 507 for a body or a file that would not, unread; repeats are taken", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, unread(11)))).toBe(507)
      expect(yield* refusal(send2(0, unread(1), { size: 11 }))).toBe(507)
      expect(yield* refusal(send1(0, unread(11)))).toBe(507)
      expect(yield* names).toEqual([])
      yield* send2(0, "abc")
      const receiver = yield* Receiver.Receiver
      yield* receiver.ready
      disk.free = 89
      // what was found of the disk is believed for a moment
      yield* Effect.repeat(refusal(send2(3, unread(1))), { until: (status) => status === 507 })
      expect(yield* send2(0, "abc", { size: 3 })).toMatchObject({ duplicate: true, complete: true })
    }).pipe(Effect.provide(small)))

  it.effect("takes what fits as soon as there is room again", () =>
    Effect.gen(function*() {
      disk.free = 90
      expect(yield* refusal(send2(0, unread(1)))).toBe(507)
      // no time has passed
      disk.free = 100
      expect(yield* send2(0, "a", { size: 2 })).toMatchObject({ bytesReceived: 1 })
    }).pipe(Effect.provide(small)))

  it.effect("is not ready without room, or when the disk cannot be written", () =>
    Effect.gen(function*() {
      const receiver = yield* Receiver.Receiver
      expect(yield* refusal(receiver.ready)).toBe(507)
    }).pipe(Effect.provide(layerOver(() => ({ free: Effect.succeedSome(1) }), { minFreeSpace: 2 }))))
})

describe("The pace of a body", () => {
  const options = { bodyTimeout: "60 millis", minBodyRate: 100 } as const

  it.live("is 408 when nothing comes, and what it claimed is free again", () =>
    Effect.gen(function*() {
      const slow = held()
      yield* slow.send("a")
      const refused = yield* Effect.flip(send2(0, slow.body(3)))
      expect(refused).toMatchObject({ status: 408 })
      expect(yield* send2(0, "ab", { size: 2 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer(options))))

  it.live("is 408 when less comes than the rate asks for", () =>
    Effect.gen(function*() {
      const drip = held()
      const dripping = yield* Effect.fork(Effect.forever(Effect.zipRight(Effect.sleep("15 millis"), drip.send("a"))))
      // 100 bytes a second are 6 in 60 ms; 4 come
      expect(yield* refusal(send2(0, drip.body(1000)))).toBe(408)
      yield* Fiber.interrupt(dripping)
    }).pipe(Effect.provide(layer(options))))

  it.live("may take any time that moves fast enough", () =>
    Effect.gen(function*() {
      const steady = held()
      const sending = yield* Effect.fork(send2(0, steady.body(100), { size: 100 }))
      yield* Effect.repeatN(Effect.zipRight(Effect.sleep("10 millis"), steady.send("0123456789")), 9)
      yield* steady.end
      expect(yield* Fiber.join(sending)).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer(options))))

  it.live("does not count the time that the server itself takes", () =>
    Effect.gen(function*() {
      const body = Body.of(...Array.from({ length: 3 }, () => new Uint8Array(1024 * 1024)))
      expect(yield* send2(0, body, { size: 3 * 1024 * 1024 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(
      layerOver((store) => ({
        write: (to, body) =>
          store.write(to, {
            ...body,
            pieces: (async function*() {
              for await (const piece of body.pieces) {
                yield piece
                await new Promise((resolve) => setTimeout(resolve, 100))
              }
            })()
          })
      }), { ...options, minBodyRate: 10 * 1024 * 1024 })
    )))
})

describe("The memory of bodies", () => {
  it.effect("lets no more of them in than it has room for; the next one waits unread", () =>
    Effect.gen(function*() {
      const [first, second] = [held(), held()]
      const one = yield* Effect.fork(send2(0, first.body(1), { id }))
      yield* first.begun
      const two = yield* Effect.fork(send2(0, second.body(1), { id: other }))
      yield* Effect.repeatN(Effect.yieldNow(), 50)
      expect(yield* refusal(state(other))).toBe(404)
      yield* Effect.andThen(first.send("a"), first.end)
      yield* Fiber.join(one)
      yield* second.begun
      yield* Effect.andThen(second.send("a"), second.end)
      expect(yield* Fiber.join(two)).toMatchObject({ bytesReceived: 1 })
    }).pipe(Effect.provide(layer({ bodyMemory: 64 * 1024 }))))

  it.effect("is shared: the more bodies, the fewer bytes each gathers before they are written", () =>
    Effect.gen(function*() {
      const gathered: Array<number> = []
      const others = [held(), held(), held()]
      yield* Effect.gen(function*() {
        yield* send2(0, "a", { id: UploadId.make("alone") })
        const sending = yield* Effect.forEach(
          others,
          (other, at) => Effect.fork(send2(0, other.body(1), { id: UploadId.make(`o${at}`), name: `o${at}` }))
        )
        yield* Effect.forEach(others, ({ begun }) => begun)
        yield* send2(0, "a", { id: UploadId.make("beside") })
        yield* Effect.forEach(others, (other) => Effect.andThen(other.send("a"), other.end))
        yield* Effect.forEach(sending, Fiber.join)
      }).pipe(Effect.provide(
        layerOver((store) => ({
          write: (to, body) => {
            gathered.push(body.gather!())
            return store.write(to, body)
          }
        }), { bodyMemory: 512 * 1024 })
      ))
      expect([gathered[0], gathered.at(-1)]).toEqual([512 * 1024, 128 * 1024])
    }))
})
