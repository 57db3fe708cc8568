/**
 * What servers hold of a file, and the freeing of its bytes while the rest of it is still on its way.
 *
 * @module
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { ParseError } from "effect/ParseResult"
import type { ChunkStore, Delivery, FileId, NotBuffered } from "../ChunkStore.ts"
import type { Database } from "./sqliteDatabase.ts"
import { breathe } from "./sqliteDatabase.ts"
import * as Rows from "./sqliteRows.ts"
import type { Space } from "./sqliteSpace.ts"

type Step<A> = Effect.Effect<A, NotBuffered | SqlError | ParseError>

/**
 * Both work inside a `read` or `write`: `sealed` gives the row of a file, and fails when it is not there (any more);
 * `remember` changes what is known of its server.
 */
export const make = (
  { read, sql, write, writeUnsynced }: Database,
  space: Space,
  sealed: (file: FileId) => Step<Rows.FileRow>,
  remember: (file: FileId, known: Partial<Delivery>) => Step<void>
) => {
  /** How to write what a server of that revision answered: one of revision 2 can be asked again, and tells repeats. */
  const writeFor = (revision: number | null) => revision === 2 ? writeUnsynced : write

  const add = Effect.fnUntraced(function*(file: FileId, from: number, to: number) {
    if (from >= to) return 0
    const touching = yield* Effect.flatMap(
      sql`DELETE FROM settled WHERE file = ${file} AND start <= ${to} AND stop >= ${from} RETURNING start, stop`,
      Rows.decodeRanges
    )
    const start = Math.min(from, ...touching.map((range) => range.start))
    const stop = Math.max(to, ...touching.map((range) => range.stop))
    yield* sql`INSERT INTO settled (file, start, stop) VALUES (${file}, ${start}, ${stop})`
    return stop - start - touching.reduce((sum, range) => sum + range.stop - range.start, 0)
  })

  const settle = Effect.fnUntraced(function*(
    file: FileId,
    from: number,
    to: number,
    options: Parameters<ChunkStore["Type"]["settle"]>[3] = {}
  ) {
    const { free = false, known = {} } = options
    const { revision } = yield* read(sealed(file))
    const first = yield* writeFor(revision)(Effect.gen(function*() {
      yield* sealed(file)
      const added = yield* add(file, from, to)
      yield* sql`UPDATE files SET settled_bytes = settled_bytes + ${added}, trouble = NULL, next_try = NULL
        WHERE id = ${file}`
      if (Object.keys(known).length > 0) yield* remember(file, known)
      return free ? yield* space.freeSettled(file) : true
    }))
    if (!free) return
    // More than one step when much was settled before without being freed.
    for (let isDone = first; !isDone;) {
      yield* breathe
      isDone = yield* writeUnsynced(space.freeSettled(file))
    }
    // What was to be recorded is: an untrimmed file is made up for by the next settle, or when the file leaves.
    yield* Effect.ignoreLogged(space.trim)
  })

  const settled = (file: FileId) =>
    read(Effect.zipRight(
      sealed(file),
      Effect.flatMap(sql`SELECT start, stop FROM settled WHERE file = ${file} ORDER BY start`, Rows.decodeRanges)
    )).pipe(Effect.map((rows) => rows.map(({ start, stop }) => [start, stop] as const)))

  return { settle, settled, writeFor }
}
