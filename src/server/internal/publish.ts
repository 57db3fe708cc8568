/**
 * From "nothing is missing" to a file under its final name. Every step may be repeated, and is carried on after a crash.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { Conflict } from "../../protocol/ProtocolError.ts"
import type { Sha256 } from "../../protocol/Sha256.ts"
import type { CompletionHook } from "../CompletionHook.ts"
import * as Metrics from "../Metrics.ts"
import type { OnConflict } from "../Receiver.ts"
import * as SafeName from "../SafeName.ts"
import type { LedgerError, Upload, UploadLedger } from "../UploadLedger.ts"
import type { StoreError, UploadKey, UploadStore } from "../UploadStore.ts"
import * as Spans from "./spans.ts"
import type { WholeHash } from "./wholeHash.ts"
import type { Writers } from "./writers.ts"

type Failure = Conflict | StoreError | LedgerError

/**
 * So many names are looked at before one is tried: only publishing tells a name that is taken from one whose folder has
 * become something else meanwhile, below which all are.
 */
const most = 1000

/** The next number for a part; the parts below it begin anew. */
const after = (numbers: ReadonlyArray<number>, part: number): ReadonlyArray<number> =>
  Array.from({ length: part + 1 }, (_, at) => (numbers[at] ?? 0) + (at === part ? 1 : 0))

