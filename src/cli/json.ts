/**
 * What `--json` prints.
 *
 * @module
 */
import * as Option from "effect/Option"
import type { BufferedFile, DeliveryReceipt } from "../client/ChunkStore.ts"
import * as UploadEvent from "../client/UploadEvent.ts"
import type * as ExitCode from "./ExitCode.ts"
import * as FileState from "./FileState.ts"

const iso = (millis: number): string => new Date(millis).toISOString()

const isoOrNull = (millis: Option.Option<number>): string | null => Option.getOrNull(Option.map(millis, iso))

/** A file in `list --json`. */
export const file = (file: BufferedFile) => {
  const { error, nextTry, state } = FileState.of(file)
  return {
    name: file.path,
    sentAs: file.name,
    size: file.size,
    chunks: file.chunks,
    sha256: Option.getOrNull(file.sha256),
    acknowledged: file.settledBytes,
    state,
    destination: Option.getOrNull(file.destination),
    server: Option.getOrNull(Option.map(file.delivery, ({ endpoint }) => endpoint)),
    error: Option.getOrNull(error),
    nextTry: isoOrNull(nextTry),
    addedAt: iso(file.addedAt)
  }
}

/** A file, or a source that could not be read, in the summary. */
const outcome = (outcome: UploadEvent.Outcome) => ({
  name: outcome.path,
  serverName: Option.getOrNull(outcome.serverName),
  size: outcome.size,
  sha256: Option.getOrNull(outcome.sha256),
  state: outcome.state,
  ...(Option.isSome(outcome.error) ? { error: outcome.error.value } : {})
})

/** What a summary says of a file. */
export const ended = (event: UploadEvent.UploadEvent): object | undefined =>
  event._tag === "Finished"
    ? outcome(event)
    : event._tag === "Skipped"
    ? { name: event.path, state: "skipped", error: event.message }
    : undefined

/** A delivered file in `list --all --json`. */
export const receipt = (receipt: DeliveryReceipt) => ({
  name: receipt.path,
  serverName: receipt.serverName,
  size: receipt.size,
  sha256: receipt.sha256,
  state: "delivered",
  deliveredAt: iso(receipt.deliveredAt),
  server: receipt.endpoint,
  uploadId: receipt.uploadId,
  revision: receipt.revision,
  ...(receipt.resent ? { resent: true } : {})
})

/** One event, as a line of `upload --json`. */
export const event = UploadEvent.match({
  Started: ({ acknowledged, path, size }): object => ({ type: "started", name: path, size, acknowledged }),
  Progress: ({ acknowledged, path, size }) => ({ type: "progress", name: path, size, acknowledged }),
  Waiting: ({ delay, path, reason }) => ({ type: "waiting", name: path, reason, delayMillis: Math.round(delay) }),
  Notice: ({ message, path }) => ({ type: "notice", name: path, message }),
  Warning: ({ message }) => ({ type: "warning", message }),
  Skipped: ({ message, path }) => ({ type: "skipped", name: path, error: message }),
  Finished: (finished) => ({ type: "file", ...outcome(finished) })
})

export type Counts = Record<ExitCode.EndState, number>

export const noCounts: Counts = { delivered: 0, failed: 0, unconfirmed: 0, waiting: 0, claimed: 0, skipped: 0 }

/** The last line of `upload --json`. Without an end there are too many files to name them. */
export const summary = (files: ReadonlyArray<object> | undefined, counts: Counts, error: string | undefined) => ({
  type: "summary",
  ...(files === undefined ? {} : { files }),
  counts,
  ...(error === undefined ? {} : { error })
})
