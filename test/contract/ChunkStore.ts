/**
 * What every `ChunkStore` does, whatever it keeps its bytes in.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Deferred, Effect, Either, Exit, FastCheck, Fiber, Option, Queue, Scope, Stream } from "effect"
import type { Layer } from "effect"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import { type External, type ReadSource, SourceChanged } from "../../src/client/Source.ts"
import * as Ranges from "../../src/protocol/Ranges.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"

/** Bytes that differ from place to place. */
export const someBytes = (length: number, seed = 1): Uint8Array => {
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; at++) bytes[at] = (at * 31 + seed * 17 + (at >> 8)) % 251
  return bytes
}

/** What is known of a file of which nothing was sent yet. */
export const unsent = {
  firstIndex: 0,
  settledBytes: 0,
  delivery: Option.none(),
  failure: Option.none(),
  trouble: Option.none(),
  held: false,
  freed: false
}

export const newFile = (
  source: string,
  chunkSize = 4,
  more: Partial<ChunkStore.NewFile> = {}
): ChunkStore.NewFile => ({
  path: source.slice(1),
  source,
  name: source.slice(1),
  chunkSize,
  destination: Option.none(),
  version: Option.none(),
  ...more
})

/** Adds a whole file. */
export const add = Effect.fnUntraced(function*(
  source: string,
  bytes: Uint8Array,
  chunkSize = 4,
  more: Partial<ChunkStore.NewFile> = {}
) {
  const store = yield* ChunkStore.ChunkStore
  return yield* Effect.scoped(Effect.gen(function*() {
    const file = yield* store.begin(newFile(source, chunkSize, more))
    for (let at = 0; at < bytes.byteLength; at += chunkSize) {
      yield* store.append(file, bytes.subarray(at, at + chunkSize))
    }
    const replaced = yield* store.seal(file, { size: bytes.byteLength, sha256: Sha256.of(bytes) })
    return { file, replaced }
  }))
})

/** How a source of these bytes is opened; `opened` and `read` tell what was done with it. */
export const opening = (
  bytes: Uint8Array,
  told: { readonly opened?: (by: 1 | -1) => void; readonly read?: (from: number, to: number) => void } = {}
): External["open"] => {
  const read: ReadSource = (into, from) =>
    Effect.sync(() => {
      told.read?.(from, from + into.length)
      into.set(bytes.subarray(from, from + into.length))
    })
  return Effect.acquireRelease(
    Effect.sync(() => (told.opened?.(1), read)),
    () => Effect.sync(() => told.opened?.(-1))
  )
}

export const listed = Effect.flatMap(
  ChunkStore.ChunkStore,
  ({ list }) => Effect.map(Stream.runCollect(list), Chunk.toReadonlyArray)
)

const trouble: ChunkStore.Trouble = { reason: "no answer", nextTry: Option.some(5000) }

