/**
 * Rows of the buffer as values.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import { isSha256, Sha256 } from "../../protocol/Sha256.ts"
import { UploadId } from "../../protocol/UploadId.ts"
import type { BufferedFile, Delivery, DeliveryReceipt, ExternalFile, Totals } from "../ChunkStore.ts"
import { FileId } from "../ChunkStore.ts"

type Is<A> = (input: unknown) => input is A

const isCount: Is<number> = (input): input is number => Number.isSafeInteger(input) && Number(input) >= 0
const isId: Is<FileId> = (input): input is FileId => isCount(input)
const orNull = <A>(is: Is<A>): Is<A | null> => (input): input is A | null => input === null || is(input)
const oneOf = <A extends number>(...values: ReadonlyArray<A>): Is<A> => (input): input is A =>
  values.some((value) => value === input)

const Count = Schema.declare(isCount)

/** Also what selects them: `columns`. */
const fields = {
  id: isId,
  owner: orNull(isCount),
  path: Predicate.isString,
  source: Predicate.isString,
  name: Predicate.isString,
  chunk_size: isCount,
  size: isCount,
  sha256: orNull(isSha256),
  chunks: isCount,
  first_index: isCount,
  added_at: isCount,
  settled_bytes: isCount,
  endpoint: orNull(Predicate.isString),
  sent_name: orNull(Predicate.isString),
  upload_id: orNull(Schema.is(UploadId)),
  revision: orNull(oneOf(1, 2)),
  server_name: orNull(Predicate.isString),
  sending: orNull(isCount),
  failure: orNull(Predicate.isString),
  trouble: orNull(Predicate.isString),
  next_try: orNull(isCount),
  destination: orNull(Predicate.isString),
  version: orNull(Predicate.isString),
  freed: oneOf(0, 1)
}

export type FileRow = { readonly [Name in keyof typeof fields]: typeof fields[Name] extends Is<infer A> ? A : never }

const names = Object.keys(fields)
const checks: ReadonlyArray<(input: unknown) => boolean> = Object.values(fields)

/** The columns of a file's row, for `SELECT`. */
export const columns = names.join(", ")

const isValues: Is<ReadonlyArray<unknown>> = (input): input is ReadonlyArray<unknown> => {
  if (!Array.isArray(input)) return false
  for (let at = 0; at < checks.length; at++) if (!checks[at]!(input[at])) return false
  return true
}

/** Every column is looked at, but all rows in one go: lists have many. */
const decodeValues = Schema.decodeUnknown(
  Schema.declare((input): input is ReadonlyArray<ReadonlyArray<unknown>> =>
    Array.isArray(input) && input.every(isValues)
  ).annotations({ message: () => "A row of the table files has a value that no program of ours writes" })
)

/** Its columns are looked up among the values when they are asked for: a copy of each row would be garbage at once. */
class Row {
  readonly values: ReadonlyArray<unknown>
  constructor(values: ReadonlyArray<unknown>) {
    this.values = values
  }
}

names.forEach((name, at) =>
  Object.defineProperty(Row.prototype, name, {
    get(this: Row) {
      return this.values[at]
    }
  })
)

const toRow = (values: ReadonlyArray<unknown>) => new Row(values) as Row & FileRow

/** Of rows as arrays of `columns`: SQLite gives those in a third of the time that it takes for objects. */
export const decodeFiles = (rows: unknown) => Effect.map(decodeValues(rows), (rows) => rows.map(toRow))

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
    sha256: Option.fromNullable(row.sha256),
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

const TotalsRow = Schema.Struct({
  destination: Schema.NullOr(Schema.String),
  endpoint: Schema.NullOr(Schema.String),
  failed: Schema.Literal(0, 1),
  files: Count,
  size: Count,
  settled_bytes: Count,
  newest: FileId
})

export const decodeTotals = Schema.decodeUnknown(Schema.Array(TotalsRow))

export const toTotals = (row: typeof TotalsRow.Type): Totals => ({
  destination: Option.fromNullable(row.destination),
  endpoint: Option.fromNullable(row.endpoint),
  failed: row.failed === 1,
  files: row.files,
  size: row.size,
  settledBytes: row.settled_bytes,
  newest: row.newest
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
  /** Of all bytes up to its end, in place of a check of its own. */
  readonly prefix?: Sha256 | undefined
}

/** The first of at most one row; `data` as a plain `Uint8Array` over the bytes that SQLite gave. */
export const decodeFirstPiece = (rows: unknown) =>
  Effect.map(decodePiece(rows), ([row]): PieceRow | undefined =>
    row === undefined
      ? undefined
      : { ...row, data: new Uint8Array(row.data.buffer, row.data.byteOffset, row.data.byteLength) })

/** An adopted file that is not pointed at any server yet. */
export const unsent = (file: ExternalFile & Pick<BufferedFile, "id" | "addedAt">): BufferedFile => ({
  ...file,
  sha256: Option.none(),
  chunks: Math.ceil(file.size / file.chunkSize),
  firstIndex: 0,
  settledBytes: 0,
  delivery: Option.none(),
  failure: Option.none(),
  trouble: Option.none(),
  held: false,
  freed: false
})

export const decodeSources = Schema.decodeUnknown(Schema.Array(Schema.Struct({ source: Schema.String })))

export const decodeAdopted = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ id: FileId, source: Schema.String }))
)

export const decodeData = Schema.decodeUnknown(
  Schema.Array(
    Schema.Struct({ file: FileId, length: Count, encoding: Schema.Number, data: Schema.Uint8ArrayFromSelf })
  )
)

export const decodeNames = Schema.decodeUnknown(Schema.Array(Schema.Struct({ name: Schema.String })))

export const decodeIds = Schema.decodeUnknown(Schema.Array(Schema.Struct({ id: FileId })))

export const decodeRanges = Schema.decodeUnknown(Schema.Array(Schema.Struct({ start: Count, stop: Count })))