export const make = (
  store: Context.Tag.Service<UploadStore>,
  ledger: Context.Tag.Service<UploadLedger>,
  writers: Writers,
  wholeHash: WholeHash,
  scope: Scope.Scope,
  onConflict: OnConflict,
  hook: Context.Tag.Service<CompletionHook>
) => {
  const mode = onConflict === "overwrite" ? "overwrite" : "exclusive"

  /**
   * Publishes under a name, and where that is taken under the next free one: `numbers` says which is the next for each part
   * of it. The part that is taken is the file's, or a folder's where something stands that is no folder.
   */
  const attempt = (
    upload: Upload,
    name: SafeName.SafeName,
    numbers: ReadonlyArray<number>
  ): Effect.Effect<string, StoreError> =>
    store.publish(upload.key, ledger.extents(upload.key), name, mode).pipe(
      Effect.as(name),
      Effect.catchTag("NameTaken", (taken) =>
        Effect.gen(function*() {
          const numbered = (numbers: ReadonlyArray<number>) =>
            SafeName.numberedParts(upload.plannedName as SafeName.SafeName, numbers)
          const file = name.split("/").length - 1
          const part = Math.min(file, taken.name.split("/").length - 1)
          let free = after(numbers, part)
          if (part === file) {
            for (let looked = 0; looked < most; looked++) {
              if ((yield* store.holder(upload.key, numbered(free))) !== "other") break
              free = after(free, part)
            }
          }
          // recorded before the name is taken: a crash in between must not publish a second time under another one
          yield* ledger.publishing(upload.key, numbered(free))
          return yield* attempt(upload, numbered(free), free)
        }))
    )

  /** Shows the upload under its name, or under the next free one; returns that. Repeatable. */
  const publish = (upload: Upload) => attempt(upload, upload.name as SafeName.SafeName, [])

  /**
   * Compares the ledger with what is in storage, where somebody may have removed or shortened a part file: what is gone is
   * missing again, and an upload without any bytes is forgotten. Returns the upload as it then is.
   */
  const heldBytes = Effect.fnUntraced(function*(upload: Upload) {
    const { key, name } = upload
    const length = yield* store.length(key)
    if (Option.isNone(length)) {
      yield* Effect.logError("The bytes of an upload are gone; it is forgotten").pipe(
        Effect.annotateLogs({ upload: key, file: name })
      )
      yield* ledger.lose(key)
      return { ...upload, state: "deleted" as const }
    }
    const left = yield* ledger.shorten(key, length.value)
    if (left.received < upload.received) {
      yield* wholeHash.forget(key)
      yield* Effect.logError("Bytes of an upload are gone; they are missing again").pipe(
        Effect.annotateLogs({ upload: key, file: name, bytes: upload.received - left.received })
      )
    }
    return left
  })

  const fail = (key: UploadKey) => Effect.zipRight(ledger.fail(key), Metric.increment(Metrics.uploadsFailed))

  /** Tells of a file that stands under its name. Nobody waits for the hook. */
  const tell = (upload: Upload, name: string, sha256: Sha256) => {
    const { clientName, id, principal, received } = upload
    const told = { file: name, size: received, sha256, key: principal, upload: Option.getOrElse(id, () => upload.key) }
    return Effect.all([
      Metric.increment(Metrics.uploadsCompleted),
      Effect.annotateCurrentSpan(told),
      Effect.annotateLogs(Effect.logInfo("Upload complete"), told),
      Option.isNone(id) ? Effect.void : hook.completed({
        name,
        size: received,
        sha256,
        keyName: principal,
        clientName,
        uploadId: id.value
      }).pipe(
        Effect.catchAllCause((cause) => Effect.logWarning("The completion hook failed", cause)),
        Effect.annotateLogs(told),
        Effect.forkIn(scope)
      )
    ], { discard: true })
  }

  const finishNow = Effect.fnUntraced(function*(key: UploadKey) {
    const upload = Option.getOrThrow(yield* ledger.get(key))
    if (upload.state !== "finishing") return upload
    // refused, cut and stopped bodies may have left bytes behind the end of the file
    yield* writers.stopAll(key, "The upload has all its bytes")
    const there = yield* heldBytes(upload)
    if (there.state !== "finishing") return there
    yield* store.trim(key, upload.received)
    const sha256 = yield* wholeHash.digest(key)
    if (Option.isSome(upload.sha256) && upload.sha256.value !== sha256) {
      yield* fail(key)
      yield* Effect.logWarning("Upload is not what its Repr-Digest says; it was not published")
      return yield* new Conflict({ message: `${differs} (here its SHA-256 is ${sha256})` })
    }
    if (Option.isNone(upload.sha256) && !(yield* wholeHash.isIntact(key))) {
      yield* fail(key)
      yield* Effect.logError("The stored bytes of an upload are no longer those that came; it was not published")
      return yield* new Conflict({ message: differs })
    }
    const name = yield* publish(upload)
    const completed = yield* ledger.complete(key, sha256)
    yield* Effect.ignoreLogged(store.drop(key))
    yield* tell(completed, name, sha256)
    return completed
  })

  const finishing = new Map<UploadKey, Deferred.Deferred<Upload, Failure>>()

  /**
   * Finishes an upload from which nothing is missing, or joins whoever is at it. The work goes on when the caller leaves;
   * the upload it returns is `complete`, unless bytes of it are gone from storage.
   */
  const finish = (key: UploadKey): Effect.Effect<Upload, Failure> =>
    // whoever puts an outcome there also begins: else all that join would wait for ever
    Effect.uninterruptibleMask((restore) => {
      const running = finishing.get(key)
      if (running !== undefined) return restore(Deferred.await(running))
      const outcome = Deferred.unsafeMake<Upload, Failure>(FiberId.none)
      finishing.set(key, outcome)
      return Spans.within("Receiver.finish", finishNow(key)).pipe(
        Effect.annotateLogs({ upload: key }),
        Effect.ensuring(Effect.sync(() => finishing.delete(key))),
        Effect.intoDeferred(outcome),
        Effect.interruptible,
        Effect.forkIn(scope),
        Effect.andThen(restore(Deferred.await(outcome)))
      )
    })

  return { publish, finish, heldBytes }
}

/** Why an upload failed, as every request for it is told from then on. */
export const differs =
  "The whole file is not what Repr-Digest or its chunks' hashes say, so it was not published. Send it as a new upload"
