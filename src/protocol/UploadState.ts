/**
 * What a server tells of an upload on `GET <endpoint>/<uploadId>` (PROTOCOL.md, "2. Revision 2").
 *
 * @module
 */
import * as Schema from "effect/Schema"
import { Count } from "./ChunkHeaders.ts"
import { Sha256 } from "./Sha256.ts"
import { UploadId } from "./UploadId.ts"

/** How many ranges `missing` holds at most. */
export const maxRanges = 1000

/**
 * How an upload stands. `finishing`: all bytes are there, and the file is about to be published. `failed`: it is not what
 * `Repr-Digest` says, and never will be.
 */
export const UploadState = Schema.Struct({
  uploadId: UploadId,
  clientFilename: Schema.String,
  /** The file's name on the server. Before `complete` it is a plan, from then on final. */
  actualFilename: Schema.String,
  size: Schema.NullOr(Count),
  bytesReceived: Count,
  /** Ranges `[from, to)` that have not arrived. With unknown size the list ends at the last byte received. */
  missing: Schema.Array(Schema.Tuple(Count, Count)),
  /** There are more ranges than the answer holds. */
  more: Schema.optional(Schema.Boolean),
  state: Schema.Literal("receiving", "finishing", "complete", "failed"),
  complete: Schema.Boolean,
  /** RFC 3339. */
  expiresAt: Schema.optional(Schema.String),
  sha256: Schema.optional(Sha256),
  /** Of the published file as it is now, for `?check=content` on a complete upload. */
  contentSha256: Schema.optional(Sha256)
})
/** See the schema of this name. */
export type UploadState = typeof UploadState.Type
