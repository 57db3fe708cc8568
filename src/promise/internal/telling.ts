/**
 * The events of an upload, told to callbacks.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
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
  /** The files that were begun and have not ended. */
  readonly begun: ReadonlySet<FileId>
  /** From path to server name, since the last end. */
  readonly results: Map<string, string>
  /** From path to reason, since the last end. */
  readonly failures: Map<string, IndexCPError>
  /** The files that were not delivered since the last end. */
  readonly kept: ReadonlySet<FileId>
}

interface Step {
  readonly bytesSent: number
  readonly bytesTotal: number
  readonly retryCount: number
}

const noStep: Step = { bytesSent: 0, bytesTotal: 0, retryCount: 0 }

export const make = (callbacks: Callbacks): Telling => {
  const steps = new Map<FileId, Step>()
  const begun = new Set<FileId>()
  const kept = new Set<FileId>()
  const results = new Map<string, string>()
  const failures = new Map<string, IndexCPError>()

  const call = (callback: () => void) =>
    Effect.try(callback).pipe(
      Effect.catchAll(({ error }) => Effect.logWarning("A callback of an upload failed", error))
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

  const failed = (path: string, reason: IndexCPError) =>
    Effect.suspend(() => {
      failures.set(path, reason)
      return error(reason, path)
    })

  return {
    begun,
    kept,
    results,
    failures,
    error: (cause) => error(cause),
    complete: Effect.suspend(() => {
      const [succeeded, failed] = [results.size, failures.size]
      const total = succeeded + failed
      return total === 0 ? Effect.void : Effect.zipRight(
        Effect.sync(() => {
          results.clear()
          failures.clear()
          kept.clear()
        }),
        call(() => callbacks.onUploadComplete?.({ succeeded, failed, total }))
      )
    }),
    event: UploadEvent.match({
      Started: ({ acknowledged, file, size }) =>
        Effect.sync(() => {
          begun.add(file)
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
      Skipped: ({ message, path }) => failed(path, new FileReadError({ code: "UNREADABLE", message, path })),
      Finished: ({ cause, file, path, serverName }) =>
        Effect.suspend(() => {
          const step = steps.get(file) ?? noStep
          begun.delete(file)
          steps.delete(file)
          if (Option.isSome(serverName)) {
            results.set(path, serverName.value)
            return Effect.void
          }
          const reason = Failure.of(cause)
          kept.add(file)
          return Effect.zipRight(
            progress(path, step, { status: "failed", error: reason.message }),
            failed(path, reason)
          )
        })
    })
  }
}
