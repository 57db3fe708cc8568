/**
 * What every `ChunkStore` does, whatever it keeps its bytes in.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Exit, FastCheck, Fiber, Option, Scope, Stream } from "effect"
import type { Layer } from "effect"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import { SourceChanged } from "../../src/client/Source.ts"
import * as Ranges from "../../src/protocol/Ranges.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"

/** Bytes that differ from place to place. */
export const someBytes = (length: number, seed = 1): Uint8Array => {
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + seed * 17 + (at >> 8)) % 251
  return bytes
}

export const newFile = (source: string, chunkSize = 4): ChunkStore.NewFile => ({
  path: source.slice(1),
  source,
  name: source.slice(1),
  chunkSize
})

/** Adds a whole file. */
export const add = Effect.fnUntraced(function*(source: string, bytes: Uint8Array, chunkSize = 4) {
  const store = yield* ChunkStore.ChunkStore
  return yield* Effect.scoped(Effect.gen(function*() {
    const file = yield* store.begin(newFile(source, chunkSize))
    for (let at = 0; at < bytes.byteLength; at += chunkSize) {
      yield* store.append(file, bytes.subarray(at, at + chunkSize))
    }
    const replaced = yield* store.seal(file, { size: bytes.byteLength, sha256: Sha256.of(bytes) })
    return { file, replaced }
  }))
})

export const listed = Effect.flatMap(
  ChunkStore.ChunkStore,
  ({ list }) => Effect.map(Stream.runCollect(list), Chunk.toReadonlyArray)
)

const delivery = { endpoint: "http://server/upload", name: "sent.txt", uploadId: UploadId.make("u1") }

