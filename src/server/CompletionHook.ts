/**
 * What happens with a file once it stands under its final name: the place where other programs join in.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Sha256 } from "../protocol/Sha256.ts"
import type { UploadId } from "../protocol/UploadId.ts"

/** A published file. */
export interface CompletedFile {
  /** Its name below the output folder, with `/` between the parts. */
  readonly name: string
  /** Bytes. */
  readonly size: number
  readonly sha256: Sha256
  /** The name of the key whose client sent it. */
  readonly keyName: string
  /** The client's own name for the file; it may have any characters. */
  readonly clientName: string
  readonly uploadId: UploadId
}

/**
 * Told of every upload of revision 2 that is complete; in revision 1 no request says that a file is whole. By default
 * nothing happens.
 *
 * It runs beside the server: no answer waits for it, and what it fails with is logged and nobody's trouble. It is told once
 * at most: a server that dies after the file was published and before the hook has begun does not tell it later, for the
 * upload is complete then. Whoever must see every file also looks into the folder now and then.
 */
export class CompletionHook extends Context.Reference<CompletionHook>()("indexedcp/CompletionHook", {
  defaultValue: (): {
    /** Interrupted when the receiver ends. */
    readonly completed: (file: CompletedFile) => Effect.Effect<void>
  } => ({ completed: () => Effect.void })
}) {}

/** Nothing happens. */
export const layer: Layer.Layer<CompletionHook> = Layer.succeed(CompletionHook, { completed: () => Effect.void })

/** A hook of your own; what it fails with is logged. */
export const layerFunction = <E>(
  completed: (file: CompletedFile) => Effect.Effect<void, E>
): Layer.Layer<CompletionHook> =>
  Layer.succeed(CompletionHook, {
    completed: (file) =>
      Effect.catchAllCause(completed(file), (cause) =>
        Effect.annotateLogs(Effect.logWarning("The completion hook failed", cause), {
          file: file.name,
          upload: file.uploadId
        }))
  })
