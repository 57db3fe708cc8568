/**
 * Reads bytes back, none of them unchecked but for those whose hash is that of all before them too.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Sha256 from "../../protocol/Sha256.ts"
import type { FileId, NotBuffered, Piece, ReadOptions } from "../ChunkStore.ts"
import { ChunkStoreError, PieceDamaged } from "../ChunkStore.ts"
import * as PieceFiles from "./pieceFiles.ts"
import type { Database } from "./sqliteDatabase.ts"
import { breathe } from "./sqliteDatabase.ts"
import * as Rows from "./sqliteRows.ts"

type Exists = Effect.Effect<Rows.FileRow, NotBuffered | ChunkStoreError>

/**
 * Whoever reads a large piece in small parts would have all of it read and hashed for each part. So the piece that was last
 * read in part, and not to its end, is kept in memory: one at most of each file that `keepFor` allows it for, which is those
 * that this program is sending. Before it is used again, the database is asked whether it still has that piece.
 */
export const make = ({ file: database, read, sql }: Database, files: PieceFiles.PieceFiles) => {
  const kept = new Map<FileId, Rows.PieceRow | undefined>()

  const keep = (file: FileId, piece: Rows.PieceRow, to: number) => {
    if (kept.has(file)) kept.set(file, to < piece.start + piece.length ? piece : undefined)
  }

  /** The kept piece, if it holds the byte at `offset` and is still stored. */
  const keptPiece = Effect.fnUntraced(function*(file: FileId, offset: number) {
    const piece = kept.get(file)
    if (piece === undefined || offset < piece.start || offset >= piece.start + piece.length) return undefined
    const stored = yield* read(
      sql`SELECT 1 FROM files JOIN pieces ON pieces.file = files.id
        WHERE files.id = ${file} AND state = 'sealed' AND start = ${piece.start} AND pieces.sha256 = ${piece.sha256}`
    )
    return stored.length > 0 ? piece : undefined
  })

  const checked = (file: FileId, piece: Rows.PieceRow): Effect.Effect<Rows.PieceRow, PieceDamaged> =>
    piece.data.byteLength === piece.length && Sha256.of(piece.data) === piece.sha256
      ? Effect.succeed(piece)
      : new PieceDamaged({
        file,
        offset: piece.start,
        message: `The bytes of file ${file} from ${piece.start} on are not those that were added. Add the file again`
      })

  /** The piece that holds the byte at `offset`, checked; it lies in `into` where it is all that is asked for. */
  const readPiece = Effect.fnUntraced(function*(
    exists: Exists,
    file: FileId,
    offset: number,
    to: number,
    { into, prefix = false }: ReadOptions = {}
  ) {
    const last = yield* keptPiece(file, offset)
    if (last !== undefined) return last
    const piece = yield* read(Effect.flatMap(
      sql`SELECT start, length, pieces.sha256, encoding, data FROM files JOIN pieces ON pieces.file = files.id
      WHERE files.id = ${file} AND state = 'sealed' AND start <= ${offset} ORDER BY start DESC LIMIT 1`,
      Rows.decodeFirstPiece
    ))
    if (piece === undefined || piece.start + piece.length <= offset) {
      const { freed, size } = yield* exists
      const what = freed === 1 && offset < size ? "were freed after the server had acknowledged them" : "are missing"
      return yield* new PieceDamaged({ file, offset, message: `The bytes of file ${file} from ${offset} on ${what}` })
    }
    if (piece.encoding === PieceFiles.encoding) {
      const isAsked = piece.start === offset && piece.start + piece.length === to
      const data = (isAsked ? into?.subarray(0, piece.length) : undefined) ?? new Uint8Array(piece.length)
      const found = PieceFiles.fromData(piece.data)
      const isThere = yield* files.read(found.name, data)
      // somebody may have removed the file meanwhile
      yield* exists
      return prefix && isAsked && isThere && found.prefix !== undefined
        ? { ...piece, data, prefix: found.prefix }
        : yield* checked(file, isThere ? { ...piece, data } : piece)
    }
    if (piece.encoding !== 0) {
      return yield* new ChunkStoreError({
        message: `The buffer ${database} holds pieces encoded by a newer version of this program. Update this program`
      })
    }
    return yield* checked(file, piece)
  })

  /** The bytes `from` to `to`: the stored piece itself where they are all of one, else a copy. */
  const range = Effect.fnUntraced(function*(
    exists: Exists,
    file: FileId,
    from: number,
    to: number,
    options: ReadOptions = {}
  ): Effect.fn.Return<Piece, NotBuffered | PieceDamaged | ChunkStoreError> {
    if (from >= to) {
      yield* exists
      return { bytes: new Uint8Array(0), sha256: Sha256.empty }
    }
    const first = yield* readPiece(exists, file, from, to, options)
    keep(file, first, to)
    yield* breathe
    if (from === first.start && to === first.start + first.length) {
      return first.prefix !== undefined
        ? { bytes: first.data, isPrefix: true, sha256: first.prefix }
        : { bytes: first.data, sha256: first.sha256 }
    }
    const head = first.data.subarray(from - first.start, to - first.start)
    const bytes = options.into?.subarray(0, to - from) ?? new Uint8Array(to - from)
    bytes.set(head)
    let filled = head.byteLength
    while (filled < bytes.byteLength) {
      const piece = yield* readPiece(exists, file, from + filled, to)
      keep(file, piece, to)
      const part = piece.data.subarray(0, bytes.byteLength - filled)
      bytes.set(part, filled)
      filled += part.byteLength
      yield* breathe
    }
    return { bytes, sha256: Sha256.of(bytes) }
  })

  return {
    range,
    /** Lets a piece of the file be kept, until `forget`. */
    keepFor: (file: FileId) => Effect.sync(() => void kept.set(file, kept.get(file))),
    /** Lets go of the piece of one file, or of all. */
    forget: (file?: FileId) => Effect.sync(() => void (file === undefined ? kept.clear() : kept.delete(file)))
  }
}