export const suite = (
  name: string,
  layer: Layer.Layer<ChunkStore.ChunkStore, ChunkStore.ChunkStoreError>
): void => {
  describe(`ChunkStore: ${name}`, () => {
    it.effect("gives back the bytes that were added, with their hash", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const bytes = someBytes(10)
        const { file } = yield* add("/a", bytes)
        const { addedAt: _, ...found } = yield* store.get(file)
        expect(found).toStrictEqual({
          ...newFile("/a"),
          id: file,
          size: 10,
          sha256: Sha256.of(bytes),
          chunks: 3,
          firstIndex: 0,
          settledBytes: 0,
          delivery: Option.none(),
          failure: Option.none()
        })
        for (const [from, to] of [[0, 10], [4, 8], [8, 10], [5, 7], [3, 9], [0, 0]] as const) {
          const piece = yield* store.read(file, from, to)
          expect(piece.bytes).toStrictEqual(bytes.slice(from, to))
          expect(piece.sha256).toBe(Sha256.of(bytes.subarray(from, to)))
        }
      }).pipe(Effect.provide(layer)))

    it.effect("keeps its own copy of the bytes", () =>
      Effect.scoped(Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const reused = someBytes(4, 1)
        const file = yield* store.begin(newFile("/a"))
        yield* store.append(file, reused)
        reused.set(someBytes(4, 2))
        yield* store.append(file, reused)
        yield* store.seal(file, { size: 8, sha256: Sha256.empty })
        expect((yield* store.read(file, 0, 4)).bytes).toStrictEqual(someBytes(4, 1))
        expect((yield* store.read(file, 4, 8)).bytes).toStrictEqual(someBytes(4, 2))
      })).pipe(Effect.provide(layer)))

    it.effect("takes an empty file", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/empty", someBytes(0))
        expect(yield* store.get(file)).toMatchObject({ size: 0, chunks: 0, sha256: Sha256.empty })
        expect((yield* store.read(file, 0, 0)).bytes.byteLength).toBe(0)
      }).pipe(Effect.provide(layer)))

    it.effect("shows a file only once it is sealed, and removes one whose adder gave up", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const adder = yield* Scope.make()
        const file = yield* Scope.extend(store.begin(newFile("/a")), adder)
        yield* store.append(file, someBytes(4))
        expect(yield* listed).toEqual([])
        expect((yield* Effect.flip(store.get(file)))._tag).toBe("NotBuffered")
        expect((yield* Effect.flip(store.read(file, 0, 4)))._tag).toBe("NotBuffered")
        yield* Scope.close(adder, Exit.void)
        expect((yield* Effect.flip(store.append(file, someBytes(4))))._tag).toBe("ChunkStoreError")
        expect((yield* Effect.flip(store.seal(file, { size: 4, sha256: Sha256.empty })))._tag).toBe("ChunkStoreError")
        expect(yield* listed).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.effect("removes what an interrupted adder left", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const begun = yield* Deferred.make<ChunkStore.FileId>()
        const adder = yield* store.begin(newFile("/a")).pipe(
          Effect.tap((file) => store.append(file, someBytes(4))),
          Effect.tap((file) => Deferred.succeed(begun, file)),
          Effect.zipRight(Effect.never),
          Effect.scoped,
          Effect.fork
        )
        const file = yield* Deferred.await(begun)
        yield* Fiber.interrupt(adder)
        expect((yield* Effect.flip(store.append(file, someBytes(4))))._tag).toBe("ChunkStoreError")
      }).pipe(Effect.provide(layer)))

    it.effect("replaces an unclaimed file of the same source, and says which", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const first = yield* add("/a", someBytes(10, 1))
        const other = yield* add("/b", someBytes(3))
        const second = yield* add("/a", someBytes(6, 2))
        expect(first.replaced).toStrictEqual(Option.none())
        expect(Option.map(second.replaced, ({ id, size }) => ({ id, size }))).toStrictEqual(
          Option.some({ id: first.file, size: 10 })
        )
        expect((yield* listed).map(({ id }) => id)).toEqual([other.file, second.file])
        expect((yield* Effect.flip(store.read(first.file, 0, 4)))._tag).toBe("NotBuffered")
        expect((yield* store.read(second.file, 0, 6)).bytes).toStrictEqual(someBytes(6, 2))
      }).pipe(Effect.provide(layer)))

    it.effect("leaves a claimed file of the same source alone", () =>
      Effect.scoped(Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const first = yield* add("/a", someBytes(10, 1))
        yield* store.claim(first.file)
        const second = yield* add("/a", someBytes(6, 2))
        expect(second.replaced).toStrictEqual(Option.none())
        expect((yield* listed).map(({ id }) => id)).toEqual([first.file, second.file])
      })).pipe(Effect.provide(layer)))

    it.effect("lists the oldest first, over many pages", () =>
      Effect.gen(function*() {
        const ids: Array<ChunkStore.FileId> = []
        for (let count = 0; count < 230; count++) ids.push((yield* add(`/${count}`, someBytes(1))).file)
        expect((yield* listed).map(({ id }) => id)).toEqual(ids)
      }).pipe(Effect.provide(layer)))

    it.effect("never gives a file's number to another", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(1))
        yield* store.drop(file)
        const { file: next } = yield* add("/a", someBytes(1))
        expect(next).toBeGreaterThan(file)
      }).pipe(Effect.provide(layer)))

    it.effect("lets one holder at a time send a file", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(1))
        const { file: other } = yield* add("/b", someBytes(1))
        const holder = yield* Scope.make()
        yield* Scope.extend(store.claim(file), holder)
        expect((yield* Effect.flip(Effect.scoped(store.claim(file))))._tag).toBe("AlreadyClaimed")
        // A refused claim must not have freed the first one.
        expect((yield* Effect.flip(Effect.scoped(store.claim(file))))._tag).toBe("AlreadyClaimed")
        yield* Effect.scoped(store.claim(other))
        yield* Scope.close(holder, Exit.void)
        yield* Effect.scoped(store.claim(file))
        yield* Effect.scoped(store.claim(file))
      }).pipe(Effect.provide(layer)))

    it.effect("frees a claim when its holder is interrupted", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(1))
        const claimed = yield* Deferred.make<void>()
        const holder = yield* store.claim(file).pipe(
          Effect.zipRight(Deferred.succeed(claimed, undefined)),
          Effect.zipRight(Effect.never),
          Effect.scoped,
          Effect.fork
        )
        yield* Deferred.await(claimed)
        yield* Fiber.interrupt(holder)
        yield* Effect.scoped(store.claim(file))
      }).pipe(Effect.provide(layer)))

    it.effect("gives a contested file to exactly one of many", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(1))
        const outcomes = yield* Effect.scoped(
          Effect.all(Array.from({ length: 20 }, () => Effect.exit(store.claim(file))), { concurrency: 20 })
        )
        expect(outcomes.filter(Exit.isSuccess).length).toBe(1)
      }).pipe(Effect.provide(layer)))

    it.effect("remembers what is known of the server until the next delivery", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(10))
        yield* store.setFailure(file, Option.some("refused"))
        expect((yield* store.get(file)).failure).toStrictEqual(Option.some("refused"))
        yield* store.startDelivery(file, delivery)
        expect((yield* store.get(file)).failure).toStrictEqual(Option.none())
        yield* store.remember(file, { revision: Option.some(2), sending: Option.some(0) })
        yield* store.remember(file, { serverName: Option.some("a (1)"), sending: Option.none() })
        yield* store.settle(file, 0, 4)
        expect(yield* store.get(file)).toMatchObject({
          settledBytes: 4,
          delivery: Option.some({
            ...delivery,
            revision: Option.some(2),
            serverName: Option.some("a (1)"),
            sending: Option.none()
          })
        })
        const again = { ...delivery, uploadId: UploadId.make("u2") }
        yield* store.startDelivery(file, again)
        expect(yield* store.settled(file)).toEqual([])
        expect(yield* store.get(file)).toMatchObject({
          settledBytes: 0,
          delivery: Option.some({
            ...again,
            revision: Option.none(),
            serverName: Option.none(),
            sending: Option.none()
          })
        })
      }).pipe(Effect.provide(layer)))

    it.effect("keeps the failure of a file until it is lifted", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(10))
        yield* store.setFailure(file, Option.some("refused"))
        expect((yield* listed).map(({ failure }) => failure)).toEqual([Option.some("refused")])
        yield* store.setFailure(file, Option.none())
        expect((yield* store.get(file)).failure).toStrictEqual(Option.none())
      }).pipe(Effect.provide(layer)))

    it.effect("drops one file, and clears all but those being added", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file: first } = yield* add("/a", someBytes(10))
        const { file: second } = yield* add("/b", someBytes(10))
        yield* store.drop(first)
        yield* store.drop(first)
        expect((yield* listed).map(({ id }) => id)).toEqual([second])
        yield* Effect.scoped(Effect.gen(function*() {
          yield* store.claim(second)
          const adding = yield* store.begin(newFile("/c"))
          yield* store.append(adding, someBytes(4))
          yield* store.clear
          expect(yield* listed).toEqual([])
          yield* store.append(adding, someBytes(2))
          yield* store.seal(adding, { size: 6, sha256: Sha256.empty })
          expect((yield* listed).map(({ id }) => id)).toEqual([adding])
        }))
      }).pipe(Effect.provide(layer)))

    it.effect("says of every method that a dropped file is gone", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(10))
        yield* store.startDelivery(file, delivery)
        yield* store.drop(file)
        const attempts: ReadonlyArray<Effect.Effect<unknown, unknown, Scope.Scope>> = [
          store.get(file),
          store.read(file, 0, 4),
          store.read(file, 0, 0),
          store.settle(file, 0, 4),
          store.settled(file),
          store.claim(file),
          store.startDelivery(file, delivery),
          store.remember(file, {}),
          store.setFailure(file, Option.none())
        ]
        for (const attempt of attempts) {
          expect(yield* Effect.flip(Effect.scoped(attempt))).toMatchObject({ _tag: "NotBuffered", file })
        }
      }).pipe(Effect.provide(layer)))

    it.effect("is shared by all users of one build of the layer", () =>
      Effect.gen(function*() {
        const [one, other] = [yield* ChunkStore.ChunkStore, yield* ChunkStore.ChunkStore]
        const { file } = yield* Effect.provideService(add("/a", someBytes(1)), ChunkStore.ChunkStore, one)
        expect((yield* other.get(file)).size).toBe(1)
      }).pipe(Effect.provide(layer)))

    const range = FastCheck.tuple(FastCheck.nat(70), FastCheck.nat(70))
    it.effect.prop(
      "reads and settles like plain bytes and plain ranges",
      {
        size: FastCheck.nat(64),
        chunkSize: FastCheck.integer({ min: 1, max: 20 }),
        reads: FastCheck.array(range, { maxLength: 10 }),
        settles: FastCheck.array(range, { maxLength: 10 })
      },
      ({ chunkSize, reads, settles, size }) =>
        Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const bytes = someBytes(size)
          const { file } = yield* add("/a", bytes, chunkSize)
          for (const [a, b] of reads) {
            const [from, to] = [Math.min(a, b, size), Math.min(Math.max(a, b), size)]
            expect((yield* store.read(file, from, to)).bytes).toStrictEqual(bytes.slice(from, to))
          }
          yield* store.startDelivery(file, delivery)
          let model = Ranges.empty
          for (const [a, b] of settles) {
            yield* store.settle(file, Math.min(a, b), Math.max(a, b))
            model = Ranges.add(model, [Math.min(a, b), Math.max(a, b)])
            expect(yield* store.settled(file)).toEqual(model)
            expect((yield* store.get(file)).settledBytes).toBe(Ranges.total(model))
          }
        }).pipe(Effect.provide(layer)),
      { fastCheck: { numRuns: 20 } }
    )

    it.effect("keeps a receipt of what it frees as delivered", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a.txt", someBytes(10))
        yield* store.startDelivery(file, delivery)
        yield* store.remember(file, { revision: Option.some(2) })
        const { path, sha256, size } = yield* store.get(file)
        yield* store.delivered(file, { serverName: "a (1).txt", resent: false })
        expect(yield* Effect.flip(store.get(file))).toMatchObject({ _tag: "NotBuffered" })
        expect(yield* Effect.flip(store.delivered(file, { serverName: "b", resent: true }))).toMatchObject({
          _tag: "NotBuffered"
        })
        expect(Chunk.toReadonlyArray(yield* Stream.runCollect(store.receipts))).toEqual([{
          path,
          sha256,
          size,
          serverName: "a (1).txt",
          ...delivery,
          revision: 2,
          resent: false,
          deliveredAt: expect.any(Number)
        }])
      }).pipe(Effect.provide(layer)))

    it.effect("keeps track of a file that is sent from where it lies, until its source changes", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const bytes = someBytes(10)
        const external = { ...newFile("/big"), size: 10, sha256: Sha256.of(bytes), version: "v1" }
        const file = yield* store.adopt(external, (from, to) => Effect.succeed(bytes.slice(from, to)))
        expect(yield* listed).toEqual([])
        expect(yield* store.read(file, 2, 7)).toStrictEqual({
          bytes: bytes.slice(2, 7),
          sha256: Sha256.of(bytes.slice(2, 7))
        })
        yield* store.startDelivery(file, delivery)
        yield* store.settle(file, 0, 4)
        expect(Option.getOrThrow(yield* store.adopted("/big"))).toMatchObject({
          id: file,
          version: "v1",
          chunks: 3,
          settledBytes: 4
        })
        const changed = new SourceChanged({ path: "/big", message: "changed" })
        expect(yield* store.adopt(external, () => Effect.fail(changed))).toBe(file)
        expect(yield* Effect.flip(store.read(file, 0, 4))).toBe(changed)
        // a file of that name in the buffer is another one
        yield* add("/big", bytes)
        expect(yield* listed).toHaveLength(1)
        const next = yield* store.adopt({ ...external, version: "v2" }, () => Effect.succeed(bytes))
        expect(next).not.toBe(file)
        expect(yield* Effect.flip(store.get(file))).toMatchObject({ _tag: "NotBuffered" })
        expect(yield* store.settled(next)).toEqual([])
        yield* store.drop(next)
        expect(yield* store.adopted("/big")).toStrictEqual(Option.none())
      }).pipe(Effect.provide(layer)))
  })
}
