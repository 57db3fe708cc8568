/**
 * What a crash left behind, and what has expired.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
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

/** A record whose bytes are gone: its client is told to begin anew. */
const withoutBytes = ({ ledger }: Parts, upload: Upload) =>
  Effect.andThen(
    Effect.logError("The bytes of an upload are gone; it is forgotten").pipe(
      Effect.annotateLogs({ upload: upload.key, file: upload.name })
    ),
    Effect.ignoreLogged(ledger.remove(upload.key))
  )

/** Settles what a crash left behind. Runs before the first request. */
export const settle = (parts: Parts) =>
  Effect.gen(function*() {
    const { ledger, store } = parts
    const staged = new Set(yield* store.keys)
    yield* dropOrphans(parts, [...staged])
    const lost = (yield* ledger.unfinished).filter(({ key, state }) => state !== "finishing" && !staged.has(key))
    yield* Effect.forEach(lost, (upload) => withoutBytes(parts, upload), { discard: true })
    yield* Effect.forEach(yield* ledger.unsettled, (upload) =>
      Option.isSome(upload.id)
        // the process that died may have trimmed it without coming to the sync
        ? Effect.andThen(Effect.ignoreLogged(store.sync([{ key: upload.key }])), parts.finishInBackground(upload))
        : upload.chunks === 0
        ? Effect.ignoreLogged(Effect.andThen(ledger.remove(upload.key), store.drop(upload.key)))
        : staged.has(upload.key)
        ? Effect.ignoreLogged(store.trim(upload.key, upload.received))
        : withoutBytes(parts, upload), { concurrency: 8, discard: true })
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
      yield* Effect.forEach(ended, (key) => Effect.andThen(wholeHash.forget(key), store.drop(key)), { discard: true })
      yield* Effect.logInfo("Uploads expired").pipe(Effect.annotateLogs({ uploads: ended.length }))
    }
  })
