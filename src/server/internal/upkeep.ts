/**
 * What a crash left behind, and what has expired.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Metrics from "../Metrics.ts"
import type { Upload } from "../UploadLedger.ts"
import type { UploadKey } from "../UploadStore.ts"
import type { Parts } from "./receiverParts.ts"

/** Bytes that no upload needs: of one that ended before they were removed, or was never recorded. */
const dropOrphans = ({ ledger, store }: Parts, staged: ReadonlyArray<UploadKey>) =>
  Effect.gen(function*() {
    if (staged.length > 0 && (yield* ledger.isEmpty)) {
      return yield* Effect.logWarning("The ledger is empty but there are part files; they are kept. Was it lost?").pipe(
        Effect.annotateLogs({ partFiles: staged.length })
      )
    }
    yield* Effect.forEach(staged, (key) =>
      Effect.gen(function*() {
        const upload = yield* ledger.get(key)
        if (Option.exists(upload, ({ state }) => state !== "complete" && state !== "deleted")) return
        yield* store.drop(key)
        yield* Effect.logInfo("Removed a part file that no upload needs").pipe(Effect.annotateLogs({ upload: key }))
      }), { discard: true })
  })

/** Of revision 1: "Its length is the acknowledged bytes … at start", and one without chunks leaves no trace. */
const settle1 = ({ heldBytes, ledger, store }: Parts, upload: Upload) =>
  Effect.gen(function*() {
    const left = yield* heldBytes(upload)
    if (left.state === "deleted") return
    if (left.chunks === 0) return yield* Effect.andThen(ledger.remove(left.key), store.drop(left.key))
    const length = yield* store.length(left.key)
    if (Option.exists(length, (length) => length > left.received)) yield* store.trim(left.key, left.received)
  })

/** Settles what a crash left behind. Runs before the first request. */
export const settle = (parts: Parts) =>
  Effect.gen(function*() {
    const { ledger, store, wholeHash } = parts
    yield* dropOrphans(parts, yield* store.keys)
    const unfinished = [
      ...yield* ledger.unfinished,
      ...(yield* ledger.unsettled).filter(({ id }) => Option.isNone(id))
    ]
    yield* Effect.forEach(unfinished, (upload) =>
      Option.isNone(upload.id)
        ? Effect.ignoreLogged(settle1(parts, upload))
        : Effect.andThen(
          wholeHash.inherit(upload.key),
          // which looks at its bytes itself
          upload.state === "finishing"
            ? parts.finishInBackground(upload)
            : Effect.ignoreLogged(parts.heldBytes(upload))
        ), { concurrency: 8, discard: true })
  })

/** Ends what has expired. Never touches an upload that somebody is writing to. */
export const expire = ({ ledger, options, store, wholeHash }: Parts) =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const before = (lifetime: Duration.DurationInput) => now - Duration.toMillis(lifetime)
    for (;;) {
      const ended = yield* ledger.expire({
        unfinished: before(options.unfinishedLifetime),
        ended: before(options.endedLifetime),
        revision1: before(options.revision1Lifetime)
      })
      if (ended.length === 0) return
      // of the others nothing is remembered
      const unfinished = yield* Effect.filter(ended, (key) => Effect.map(ledger.get(key), Option.isSome))
      yield* Metric.incrementBy(Metrics.uploadsExpired, unfinished.length)
      yield* Effect.forEach(ended, (key) => Effect.andThen(wholeHash.forget(key), store.drop(key)), { discard: true })
      yield* Effect.logInfo("Uploads expired").pipe(Effect.annotateLogs({ uploads: ended.length }))
    }
  })
