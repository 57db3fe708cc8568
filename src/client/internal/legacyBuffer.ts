/**
 * Takes over what the Python client has buffered: one row a chunk, deleted when the chunk was sent. A file whose first
 * rows are gone is half sent.
 *
 * @module
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Sha256 from "../../protocol/Sha256.ts"
import { sentName } from "../SentName.ts"
import type { Database } from "./sqliteDatabase.ts"
import { breathe } from "./sqliteDatabase.ts"

/** The columns of the Python client's only table, `chunks`. */
export const columns = "id,file_name,chunk_index,data"

/** Before the stored file name in `source`, so that it never equals the source of a file added by this program. */
const sourcePrefix = "python:"

const defaultChunkSize = 1024 * 1024

const decodeNames = Schema.decodeUnknown(Schema.Array(Schema.Struct({ name: Schema.String })))
const decodeIds = Schema.decodeUnknown(Schema.Tuple(Schema.Struct({ id: Schema.Number })))
const decodeChunks = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ rowid: Schema.Number, index: Schema.Number, data: Schema.Uint8ArrayFromSelf }))
)

/** The chunks of one file, one at a time. */
const nextChunk = ({ sql }: Database, name: string, after: { readonly index: number; readonly rowid: number }) =>
  Effect.map(
    Effect.flatMap(
      sql`SELECT rowid, chunk_index AS "index", CAST(coalesce(data, '') AS BLOB) AS data FROM chunks
        WHERE file_name = ${name} AND (chunk_index, rowid) > (${after.index}, ${after.rowid})
        ORDER BY chunk_index, rowid LIMIT 1`,
      decodeChunks
    ),
    (chunks) => chunks[0]
  )

const takeOverFile = Effect.fnUntraced(function*(database: Database, name: string) {
  const { sql } = database
  const [{ id }] = yield* Effect.flatMap(
    sql`INSERT INTO files (state, path, source, name, chunk_size, added_at)
      VALUES ('sealed', ${name}, ${sourcePrefix + name}, ${name}, ${defaultChunkSize}, ${yield* Clock
      .currentTimeMillis})
      RETURNING id`,
    decodeIds
  )
  const whole = Sha256.make()
  let [size, pieces, chunkSize] = [0, 0, 0]
  let short: number | undefined
  let failure: string | null = null
  let firstIndex: number | undefined
  let last = { index: Number.MIN_SAFE_INTEGER, rowid: 0 }
  for (;;) {
    const chunk = yield* nextChunk(database, name, last)
    if (chunk === undefined) break
    const expected = firstIndex === undefined ? chunk.index : last.index + 1
    firstIndex ??= chunk.index
    if (chunk.index !== expected) {
      failure ??= `Chunk ${expected} is missing from what the Python client had buffered. Add the file again`
    }
    if (short !== undefined) {
      failure ??=
        `Chunk ${short} is shorter than those around it: the Python client had buffered two versions of the ` +
        "file over each other. Add the file again"
    }
    last = chunk
    if (chunk.data.byteLength === 0) continue
    chunkSize ||= chunk.data.byteLength
    if (chunk.data.byteLength < chunkSize) short = chunk.index
    whole.update(chunk.data)
    yield* sql`INSERT INTO pieces (file, start, length, sha256, data)
      VALUES (${id}, ${size}, ${chunk.data.byteLength}, ${Sha256.of(chunk.data)}, ${chunk.data})`
    size += chunk.data.byteLength
    pieces++
    yield* breathe
  }
  yield* sql`UPDATE files SET
    name = ${firstIndex === 0 ? sentName(name) : name},
    chunk_size = ${pieces > 1 ? chunkSize : defaultChunkSize},
    size = ${size}, sha256 = ${whole.digest()}, chunks = ${pieces}, first_index = ${
    firstIndex ?? 0
  }, failure = ${failure}
    WHERE id = ${id}`
})

/**
 * Copies every chunk, one in memory at a time, and removes the table. Runs inside the caller's transaction, so that
 * until its commit the Python client's buffer is what it was.
 */
export const takeOver = Effect.fnUntraced(function*(database: Database) {
  const { sql } = database
  yield* Effect.logInfo("Taking over the buffer of the Python client")
  yield* sql`UPDATE chunks SET file_name = CAST(coalesce(file_name, '') AS TEXT), chunk_index = CAST(chunk_index AS INTEGER)
    WHERE typeof(file_name) <> 'text' OR typeof(chunk_index) <> 'integer'`
  yield* sql`CREATE INDEX chunks_in_order ON chunks (file_name, chunk_index)`
  const names = yield* Effect.flatMap(
    sql`SELECT file_name AS name FROM chunks GROUP BY file_name ORDER BY min(rowid)`,
    decodeNames
  )
  yield* Effect.forEach(names, ({ name }) => takeOverFile(database, name), { discard: true })
  yield* sql`DROP TABLE chunks`
})
