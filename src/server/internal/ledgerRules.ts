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
import { Busy, Conflict, ServerFailure, StorageFull } from "../../protocol/ProtocolError.ts"
import type * as Ranges from "../../protocol/Ranges.ts"
import type { UploadId } from "../../protocol/UploadId.ts"
import * as Claims from "../Claims.ts"
import type { Claim, Commit, Committed, LedgerError, Lifetimes, Upload, UploadLedger } from "../UploadLedger.ts"
import type { Extent, UploadKey } from "../UploadStore.ts"

/**
 * What the rules need of a database. Everything is done at once, so that nobody else comes in between, and throws a
 * `LedgerError` where the database fails. What changes something is called inside a `transaction`.
 */
export interface Rows {
  /** Runs it, all or nothing. What fails leaves nothing behind. */
  readonly transaction: <A, E>(run: () => Either.Either<A, E>) => Either.Either<A, E>
  /** Waits until all that transactions have changed is durable; `undefined` when it is. */
  readonly durable: () => Effect.Effect<void, LedgerError> | undefined
  readonly byKey: (key: UploadKey) => Option.Option<Upload>
  readonly byId: (principal: string, id: UploadId) => Option.Option<Upload>
  /** The one touched last first. */
  readonly revision1: (principal: string, clientName: string) => ReadonlyArray<Upload>
  /** Whether an upload that is not published yet plans this name. */
  readonly isPlanned: (name: string) => boolean
  readonly unsettled: () => ReadonlyArray<Upload>
  readonly isEmpty: () => boolean
  /** How many of revision 2 are neither complete nor deleted: a principal's, or all. */
  readonly open: (principal: Option.Option<string>) => number
  /** The bytes of all uploads of a principal. */
  readonly bytesOf: (principal: string) => number
  /** Those of revision 2, the one touched last last. */
  readonly unfinished: () => ReadonlyArray<Upload>
  /** At most so many uploads of each kind that nobody touched since its time; none that is finishing. */
  readonly untouched: (before: Lifetimes, most: number) => ReadonlyArray<Upload>
  readonly put: (upload: Upload) => void
  /** Puts uploads with their extents; returns the keys of those whose (principal, id) was not there before. */
  readonly putWhole: (
    many: ReadonlyArray<{ readonly upload: Upload; readonly extent: Extent }>
  ) => ReadonlyArray<UploadKey>
  /** Makes these `complete`. */
  readonly completeAll: (keys: ReadonlyArray<UploadKey>, touchedAt: number) => void
  /** Removes the upload and its extents. */
  readonly forget: (key: UploadKey) => void
  /** `position` orders the extents of an upload: in revision 1 the index, in revision 2 the offset. */
  readonly putExtent: (key: UploadKey, position: number, extent: Extent) => void
  /** Those from a position on. */
  readonly removeExtents: (key: UploadKey, from: number) => void
  /** The last extent at or before a position. */
  readonly before: (key: UploadKey, position: number) => Option.Option<Extent>
  /** The first extent after a position. */
  readonly after: (key: UploadKey, position: number) => Option.Option<Extent>
  /** At most so many extents from a position on, in order. */
  readonly page: (
    key: UploadKey,
    from: number,
    most: number
  ) => ReadonlyArray<{ readonly position: number; readonly extent: Extent }>
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

  /** Nobody is told what a power cut could still undo. */
  const durably = <A, E>(outcome: Either.Either<A, E>): Effect.Effect<A, E | LedgerError> => {
    const durable = rows.durable()
    return durable === undefined ? outcome : Effect.zipRight(durable, outcome)
  }

  /** Runs what is done at once; a `LedgerError` that it throws is its failure. */
  const at = <A, E>(
    run: () => Either.Either<A, E>,
    tell: (outcome: Either.Either<A, E>) => Effect.Effect<A, E | LedgerError> = durably
  ): Effect.Effect<A, E | LedgerError> =>
    Effect.suspend((): Effect.Effect<A, E | LedgerError> => {
      try {
        return tell(run())
      } catch (cause) {
        if (cause instanceof ServerFailure || cause instanceof StorageFull) return Effect.fail(cause)
        throw cause
      }
    })

  const look = <A>(run: () => A): Effect.Effect<A, LedgerError> => at(() => Either.right(run()))

  const transaction = <A, E>(run: () => Either.Either<A, E>) => at(() => rows.transaction(run))

  const known = (key: UploadKey): Upload => {
    const found = rows.byKey(key)
    if (Option.isNone(found)) throw new ServerFailure({ message: `The ledger has no upload ${key}` })
    return found.value
  }

  const change = (key: UploadKey, f: (upload: Upload) => Upload) =>
    transaction(() => {
      const changed = f(known(key))
      rows.put(changed)
      return Either.right(changed)
    })

  const last = (key: UploadKey) => rows.before(key, Number.MAX_SAFE_INTEGER)

