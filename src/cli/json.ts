/**
 * What `--json` prints.
 *
 * @module
 */
import * as Option from "effect/Option"
import type { BufferedFile, DeliveryReceipt } from "../client/ChunkStore.ts"
import * as UploadEvent from "../client/UploadEvent.ts"

/** A file in `list --json`. */
export const file = (file: BufferedFile) => ({
  name: file.path,
  size: file.size,
  chunks: file.chunks,
  sha256: file.sha256,
  acknowledged: file.settledBytes,
  ...(Option.isSome(file.failure) ? { error: file.failure.value } : {})
})

const outcome = (outcome: UploadEvent.Outcome) => ({
  name: outcome.path,
  serverName: Option.getOrNull(outcome.serverName),
  size: outcome.size,
  sha256: outcome.sha256,
  state: outcome.state,
  ...(Option.isSome(outcome.error) ? { error: outcome.error.value } : {})
})

/** A delivered file in `list --all --json`. */
export const receipt = (receipt: DeliveryReceipt) => ({
  name: receipt.path,
  serverName: receipt.serverName,
  size: receipt.size,
  sha256: receipt.sha256,
  state: "delivered",
  deliveredAt: new Date(receipt.deliveredAt).toISOString(),
  server: receipt.endpoint,
  uploadId: receipt.uploadId,
  revision: receipt.revision,
  ...(receipt.resent ? { resent: true } : {})
})

/** One event, as a line of `upload --json`. */
export const event = UploadEvent.match({
  Started: ({ acknowledged, path, size }) => ({ type: "started", name: path, size, acknowledged }),
  Progress: ({ acknowledged, path, size }) => ({ type: "progress", name: path, size, acknowledged }),
  Waiting: ({ delay, path, reason }) => ({ type: "waiting", name: path, reason, delayMillis: Math.round(delay) }),
  Notice: ({ message, path }) => ({ type: "notice", name: path, message }),
  Finished: (finished) => ({ type: "file", ...outcome(finished) })
})

/** The last line of `upload --json`. */
export const summary = (outcomes: ReadonlyArray<UploadEvent.Outcome>) => ({
  type: "summary",
  files: outcomes.map(outcome)
})
