/**
 * Frees the space of dropped files and freed pieces, gives it back to the disk when it is much or the program ends, in steps
 * short enough for timers to run between them, and knows how much of it is in use.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { FileId } from "../ChunkStore.ts"
import * as PieceFiles from "./pieceFiles.ts"
import type { Database } from "./sqliteDatabase.ts"
import { breathe, stepBytes } from "./sqliteDatabase.ts"

const stepPieces = 256

/**
 * So much free space may stay in the database file while the program runs. To shorten the file, SQLite moves pages from its
 * end into the free ones, so that freeing a piece would cost as much as adding one; and whatever is added meanwhile needs the
 * pages again. Above this, each freed piece pays for one step: the disk is never more than this behind, and no `settle` ever
 * waits for more than a step.
 */
const slackBytes = 4 * stepBytes

/** How long the end of a program may be put off to shorten the file. */
const patienceAtEnd = "1 second"

const decodePieces = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ id: Schema.Number, length: Schema.Number }))
)
const decodePages = Schema.decodeUnknown(
  Schema.Tuple(
    Schema.Struct({ count: Schema.Number, free: Schema.Number, page: Schema.Number, vacuum: Schema.Number })
  )
)

const decodeBytes = Schema.decodeUnknown(Schema.Tuple(Schema.Struct({ bytes: Schema.Number })))

export type Space = ReturnType<typeof make>

/** Removes what is in state `dropping`, and shortens the database file. Cut off, it is carried on at the next start. */
export const make = ({ read, sql, writeUnsynced }: Database, files: PieceFiles.PieceFiles) => {
  const pages = Effect.map(
    Effect.flatMap(
      sql`SELECT page_count AS count, freelist_count AS free, page_size AS page, auto_vacuum AS vacuum
        FROM pragma_page_count, pragma_freelist_count, pragma_page_size, pragma_auto_vacuum`,
      decodePages
    ),
    ([row]) => row
  )

  /** Bytes of a piece that are in the database. */
  const inDatabase = sql.literal(`iif(pieces.encoding = ${PieceFiles.encoding}, 0, pieces.length)`)

  /** Deletes what of these fits into a step, at least one; whether there can be no more than these. */
  const removePieces = Effect.fnUntraced(function*(pieces: Effect.Effect.Success<ReturnType<typeof decodePieces>>) {
    let bytes = 0
    for (const { id, length } of pieces) {
      if (bytes > 0 && bytes + length > stepBytes) return false
      yield* sql`DELETE FROM pieces WHERE id = ${id}`
      bytes += length
    }
    return pieces.length < stepPieces
  })

  /** One step, inside a `write`: removes files in state `dropping`; whether there are no more. */
  const remove = Effect.gen(function*() {
    const pieces = yield* Effect.flatMap(
      sql`SELECT pieces.id, ${inDatabase} AS length FROM files JOIN pieces ON pieces.file = files.id
        WHERE files.state = 'dropping' ORDER BY files.id, pieces.start LIMIT ${stepPieces}`,
      decodePieces
    )
    if (!(yield* removePieces(pieces))) return false
    yield* sql`DELETE FROM settled WHERE file IN (SELECT id FROM files WHERE state = 'dropping')`
    yield* sql`DELETE FROM files WHERE state = 'dropping' AND NOT EXISTS (SELECT 1 FROM pieces WHERE file = files.id)`
    return true
  })

  /** One step, inside a `write`: removes pieces that are wholly settled; whether there are no more. */
  const freeSettled = Effect.fnUntraced(function*(file: FileId) {
    const pieces = yield* Effect.flatMap(
      // From the settled ranges, of which there are few, to the pieces that are still there: never over all of the file.
      sql`SELECT pieces.id, ${inDatabase} AS length FROM settled CROSS JOIN pieces
        ON pieces.file = settled.file AND pieces.start >= settled.start AND pieces.start < settled.stop
        WHERE settled.file = ${file} AND pieces.start + pieces.length <= settled.stop LIMIT ${stepPieces}`,
      decodePieces
    )
    if (pieces.length > 0) yield* sql`UPDATE files SET freed = 1 WHERE id = ${file}`
    return yield* removePieces(pieces)
  })

  const shrink = Effect.gen(function*() {
    const { free, page, vacuum } = yield* pages
    if (vacuum !== 2) return true
    const count = Math.min(free, Math.floor(stepBytes / page))
    // One by one: the driver steps a statement without result columns only once, whatever number it is given.
    for (let freed = 0; freed < count; freed++) yield* sql`PRAGMA incremental_vacuum(1)`
    return count === free
  })

  /** More than so many bytes are free in the file, and it can be shortened; inside a `read` or `write`. */
  const hasFree = (bytes: number) => Effect.map(pages, ({ free, page, vacuum }) => vacuum === 2 && free * page > bytes)

  /** The file is cut at the checkpoint; one that readers hold up is made up for by a later one. */
  const cutOff = read(sql`PRAGMA wal_checkpoint(TRUNCATE)`)

  const inFiles = Effect.map(
    Effect.flatMap(
      sql`SELECT coalesce(sum(length), 0) AS bytes FROM pieces WHERE encoding = ${PieceFiles.encoding}`,
      decodeBytes
    ),
    ([{ bytes }]) => bytes
  )

  const isDropping = Effect.map(sql`SELECT 1 FROM files WHERE state = 'dropping' LIMIT 1`, (rows) => rows.length > 0)

  const reclaim = Effect.gen(function*() {
    let isLong = false
    for (let isDone = false; !isDone;) {
      isDone = yield* writeUnsynced(Effect.gen(function*() {
        const isRemoved = yield* remove
        if (!(yield* hasFree(slackBytes))) return isRemoved
        yield* shrink
        isLong = true
        return false
      }))
      yield* breathe
    }
    if (isLong) yield* cutOff
    yield* files.clear
  })

  /** Removes the files of what was removed; and one step of shortening the database, when more than the slack is free in it. */
  const trim = Effect.zipRight(
    files.clear,
    Effect.whenEffect(Effect.zipRight(writeUnsynced(shrink), breathe), read(hasFree(slackBytes)))
  )

  /** Shortens the file as far as it can be done at once; a later program does the rest. */
  const shorten = Effect.gen(function*() {
    if (!(yield* read(hasFree(0)))) return
    yield* writeUnsynced(shrink).pipe(
      Effect.zipLeft(breathe),
      Effect.repeat({ until: (isDone) => isDone }),
      Effect.timeoutOption(patienceAtEnd)
    )
    yield* cutOff
  })

  return {
    remove,
    reclaim,
    /** What an earlier program left. */
    reclaimIfNeeded: Effect.zipRight(
      Effect.whenEffect(
        reclaim,
        read(Effect.zipWith(isDropping, hasFree(slackBytes), (dropping, isLong) => dropping || isLong))
      ),
      files.clear
    ),
    shorten,
    freeSettled,
    trim,
    /** Bytes in use in the database and the files of its pieces, inside a `read` or `write`. */
    used: Effect.zipWith(pages, inFiles, ({ count, free, page }, bytes) => (count - free) * page + bytes)
  }
}
