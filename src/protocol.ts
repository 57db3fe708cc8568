/**
 * `indexedcp/protocol`: the contract between client and server. No I/O, no Node.
 *
 * The same schemas and codecs serve both sides, so whoever writes a client or a server of their own can start here. What they
 * mean is in docs/PROTOCOL.md, whose headings the modules cite.
 *
 * @example
 * ```ts
 * import { ChunkHeaders, Receipt } from "indexedcp/protocol"
 * import { Either, Schema } from "effect"
 *
 * const chunk = Either.getOrThrow(ChunkHeaders.decode({ "x-chunk-index": "0", "x-file-name": "a.txt" }))
 * const decodeReceipt = Schema.decodeUnknown(Schema.parseJson(Receipt.Receipt))
 * ```
 *
 * @module
 */
export * as Api from "./protocol/Api.ts"
export * as ChunkHeaders from "./protocol/ChunkHeaders.ts"
export * as FileName from "./protocol/FileName.ts"
export * as PrefixDigest from "./protocol/PrefixDigest.ts"
export * as ProtocolError from "./protocol/ProtocolError.ts"
export * as Ranges from "./protocol/Ranges.ts"
export * as Receipt from "./protocol/Receipt.ts"
export * as Sha256 from "./protocol/Sha256.ts"
export * as UploadBatch from "./protocol/UploadBatch.ts"
export * as UploadId from "./protocol/UploadId.ts"
export * as UploadLimit from "./protocol/UploadLimit.ts"
export * as UploadState from "./protocol/UploadState.ts"
