/**
 * Puts the bytes of a source into the buffer.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Sha256 from "../../protocol/Sha256.ts"
import type { BufferFull, ChunkStore, ChunkStoreError, FileId, PieceHashes } from "../ChunkStore.ts"
import { type External, type Source, SourceError } from "../Source.ts"

/** Bytes of a stored piece: whole chunks, and as many as the largest body may have, so that it is sent as it is stored. */
export const pieceLength = (chunkSize: number, largestBody: number): number =>
  chunkSize * Math.max(1, Math.floor(largestBody / chunkSize))

/** Where pieces go: each is seen, in order, before it is appended. */
interface Taker<E> {
  readonly see: (piece: Uint8Array) => Effect.Effect<PieceHashes>
  readonly append: (piece: Uint8Array, hashes: PieceHashes) => Effect.Effect<void, E>
}

/** A file is read straight into the memory of a piece, and hashed, while the piece before it is stored. */
const fromFile = <E>({ open, size }: External, length: number, { append, see }: Taker<E>) =>
  Effect.gen(function*() {
    const read = yield* open
    const rooms = [new Uint8Array(Math.min(length, size)), new Uint8Array(Math.min(length, Math.max(0, size - length)))]
    const pieceAt = (at: number) =>
      Effect.gen(function*() {
        if (at >= size) return undefined
        const bytes = rooms[at / length % 2]!.subarray(0, size - at)
        yield* read(bytes, at)
        return { bytes, hashes: yield* see(bytes) }
      })
    let piece = yield* pieceAt(0)
    for (let at = length; piece !== undefined; at += length) {
      const { bytes, hashes }: { readonly bytes: Uint8Array; readonly hashes: PieceHashes } = piece
      piece = (yield* Effect.all([append(bytes, hashes), pieceAt(at)], { concurrency: "unbounded" }))[1]
    }
  })

/** What comes in pieces of other lengths is gathered. */
const fromStream = <E>(bytes: Source["bytes"], length: number, { append, see }: Taker<E>) =>
  Effect.gen(function*() {
    const take = (piece: Uint8Array) => Effect.flatMap(see(piece), (hashes) => append(piece, hashes))
    // as long as what it has to hold: many sources are shorter than a piece
    let held = new Uint8Array(0)
    let heldBytes = 0
    yield* Stream.runForEach(bytes(length), (bytes) =>
      Effect.gen(function*() {
        if (heldBytes === 0 && bytes.length === length) return yield* take(bytes)
        for (let at = 0; at < bytes.length;) {
          const part = bytes.subarray(at, at + length - heldBytes)
          if (heldBytes + part.length > held.length) {
            const longer = new Uint8Array(Math.min(length, Math.max(heldBytes + part.length, 2 * held.length)))
            longer.set(held.subarray(0, heldBytes))
            held = longer
          }
          held.set(part, heldBytes)
          heldBytes += part.length
          at += part.length
          if (heldBytes < length) continue
          // the store keeps its own copy
          yield* take(held)
          heldBytes = 0
        }
      }))
    if (heldBytes > 0) yield* take(held.subarray(0, heldBytes))
  })

/** Stores what a source has in pieces of a length, and returns what they are together. `seen` is what the source is now. */
export const store = (
  store: Context.Tag.Service<ChunkStore>,
  file: FileId,
  source: Source,
  seen: External | undefined,
  length: number
): Effect.Effect<
  { readonly size: number; readonly sha256: Sha256.Sha256 },
  SourceError | ChunkStoreError | BufferFull,
  Scope.Scope
> =>
  Effect.gen(function*() {
    const hasher = Sha256.make()
    let size = 0
    const taker: Taker<ChunkStoreError | BufferFull> = {
      see: (piece) =>
        Effect.suspend(() => {
          const isFirst = size === 0
          size += piece.length
          const seeAll = Effect.sync(() => {
            hasher.update(piece)
            return hasher.copy().digest()
          })
          return isFirst
            ? Effect.map(seeAll, (prefix) => ({ sha256: prefix, prefix }))
            : Effect.map(
              // the other thread has its piece before this one is busy
              Effect.all([Sha256.aside(piece), seeAll], { concurrency: "unbounded" }),
              ([sha256, prefix]) => ({ sha256, prefix })
            )
        }),
      append: (piece, hashes) => store.append(file, piece, hashes)
    }
    yield* seen === undefined ? fromStream(source.bytes, length, taker) : fromFile(seen, length, taker)
    return { size, sha256: hasher.digest() }
  }).pipe(
    Effect.catchTag("SourceChanged", () => new SourceError({ path: source.path, message: changed(source.path) }))
  )

/** Why nothing of a source was added. */
export const changed = (path: string): string => `${path} was changed while it was added; add it again`
