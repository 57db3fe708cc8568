/**
 * Rows of the buffer as values.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { Sha256 } from "../../protocol/Sha256.ts"
import { UploadId } from "../../protocol/UploadId.ts"
import type { BufferedFile, Delivery, DeliveryReceipt } from "../ChunkStore.ts"
import { FileId } from "../ChunkStore.ts"

const Count = Schema.NonNegativeInt

/** Also what selects them: `columns`. */
const FileRow = Schema.Struct({
  id: FileId,
  owner: Schema.NullOr(Schema.Number),
  path: Schema.String,
  source: Schema.String,
  name: Schema.String,
  chunk_size: Count,
  size: Count,
  sha256: Sha256,
  chunks: Count,
  first_index: Count,
  added_at: Schema.Number,
  settled_bytes: Count,
  endpoint: Schema.NullOr(Schema.String),
  sent_name: Schema.NullOr(Schema.String),
  upload_id: Schema.NullOr(UploadId),
  revision: Schema.NullOr(Schema.Literal(1, 2)),
  server_name: Schema.NullOr(Schema.String),
  sending: Schema.NullOr(Count),
  failure: Schema.NullOr(Schema.String),
  version: Schema.NullOr(Schema.String)
})
export type FileRow = typeof FileRow.Type

/** The columns of a file's row, for `SELECT`. */
export const columns = Object.keys(FileRow.fields).join(", ")

export const decodeFiles = Schema.decodeUnknown(Schema.Array(FileRow))

const delivery = (row: FileRow): Option.Option<Delivery> =>
  row.endpoint === null || row.upload_id === null ? Option.none() : Option.some({
    endpoint: row.endpoint,
    name: row.sent_name ?? row.name,
    uploadId: row.upload_id,
    revision: Option.fromNullable(row.revision),
    serverName: Option.fromNullable(row.server_name),
    sending: Option.fromNullable(row.sending)
  })

export const toFile = (row: FileRow): BufferedFile => ({
  id: row.id,
  path: row.path,
  source: row.source,
  name: row.name,
  chunkSize: row.chunk_size,
  size: row.size,
  sha256: row.sha256,
  chunks: row.chunks,
  firstIndex: row.first_index,
  addedAt: row.added_at,
  settledBytes: row.settled_bytes,
  delivery: delivery(row),
  failure: Option.fromNullable(row.failure)
})

const ReceiptRow = Schema.Struct({
  id: Schema.Number,
  path: Schema.String,
  name: Schema.String,
  server_name: Schema.String,
  size: Count,
  sha256: Sha256,
  endpoint: Schema.String,
  upload_id: UploadId,
  revision: Schema.Literal(1, 2),
  resent: Schema.Literal(0, 1),
  delivered_at: Schema.Number
})

export const decodeReceipts = Schema.decodeUnknown(Schema.Array(ReceiptRow))

export const toReceipt = (row: typeof ReceiptRow.Type): DeliveryReceipt => ({
  path: row.path,
  name: row.name,
  serverName: row.server_name,
  size: row.size,
  sha256: row.sha256,
  endpoint: row.endpoint,
  uploadId: row.upload_id,
  revision: row.revision,
  resent: row.resent === 1,
  deliveredAt: row.delivered_at
})

const decodePiece = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({
    start: Count,
    length: Count,
    sha256: Sha256,
    encoding: Schema.Number,
    data: Schema.Uint8ArrayFromSelf
  }))
)

/** A stored piece. */
export interface PieceRow {
  readonly start: number
  readonly length: number
  readonly sha256: Sha256
  readonly encoding: number
  readonly data: Uint8Array
}

/** The first of at most one row; `data` as a plain `Uint8Array` over the bytes that SQLite gave. */
export const decodeFirstPiece = (rows: unknown) =>
  Effect.map(decodePiece(rows), ([row]): PieceRow | undefined =>
    row === undefined
      ? undefined
      : { ...row, data: new Uint8Array(row.data.buffer, row.data.byteOffset, row.data.byteLength) })

export const decodeIds = Schema.decodeUnknown(Schema.Array(Schema.Struct({ id: FileId })))

export const decodeRanges = Schema.decodeUnknown(Schema.Array(Schema.Struct({ start: Count, stop: Count })))
