/**
 * The events of an upload, told to callbacks.
 *
 * @internal
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { FileId } from "../../client/ChunkStore.ts"
import * as UploadEvent from "../../client/UploadEvent.ts"
import { FileReadError, type IndexCPError } from "../Errors.ts"
import type { UploadProgress, UploadSummary } from "../Events.ts"
import * as Failure from "./failure.ts"

export interface Callbacks {
  readonly chunkSize: number
  readonly onUploadProgress: ((progress: UploadProgress) => void) | null | undefined
  readonly onUploadError: ((error: IndexCPError, fileName?: string) => void) | null | undefined
  readonly onUploadComplete: ((summary: UploadSummary) => void) | null | undefined
}

export interface Telling {
  /** Tells of an event. What a callback throws is logged, and no trouble of the upload. */
  readonly event: (event: UploadEvent.UploadEvent) => Effect.Effect<void>
  /** Tells of an error that concerns no single file. */
  readonly error: (error: unknown) => Effect.Effect<void>
  /** Tells the end, if there was anything to do; from then on counts anew. */
  readonly complete: Effect.Effect<void>
}

/** What became of a file. */
export interface Ended {
  /** A source that could not be read has none. */
  readonly file: FileId | undefined
  readonly path: string
  /** Its name on the server, or why it has none. */
  readonly result: string | IndexCPError
}

interface Step {
  readonly bytesSent: number
  readonly bytesTotal: number
  readonly retryCount: number
}

const callbackFailed = (cause: Cause.Cause<unknown>) => Effect.logWarning("A callback of an upload failed", cause)

const noStep: Step = { bytesSent: 0, bytesTotal: 0, retryCount: 0 }

export const make = (callbacks: Callbacks, onEnded: (ended: Ended) => void): Telling => {
  const steps = new Map<FileId, Step>()
  let [succeeded, failed] = [0, 0]

  /** An upload does not wait for what a callback has begun, but hears how it ends: else it would end the process. */
  const call = (callback: () => unknown) =>
    Effect.sync(callback).pipe(
      Effect.flatMap((begun) =>
        Predicate.isPromiseLike(begun)
          ? Effect.forkDaemon(Effect.catchAllCause(Effect.promise(() => begun), callbackFailed))
          : Effect.void
      ),
      Effect.catchAllCause(callbackFailed),
      Effect.asVoid
    )

  const error = (cause: unknown, path?: string) =>
    call(() =>
      path === undefined
        ? callbacks.onUploadError?.(Failure.of(cause))
        : callbacks.onUploadError?.(Failure.of(cause), path)
    )

  const progress = (
    path: string,
    step: Step,
    more: Pick<UploadProgress, "status" | "nextRetryIn" | "error">
  ) =>
    call(() =>
      callbacks.onUploadProgress?.({
        fileName: path,
        ...step,
        chunkIndex: Math.max(0, Math.ceil(step.bytesSent / callbacks.chunkSize) - 1),
        ...more
      })
    )

  const delivered = (path: string, name: string, file: FileId) =>
    Effect.sync(() => {
      succeeded++
      onEnded({ file, path, result: name })
    })

  const notDelivered = (path: string, reason: IndexCPError, file?: FileId) =>
    Effect.suspend(() => {
      failed++
      onEnded({ file, path, result: reason })
      return error(reason, path)
    })

  return {
    error: (cause) => error(cause),
    complete: Effect.suspend(() => {
      const summary = { succeeded, failed, total: succeeded + failed }
      succeeded = failed = 0
      return summary.total === 0 ? Effect.void : call(() => callbacks.onUploadComplete?.(summary))
    }),
    event: UploadEvent.match({
      Started: ({ acknowledged, file, size }) =>
        Effect.sync(() => {
          steps.set(file, { bytesSent: acknowledged, bytesTotal: size, retryCount: 0 })
        }),
      Progress: ({ acknowledged, file, path, size }) =>
        Effect.suspend(() => {
          const { retryCount } = steps.get(file) ?? noStep
          const step = { bytesSent: acknowledged, bytesTotal: size, retryCount: 0 }
          steps.set(file, step)
          return progress(path, { ...step, retryCount }, { status: "success" })
        }),
      Waiting: ({ delay, file, path, reason }) =>
        Effect.suspend(() => {
          const before = steps.get(file) ?? noStep
          const step = { ...before, retryCount: before.retryCount + 1 }
          steps.set(file, step)
          return progress(path, step, { status: "failed", nextRetryIn: Math.round(delay), error: reason })
        }),
      Notice: ({ message, path }) => Effect.annotateLogs(Effect.logWarning(message), { file: path }),
      Warning: ({ message }) => Effect.logWarning(message),
      Skipped: ({ message, path }) => notDelivered(path, new FileReadError({ code: "UNREADABLE", message, path })),
      Finished: ({ cause, file, path, serverName }) =>
        Effect.suspend(() => {
          const step = steps.get(file) ?? noStep
          steps.delete(file)
          if (Option.isSome(serverName)) return delivered(path, serverName.value, file)
          const reason = Failure.of(cause)
          return Effect.zipRight(
            progress(path, step, { status: "failed", error: reason.message }),
            notDelivered(path, reason, file)
          )
        })
    })
  }
}
