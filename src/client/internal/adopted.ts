/**
 * Reads files that are sent from where they lie, for every kind of buffer.
 *
 * The hash of a whole file runs along while its ranges are read to be sent, so that nobody waits for it before the first of
 * them. It takes bytes in order: ranges are read one after the other, and what was passed over, because it was sent by an
 * earlier program perhaps, is read for the hash alone.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Sha256 from "../../protocol/Sha256.ts"
import type { FileId, Piece, ReadOptions } from "../ChunkStore.ts"
import type { External, ReadSource, SourceChanged, SourceError } from "../Source.ts"

/** Bytes that are read at once for the hash alone. */
const step = 1024 * 1024

type Open = External["open"]

/** The ranges of one file, and the hash of it. */
const make1 = (size: number, open: Open) => {
  const one = Effect.unsafeMakeSemaphore(1)
  const hasher = Sha256.make()
  let hashed = 0
  let whole: Sha256.Sha256 | undefined
  /** While somebody keeps the file open. */
  let kept: { readonly scope: Scope.Scope; read?: ReadSource } | undefined

  /** Runs something with the reader, which is made when there is none yet. */
  const reading = <A, E>(use: (read: ReadSource) => Effect.Effect<A, E>) =>
    Effect.suspend((): Effect.Effect<A, E | SourceError | SourceChanged> => {
      const mine = kept
      if (mine === undefined) return Effect.scoped(Effect.flatMap(open, use))
      if (mine.read !== undefined) return use(mine.read)
      return Effect.flatMap(Scope.extend(open, mine.scope), (read) => {
        mine.read = read
        return use(read)
      })
    })

  const take = (bytes: Uint8Array) => {
    hasher.update(bytes)
    hashed += bytes.length
  }

  const catchUp = Effect.fnUntraced(function*(read: ReadSource, to: number) {
    if (hashed >= to) return
    const room = new Uint8Array(Math.min(step, to - hashed))
    for (let at = hashed; at < to; at = hashed) {
      const bytes = room.subarray(0, to - at)
      yield* read(bytes, at)
      take(bytes)
    }
  })

  const readRange = Effect.fnUntraced(function*(
    read: ReadSource,
    from: number,
    to: number,
    { into, prefix = false }: ReadOptions
  ): Effect.fn.Return<Piece, SourceError | SourceChanged> {
    yield* catchUp(read, from)
    const bytes = into?.subarray(0, to - from) ?? new Uint8Array(to - from)
    if (from < to) yield* read(bytes, from)
    // of what was read before, the hash has gone on
    const isPrefix = prefix && from === hashed && from < to
    if (hashed < to) take(bytes.subarray(hashed - from))
    if (to < size) {
      return isPrefix
        ? { bytes, isPrefix, sha256: hasher.copy().digest() }
        : { bytes, sha256: Sha256.of(bytes) }
    }
    whole ??= hasher.digest()
    return isPrefix
      ? { bytes, isPrefix, sha256: whole, whole }
      : { bytes, sha256: from === 0 ? whole : Sha256.of(bytes), whole }
  })

  return {
    read: (from: number, to: number, options: ReadOptions): Effect.Effect<Piece, SourceError | SourceChanged> =>
      one.withPermits(1)(reading((read) => readRange(read, from, Math.max(from, to), options))),

    /** Keeps the file open from the first reading on, until the scope closes. */
    keepOpen: Effect.flatMap(Effect.scope, (scope) =>
      Effect.acquireRelease(
        Effect.sync(() => void (kept = { scope })),
        () => Effect.sync(() => void (kept = undefined))
      ))
  }
}

export const make = () => {
  const files = new Map<FileId, ReturnType<typeof make1>>()
  return {
    /** Takes the file for one that is read by `open`. */
    set: (file: FileId, size: number, open: Open): void => void files.set(file, make1(size, open)),
    has: (file: FileId): boolean => files.has(file),
    forget: (file?: FileId): void => void (file === undefined ? files.clear() : files.delete(file)),
    /** As `ChunkStore.read`. */
    read: (file: FileId, from: number, to: number, options: ReadOptions = {}) =>
      files.get(file)?.read(from, to, options) ?? Effect.dieMessage(`File ${file} is read by another program`),
    keepOpen: (file: FileId): Effect.Effect<void, never, Scope.Scope> => files.get(file)?.keepOpen ?? Effect.void
  }
}