  /** Writing `[from, to)` next to what is committed: the bytes there are for it, or the extent it repeats. */
  const room = (
    key: UploadKey,
    from: number,
    to: Option.Option<number>
  ): Either.Either<number | Extent, Conflict | Busy> => {
    const upload = known(key)
    if (upload.state === "deleted") {
      return Either.left(new Busy({ message: "The upload was deleted just now; ask for its state", retryAfter: 1 }))
    }
    const before = rows.before(key, from)
    if (Option.isSome(before) && before.value.offset === from) {
      return Option.getOrElse(to, () => end(before.value)) === end(before.value)
        ? Either.right(before.value)
        : Either.left(conflict(touches))
    }
    const size = Option.getOrElse(upload.size, () => Number.MAX_SAFE_INTEGER)
    if (Option.getOrElse(to, () => from) > size) {
      return Either.left(conflict(`These bytes lie behind the end of the file, whose size is ${size}`))
    }
    const limit = Math.min(
      size,
      Option.match(rows.after(key, from), { onNone: () => size, onSome: ({ offset }) => offset })
    )
    if ((Option.isSome(before) && end(before.value) > from) || Option.getOrElse(to, () => from) > limit) {
      return Either.left(conflict(touches))
    }
    return Either.right(Option.getOrElse(to, () => limit) - from)
  }

  const commitOne = (commit: Commit, now: number): Either.Either<Committed, Conflict | Claims.Superseded> => {
    const upload = known(commit.key)
    const isRevision1 = Option.isNone(upload.id)
    if (upload.state !== "receiving") {
      return Either.left(
        new Claims.Superseded({ message: "The upload is no longer being received; ask for its state" })
      )
    }
    const size = sameOr(upload.size, commit.size, "size")
    if (Either.isLeft(size)) return Either.left(size.left)
    const sha256 = sameOr(upload.sha256, commit.sha256, "Repr-Digest")
    if (Either.isLeft(sha256)) return Either.left(sha256.left)
    let { chunks, received } = upload
    let to = Option.match(last(commit.key), { onNone: () => 0, onSome: end })
    if (Option.isSome(commit.written)) {
      const { extent, fence } = commit.written.value
      if (!claims.holds(commit.key, fence)) {
        return Either.left(new Claims.Superseded({ message: "A newer request for the same bytes took over" }))
      }
      to = Math.max(to, end(extent))
      chunks += 1
      received += extent.length
    }
    if (Option.isSome(size.right) && to > size.right.value) {
      return Either.left(
        conflict(`The upload has bytes up to ${to}, more than its size of ${size.right.value}`)
      )
    }
    if (Option.isSome(commit.written)) {
      const { extent, isPrefix = false } = commit.written.value
      rows.putExtent(
        commit.key,
        isRevision1 ? upload.chunks : extent.offset,
        isPrefix ? { ...extent, isPrefix } : extent
      )
    }
    const complete = !isRevision1 && Option.isSome(size.right) && size.right.value === received
    const changed: Upload = {
      ...upload,
      size: size.right,
      sha256: sha256.right,
      chunks,
      received,
      address: isRevision1 ? commit.address : upload.address,
      state: complete ? "finishing" : "receiving",
      touchedAt: now
    }
    rows.put(changed)
    return Either.right({ upload: changed, finish: complete })
  }

  /** Its bytes are forgotten, but not that it was. */
  const markDeleted = (upload: Upload, now: number): void => {
    rows.removeExtents(upload.key, 0)
    rows.put({ ...upload, state: "deleted", received: 0, touchedAt: now })
  }

  const forgetOrMark = (upload: Upload, now: number): void =>
    Option.isNone(upload.id) ? rows.forget(upload.key) : markDeleted(upload, now)

  /** Folds over the extents in order, a page at a time. */
  const fold = <A>(key: UploadKey, initial: A, f: (state: A, extent: Extent) => A): Effect.Effect<A, LedgerError> =>
    Effect.gen(function*() {
      let state = initial
      let from = 0
      for (;;) {
        const page = yield* look(() => rows.page(key, from, pageSize))
        for (const { extent } of page) state = f(state, extent)
        if (page.length < pageSize) return state
        from = page.at(-1)!.position + 1
      }
    })

