/**
 * The rules of the ledger, over rows that some database keeps.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import { Busy, Conflict, ServerFailure } from "../../protocol/ProtocolError.ts"
import type * as Ranges from "../../protocol/Ranges.ts"
import type { UploadId } from "../../protocol/UploadId.ts"
import * as Claims from "../Claims.ts"
import type { Commit, Committed, LedgerError, Lifetimes, Upload, UploadLedger } from "../UploadLedger.ts"
import type { Extent, UploadKey } from "../UploadStore.ts"

/** What the rules need of a database. What writes is called inside a `transaction`, what only reads inside that or a `look`. */
export interface Rows {
  /** All or nothing, one after another, durable on return. */
  readonly transaction: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E | LedgerError>
  /** Reads what is there between two transactions. */
  readonly look: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>
  readonly byKey: (key: UploadKey) => Effect.Effect<Option.Option<Upload>, LedgerError>
  readonly byId: (principal: string, id: UploadId) => Effect.Effect<Option.Option<Upload>, LedgerError>
  /** The one touched last first. */
  readonly revision1: (principal: string, clientName: string) => Effect.Effect<ReadonlyArray<Upload>, LedgerError>
  /** Whether an upload that is not published yet plans this name. */
  readonly isPlanned: (name: string) => Effect.Effect<boolean, LedgerError>
  readonly unsettled: Effect.Effect<ReadonlyArray<Upload>, LedgerError>
  readonly isEmpty: Effect.Effect<boolean, LedgerError>
  /** How many of revision 2 are neither complete nor deleted: a principal's, or all. */
  readonly open: (principal: Option.Option<string>) => Effect.Effect<number, LedgerError>
  /** The bytes of all uploads of a principal. */
  readonly bytesOf: (principal: string) => Effect.Effect<number, LedgerError>
  /** Those of revision 2, the one touched last last. */
  readonly unfinished: Effect.Effect<ReadonlyArray<Upload>, LedgerError>
  /** At most so many uploads of each kind that nobody touched since its time; none that is finishing. */
  readonly untouched: (before: Lifetimes, most: number) => Effect.Effect<ReadonlyArray<Upload>, LedgerError>
  readonly put: (upload: Upload) => Effect.Effect<void, LedgerError>
  /** Removes the upload and its extents. */
  readonly forget: (key: UploadKey) => Effect.Effect<void, LedgerError>
  /** `position` orders the extents of an upload: in revision 1 the index, in revision 2 the offset. */
  readonly putExtent: (key: UploadKey, position: number, extent: Extent) => Effect.Effect<void, LedgerError>
  /** Those from a position on. */
  readonly removeExtents: (key: UploadKey, from: number) => Effect.Effect<void, LedgerError>
  /** The last extent at or before a position, and the first after it. */
  readonly around: (
    key: UploadKey,
    position: number
  ) => Effect.Effect<{ readonly before: Option.Option<Extent>; readonly after: Option.Option<Extent> }, LedgerError>
  readonly last: (key: UploadKey) => Effect.Effect<Option.Option<Extent>, LedgerError>
  /** At most so many extents from a position on, in order. */
  readonly page: (
    key: UploadKey,
    from: number,
    most: number
  ) => Effect.Effect<ReadonlyArray<{ readonly position: number; readonly extent: Extent }>, LedgerError>
}

/** Whether an upload that is not published yet plans a name. */
export const plans = (upload: Upload, name: string): boolean =>
  upload.name === name && (upload.state === "receiving" || upload.state === "finishing") &&
  (Option.isSome(upload.id) || upload.chunks === 0)

const pageSize = 4096

const end = (extent: Extent) => extent.offset + extent.length

const conflict = (message: string) => new Conflict({ message })

const touches =
  "These bytes overlap bytes that are here already; ask GET for what is missing and send exactly that, or start a new upload"

const sameOr = <A>(known: Option.Option<A>, said: Option.Option<A>, what: string) =>
  Option.isSome(known) && Option.isSome(said) && known.value !== said.value
    ? Either.left(conflict(`This upload has another ${what}; a changed file is a new upload under a new id`))
    : Either.right(Option.orElse(known, () => said))

