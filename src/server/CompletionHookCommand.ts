/**
 * A command that is run for every completed upload, with the file in its environment.
 *
 * @module
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import * as Path from "node:path"
import { type CompletedFile, CompletionHook } from "./CompletionHook.ts"
import * as Shell from "./internal/shell.ts"

/** Which command, and how many at a time. */
export interface CommandOptions {
  /** For the system's shell. Names never become part of it: it reads them from its environment. */
  readonly command: string
  /** The server's, for the absolute path of the file. */
  readonly outputDir: string
  /** How long one may take; then it is ended with all that it started. Default 10 minutes. */
  readonly timeout: Duration.DurationInput
  /** Commands at the same time; other files wait. Default 4. */
  readonly concurrency: number
  /** Files that may wait; of more the command is not told. Default 10 000. */
  readonly maxWaiting: number
  /** How long those running and waiting may take when the server stops, after its requests have ended. Default 10 seconds. */
  readonly shutdownWait: Duration.DurationInput
}

/** What holds where an option is not given. */
export const defaults: Omit<CommandOptions, "command" | "outputDir"> = {
  timeout: "10 minutes",
  concurrency: 4,
  maxWaiting: 10_000,
  shutdownWait: "10 seconds"
}

/** Where the server may have secrets from, which are none of the command's. */
const secrets = new Set([
  "INDEXCP_API_KEY",
  "INDEXEDCP_API_KEY",
  "INDEXCP_METRICS_KEY",
  "OTEL_EXPORTER_OTLP_HEADERS",
  "OTEL_EXPORTER_OTLP_TRACES_HEADERS"
])

/** The environment of a command, below that of the server. */
const environment = (outputDir: string, file: CompletedFile): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !secrets.has(name.toUpperCase()))),
  // else the Windows shell looks for programs in the current folder first, where uploads may lie
  NoDefaultCurrentDirectoryInExePath: "1",
  INDEXCP_NAME: file.name,
  INDEXCP_PATH: Path.join(outputDir, ...file.name.split("/")),
  INDEXCP_SIZE: String(file.size),
  INDEXCP_SHA256: file.sha256,
  INDEXCP_KEY_NAME: file.keyName,
  // an environment cannot hold this one character
  INDEXCP_CLIENT_NAME: file.clientName.replaceAll("\0", "\uFFFD"),
  INDEXCP_UPLOAD_ID: file.uploadId
})

const make = (options: CommandOptions) =>
  Effect.gen(function*() {
    const outputDir = Path.resolve(options.outputDir)
    const queue = yield* Queue.dropping<CompletedFile>(options.maxWaiting)
    const idle = yield* Effect.makeLatch(true)
    /** Files that wait, and those with a command just now. */
    let pending = 0

    const runFor = (file: CompletedFile) =>
      Shell.run(options.command, environment(outputDir, file)).pipe(
        Effect.tap(({ output }) => Effect.forEach(output, (line) => Effect.logDebug(line), { discard: true })),
        Effect.flatMap(({ code, lastError }) =>
          code === 0 ? Effect.void : Effect.annotateLogs(
            Effect.logWarning("The completion command failed"),
            { code, stderr: lastError }
          )
        ),
        Effect.timeoutFail({ duration: options.timeout, onTimeout: () => "timeout" as const }),
        Effect.catchAll((error) =>
          Effect.logWarning(
            error === "timeout"
              ? `The completion command took more than ${Duration.format(options.timeout)} and was ended`
              : `The completion command failed. ${error.message}`
          )
        ),
        Effect.annotateLogs({ file: file.name, upload: file.uploadId })
      )

    const ended = Effect.suspend(() => --pending === 0 ? idle.open : Effect.void)

    yield* Effect.forkScoped(
      Effect.forEach(
        Array.from({ length: options.concurrency }),
        () => Effect.forever(Effect.flatMap(Queue.take(queue), (file) => Effect.zipRight(runFor(file), ended))),
        { concurrency: "unbounded", discard: true }
      )
    )
    // runs before those that work are stopped
    yield* Effect.addFinalizer(() =>
      Effect.gen(function*() {
        if (pending === 0) return
        yield* Effect.logInfo("Waiting for completion commands").pipe(Effect.annotateLogs({ files: pending }))
        yield* Shell.waitAtMost(idle.await, options.shutdownWait)
        if (pending === 0) return
        yield* Effect.logWarning("The server stops before all completion commands have run to their end").pipe(
          Effect.annotateLogs({ files: pending })
        )
      })
    )

    return {
      completed: (file: CompletedFile) =>
        Effect.gen(function*() {
          pending++
          yield* idle.close
          if (yield* Queue.offer(queue, file)) return
          yield* ended
          yield* Effect.logWarning("Too many files wait for the completion command; it is not run for this one")
        })
    }
  })

/**
 * Runs a command for every completed upload, the file in its environment: `INDEXCP_NAME` (below the output folder),
 * `INDEXCP_PATH` (absolute), `INDEXCP_SIZE`, `INDEXCP_SHA256`, `INDEXCP_KEY_NAME`, `INDEXCP_CLIENT_NAME` (any characters)
 * and `INDEXCP_UPLOAD_ID`. What it writes goes to the log at debug level; its failure is one warning.
 *
 * Provide it below the receiver, so that it stops after the last request has ended.
 *
 * @example
 * ```ts
 * Receiver.layer().pipe(
 *   Layer.provide(CompletionHookCommand.layer({ command: "gzip -k -- \"$INDEXCP_PATH\"", outputDir: "uploads" }))
 * )
 * ```
 */
export const layer = (
  options: Pick<CommandOptions, "command" | "outputDir"> & Partial<CommandOptions>
): Layer.Layer<CompletionHook> => Layer.scoped(CompletionHook, make({ ...defaults, ...options }))
