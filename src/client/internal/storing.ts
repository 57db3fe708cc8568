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
import type { BufferFull, ChunkStore, ChunkStoreError, FileId } from "../ChunkStore.ts"
import { type External, type Source, SourceError } from "../Source.ts"

/** Bytes of a stored piece: whole chunks, and as many as the largest body may have, so that it is sent as it is stored. */
export const pieceLength = (chunkSize: number, largestBody: number): number =>
  chunkSize * Math.max(1, Math.floor(largestBody / chunkSize))

type Append<E> = (piece: Uint8Array) => Effect.Effect<void, E>

/** A file is read straight into the memory of a piece. */
const fromFile = <E>({ open, size }: External, length: number, append: Append<E>) =>
  Effect.gen(function*() {
    const read = yield* open
    const room = new Uint8Array(Math.min(length, size))
    for (let at = 0; at < size; at += length) {
      const piece = room.subarray(0, size - at)
      yield* read(piece, at)
      yield* append(piece)
    }
  })

/** What comes in pieces of other lengths is gathered. */
const fromStream = <E>(bytes: Source["bytes"], length: number, append: Append<E>) =>
  Effect.gen(function*() {
    // as long as what it has to hold: many sources are shorter than a piece
    let held = new Uint8Array(0)
    let heldBytes = 0
    yield* Stream.runForEach(bytes(length), (bytes) =>
      Effect.gen(function*() {
        if (heldBytes === 0 && bytes.length === length) return yield* append(bytes)
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
          yield* append(held)
          heldBytes = 0
        }
      }))
    if (heldBytes > 0) yield* append(held.subarray(0, heldBytes))
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
    const append = (piece: Uint8Array) => {
      hasher.update(piece)
      size += piece.length
      return store.append(file, piece)
    }
    yield* seen === undefined ? fromStream(source.bytes, length, append) : fromFile(seen, length, append)
    return { size, sha256: hasher.digest() }
  }).pipe(
    Effect.catchTag("SourceChanged", () => new SourceError({ path: source.path, message: changed(source.path) }))
  )

/** Why nothing of a source was added. */
export const changed = (path: string): string => `${path} was changed while it was added; add it again`
