/**
 * From "nothing is missing" to a file under its final name. Every step may be repeated, and is carried on after a crash.
 *
 * @internal
 */
import * as Arr from "effect/Array"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { Conflict } from "../../protocol/ProtocolError.ts"
import type { CompletionHook } from "../CompletionHook.ts"
import * as Metrics from "../Metrics.ts"
import type { OnConflict } from "../Receiver.ts"
import * as SafeName from "../SafeName.ts"
import type { LedgerError, Upload, UploadLedger } from "../UploadLedger.ts"
import type { Extent, StoreError, UploadKey, UploadStore } from "../UploadStore.ts"
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
      yield* wholeHash.forget(key)
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

  /** What logs and spans say of a file that stands under its name. */
  const fileOf = ({ id, key, name, principal, received, sha256 }: Upload) => ({
    file: name,
    size: received,
    sha256: Option.getOrThrow(sha256),
    key: principal,
    upload: Option.getOrElse(id, () => key)
  })

  /** Tells of files that stand under their names. Nobody waits for the hook. */
  const tell = (uploads: ReadonlyArray<Upload>) => {
    const told = uploads.map((upload) => ({ id: upload.id, clientName: upload.clientName, file: fileOf(upload) }))
    return Effect.all([
      Metric.incrementBy(Metrics.uploadsCompleted, uploads.length),
      Effect.forEach(told, ({ file }) => Effect.annotateLogs(Effect.logInfo("Upload complete"), file), {
        discard: true
      }),
      Effect.forEach(told, ({ clientName, file, id }) =>
        Option.isNone(id) ? Effect.void : hook.completed({
          name: file.file,
          size: file.size,
          sha256: file.sha256,
          keyName: file.key,
          clientName,
          uploadId: id.value
        }).pipe(
          Effect.catchAllCause((cause) => Effect.logWarning("The completion hook failed", cause)),
          Effect.annotateLogs(file)
        ), { concurrency: "unbounded", discard: true }).pipe(Effect.forkIn(scope))
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
    yield* publish(upload)
    const completed = yield* ledger.complete(key, sha256)
    yield* Effect.ignoreLogged(store.drop(key))
    yield* Effect.annotateCurrentSpan(fileOf(completed))
    yield* tell([completed])
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

  /** Publishes uploads whose bytes are known to be right, all of them step by step; what became of each. */
  const finishAll = (uploads: ReadonlyArray<Upload>, extents: ReadonlyMap<UploadKey, Extent>) =>
    Effect.gen(function*() {
      const published = yield* store.publishWhole(
        uploads.map(({ key, name }) => ({ key, name: name as SafeName.SafeName, extent: extents.get(key)! })),
        mode
      )
      const outcomes = new Map<UploadKey, Either.Either<Upload, Failure>>()
      const taken: Array<Upload> = []
      for (const [at, upload] of uploads.entries()) {
        const outcome = published[at]!
        if (Either.isRight(outcome)) outcomes.set(upload.key, Either.right({ ...upload, state: "complete" }))
        else if (outcome.left._tag === "NameTaken") taken.push(upload)
        else outcomes.set(upload.key, Either.left(outcome.left))
      }
      yield* Effect.forEach(
        taken,
        (upload) =>
          Effect.map(
            Effect.either(publish(upload)),
            (name) => outcomes.set(upload.key, Either.map(name, (name) => ({ ...upload, name, state: "complete" })))
          ),
        {
          concurrency: 8,
          discard: true
        }
      )
      const done = Arr.getRights(outcomes.values())
      const keys = done.map(({ key }) => key)
      yield* ledger.completeWhole(keys)
      yield* Effect.ignoreLogged(store.dropAll(keys))
      yield* tell(done)
      return outcomes
    })

  /**
   * Finishes new uploads that `record` puts into the ledger, all in one go and whether or not anybody waits: returns those
   * recorded, and what will have become of each. Whoever asks for one of them meanwhile joins.
   */
  const finishWhole = <E>(
    extents: ReadonlyMap<UploadKey, Extent>,
    record: Effect.Effect<ReadonlyArray<Upload>, E>
  ) =>
    Effect.uninterruptible(Effect.gen(function*() {
      // there before anybody can find them in the ledger
      const outcomes = Array.from(extents.keys(), (key) => {
        const outcome = Deferred.unsafeMake<Upload, Failure>(FiberId.none)
        finishing.set(key, outcome)
        return [key, outcome] as const
      })
      const forget = Effect.sync(() => outcomes.forEach(([key]) => finishing.delete(key)))
      const recorded = yield* Effect.onError(record, () => forget)
      const fiber = yield* finishAll(recorded, extents).pipe(
        Effect.interruptible,
        Effect.onExit((exit) =>
          Effect.sync(() => {
            for (const [key, outcome] of outcomes) {
              Deferred.unsafeDone(
                outcome,
                Exit.isFailure(exit) ? Effect.failCause(exit.cause) : exit.value.get(key) ?? Effect.interrupt
              )
            }
          })
        ),
        Effect.ensuring(forget),
        Effect.forkIn(scope)
      )
      return { recorded, finished: Fiber.join(fiber) }
    }))

  return { publish, finish, finishWhole, heldBytes }
}

/** Why an upload failed, as every request for it is told from then on. */
export const differs =
  "The whole file is not what Repr-Digest or its chunks' hashes say, so it was not published. Send it as a new upload"