export const make = (rows: Rows): Context.Tag.Service<UploadLedger> => {
  const claims = Claims.make()

  const known = (key: UploadKey) =>
    Effect.flatMap(
      rows.byKey(key),
      Option.match({
        onNone: () => Effect.fail(new ServerFailure({ message: `The ledger has no upload ${key}` })),
        onSome: Effect.succeed
      })
    )

  const change = (key: UploadKey, f: (upload: Upload) => Upload) =>
    rows.transaction(Effect.gen(function*() {
      const changed = f(yield* known(key))
      yield* rows.put(changed)
      return changed
    }))

  /** Writing `[from, to)` next to what is committed: the bytes there are for it, or the extent it repeats. */
  const room = (key: UploadKey, from: number, to: Option.Option<number>) =>
    Effect.gen(function*() {
      const upload = yield* known(key)
      if (upload.state === "deleted") {
        return yield* new Busy({ message: "The upload was deleted just now; ask for its state", retryAfter: 1 })
      }
      const { after, before } = yield* rows.around(key, from)
      if (Option.isSome(before) && before.value.offset === from) {
        if (Option.getOrElse(to, () => end(before.value)) !== end(before.value)) return yield* conflict(touches)
        return before.value
      }
      const size = Option.getOrElse(upload.size, () => Number.MAX_SAFE_INTEGER)
      if (Option.getOrElse(to, () => from) > size) {
        return yield* conflict(`These bytes lie behind the end of the file, whose size is ${size}`)
      }
      const limit = Math.min(size, Option.match(after, { onNone: () => size, onSome: ({ offset }) => offset }))
      if ((Option.isSome(before) && end(before.value) > from) || Option.getOrElse(to, () => from) > limit) {
        return yield* conflict(touches)
      }
      return Option.getOrElse(to, () => limit) - from
    })

  const commitOne = (commit: Commit) =>
    Effect.gen(function*() {
      const upload = yield* known(commit.key)
      const isRevision1 = Option.isNone(upload.id)
      if (upload.state !== "receiving") {
        return yield* new Claims.Superseded({ message: "The upload is no longer being received; ask for its state" })
      }
      const size = yield* sameOr(upload.size, commit.size, "size")
      const sha256 = yield* sameOr(upload.sha256, commit.sha256, "Repr-Digest")
      let { chunks, received } = upload
      let last = Option.match(yield* rows.last(commit.key), { onNone: () => 0, onSome: end })
      if (Option.isSome(commit.written)) {
        const { extent, fence } = commit.written.value
        if (!claims.holds(commit.key, fence)) {
          return yield* new Claims.Superseded({ message: "A newer request for the same bytes took over" })
        }
        last = Math.max(last, end(extent))
        chunks += 1
        received += extent.length
      }
      if (Option.isSome(size) && last > size.value) {
        return yield* conflict(`The upload has bytes up to ${last}, more than its size of ${size.value}`)
      }
      if (Option.isSome(commit.written)) {
        const { extent } = commit.written.value
        yield* rows.putExtent(commit.key, isRevision1 ? upload.chunks : extent.offset, extent)
      }
      const complete = !isRevision1 && Option.isSome(size) && size.value === received
      const changed: Upload = {
        ...upload,
        size,
        sha256,
        chunks,
        received,
        address: isRevision1 ? commit.address : upload.address,
        state: complete ? "finishing" : "receiving",
        touchedAt: yield* Clock.currentTimeMillis
      }
      yield* rows.put(changed)
      return { upload: changed, finish: complete } satisfies Committed
    })

  /** Its bytes are forgotten, but not that it was. */
  const markDeleted = (upload: Upload) =>
    Effect.gen(function*() {
      yield* rows.removeExtents(upload.key, 0)
      yield* rows.put({ ...upload, state: "deleted", received: 0, touchedAt: yield* Clock.currentTimeMillis })
    })

  /** Folds over the extents in order, a page a transaction. */
  const fold = <A>(key: UploadKey, initial: A, f: (state: A, extent: Extent) => A) =>
    Effect.gen(function*() {
      let state = initial
      let from = 0
      for (;;) {
        const page = yield* rows.look(rows.page(key, from, pageSize))
        for (const { extent } of page) state = f(state, extent)
        if (page.length < pageSize) return state
        from = page.at(-1)!.position + 1
      }
    })

  return {
    find: (principal, id) => rows.look(rows.byId(principal, id)),
    findRevision1: (principal, clientName) => rows.look(rows.revision1(principal, clientName)),
    get: (key) => rows.look(rows.byKey(key)),
    create: ({ exclusiveName, ...fresh }) =>
      rows.transaction(Effect.gen(function*() {
        const there = Option.isSome(fresh.id)
          ? yield* rows.byId(fresh.principal, fresh.id.value)
          : Option.none<Upload>()
        if (Option.isSome(there)) return there.value
        if (exclusiveName && (yield* rows.isPlanned(fresh.plannedName))) {
          return yield* conflict(`The name ${fresh.plannedName} is taken by another upload; send another X-File-Name`)
        }
        const upload: Upload = {
          ...fresh,
          name: fresh.plannedName,
          size: Option.none(),
          sha256: Option.none(),
          state: "receiving",
          received: 0,
          chunks: 0,
          replayCursor: -1,
          touchedAt: yield* Clock.currentTimeMillis
        }
        yield* rows.put(upload)
        return upload
      })),
    // what it writes is in memory
    claim: (key, wanted) =>
      rows.look(Effect.gen(function*() {
        const free = wanted === "whole" ? Number.MAX_SAFE_INTEGER : yield* room(key, wanted.from, wanted.to)
        if (typeof free !== "number") return { _tag: "Repeat" as const, extent: free }
        const taken = claims.take(key, wanted)
        return taken === undefined
          ? yield* new Busy({
            message: "Another request is writing some of these bytes; send them again",
            retryAfter: 1
          })
          : { _tag: "Claimed" as const, limit: free, ...taken }
      })),
    release: (key, fence) => Effect.sync(() => claims.release(key, fence)),
    commit: (many) =>
      rows.transaction(Effect.forEach(many, (commit) =>
        Effect.map(commitOne(commit), Either.right).pipe(
          Effect.catchTags({
            Conflict: (error) => Effect.succeed(Either.left(error)),
            Superseded: (error) => Effect.succeed(Either.left(error))
          })
        ))),
    repeated: (key, index, address) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => change(key, (upload) => ({ ...upload, replayCursor: index + 1, address, touchedAt: now }))
      ),
    carried: (key, extents) =>
      rows.transaction(Effect.gen(function*() {
        const upload = yield* known(key)
        yield* Effect.forEach(extents, (extent, index) => rows.putExtent(key, index, extent), { discard: true })
        yield* rows.put({
          ...upload,
          chunks: extents.length,
          received: extents.reduce((sum, extent) => sum + extent.length, 0)
        })
      })),
    contiguous: (key, from) =>
      Effect.map(rows.look(rows.page(key, from, pageSize)), (page) => {
        let to = from
        for (const { extent } of page) {
          if (extent.offset !== to) break
          to = end(extent)
        }
        return to
      }),
    expire: (before) =>
      rows.transaction(Effect.gen(function*() {
        const dropped: Array<UploadKey> = []
        for (const upload of yield* rows.untouched(before, pageSize)) {
          if (claims.isHeld(upload.key)) continue
          if (Option.isNone(upload.id) || upload.state === "complete" || upload.state === "deleted") {
            yield* rows.forget(upload.key)
          } else {
            yield* markDeleted(upload)
          }
          dropped.push(upload.key)
        }
        return dropped
      })),
    isEmpty: rows.look(rows.isEmpty),
    open: (principal) => rows.look(rows.open(principal)),
    bytesOf: (principal) => rows.look(rows.bytesOf(principal)),
    unfinished: rows.look(rows.unfinished),
    publishing: (key, name) => Effect.asVoid(change(key, (upload) => ({ ...upload, name }))),
    complete: (key, sha256) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (touchedAt) =>
          change(key, (upload) => ({ ...upload, touchedAt, state: "complete", sha256: Option.some(sha256) }))
      ),
    fail: (key) => Effect.asVoid(change(key, (upload) => ({ ...upload, state: "failed" }))),
    remove: (key) =>
      rows.transaction(Effect.gen(function*() {
        const upload = yield* known(key)
        if (Option.isNone(upload.id)) return yield* rows.forget(key)
        if (upload.state === "finishing" || upload.state === "complete") {
          return yield* conflict("The upload is complete; its file can only be removed on the server")
        }
        yield* markDeleted(upload)
      })),
    shorten: (key, length) =>
      rows.transaction(Effect.gen(function*() {
        const upload = yield* known(key)
        const last = yield* rows.last(key)
        if (upload.state === "failed" || Option.isNone(last) || end(last.value) <= length) return upload
        let [chunks, received, position] = [0, 0, 0]
        search: for (;;) {
          for (const { extent, position: at } of yield* rows.page(key, position, pageSize)) {
            position = at
            if (end(extent) > length) break search
            position++
            chunks++
            received += extent.length
          }
        }
        yield* rows.removeExtents(key, position)
        const changed: Upload = { ...upload, chunks, received, state: "receiving" }
        yield* rows.put(changed)
        return changed
      })),
    lose: (key) =>
      rows.transaction(Effect.flatMap(
        known(key),
        (upload) => Option.isNone(upload.id) ? rows.forget(key) : markDeleted(upload)
      )),
    extents: (key) =>
      fold(key, [] as Array<Extent>, (extents, extent) => {
        extents.push(extent)
        return extents
      }),
    chunk: (key, index) =>
      Effect.map(
        rows.look(rows.page(key, index, 1)),
        ([found]) => found?.position === index ? Option.some(found.extent) : Option.none()
      ),
    received: (key) =>
      Effect.map(
        fold(key, [] as Array<[number, number]>, (ranges, extent) => {
          const last = ranges.at(-1)
          if (last !== undefined && last[1] === extent.offset) last[1] = end(extent)
          else if (extent.length > 0) ranges.push([extent.offset, end(extent)])
          return ranges
        }),
        (ranges): Ranges.Ranges => ranges
      ),
    unsettled: rows.look(rows.unsettled)
  }
}
