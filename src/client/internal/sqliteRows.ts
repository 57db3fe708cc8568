/**
 * Rows of the buffer as values.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { Sha256 } from "../../protocol/Sha256.ts"
import { UploadId } from "../../protocol/UploadId.ts"
import type { BufferedFile, Delivery, DeliveryReceipt } from "../ChunkStore.ts"
import { FileId } from "../ChunkStore.ts"

/** As `Schema.NonNegativeInt` and `Schema.NullOr` are, but each in one look: lists have many rows of many columns. */
const isCount = (input: unknown): input is number => Number.isSafeInteger(input) && Number(input) >= 0
const nullable = <A>(is: (input: unknown) => input is A) =>
  Schema.declare((input: unknown): input is A | null => input === null || is(input))

const Count = Schema.declare(isCount)
const NullableCount = nullable(isCount)
const NullableText = nullable(Predicate.isString)

/** Also what selects them: `columns`. */
const FileRow = Schema.Struct({
  id: FileId,
  owner: NullableCount,
  path: Schema.String,
  source: Schema.String,
  name: Schema.String,
  chunk_size: Count,
  size: Count,
  sha256: Sha256,
  chunks: Count,
  first_index: Count,
  added_at: Count,
  settled_bytes: Count,
  endpoint: NullableText,
  sent_name: NullableText,
  upload_id: nullable(Schema.is(UploadId)),
  revision: nullable((input) => input === 1 || input === 2),
  server_name: NullableText,
  sending: NullableCount,
  failure: NullableText,
  trouble: NullableText,
  next_try: NullableCount,
  destination: NullableText,
  version: NullableText,
  freed: Schema.declare((input) => input === 0 || input === 1)
})
export type FileRow = typeof FileRow.Type

/** The columns of a file's row, for `SELECT`. */
export const columns = Object.keys(FileRow.fields).join(", ")

const names = Object.keys(FileRow.fields)
const decodeRecords = Schema.decodeUnknown(Schema.Array(FileRow))

/** Of rows as arrays of `columns`: SQLite gives those in a third of the time that it takes for objects. */
export const decodeFiles = (rows: ReadonlyArray<ReadonlyArray<unknown>>) =>
  decodeRecords(rows.map((row) => {
    const record: Record<string, unknown> = {}
    for (let at = 0; at < names.length; at++) record[names[at]!] = row[at]
    return record
  }))

const delivery = (row: FileRow): Option.Option<Delivery> =>
  row.endpoint === null || row.upload_id === null ? Option.none() : Option.some({
    endpoint: row.endpoint,
    name: row.sent_name ?? row.name,
    uploadId: row.upload_id,
    revision: Option.fromNullable(row.revision),
    serverName: Option.fromNullable(row.server_name),
    sending: Option.fromNullable(row.sending)
  })

/** With the owners that live, in whatever they have in hand. */
export const toFile = (living: ReadonlySet<number>) => (row: FileRow): BufferedFile => {
  const held = row.owner !== null && living.has(row.owner)
  return {
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
    failure: Option.fromNullable(row.failure),
    trouble: Option.map(Option.fromNullable(row.trouble), (reason) => ({
      reason,
      // Whoever died in possession of it waits no more.
      nextTry: row.owner !== null && !held ? Option.none() : Option.fromNullable(row.next_try)
    })),
    held,
    freed: row.freed === 1,
    destination: Option.fromNullable(row.destination),
    version: Option.fromNullable(row.version)
  }
}

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
