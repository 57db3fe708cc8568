/**
 * What every `UploadLedger` does, whatever database it keeps its rows in.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, FastCheck, type Layer, Option, TestClock } from "effect"
import * as Ranges from "../../src/protocol/Ranges.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import type { Extent, UploadKey } from "../../src/server/UploadStore.ts"
import { key } from "./UploadStore.ts"

const { UploadLedger: Ledger } = UploadLedger

const id = UploadId.make("u1")

const hash = (text: string) => Sha256.of(new TextEncoder().encode(text))

export const extent = (from: number, to: number, bytes = `${from}-${to}`): Extent => ({
  offset: from,
  length: to - from,
  sha256: hash(bytes),
  locator: `at ${from}`
})

export const fresh = (upload: UploadKey, more: Partial<UploadLedger.NewUpload> = {}): UploadLedger.NewUpload => ({
  key: upload,
  principal: "default",
  id: Option.some(id),
  clientName: "/data/ä.txt",
  plannedName: "ä.txt",
  address: "10.0.0.1",
  exclusiveName: false,
  ...more
})

const revision1 = (upload: UploadKey, more: Partial<UploadLedger.NewUpload> = {}) =>
  fresh(upload, { id: Option.none(), ...more })

const claim = (upload: UploadKey, from: number, to?: number) =>
  Effect.flatMap(Ledger, (ledger) => ledger.claim(upload, { from, to: Option.fromNullable(to) }))

const claimed = (upload: UploadKey, from: number, to?: number) =>
  Effect.flatMap(
    claim(upload, from, to),
    (claim) => claim._tag === "Claimed" ? Effect.succeed(claim) : Effect.dieMessage("a repeat")
  )

const commitOf = (upload: UploadKey, more: Partial<UploadLedger.Commit> = {}): UploadLedger.Commit => ({
  key: upload,
  written: Option.none(),
  size: Option.none(),
  sha256: Option.none(),
  address: "10.0.0.2",
  ...more
})

const commit = (one: UploadLedger.Commit) =>
  Effect.flatMap(Ledger, (ledger) => Effect.map(ledger.commit([one]), ([outcome]) => outcome!))

/** Claims a range, commits it and gives the claim up. */
export const write = Effect.fnUntraced(function*(
  upload: UploadKey,
  from: number,
  to: number,
  more: Partial<UploadLedger.Commit> = {}
) {
  const ledger = yield* Ledger
  const { fence } = yield* claimed(upload, from, to)
  const outcome = yield* commit(
    commitOf(upload, { written: Option.some({ fence, extent: extent(from, to) }), ...more })
  )
  yield* ledger.release(upload, fence)
  return yield* outcome
})

/** The same in revision 1, where a chunk claims the whole upload. */
const writeNext = Effect.fnUntraced(function*(upload: UploadKey, from: number, to: number, address = "10.0.0.2") {
  const ledger = yield* Ledger
  const claim = yield* ledger.claim(upload, "whole")
  if (claim._tag === "Repeat") return yield* Effect.dieMessage("a repeat")
  const written = Option.some({ fence: claim.fence, extent: extent(from, to) })
  const outcome = yield* commit(commitOf(upload, { written, address }))
  yield* ledger.release(upload, claim.fence)
  return yield* outcome
})

const failure = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), ({ _tag }) => _tag)