  return {
    find: (principal, id) => look(() => rows.byId(principal, id)),
    findRevision1: (principal, clientName) => look(() => rows.revision1(principal, clientName)),
    get: (key) => look(() => rows.byKey(key)),
    create: ({ exclusiveName, ...fresh }) =>
      Effect.flatMap(Clock.currentTimeMillis, (touchedAt) =>
        transaction((): Either.Either<Upload, Conflict> => {
          const there = Option.flatMap(fresh.id, (id) => rows.byId(fresh.principal, id))
          if (Option.isSome(there)) return Either.right(there.value)
          if (exclusiveName && rows.isPlanned(fresh.plannedName)) {
            return Either.left(
              conflict(`The name ${fresh.plannedName} is taken by another upload; send another X-File-Name`)
            )
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
            touchedAt
          }
          rows.put(upload)
          return Either.right(upload)
        })),
    createWhole: (fresh) =>
      Effect.flatMap(Clock.currentTimeMillis, (touchedAt) =>
        transaction(() => {
          const many = fresh.map(({ extent, id, sha256, ...upload }) => ({
            extent,
            upload: {
              ...upload,
              id: Option.some(id),
              name: upload.plannedName,
              size: Option.some(extent.length),
              sha256: Option.some(sha256),
              state: "finishing" as const,
              received: extent.length,
              chunks: extent.length > 0 ? 1 : 0,
              replayCursor: -1,
              touchedAt
            }
          }))
          const put = new Set(rows.putWhole(many))
          return Either.right(many.flatMap(({ upload }) => put.has(upload.key) ? [upload] : []))
        })),
    completeWhole: (keys) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => transaction(() => Either.right(rows.completeAll(keys, now)))),
    claim: (key, wanted) =>
      at((): Either.Either<Claim, Conflict | Busy> => {
        const free = wanted === "whole"
          ? Either.right(Number.MAX_SAFE_INTEGER)
          : room(key, wanted.from, wanted.to)
        if (Either.isLeft(free)) return Either.left(free.left)
        if (typeof free.right !== "number") return Either.right({ _tag: "Repeat", extent: free.right })
        const taken = claims.take(key, wanted)
        return taken === undefined
          ? Either.left(
            new Busy({ message: "Another request is writing some of these bytes; send them again", retryAfter: 1 })
          )
          : Either.right({ _tag: "Claimed", limit: free.right, ...taken })
        // who has a claim must get it: nothing that fails or takes time may come between
      }, (outcome) => Either.isRight(outcome) && outcome.right._tag === "Claimed" ? outcome : durably(outcome)),
    release: (key, fence) => Effect.sync(() => claims.release(key, fence)),
    commit: (many) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => transaction(() => Either.right(many.map((commit) => commitOne(commit, now))))
      ),
    repeated: (key, index, address) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => change(key, (upload) => ({ ...upload, replayCursor: index + 1, address, touchedAt: now }))
      ),
    carried: (key, extents) =>
      Effect.asVoid(transaction(() => {
        const upload = known(key)
        extents.forEach((extent, index) => rows.putExtent(key, index, extent))
        rows.put({
          ...upload,
          chunks: extents.length,
          received: extents.reduce((sum, extent) => sum + extent.length, 0)
        })
        return Either.right(undefined)
      })),
    contiguous: (key, from) =>
      look(() => {
        let to = from
        for (const { extent } of rows.page(key, from, pageSize)) {
          if (extent.offset !== to) break
          to = end(extent)
        }
        return to
      }),
    expire: (before) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        transaction(() => {
          const dropped: Array<UploadKey> = []
          for (const upload of rows.untouched(before, pageSize)) {
            if (claims.isHeld(upload.key)) continue
            if (upload.state === "complete" || upload.state === "deleted") rows.forget(upload.key)
            else forgetOrMark(upload, now)
            dropped.push(upload.key)
          }
          return Either.right(dropped)
        })),
    isEmpty: look(rows.isEmpty),
    open: (principal) => look(() => rows.open(principal)),
    bytesOf: (principal) => look(() => rows.bytesOf(principal)),
    unfinished: look(rows.unfinished),
    publishing: (key, name) => Effect.asVoid(change(key, (upload) => ({ ...upload, name }))),
    complete: (key, sha256) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (touchedAt) =>
          change(key, (upload) => ({ ...upload, touchedAt, state: "complete", sha256: Option.some(sha256) }))
      ),
    fail: (key) => Effect.asVoid(change(key, (upload) => ({ ...upload, state: "failed" }))),
    remove: (key) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        transaction((): Either.Either<void, Conflict> => {
          const upload = known(key)
          if (Option.isSome(upload.id) && (upload.state === "finishing" || upload.state === "complete")) {
            return Either.left(conflict("The upload is complete; its file can only be removed on the server"))
          }
          return Either.right(forgetOrMark(upload, now))
        })),
    shorten: (key, length) =>
      transaction(() => {
        const upload = known(key)
        const final = last(key)
        if (upload.state === "failed" || Option.isNone(final) || end(final.value) <= length) {
          return Either.right(upload)
        }
        let [chunks, received, position] = [0, 0, 0]
        search: for (;;) {
          for (const { extent, position: at } of rows.page(key, position, pageSize)) {
            position = at
            if (end(extent) > length) break search
            position++
            chunks++
            received += extent.length
          }
        }
        rows.removeExtents(key, position)
        const changed: Upload = { ...upload, chunks, received, state: "receiving" }
        rows.put(changed)
        return Either.right(changed)
      }),
    lose: (key) =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (now) => transaction(() => Either.right(forgetOrMark(known(key), now)))
      ),
    extents: (key) =>
      fold(key, [] as Array<Extent>, (extents, extent) => {
        extents.push(extent)
        return extents
      }),
    chunk: (key, index) =>
      look(() => {
        const [found] = rows.page(key, index, 1)
        return found?.position === index ? Option.some(found.extent) : Option.none()
      }),
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
    unsettled: look(rows.unsettled)
  }
}
