/**
 * The answer to a chunk that was taken (PROTOCOL.md, "1. Revision 1" and "2. Revision 2").
 *
 * @module
 */
import * as Schema from "effect/Schema"
import { Count } from "./ChunkHeaders.ts"
import { Sha256 } from "./Sha256.ts"
import { UploadId } from "./UploadId.ts"

/** The fields both revisions have. `chunkIndex` is `null` from a Node.js server that got no `X-Chunk-Index`. */
const common = {
  message: Schema.String,
  /** The file's name on the server. Before `complete` it is a plan, from then on final. */
  actualFilename: Schema.String,
  chunkIndex: Schema.NullOr(Schema.Int),
  /** `X-File-Name` as it was sent. */
  clientFilename: Schema.String
}

/** The 200 of revision 1. */
export const Receipt1 = Schema.Struct(common)

/** The 200 of revision 2. */
export const Receipt2 = Schema.Struct({
  ...common,
  uploadId: UploadId,
  /** These bytes were here already. */
  duplicate: Schema.Boolean,
  /** How many bytes of the file the server holds. */
  bytesReceived: Count,
  /** The whole file stands under its final name. */
  complete: Schema.Boolean,
  /** RFC 3339: when the upload expires if nothing more arrives. */
  expiresAt: Schema.optional(Schema.String),
  /** Bytes of the whole file, once complete. */
  size: Schema.optional(Count),
  /** Of the whole file, once complete and where the server knows it. */
  sha256: Schema.optional(Sha256)
})
/** See the schema of this name. */
export type Receipt2 = typeof Receipt2.Type

/** Either 200. `uploadId` tells them apart. */
export const Receipt = Schema.Union(Receipt2, Receipt1)
/** See the schema of this name. */
export type Receipt = typeof Receipt.Type

/** The `message` of every receipt. Clients of revision 1 look for it. */
export const message = "Chunk received"