export const suite = (
  name: string,
  layer: Layer.Layer<UploadLedger.UploadLedger, UploadLedger.LedgerError>
): void => {
  describe(`UploadLedger: ${name}`, () => {
    it.scoped("gives back what was recorded, by key and by principal and id", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* TestClock.adjust("5 seconds")
        const upload = yield* ledger.create(fresh(key(1)))
        const { exclusiveName: _, ...expected } = fresh(key(1))
        expect(upload).toStrictEqual({
          ...expected,
          name: "ä.txt",
          size: Option.none(),
          sha256: Option.none(),
          state: "receiving",
          received: 0,
          chunks: 0,
          replayCursor: -1,
          touchedAt: 5000
        })
        expect(yield* ledger.get(key(1))).toStrictEqual(Option.some(upload))
        expect(yield* ledger.find("default", id)).toStrictEqual(Option.some(upload))
        expect(yield* ledger.find("other", id)).toStrictEqual(Option.none())
        expect(yield* ledger.find("default", UploadId.make("U1"))).toStrictEqual(Option.none())
        expect(yield* ledger.get(key(2))).toStrictEqual(Option.none())
        expect(yield* ledger.findRevision1("default", upload.clientName)).toStrictEqual([])
      }).pipe(Effect.provide(layer)))

    it.scoped("records one upload for one principal and id, whoever comes first", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        const made = yield* Effect.forEach([1, 2, 3, 4], (at) => ledger.create(fresh(key(at))), { concurrency: 4 })
        expect(new Set(made.map((upload) => upload.key)).size).toBe(1)
        expect((yield* ledger.create(fresh(key(5), { principal: "other" }))).key).toBe(key(5))
      }).pipe(Effect.provide(layer)))

    it.scoped("records uploads that are here as a whole, each once, and completes them", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* TestClock.adjust("5 seconds")
        const whole = (at: number, name: string, size: number): UploadLedger.WholeUpload => ({
          key: key(at),
          id: UploadId.make(name),
          principal: "default",
          clientName: `/data/"ä\\\u0001\u{1f600}'/${name}`,
          plannedName: name,
          address: "10.0.0.1",
          sha256: hash(name),
          extent: extent(0, size, name)
        })
        yield* ledger.create(fresh(key(1)))
        const made = yield* ledger.createWhole([
          whole(2, "a", 5),
          whole(3, "u1", 5),
          whole(4, "b", 0),
          whole(5, "a", 5)
        ])
        expect(made.map((upload) => upload.key)).toEqual([key(2), key(4)])
        const { extent: first, id: _, ...expected } = whole(2, "a", 5)
        expect(made[0]).toStrictEqual({
          ...expected,
          id: Option.some(UploadId.make("a")),
          name: "a",
          size: Option.some(5),
          sha256: Option.some(hash("a")),
          state: "finishing",
          received: 5,
          chunks: 1,
          replayCursor: -1,
          touchedAt: 5000
        })
        expect(yield* ledger.get(key(2))).toStrictEqual(Option.some(made[0]))
        expect(yield* ledger.get(key(4))).toStrictEqual(Option.some(made[1]))
        expect(yield* ledger.get(key(5))).toStrictEqual(Option.none())
        expect(yield* ledger.extents(key(2))).toStrictEqual([first])
        expect(yield* ledger.extents(key(4))).toStrictEqual([])
        expect((yield* ledger.unsettled).map((upload) => upload.key).toSorted()).toEqual([key(2), key(4)])
        // what was recorded is there for all that follows: another name, the death of the process
        yield* ledger.publishing(key(4), "b (1)")
        yield* TestClock.adjust("1 second")
        yield* ledger.completeWhole([key(2), key(4)])
        expect(Option.getOrThrow(yield* ledger.get(key(2)))).toStrictEqual({
          ...made[0],
          state: "complete",
          touchedAt: 6000
        })
        expect(Option.getOrThrow(yield* ledger.get(key(4)))).toMatchObject({ name: "b (1)", state: "complete" })
        expect(yield* ledger.unsettled).toEqual([])
        expect(yield* ledger.createWhole([])).toEqual([])
        yield* ledger.completeWhole([])
      }).pipe(Effect.provide(layer)))

    it.scoped("lets one unfinished upload plan a name, where that was asked", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        const other = (at: number, exclusiveName: boolean) =>
          ledger.create(fresh(key(at), { id: Option.some(UploadId.make(`other${at}`)), exclusiveName }))
        yield* ledger.create(fresh(key(1)))
        expect(yield* failure(other(2, true))).toBe("Conflict")
        expect((yield* other(3, false)).key).toBe(key(3))
        yield* ledger.remove(key(3))
        yield* write(key(1), 0, 5, { size: Option.some(5) })
        expect(yield* failure(other(4, true))).toBe("Conflict")
        yield* ledger.complete(key(1), hash("whole"))
        expect((yield* other(5, true)).key).toBe(key(5))
      }).pipe(Effect.provide(layer)))

    it.scoped("claims what is free, as much as is free", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 10, 20)
        expect(yield* claimed(key(1), 0, 10)).toMatchObject({ limit: 10, supersedes: Option.none() })
        expect((yield* claimed(key(1), 20, 30)).limit).toBe(10)
        expect((yield* claimed(key(1), 30)).limit).toBe(Number.MAX_SAFE_INTEGER - 30)
      }).pipe(Effect.provide(layer)))

    it.scoped("claims up to the next bytes, and up to the size, when the length is not known", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 10, 20, { size: Option.some(50) })
        const before = yield* claimed(key(1), 5)
        expect(before.limit).toBe(5)
        yield* ledger.release(key(1), before.fence)
        expect((yield* claimed(key(1), 20)).limit).toBe(30)
      }).pipe(Effect.provide(layer)))

    it.scoped("calls exactly the same range a repeat, and any other touch of committed bytes a conflict", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 10, 20)
        yield* write(key(1), 20, 30)
        expect(yield* claim(key(1), 10, 20)).toStrictEqual({ _tag: "Repeat", extent: extent(10, 20) })
        expect(yield* claim(key(1), 10)).toStrictEqual({ _tag: "Repeat", extent: extent(10, 20) })
        for (
          const [from, to] of [[0, 11], [10, 19], [10, 21], [10, 30], [15, 18], [15, 25], [29, 31], [0, 40]] as const
        ) {
          expect([from, to, yield* failure(claim(key(1), from, to))]).toEqual([from, to, "Conflict"])
        }
        expect(yield* failure(claim(key(1), 15))).toBe("Conflict")
      }).pipe(Effect.provide(layer)))

    it.scoped("claims nothing behind the end of the file", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* commit(commitOf(key(1), { size: Option.some(10) }))
        expect(yield* failure(claim(key(1), 5, 11))).toBe("Conflict")
        expect(yield* failure(claim(key(1), 11))).toBe("Conflict")
        expect((yield* claimed(key(1), 5, 10)).limit).toBe(5)
      }).pipe(Effect.provide(layer)))

    it.scoped("gives a claimed range to the newer claim, and refuses one that overlaps it otherwise", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        const first = yield* claimed(key(1), 0, 10)
        for (const [from, to] of [[0, 9], [0, 11], [5, 15], [9, undefined], [0, undefined]] as const) {
          expect(yield* failure(claim(key(1), from, to))).toBe("Busy")
        }
        const second = yield* claimed(key(1), 0, 10)
        expect(second.fence).toBeGreaterThan(first.fence)
        expect(second.supersedes).toEqual(Option.some(first.fence))
        // the loser gives up what it no longer has
        yield* ledger.release(key(1), first.fence)
        expect((yield* claimed(key(1), 0, 10)).supersedes).toEqual(Option.some(second.fence))
      }).pipe(Effect.provide(layer)))

    it.scoped("frees a range that was given up, once or twice", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        const { fence } = yield* claimed(key(1), 0, 10)
        yield* ledger.release(key(1), fence)
        yield* ledger.release(key(1), fence)
        expect((yield* claimed(key(1), 0, 5)).supersedes).toEqual(Option.none())
      }).pipe(Effect.provide(layer)))

    it.scoped("commits nothing of a claim that was taken over or given up", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        const old = yield* claimed(key(1), 0, 10)
        const now = yield* claimed(key(1), 0, 10)
        const of = (fence: number) => commitOf(key(1), { written: Option.some({ fence, extent: extent(0, 10) }) })
        expect(yield* failure(Effect.flatten(commit(of(old.fence))))).toBe("Superseded")
        expect(yield* ledger.received(key(1))).toEqual([])
        yield* ledger.release(key(1), now.fence)
        expect(yield* failure(Effect.flatten(commit(of(now.fence))))).toBe("Superseded")
        expect(yield* ledger.received(key(1))).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.scoped("commits each outcome of a batch by itself, in the order asked", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* ledger.create(fresh(key(2), { principal: "other" }))
        const one = yield* claimed(key(1), 0, 10)
        const two = yield* claimed(key(2), 0, 4)
        const outcomes = yield* ledger.commit([
          commitOf(key(1), { written: Option.some({ fence: 999, extent: extent(0, 10) }) }),
          commitOf(key(1), { written: Option.some({ fence: one.fence, extent: extent(0, 10) }) }),
          commitOf(key(1), { size: Option.some(5) }),
          commitOf(key(2), { written: Option.some({ fence: two.fence, extent: extent(0, 4) }), size: Option.some(4) })
        ])
        expect(outcomes.map(Either.match({
          onLeft: ({ _tag }) => _tag,
          onRight: ({ finish, upload }) => [upload.key, upload.received, finish] as const
        }))).toEqual(["Superseded", [key(1), 10, false], "Conflict", [key(2), 4, true]])
        expect(yield* ledger.received(key(1))).toEqual([[0, 10]])
      }).pipe(Effect.provide(layer)))

    it.scoped("commits nothing at all when one upload is not there", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        expect(yield* failure(ledger.commit([commitOf(key(9))]))).toBe("ServerFailure")
      }).pipe(Effect.provide(layer)))

    it.scoped("keeps the first size and hash, whatever is said later", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        const say = (size: number, bytes: string) =>
          commit(commitOf(key(1), { size: Option.some(size), sha256: Option.some(hash(bytes)) }))
        yield* yield* say(10, "a")
        yield* yield* say(10, "a")
        expect(yield* failure(Effect.flatten(say(11, "a")))).toBe("Conflict")
        expect(yield* failure(Effect.flatten(say(10, "b")))).toBe("Conflict")
        yield* yield* commit(commitOf(key(1)))
        expect(Option.getOrThrow(yield* ledger.get(key(1)))).toMatchObject({
          size: Option.some(10),
          sha256: Option.some(hash("a"))
        })
      }).pipe(Effect.provide(layer)))

    it.scoped("takes no size smaller than what is here", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 10, 20)
        expect(yield* failure(Effect.flatten(commit(commitOf(key(1), { size: Option.some(19) }))))).toBe("Conflict")
        expect(yield* failure(write(key(1), 20, 30, { size: Option.some(25) }))).toBe("Conflict")
        expect(yield* ledger.received(key(1))).toEqual([[10, 20]])
        yield* yield* commit(commitOf(key(1), { size: Option.some(20) }))
      }).pipe(Effect.provide(layer)))

    it.scoped("finds once that nothing is missing, and takes no more from then on", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        expect((yield* write(key(1), 0, 5, { size: Option.some(10) })).finish).toBe(false)
        const last = yield* write(key(1), 5, 10)
        expect([last.finish, last.upload.state, last.upload.received, last.upload.chunks]).toEqual([
          true,
          "finishing",
          10,
          2
        ])
        expect(yield* failure(Effect.flatten(commit(commitOf(key(1)))))).toBe("Superseded")
        expect((yield* claim(key(1), 0, 5))._tag).toBe("Repeat")
      }).pipe(Effect.provide(layer)))

    it.scoped("finds it at the word that says how long the file is, too", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 0, 5)
        expect((yield* yield* commit(commitOf(key(1), { size: Option.some(5) }))).finish).toBe(true)
        yield* ledger.create(fresh(key(2), { principal: "other" }))
        expect((yield* yield* commit(commitOf(key(2), { size: Option.some(0) }))).finish).toBe(true)
      }).pipe(Effect.provide(layer)))

    it.scoped("goes from finishing to complete under its final name", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 0, 5, { size: Option.some(5) })
        expect((yield* ledger.unsettled).map((upload) => upload.key)).toEqual([key(1)])
        yield* ledger.publishing(key(1), "ä (1).txt")
        const completed = yield* ledger.complete(key(1), hash("whole"))
        expect(completed).toMatchObject({ state: "complete", name: "ä (1).txt", sha256: Option.some(hash("whole")) })
        expect(yield* ledger.find("default", id)).toStrictEqual(Option.some(completed))
        expect(yield* ledger.unsettled).toEqual([])
        expect(yield* failure(ledger.remove(key(1)))).toBe("Conflict")
        expect(yield* ledger.received(key(1))).toEqual([[0, 5]])
      }).pipe(Effect.provide(layer)))

    it.scoped("keeps the bytes of one that failed until it is removed", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 0, 5, { size: Option.some(5) })
        expect(yield* failure(ledger.remove(key(1)))).toBe("Conflict")
        yield* ledger.fail(key(1))
        expect(Option.getOrThrow(yield* ledger.get(key(1))).state).toBe("failed")
        expect(yield* ledger.unsettled).toEqual([])
        yield* ledger.remove(key(1))
        expect(Option.getOrThrow(yield* ledger.find("default", id))).toMatchObject({ state: "deleted", received: 0 })
        expect(yield* ledger.extents(key(1))).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.scoped("lets nobody write to an upload that was removed", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        const { fence } = yield* claimed(key(1), 0, 5)
        yield* ledger.remove(key(1))
        const late = commitOf(key(1), { written: Option.some({ fence, extent: extent(0, 5) }) })
        expect(yield* failure(Effect.flatten(commit(late)))).toBe("Superseded")
        expect(yield* failure(claim(key(1), 5, 10))).toBe("Busy")
        expect(yield* ledger.received(key(1))).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.scoped("takes back what storage has lost: the extents that are not there as a whole", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        for (const [from, to] of [[20, 30], [0, 5], [5, 20]] as const) yield* write(key(1), from, to)
        const before = Option.getOrThrow(yield* ledger.get(key(1)))
        expect(yield* ledger.shorten(key(1), 30)).toEqual(before)
        const { upload } = yield* yield* commit(commitOf(key(1), { size: Option.some(30) }))
        expect(upload.state).toBe("finishing")
        const left = yield* ledger.shorten(key(1), 19)
        expect(left).toMatchObject({ state: "receiving", received: 5, size: Option.some(30) })
        expect(yield* ledger.get(key(1))).toEqual(Option.some(left))
        expect(yield* ledger.received(key(1))).toEqual([[0, 5]])
        yield* write(key(1), 5, 25)
        expect((yield* write(key(1), 25, 30)).finish).toBe(true)
        yield* ledger.fail(key(1))
        expect(yield* ledger.shorten(key(1), 0)).toMatchObject({ state: "failed", received: 30 })
      }).pipe(Effect.provide(layer)))

    it.scoped("takes back chunks of revision 1, the index expected next with them", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(revision1(key(1)))
        for (const [from, to] of [[0, 5], [5, 5], [5, 9]] as const) yield* writeNext(key(1), from, to)
        expect(yield* ledger.shorten(key(1), 8)).toMatchObject({ chunks: 2, received: 5 })
        expect((yield* writeNext(key(1), 5, 10)).upload).toMatchObject({ chunks: 3, received: 10 })
        expect(yield* ledger.shorten(key(1), 4)).toMatchObject({ chunks: 0, received: 0 })
      }).pipe(Effect.provide(layer)))

    it.scoped("lets an upload go whose bytes are all gone, one that was finishing too", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        yield* write(key(1), 0, 5, { size: Option.some(5) })
        yield* ledger.lose(key(1))
        expect(Option.getOrThrow(yield* ledger.get(key(1)))).toMatchObject({ state: "deleted", received: 0 })
        yield* ledger.create(revision1(key(2)))
        yield* ledger.lose(key(2))
        expect(yield* ledger.get(key(2))).toEqual(Option.none())
      }).pipe(Effect.provide(layer)))

    it.scoped("keeps extents in order with all they have", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(fresh(key(1)))
        for (const [from, to] of [[20, 30], [0, 5], [5, 20]] as const) yield* write(key(1), from, to)
        expect(yield* ledger.extents(key(1))).toStrictEqual([extent(0, 5), extent(5, 20), extent(20, 30)])
        expect(yield* ledger.chunk(key(1), 5)).toStrictEqual(Option.some(extent(5, 20)))
        expect(yield* ledger.chunk(key(1), 6)).toStrictEqual(Option.none())
        expect(yield* ledger.received(key(1))).toEqual([[0, 30]])
      }).pipe(Effect.provide(layer)))

    it.scoped("finds revision-1 uploads by principal and client name, the one written last first", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(revision1(key(1)))
        yield* ledger.create(revision1(key(2)))
        yield* ledger.create(revision1(key(3), { principal: "other" }))
        yield* ledger.create(revision1(key(4), { clientName: "ä.txt" }))
        const found = Effect.map(
          ledger.findRevision1("default", "/data/ä.txt"),
          (uploads) => uploads.map((upload) => upload.key)
        )
        expect(yield* found).toEqual([key(2), key(1)])
        yield* TestClock.adjust("1 second")
        yield* writeNext(key(1), 0, 5)
        expect(yield* found).toEqual([key(1), key(2)])
        yield* TestClock.adjust("1 second")
        yield* ledger.repeated(key(2), 0, "10.0.0.9")
        expect(yield* found).toEqual([key(2), key(1)])
      }).pipe(Effect.provide(layer)))

    it.scoped("keeps revision-1 chunks by index, empty ones too, and never finishes them", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(revision1(key(1)))
        yield* writeNext(key(1), 0, 5)
        yield* writeNext(key(1), 5, 5)
        const third = yield* writeNext(key(1), 5, 9, "10.0.0.7")
        expect(third.upload).toMatchObject({ chunks: 3, received: 9, address: "10.0.0.7", state: "receiving" })
        expect(third.finish).toBe(false)
        expect(yield* ledger.chunk(key(1), 1)).toStrictEqual(Option.some(extent(5, 5)))
        expect(yield* ledger.chunk(key(1), 2)).toStrictEqual(Option.some(extent(5, 9)))
        expect(yield* ledger.received(key(1))).toEqual([[0, 9]])
        expect((yield* ledger.unsettled).map((upload) => upload.key)).toEqual([key(1)])
      }).pipe(Effect.provide(layer)))

    it.scoped("gives a revision-1 upload to one writer at a time, the newest", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(revision1(key(1)))
        const first = yield* ledger.claim(key(1), "whole")
        const second = yield* ledger.claim(key(1), "whole")
        expect(second).toMatchObject({
          _tag: "Claimed",
          supersedes: Option.some(first._tag === "Claimed" ? first.fence : undefined)
        })
      }).pipe(Effect.provide(layer)))

    it.scoped("remembers how far a revision-1 upload was repeated, and from where", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(revision1(key(1)))
        yield* writeNext(key(1), 0, 5)
        yield* TestClock.adjust("3 seconds")
        const repeated = yield* ledger.repeated(key(1), 0, "10.0.0.9")
        expect(repeated).toMatchObject({ replayCursor: 1, address: "10.0.0.9", touchedAt: 3000, chunks: 1 })
        expect(yield* ledger.get(key(1))).toStrictEqual(Option.some(repeated))
      }).pipe(Effect.provide(layer)))

    it.scoped("carries chunks over to a new version, and forgets a revision-1 upload altogether", () =>
      Effect.gen(function*() {
        const ledger = yield* Ledger
        yield* ledger.create(revision1(key(1)))
        yield* ledger.carried(key(1), [extent(0, 5), extent(5, 7)])
        expect(Option.getOrThrow(yield* ledger.get(key(1)))).toMatchObject({ chunks: 2, received: 7 })
        yield* writeNext(key(1), 7, 9)
        expect(yield* ledger.extents(key(1))).toEqual([extent(0, 5), extent(5, 7), extent(7, 9)])
        yield* ledger.remove(key(1))
        expect(yield* ledger.get(key(1))).toEqual(Option.none())
        expect(yield* ledger.extents(key(1))).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.scoped.prop(
      "agrees with a plain set of bytes on what is here, what repeats and what conflicts",
      { chunks: FastCheck.array(FastCheck.tuple(FastCheck.nat(20), FastCheck.integer({ min: 1, max: 6 }))) },
      ({ chunks }) =>
        Effect.gen(function*() {
          const ledger = yield* Ledger
          yield* ledger.create(fresh(key(1)))
          const taken: Array<Ranges.Range> = []
          for (const [from, length] of chunks) {
            const wanted: Ranges.Range = [from, from + length]
            const expected = taken.some((range) => range[0] === wanted[0] && range[1] === wanted[1])
              ? "Repeat"
              : taken.some((range) => Ranges.overlap(range, wanted))
              ? "Conflict"
              : "Claimed"
            const found = yield* Effect.merge(claim(key(1), ...wanted))
            expect(found._tag).toBe(expected)
            if (found._tag === "Claimed") {
              taken.push(wanted)
              const written = Option.some({ fence: found.fence, extent: extent(...wanted) })
              yield* yield* commit(commitOf(key(1), { written }))
              yield* ledger.release(key(1), found.fence)
            }
          }
          const ranges = taken.reduce(Ranges.add, Ranges.empty)
          expect(yield* ledger.received(key(1))).toEqual(ranges)
          expect(Option.getOrThrow(yield* ledger.get(key(1))).received).toBe(Ranges.total(ranges))
        }).pipe(Effect.provide(layer)),
      { fastCheck: { numRuns: 50 } }
    )
  })
}