/** Listens to `arrivals`: each signal is to be taken from the queue. */
export const listen = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  const signals = yield* Queue.unbounded<void>()
  yield* Effect.forkScoped(Stream.runForEach(store.arrivals, () => Queue.offer(signals, undefined)))
  return signals
})

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
          sha256: Option.some(Sha256.of(bytes)),
          chunks: 3,
          ...unsent
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
        expect(yield* store.get(file)).toMatchObject({ size: 0, chunks: 0, sha256: Option.some(Sha256.empty) })
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

    it.effect("adds up what it lists, by where files go and whether they were given up", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        expect(yield* store.totals).toEqual([])
        const destination = Option.some("http://other/upload")
        const alike = { destination: Option.none(), endpoint: Option.none(), failed: false }
        yield* add("/a", someBytes(5))
        const { file: b } = yield* add("/b", someBytes(7))
        const { file: c } = yield* add("/c", someBytes(9))
        const { file: d } = yield* add("/d", someBytes(11), 4, { destination })
        const { file: e } = yield* add("/e", someBytes(0))
        yield* Effect.forEach([c, d], (file) => store.startDelivery(file, delivery))
        yield* store.settle(c, 0, 4)
        yield* store.settle(c, 8, 9)
        yield* store.setFailure(d, Option.some("refused"))
        yield* store.adopt({ ...newFile("/big"), size: 100 }, opening(someBytes(100)))
        yield* Effect.scoped(Effect.gen(function*() {
          yield* store.append(yield* store.begin(newFile("/adding")), someBytes(4))
          yield* store.claim(b)
          const totals = yield* store.totals
          expect(totals).toHaveLength(3)
          expect(totals).toEqual(expect.arrayContaining([
            { ...alike, files: 3, size: 12, settledBytes: 0, newest: e },
            { ...alike, endpoint: Option.some(delivery.endpoint), files: 1, size: 9, settledBytes: 5, newest: c },
            {
              destination,
              endpoint: Option.some(delivery.endpoint),
              failed: true,
              files: 1,
              size: 11,
              settledBytes: 0,
              newest: d
            }
          ]))
        }))
      }).pipe(Effect.provide(layer)))

    it.effect("has the names under which a server of revision 1 has something, for ever", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const send = (file: ChunkStore.FileId, name: string, revision: Option.Option<1 | 2>, to = delivery.endpoint) =>
          Effect.zipRight(
            store.startDelivery(file, { ...delivery, endpoint: to, name }),
            store.remember(file, { revision })
          )
        const [done, begun, newer, unknown, elsewhere] = yield* Effect.forEach(
          ["/done", "/begun", "/newer", "/unknown", "/elsewhere"],
          (source) => Effect.map(add(source, someBytes(4)), ({ file }) => file)
        )
        const adopted = yield* store.adopt({ ...newFile("/adopted"), size: 4 }, opening(someBytes(4)))
        yield* send(done!, "done.txt", Option.some(1))
        yield* store.delivered(done!, { serverName: "x", resent: false, sha256: Sha256.of(someBytes(4)) })
        yield* send(adopted, "adopted.txt", Option.some(1))
        yield* send(newer!, "newer.txt", Option.some(2))
        yield* send(unknown!, "unknown.txt", Option.none())
        yield* send(elsewhere!, "elsewhere.txt", Option.some(1), "http://other/upload")
        yield* store.startDelivery(begun!, { ...delivery, name: "begun.txt" })
        yield* store.settle(begun!, 0, 4, { known: { revision: Option.some(1) } })
        const names = ["adopted.txt", "begun.txt", "done.txt"]
        expect([...yield* store.revision1Names(delivery.endpoint)].sort()).toEqual(names)
        // what is there stays there
        yield* add("/begun", someBytes(4, 2))
        yield* store.adopt({ ...newFile("/adopted"), size: 4, version: Option.some("v2") }, opening(someBytes(4, 2)))
        yield* store.clear
        expect([...yield* store.revision1Names(delivery.endpoint)].sort()).toEqual(names)
        expect(yield* store.revision1Names("http://other/upload")).toEqual(["elsewhere.txt"])
        expect(yield* store.revision1Names("http://nobody/upload")).toEqual([])
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
        const known = { revision: Option.some(1 as const), serverName: Option.some("b"), sending: Option.some(1) }
        yield* store.settle(file, 4, 8, { known })
        expect(yield* store.get(file)).toMatchObject({
          settledBytes: 8,
          delivery: Option.some({ ...delivery, ...known })
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
          store.setFailure(file, Option.none()),
          store.setTrouble(file, trouble)
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
        const whole = Option.getOrThrow(sha256)
        yield* store.delivered(file, { serverName: "a (1).txt", resent: false, sha256: whole })
        expect(yield* Effect.flip(store.get(file))).toMatchObject({ _tag: "NotBuffered" })
        expect(yield* Effect.flip(store.delivered(file, { serverName: "b", resent: true, sha256: whole })))
          .toMatchObject({
            _tag: "NotBuffered"
          })
        expect(Chunk.toReadonlyArray(yield* Stream.runCollect(store.receipts))).toEqual([{
          path,
          sha256: whole,
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
        const external = { ...newFile("/big"), size: 10, version: Option.some("v1") }
        const file = yield* store.adopt(external, opening(bytes))
        expect(yield* listed).toEqual([])
        expect(yield* store.read(file, 2, 7)).toStrictEqual({
          bytes: bytes.slice(2, 7),
          sha256: Sha256.of(bytes.slice(2, 7))
        })
        yield* store.startDelivery(file, delivery)
        yield* store.settle(file, 0, 4)
        expect(Option.getOrThrow(yield* store.adopted("/big"))).toMatchObject({
          id: file,
          version: Option.some("v1"),
          chunks: 3,
          settledBytes: 4
        })
        const changed = new SourceChanged({ path: "/big", message: "changed" })
        expect(yield* store.adopt(external, Effect.succeed(() => Effect.fail(changed)))).toBe(file)
        expect(yield* Effect.flip(store.read(file, 0, 4))).toBe(changed)
        // a file of that name in the buffer is another one
        yield* add("/big", bytes)
        expect(yield* listed).toHaveLength(1)
        const next = yield* store.adopt({ ...external, version: Option.some("v2") }, opening(bytes))
        expect(next).not.toBe(file)
        expect(yield* Effect.flip(store.get(file))).toMatchObject({ _tag: "NotBuffered" })
        expect(yield* store.settled(next)).toEqual([])
        yield* store.drop(next)
        expect(yield* store.adopted("/big")).toStrictEqual(Option.none())
      }).pipe(Effect.provide(layer)))

    it.effect("has the hash of an external file as soon as its last byte was read, in whatever order", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const bytes = someBytes(20)
        const whole = Sha256.of(bytes)
        const external = { ...newFile("/big"), size: 20, version: Option.some("v1") }
        const orders = [
          [[0, 8], [8, 16], [16, 20]],
          [[0, 20]],
          // again, one before the other, and some of it never: an earlier program sent that
          [[0, 4], [0, 4], [8, 12], [4, 8], [16, 20], [16, 20]],
          [[20, 20]]
        ] as const
        for (const order of orders) {
          const reads: Array<readonly [number, number]> = []
          const open = opening(bytes, { read: (from, to) => reads.push([from, to]) })
          const file = yield* store.adopt(external, open)
          expect((yield* store.get(file)).sha256).toStrictEqual(Option.none())
          for (const [from, to] of order) {
            expect(yield* store.read(file, from, to)).toStrictEqual({
              bytes: bytes.slice(from, to),
              sha256: Sha256.of(bytes.slice(from, to)),
              ...(to === 20 ? { whole } : {})
            })
          }
          // in order, each byte was read once
          if (order.length === 3) expect(reads).toEqual(order)
        }
      }).pipe(Effect.provide(layer)))

    it.effect("gives the hash of all bytes up to the end of a range where it is asked and runs along", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const bytes = someBytes(20)
        const file = yield* store.adopt({ ...newFile("/big"), size: 20 }, opening(bytes))
        const read = (from: number, to: number) => store.read(file, from, to, { prefix: true })
        const part = (from: number, to: number) => ({
          bytes: bytes.slice(from, to),
          sha256: Sha256.of(bytes.slice(from, to))
        })
        const prefix = (from: number, to: number) => ({
          ...part(from, to),
          isPrefix: true,
          sha256: Sha256.of(bytes.slice(0, to))
        })
        expect(yield* read(0, 4)).toStrictEqual(prefix(0, 4))
        expect(yield* store.read(file, 4, 8)).toStrictEqual(part(4, 8))
        expect(yield* read(8, 12)).toStrictEqual(prefix(8, 12))
        // again; and behind what was passed over
        expect(yield* read(8, 12)).toStrictEqual(part(8, 12))
        expect(yield* read(16, 20)).toStrictEqual({ ...prefix(16, 20), whole: Sha256.of(bytes) })
        expect(yield* read(20, 20)).toStrictEqual({ ...part(20, 20), whole: Sha256.of(bytes) })
      }).pipe(Effect.provide(layer)))

    it.effect("reads into memory that it is given", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const bytes = someBytes(10)
        const file = yield* store.adopt({ ...newFile("/big"), size: 10 }, opening(bytes))
        const into = new Uint8Array(32)
        const { bytes: read } = yield* store.read(file, 2, 8, { into })
        expect(read).toStrictEqual(bytes.slice(2, 8))
        expect(read.buffer).toBe(into.buffer)
        const { file: added } = yield* add("/a", bytes)
        expect((yield* store.read(added, 2, 8, { into })).bytes).toStrictEqual(bytes.slice(2, 8))
        expect((yield* store.read(added, 4, 8, { into })).bytes).toStrictEqual(bytes.slice(4, 8))
      }).pipe(Effect.provide(layer)))

    it.effect("keeps an external file open while it is claimed", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        let isOpen = 0
        let opened = 0
        const open = opening(someBytes(10), {
          opened: (by) => {
            isOpen += by
            opened += Math.max(0, by)
          }
        })
        const file = yield* store.adopt({ ...newFile("/big"), size: 10 }, open)
        yield* store.read(file, 0, 4)
        expect([isOpen, opened]).toEqual([0, 1])
        yield* Effect.scoped(Effect.gen(function*() {
          yield* store.claim(file)
          for (const from of [0, 4, 8]) yield* store.read(file, from, Math.min(from + 4, 10))
          expect([isOpen, opened]).toEqual([1, 2])
        }))
        expect([isOpen, opened]).toEqual([0, 2])
      }).pipe(Effect.provide(layer)))

    it.effect("adopts many new sources at once, and leaves alone those that it knows", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const one = (source: string, size = 3) => ({
          file: {
            ...newFile(source, 4, { version: Option.some("v1") }),
            name: `"ä\\\u0001'${source}`,
            size
          },
          open: opening(someBytes(size))
        })
        const known = yield* store.adopt(one("/b").file, one("/b").open)
        yield* store.startDelivery(known, delivery)
        yield* add("/c", someBytes(3))
        const adopted = yield* store.adoptAll([one("/a", 10), one("/b"), one("/c", 0), one("/a")])
        expect(adopted.map(Option.isSome)).toEqual([true, false, true, false])
        const [a, , c] = adopted.map(Option.getOrUndefined)
        const { addedAt: _, ...found } = yield* store.get(a!.id)
        expect(found).toStrictEqual({ ...one("/a", 10).file, id: a!.id, sha256: Option.none(), chunks: 3, ...unsent })
        expect(a).toMatchObject(found)
        expect(c).toMatchObject({ chunks: 0, size: 0 })
        expect(yield* store.adopted("/a")).toStrictEqual(Option.some(yield* store.get(a!.id)))
        expect((yield* store.read(a!.id, 2, 7)).bytes).toStrictEqual(someBytes(10).slice(2, 7))
        expect(Option.getOrThrow(yield* store.adopted("/b")).delivery).toMatchObject({ value: delivery })
        expect(yield* listed).toHaveLength(1)
        expect(yield* store.adoptAll([])).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.effect("starts many at once: those that nobody holds and that were never sent", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const files = yield* Effect.forEach(["/a", "/b", "/c", "/d", "/e"], (source) =>
          Effect.map(add(source, someBytes(3)), ({ file }) => file))
        const [a, held, sent, failed, b] = files as [ChunkStore.FileId, ...Array<ChunkStore.FileId>]
        yield* store.startDelivery(sent!, delivery)
        yield* store.setFailure(failed!, Option.some("no"))
        const to = (file: ChunkStore.FileId) => ({ file, to: { ...delivery, uploadId: UploadId.make(`id${file}`) } })
        yield* Effect.scoped(Effect.gen(function*() {
          yield* store.claim(held!)
          const started = yield* Effect.scoped(Effect.gen(function*() {
            const started = yield* store.startAll([...files, ChunkStore.FileId.make(999)].map(to))
            expect(yield* store.get(a)).toMatchObject({
              held: true,
              delivery: {
                value: { ...to(a).to, revision: Option.none(), serverName: Option.none(), sending: Option.some(0) }
              }
            })
            expect(yield* Effect.flip(Effect.scoped(store.claim(b!)))).toMatchObject({ _tag: "AlreadyClaimed" })
            return started
          }))
          expect(started).toEqual(new Set([a, b]))
        }))
        expect(yield* store.get(b!)).toMatchObject({ held: false, delivery: { value: { uploadId: `id${b}` } } })
        expect(yield* store.get(sent!)).toMatchObject({ delivery: { value: delivery } })
        expect(yield* store.get(held!)).toMatchObject({ delivery: Option.none() })
        expect(yield* Effect.scoped(store.startAll([]))).toEqual(new Set())
      }).pipe(Effect.provide(layer)))

    it.effect("reads many whole, and leaves out those that are not as they were added", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const files = yield* Effect.forEach([10, 0, 3], (size) =>
          Effect.flatMap(add(`/${size}`, someBytes(size)), ({ file }) => store.get(file)))
        const bytes = yield* store.readAll(files)
        expect([...bytes].map(([id, found]) => [id, Uint8Array.from(found)])).toStrictEqual(
          files.map(({ id, size }) => [id, someBytes(size)])
        )
        yield* store.drop(files[0]!.id)
        const other = { ...files[2]!, sha256: Option.some(Sha256.empty) }
        expect([...yield* store.readAll([files[0]!, files[1]!, other])]).toHaveLength(1)
      }).pipe(Effect.provide(layer)))

    it.effect("lets many go that a server holds, with a receipt for each", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const source = { ...newFile("/a", 4, { version: Option.some("v1") }), size: 3 }
        const [a] = yield* store.adoptAll([{ file: source, open: opening(someBytes(3)) }])
        const { file: b } = yield* add("/b", someBytes(10))
        const { file: c } = yield* add("/c", someBytes(3))
        const ids = [Option.getOrThrow(a!).id, b, c]
        const to = (file: ChunkStore.FileId) => ({ file, to: { ...delivery, uploadId: UploadId.make(`id${file}`) } })
        const gone = yield* Effect.scoped(Effect.gen(function*() {
          yield* store.startAll(ids.map(to))
          yield* store.drop(c)
          return yield* store.deliveredAll(
            ids.map((file, at) => ({
              file,
              serverName: `at server "${file}"`,
              sha256: Sha256.of(someBytes([3, 10, 3][at]!))
            }))
          )
        }))
        expect(gone).toEqual(new Set(ids.slice(0, 2)))
        expect(yield* listed).toEqual([])
        expect(yield* store.adopted("/a")).toStrictEqual(Option.none())
        expect(yield* store.knows("/a", "v1")).toBe(true)
        const receipts = Chunk.toReadonlyArray(yield* Stream.runCollect(store.receipts))
        expect(receipts).toMatchObject([
          { path: "a", name: "sent.txt", serverName: `at server "${ids[0]}"`, size: 3, revision: 2, resent: false },
          { path: "b", uploadId: `id${b}`, endpoint: delivery.endpoint, size: 10, sha256: Sha256.of(someBytes(10)) }
        ])
        expect(yield* store.deliveredAll([])).toEqual(new Set())
      }).pipe(Effect.provide(layer)))

    it.effect("remembers where a file is to go, and the version of its source", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const known = { destination: Option.some("http://server/upload"), version: Option.some("v1") }
        const { file } = yield* add("/a", someBytes(3), 4, known)
        yield* add("/stream", someBytes(3))
        expect(yield* store.get(file)).toMatchObject(known)
        expect((yield* listed).map(({ destination, version }) => ({ destination, version }))).toStrictEqual([
          known,
          { destination: Option.none(), version: Option.none() }
        ])
        const external = { ...newFile("/b", 4, known), size: 3 }
        yield* store.adopt(external, opening(someBytes(3)))
        expect(Option.getOrThrow(yield* store.adopted("/b"))).toMatchObject(known)
        expect(yield* store.adopted("/a")).toStrictEqual(Option.none())
      }).pipe(Effect.provide(layer)))

    it.effect("takes an external file of another chunk size for another one", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const external = { ...newFile("/a", 4, { version: Option.some("v1") }), size: 3 }
        const open = opening(someBytes(3))
        const first = yield* store.adopt(external, open)
        expect(yield* store.adopt(external, open)).toBe(first)
        const other = yield* store.adopt({ ...external, chunkSize: 5 }, open)
        expect(other).not.toBe(first)
        expect(yield* Effect.flip(store.read(first, 0, 3))).toMatchObject({ _tag: "NotBuffered" })
      }).pipe(Effect.provide(layer)))

    it.effect("knows a source in the version that is here, or was delivered from here", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const version = Option.some("v1")
        const known = Effect.all([
          store.knows("/a", "v1"),
          store.knows("/a", "v2"),
          store.knows("/b", "v1"),
          store.knows("/stream", "")
        ])
        yield* Effect.scoped(Effect.zipRight(store.begin(newFile("/a", 4, { version })), add("/stream", someBytes(2))))
        yield* Effect.scoped(Effect.gen(function*() {
          const adding = yield* store.begin(newFile("/a", 4, { version }))
          expect(yield* known).toEqual([false, false, false, false])
          yield* store.seal(adding, { size: 0, sha256: Sha256.empty })
          expect(yield* known).toEqual([true, false, false, false])
          yield* store.drop(adding)
        }))
        expect(yield* known).toEqual([false, false, false, false])
        const external = { ...newFile("/b", 4, { version }), size: 3 }
        const adopted = yield* store.adopt(external, opening(someBytes(3)))
        const { file } = yield* add("/a", someBytes(3), 4, { version })
        expect(yield* known).toEqual([true, false, true, false])
        for (const sent of [adopted, file]) {
          yield* store.startDelivery(sent, delivery)
          yield* store.remember(sent, { revision: Option.some(2) })
          yield* store.delivered(sent, { serverName: "sent", resent: false, sha256: Sha256.empty })
        }
        expect(yield* known).toEqual([true, false, true, false])
      }).pipe(Effect.provide(layer)))

    it.effect("keeps a passing trouble until bytes are acknowledged or the file is sent anew", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(10))
        const found = Effect.map(store.get(file), (found) => found.trouble)
        yield* store.startDelivery(file, delivery)
        yield* store.setTrouble(file, trouble)
        expect(yield* found).toStrictEqual(Option.some(trouble))
        expect((yield* listed).map((file) => file.trouble)).toStrictEqual([Option.some(trouble)])
        yield* store.settle(file, 0, 4)
        expect(yield* found).toStrictEqual(Option.none())
        yield* store.setTrouble(file, { reason: "busy", nextTry: Option.none() })
        expect(yield* found).toStrictEqual(Option.some({ reason: "busy", nextTry: Option.none() }))
        yield* store.startDelivery(file, delivery)
        expect(yield* found).toStrictEqual(Option.none())
      }).pipe(Effect.provide(layer)))

    it.effect("says who has a file in hand, and that nobody waits for its next try once its holder let go", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(10))
        const { file: other } = yield* add("/b", someBytes(10))
        const held = Effect.map(listed, (files) => files.map((file) => file.held))
        yield* store.setTrouble(other, trouble)
        yield* Effect.scoped(Effect.gen(function*() {
          yield* store.claim(file)
          yield* store.setTrouble(file, trouble)
          expect(yield* Effect.flip(Effect.scoped(store.claim(file)))).toMatchObject({ _tag: "AlreadyClaimed" })
          expect(yield* held).toEqual([true, false])
          expect(yield* store.get(file)).toMatchObject({ held: true, trouble: Option.some(trouble) })
        }))
        expect(yield* held).toEqual([false, false])
        const unwaited = Option.some({ reason: "no answer", nextTry: Option.none() })
        expect(yield* store.get(file)).toMatchObject({ held: false, trouble: unwaited })
        expect((yield* store.get(other)).trouble).toStrictEqual(Option.some(trouble))
      }).pipe(Effect.provide(layer)))

    it.effect("frees a piece once nothing of it is unsettled, and only when asked", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const bytes = someBytes(14)
        const { file } = yield* add("/a", bytes)
        yield* store.startDelivery(file, delivery)
        yield* store.settle(file, 0, 6)
        expect((yield* store.read(file, 0, 14)).bytes).toStrictEqual(bytes)
        expect((yield* store.get(file)).freed).toBe(false)
        // the second piece is half settled; the first one was settled before
        yield* store.settle(file, 6, 7, { free: true })
        expect((yield* store.get(file)).freed).toBe(true)
        expect((yield* listed).map(({ freed }) => freed)).toEqual([true])
        expect((yield* store.read(file, 4, 14)).bytes).toStrictEqual(bytes.slice(4))
        for (const [from, to] of [[0, 4], [2, 3], [3, 6], [0, 14]] as const) {
          const error = yield* Effect.flip(store.read(file, from, to))
          expect(error).toMatchObject({ _tag: "PieceDamaged", file, offset: from })
          expect(error.message).toContain("freed after the server had acknowledged them")
        }
        yield* store.settle(file, 12, 14, { free: true })
        expect((yield* store.read(file, 4, 12)).bytes).toStrictEqual(bytes.slice(4, 12))
        expect(yield* Effect.flip(store.read(file, 11, 13))).toMatchObject({ _tag: "PieceDamaged", offset: 12 })
        yield* store.settle(file, 0, 14, { free: true })
        yield* store.settle(file, 0, 14, { free: true })
        expect(yield* store.settled(file)).toEqual([[0, 14]])
        expect((yield* store.get(file)).settledBytes).toBe(14)
        expect(yield* Effect.flip(store.read(file, 8, 12))).toMatchObject({ _tag: "PieceDamaged" })
        yield* store.remember(file, { revision: Option.some(2) })
        yield* store.delivered(file, { serverName: "a", resent: false, sha256: Sha256.empty })
        expect(yield* listed).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.effect("frees what was settled before without being freed, however much it is", () =>
      Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const { file } = yield* add("/a", someBytes(700), 1)
        yield* store.startDelivery(file, delivery)
        yield* store.settle(file, 0, 699)
        yield* store.settle(file, 699, 699, { free: true })
        expect(yield* Effect.flip(store.read(file, 698, 699))).toMatchObject({ _tag: "PieceDamaged" })
        expect((yield* store.read(file, 699, 700)).bytes).toStrictEqual(someBytes(700).slice(699))
      }).pipe(Effect.provide(layer)))

    it.effect.prop(
      "after any settling and freeing, what is unsettled is readable and right, and what is freed is not",
      {
        size: FastCheck.nat(64),
        chunkSize: FastCheck.integer({ min: 1, max: 20 }),
        settles: FastCheck.array(FastCheck.tuple(range, FastCheck.boolean()), { maxLength: 10 }),
        isClaimed: FastCheck.boolean()
      },
      ({ chunkSize, isClaimed, settles, size }) =>
        Effect.scoped(Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const bytes = someBytes(size)
          const { file } = yield* add("/a", bytes, chunkSize)
          if (isClaimed) yield* store.claim(file)
          yield* store.startDelivery(file, delivery)
          const pieces = Array.from(
            { length: Math.ceil(size / chunkSize) },
            (_, index) => [index * chunkSize, Math.min(size, (index + 1) * chunkSize)] as const
          )
          let model = Ranges.empty
          const freed = new Set<Ranges.Range>()
          for (const [[a, b], isFreeing] of settles) {
            const [from, to] = [Math.min(a, b), Math.max(a, b)]
            model = Ranges.add(model, [from, to])
            yield* store.settle(file, from, to, { free: isFreeing })
            for (const [start, stop] of isFreeing ? pieces : []) {
              if (model.some(([from, to]) => from <= start && stop <= to)) freed.add([start, stop])
            }
            const gone = (at: number) => [...freed].some(([start, stop]) => start <= at && at < stop)
            for (const [start, stop] of Ranges.missing(model, size)) {
              expect((yield* store.read(file, start, stop)).bytes).toStrictEqual(bytes.slice(start, stop))
            }
            for (const [start, stop] of pieces) {
              const read = yield* Effect.either(store.read(file, start, Math.min(stop, start + 3)))
              expect(Either.isLeft(read)).toBe(gone(start))
              if (Either.isLeft(read)) expect(read.left).toMatchObject({ _tag: "PieceDamaged", offset: start })
              else expect(read.right.bytes).toStrictEqual(bytes.slice(start, Math.min(stop, start + 3)))
            }
            expect(yield* store.settled(file)).toEqual(model)
            expect((yield* store.get(file)).freed).toBe(freed.size > 0)
          }
        })).pipe(Effect.provide(layer)),
      { fastCheck: { numRuns: 20 } }
    )

    it.effect("signals at once, and when a file was added, may be tried again or was let go", () =>
      Effect.scoped(Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        // whatever a store does but once, when it is first written to, is done
        yield* add("/before", someBytes(1))
        const signals = yield* listen
        yield* Queue.take(signals)
        const { file } = yield* add("/a", someBytes(10))
        yield* Queue.take(signals)
        yield* store.setFailure(file, Option.some("refused"))
        expect(yield* Queue.poll(signals)).toStrictEqual(Option.none())
        yield* store.setFailure(file, Option.none())
        yield* Queue.take(signals)
        const holder = yield* Scope.make()
        yield* Scope.extend(store.claim(file), holder)
        yield* store.setTrouble(file, trouble)
        yield* store.settle(file, 0, 4)
        expect(yield* Queue.poll(signals)).toStrictEqual(Option.none())
        yield* Scope.close(holder, Exit.void)
        yield* Queue.take(signals)
      })).pipe(Effect.provide(layer)))

    it.effect("gives each listener its own signals, and a late one the first at once", () =>
      Effect.scoped(Effect.gen(function*() {
        const [one, other] = [yield* listen, yield* listen]
        yield* Queue.take(one)
        yield* Queue.take(other)
        yield* add("/a", someBytes(10))
        yield* Queue.take(one)
        yield* Queue.take(other)
        yield* Queue.take(yield* listen)
      })).pipe(Effect.provide(layer)))

    it.effect("may join signals for a busy listener, but loses none", () =>
      Effect.scoped(Effect.gen(function*() {
        const store = yield* ChunkStore.ChunkStore
        const [started, mayGoOn, allSeen] = [
          yield* Deferred.make<void>(),
          yield* Deferred.make<void>(),
          yield* Deferred.make<void>()
        ]
        yield* store.arrivals.pipe(
          Stream.runForEach(() =>
            Effect.gen(function*() {
              const { length } = yield* listed
              yield* Deferred.succeed(started, undefined)
              yield* Deferred.await(mayGoOn)
              if (length === 10) yield* Deferred.succeed(allSeen, undefined)
            })
          ),
          Effect.forkScoped
        )
        yield* Deferred.await(started)
        for (let count = 0; count < 10; count++) yield* add(`/${count}`, someBytes(1))
        yield* Deferred.succeed(mayGoOn, undefined)
        yield* Deferred.await(allSeen)
      })).pipe(Effect.provide(layer)))
  })
}
