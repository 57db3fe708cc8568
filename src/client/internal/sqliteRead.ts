/**
 * Reads bytes back, never unchecked.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Sha256 from "../../protocol/Sha256.ts"
import type { FileId, NotBuffered, Piece } from "../ChunkStore.ts"
import { ChunkStoreError, PieceDamaged } from "../ChunkStore.ts"
import type { Database } from "./sqliteDatabase.ts"
import { breathe } from "./sqliteDatabase.ts"
import * as Rows from "./sqliteRows.ts"

/** The piece that holds the byte at `offset`, checked. `exists` fails when the file itself is gone. */
const readPiece = Effect.fnUntraced(function*(
  { file: database, read, sql }: Database,
  exists: Effect.Effect<unknown, NotBuffered | ChunkStoreError>,
  file: FileId,
  offset: number
) {
  const piece = yield* read(Effect.flatMap(
    sql`SELECT start, length, pieces.sha256, encoding, data FROM files JOIN pieces ON pieces.file = files.id
      WHERE files.id = ${file} AND state = 'sealed' AND start <= ${offset} ORDER BY start DESC LIMIT 1`,
    Rows.decodeFirstPiece
  ))
  if (piece === undefined || piece.start + piece.length <= offset) {
    yield* exists
    return yield* new PieceDamaged({ file, offset, message: `The bytes of file ${file} from ${offset} on are missing` })
  }
  if (piece.encoding !== 0) {
    return yield* new ChunkStoreError({
      message: `The buffer ${database} holds pieces encoded by a newer version of this program. Update this program`
    })
  }
  if (piece.data.byteLength !== piece.length || Sha256.of(piece.data) !== piece.sha256) {
    return yield* new PieceDamaged({
      file,
      offset: piece.start,
      message: `The bytes of file ${file} from ${piece.start} on are not those that were added. Add the file again`
    })
  }
  return piece
})

/** The bytes `from` to `to`: a view of the stored piece where they lie in one, else joined. */
export const readRange = Effect.fnUntraced(function*(
  database: Database,
  exists: Effect.Effect<{ readonly size: number }, NotBuffered | ChunkStoreError>,
  file: FileId,
  from: number,
  to: number
): Effect.fn.Return<Piece, NotBuffered | PieceDamaged | ChunkStoreError> {
  if (from >= to) {
    yield* exists
    return { bytes: new Uint8Array(0), sha256: Sha256.empty }
  }
  const first = yield* readPiece(database, exists, file, from)
  yield* breathe
  if (from === first.start && to === first.start + first.length) return { bytes: first.data, sha256: first.sha256 }
  const head = first.data.subarray(from - first.start, to - first.start)
  if (head.byteLength === to - from) return { bytes: head, sha256: Sha256.of(head) }
  const bytes = new Uint8Array(to - from)
  bytes.set(head)
  let filled = head.byteLength
  while (filled < bytes.byteLength) {
    const piece = yield* readPiece(database, exists, file, from + filled)
    const part = piece.data.subarray(0, bytes.byteLength - filled)
    bytes.set(part, filled)
    filled += part.byteLength
    yield* breathe
  }
  return { bytes, sha256: Sha256.of(bytes) }
})
