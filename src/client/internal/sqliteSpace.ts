/**
 * Gives the space of dropped files back to the disk, in steps short enough for timers to run between them.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type { Database } from "./sqliteDatabase.ts"
import { breathe, stepBytes } from "./sqliteDatabase.ts"

const stepPieces = 256

const decodePieces = Schema.decodeUnknown(
  Schema.Array(Schema.Struct({ id: Schema.Number, length: Schema.Number }))
)
const decodeFree = Schema.decodeUnknown(
  Schema.Tuple(Schema.Struct({ free: Schema.Number, page: Schema.Number, vacuum: Schema.Number }))
)

/** Removes what is in state `dropping`, and shortens the database file. Cut off, it is carried on at the next start. */
export const make = ({ read, sql, write }: Database) => {
  const remove = Effect.gen(function*() {
    const pieces = yield* Effect.flatMap(
      sql`SELECT pieces.id, pieces.length FROM files JOIN pieces ON pieces.file = files.id
        WHERE files.state = 'dropping' ORDER BY files.id, pieces.start LIMIT ${stepPieces}`,
      decodePieces
    )
    let bytes = 0
    for (const { id, length } of pieces) {
      if (bytes > 0 && bytes + length > stepBytes) return false
      yield* sql`DELETE FROM pieces WHERE id = ${id}`
      bytes += length
    }
    yield* sql`DELETE FROM settled WHERE file IN (SELECT id FROM files WHERE state = 'dropping')`
    yield* sql`DELETE FROM files WHERE state = 'dropping' AND NOT EXISTS (SELECT 1 FROM pieces WHERE file = files.id)`
    return pieces.length < stepPieces
  })

  const shrink = Effect.gen(function*() {
    const [{ free, page, vacuum }] = yield* Effect.flatMap(
      sql`SELECT freelist_count AS free, page_size AS page, auto_vacuum AS vacuum
        FROM pragma_freelist_count, pragma_page_size, pragma_auto_vacuum`,
      decodeFree
    )
    if (vacuum !== 2) return true
    const pages = Math.min(free, Math.floor(stepBytes / page))
    // One by one: the driver steps a statement without result columns only once, whatever number it is given.
    for (let freed = 0; freed < pages; freed++) yield* sql`PRAGMA incremental_vacuum(1)`
    return pages === free
  })

  const step = write(Effect.zipWith(remove, shrink, (removed, shrunk) => removed && shrunk))

  const isNeeded = read(
    Effect.map(sql`SELECT 1 FROM files WHERE state = 'dropping' LIMIT 1`, (rows) => rows.length > 0)
  )

  const reclaim = step.pipe(
    Effect.tap(() => breathe),
    Effect.repeat({ until: (isDone) => isDone }),
    // The file is cut at the checkpoint; one that readers hold up is made up for by a later one.
    Effect.zipRight(read(sql`PRAGMA wal_checkpoint(TRUNCATE)`)),
    Effect.asVoid
  )

  return { reclaim, reclaimIfNeeded: Effect.whenEffect(reclaim, isNeeded) }
}
