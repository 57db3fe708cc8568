/**
 * Where the bytes of uploads lie, first in staging, then under their final names. Shaped so that a folder and an object
 * store both fit.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ServerFailure, type StorageFull } from "../protocol/ProtocolError.ts"
import type { Range } from "../protocol/Ranges.ts"
import * as Sha256 from "../protocol/Sha256.ts"
import * as Body from "./Body.ts"
import type { SafeName } from "./SafeName.ts"

/** The server's own name for an upload in storage. It never comes from the wire. */
export const UploadKey = Schema.String.pipe(Schema.pattern(/^[0-9a-f]{32}$/), Schema.brand("UploadKey"))
/** See the schema of this name. */
export type UploadKey = typeof UploadKey.Type

/** Bytes that were written: where they belong in the file, their hash, and whatever the store needs to find them. */
export interface Extent {
  /** Bytes from the beginning of the file. */
  readonly offset: number
  /** Bytes. */
  readonly length: number
  /** Of these bytes; of all bytes of the file up to their end where the ledger says `isPrefix`. */
  readonly sha256: Sha256.Sha256
  /** The ledger's. Default: false. */
  readonly isPrefix?: boolean
  /** The store's own; kept by the ledger and given back. */
  readonly locator: string
}

/**
 * Another file has the name, or something that is no folder has the beginning of it: `name` is what is taken, like `a` for
 * the name `a/b.txt` where `a` is a file.
 */
export class NameTaken extends Schema.TaggedError<NameTaken>("indexedcp/NameTaken")("NameTaken", {
  name: Schema.String,
  message: Schema.String
}) {}

/** What a store may fail with: `StorageFull`, or `ServerFailure` with the cause. */
export type StoreError = StorageFull | ServerFailure

/** All extents of an upload in order: asked only by a store that needs them to find its bytes. */
export type Extents = Effect.Effect<ReadonlyArray<Extent>, StoreError>

/**
 * Where bytes lie. Layers: {@link layerMemory}, and `UploadStoreFileSystem.layer`. One of your own passes the suite
 * `test/contract/UploadStore.ts`; {@link oneByOne} spares it the methods for many.
 */
export class UploadStore extends Context.Tag("indexedcp/UploadStore")<UploadStore, {
  /**
   * Bytes of the smallest piece that it likes, which clients are told of, and of the largest that it takes, and whether a piece may
   * continue the one before it.
   */
  readonly limits: { readonly minPiece: number; readonly maxPiece: number; readonly append: boolean }

  /** Bytes that there is still room for, as far as that is known. */
  readonly free: Effect.Effect<Option.Option<number>, StoreError>

  /** Proves that something can be written and removed just now. */
  readonly probe: Effect.Effect<void, StoreError>

  /** Makes room for a new upload; `size` is a hint. Fails when the key is in use. */
  readonly reserve: (
    key: UploadKey,
    hint: { readonly size: Option.Option<number> }
  ) => Effect.Effect<void, StoreError>

  /**
   * Writes a body at an offset of the upload, `limit` bytes at most. Not durable before `sync`. When it fails or is
   * interrupted, its last write has ended; what it left at the range counts for nothing.
   */
  readonly write: (
    to: { readonly key: UploadKey; readonly offset: number; readonly limit: number },
    body: Body.Body
  ) => Effect.Effect<Extent, Body.ReadError | Body.BodyTooLong | StoreError>

  /**
   * Makes the extents durable, which are those that `write` and `carry` returned, and the entries of folders that lead to
   * them. Without an extent: the upload, be it empty. Where it fails, no later sync makes good of what was written before:
   * an extent that was begun before the failure fails ever after, and has to be written again.
   */
  readonly sync: (
    written: ReadonlyArray<{ readonly key: UploadKey; readonly extent?: Extent }>
  ) => Effect.Effect<void, StoreError>

  /**
   * Makes new uploads and writes each whole, whose hash is known: `reserve`, `write` and `sync` for many. Durable on return;
   * when it fails, nothing of any of them is left. Not interruptible.
   */
  readonly putWhole: (
    uploads: ReadonlyArray<{ readonly key: UploadKey; readonly bytes: Uint8Array; readonly sha256: Sha256.Sha256 }>
  ) => Effect.Effect<ReadonlyArray<Extent>, StoreError>

  /** Reads stored bytes in order, piece by piece; each piece is valid only while `take` runs. */
  readonly read: (
    key: UploadKey,
    extents: Extents,
    range: Range,
    take: (bytes: Uint8Array) => void
  ) => Effect.Effect<void, StoreError>

  /** The SHA-256 of whatever stands under a final name now; `None` when there is no such file. */
  readonly contentOf: (name: SafeName) => Effect.Effect<Option.Option<Sha256.Sha256>, StoreError>

  /** How many bytes there are up to the last one in staging, whatever lies before it; `None` without such an upload. */
  readonly length: (key: UploadKey) => Effect.Effect<Option.Option<number>, StoreError>

  /** The uploads in staging. */
  readonly keys: Effect.Effect<ReadonlyArray<UploadKey>, StoreError>

  /**
   * Makes these extents, which follow each other from 0, readable under a final name; durable on return. Exclusive unless
   * `overwrite`, then it replaces a file that is there atomically, and nothing but a file. Repeatable: a name that leads to this upload already is left
   * as it is. Bytes written to the upload later show under the name too.
   */
  readonly publish: (
    key: UploadKey,
    extents: Extents,
    name: SafeName,
    mode: "exclusive" | "overwrite"
  ) => Effect.Effect<void, NameTaken | StoreError>

  /**
   * `publish` for many that `putWhole` made, each by itself: what it returns is in the order asked. All that succeeded
   * are durable on return.
   */
  readonly publishWhole: (
    uploads: ReadonlyArray<{ readonly key: UploadKey; readonly extent: Extent; readonly name: SafeName }>,
    mode: "exclusive" | "overwrite"
  ) => Effect.Effect<ReadonlyArray<Either.Either<void, NameTaken | StoreError>>>

  /** What stands under a final name: nothing, this upload, or something else, be it at the beginning of the name. */
  readonly holder: (key: UploadKey, name: SafeName) => Effect.Effect<"nobody" | "upload" | "other", StoreError>

  /** Copies extents of one upload to the same offsets of another, which has been reserved. Not durable before `sync`. */
  readonly carry: (
    from: UploadKey,
    extents: ReadonlyArray<Extent>,
    to: UploadKey
  ) => Effect.Effect<ReadonlyArray<Extent>, StoreError>

  /** Cuts off whatever lies behind the first `length` bytes; durable on return, be it cut off before. */
  readonly trim: (key: UploadKey, length: number) => Effect.Effect<void, StoreError>

  /** Removes the upload from staging; what was published stays. Repeatable. */
  readonly drop: (key: UploadKey) => Effect.Effect<void, StoreError>

  /** `drop` for many. */
  readonly dropAll: (keys: ReadonlyArray<UploadKey>) => Effect.Effect<void, StoreError>
}>() {}

type Store = Context.Tag.Service<UploadStore>

/** Uploads of one request that {@link oneByOne} has in hand at once. */
const atOnce = 8

/**
 * A store that does for many what it does for one: `putWhole`, `publishWhole` and `dropAll` over its other methods. A store
 * where many cost less than each by itself has its own.
 *
 * @example
 * ```ts
 * Layer.succeed(UploadStore.UploadStore, UploadStore.oneByOne({ limits, free, probe, reserve, write, ... }))
 * ```
 */
export const oneByOne = (store: Omit<Store, "putWhole" | "publishWhole" | "dropAll">): Store => ({
  ...store,
  putWhole: (uploads) =>
    Effect.suspend(() => {
      const made: Array<UploadKey> = []
      const put = Effect.fnUntraced(function*({ bytes, key }: { readonly key: UploadKey; readonly bytes: Uint8Array }) {
        yield* store.reserve(key, { size: Option.some(bytes.length) })
        made.push(key)
        return yield* store.write({ key, offset: 0, limit: bytes.length }, Body.of(bytes)).pipe(
          Effect.mapError((error) =>
            error._tag === "ServerFailure" || error._tag === "StorageFull"
              ? error
              : new ServerFailure({ message: "Bytes at hand could not be written", cause: error })
          )
        )
      })
      return Effect.forEach(uploads, put, { concurrency: atOnce }).pipe(
        Effect.tap((extents) =>
          store.sync(extents.map((extent, at) => {
            const { key } = uploads[at]!
            return extent.length > 0 ? { key, extent } : { key }
          }))
        ),
        Effect.onError(() => Effect.forEach(made, (key) => Effect.ignore(store.drop(key)), { discard: true }))
      )
    }).pipe(Effect.uninterruptible),
  publishWhole: (uploads, mode) =>
    Effect.forEach(
      uploads,
      ({ extent, key, name }) =>
        Effect.either(store.publish(key, Effect.succeed(extent.length > 0 ? [extent] : []), name, mode)),
      { concurrency: atOnce }
    ),
  dropAll: (keys) => Effect.forEach(keys, store.drop, { concurrency: atOnce, discard: true })
})

/** The final names of {@link layerMemory} and the bytes under them, for tests. */
export class MemoryFiles extends Context.Tag("indexedcp/MemoryFiles")<MemoryFiles, {
  /** The bytes under a name; `None` when there is no file. */
  readonly read: (name: string) => Effect.Effect<Option.Option<Uint8Array>>
  /** All final names, sorted. */
  readonly names: Effect.Effect<ReadonlyArray<string>>
  /** Puts a file under a name, or takes it away, as somebody outside the server would. */
  readonly write: (name: string, bytes: Uint8Array) => Effect.Effect<void>
  /** See `write`. */
  readonly remove: (name: string) => Effect.Effect<void>
}>() {}

class MemoryFile {
  bytes = new Uint8Array(0)

  write(pieces: ReadonlyArray<Uint8Array>, at: number): void {
    const end = pieces.reduce((sum, piece) => sum + piece.length, at)
    if (end > this.bytes.length) {
      const longer = new Uint8Array(end)
      longer.set(this.bytes)
      this.bytes = longer
    }
    let offset = at
    for (const piece of pieces) {
      this.bytes.set(piece, offset)
      offset += piece.length
    }
  }
}

const makeMemory = () => {
  const staged = new Map<UploadKey, MemoryFile>()
  const published = new Map<string, MemoryFile>()
  const file = (key: UploadKey) =>
    Effect.suspend(() => {
      const found = staged.get(key)
      return found === undefined
        ? Effect.fail(new ServerFailure({ message: `There is no upload ${key} in storage` }))
        : Effect.succeed(found)
    })

  /** A file where the name needs a folder, or the name itself where there is a folder. */
  const blocked = (name: string): string | undefined => {
    const parts = name.split("/")
    return parts.map((_, at) => parts.slice(0, at).join("/")).find((folder) => published.has(folder)) ??
      ([...published.keys()].some((other) => other.startsWith(`${name}/`)) ? name : undefined)
  }

  const publish = (key: UploadKey, name: string, mode: "exclusive" | "overwrite") =>
    Effect.flatMap(file(key), (source) => {
      const there = published.get(name)
      const taken = blocked(name) ??
        (there !== undefined && there !== source && mode === "exclusive" ? name : undefined)
      if (taken !== undefined) {
        return Effect.fail(new NameTaken({ name: taken, message: `There is a file ${taken} already` }))
      }
      published.set(name, source)
      return Effect.void
    })

  const store = oneByOne({
    limits: { minPiece: 1, maxPiece: Number.MAX_SAFE_INTEGER, append: true },
    free: Effect.succeedNone,
    probe: Effect.void,
    reserve: (key) =>
      Effect.suspend(() => {
        if (staged.has(key)) return Effect.fail(new ServerFailure({ message: `Upload ${key} is in storage already` }))
        staged.set(key, new MemoryFile())
        return Effect.void
      }),
    write: (to, body) =>
      Effect.flatMap(file(to.key), (target) =>
        Effect.map(
          Body.consume(body, {
            limit: to.limit,
            write: (pieces, at) => Promise.resolve(target.write(pieces, to.offset + at)),
            onWriteError: (cause) => new ServerFailure({ message: "Writing to memory failed", cause })
          }),
          (written) => ({ offset: to.offset, locator: to.key, ...written })
        )),
    sync: () => Effect.void,
    read: (key, _, [from, to], take) =>
      Effect.flatMap(file(key), (source) => {
        if (source.bytes.length < to) return Effect.fail(new ServerFailure({ message: `Upload ${key} ends early` }))
        take(source.bytes.subarray(from, to))
        return Effect.void
      }),
    contentOf: (name) =>
      Effect.sync(() => Option.map(Option.fromNullable(published.get(name)), (found) => Sha256.of(found.bytes))),
    length: (key) => Effect.sync(() => Option.map(Option.fromNullable(staged.get(key)), (found) => found.bytes.length)),
    keys: Effect.sync(() => [...staged.keys()]),
    publish: (key, _, name, mode) => publish(key, name, mode),
    holder: (key, name) =>
      Effect.sync(() => {
        if (blocked(name) !== undefined) return "other"
        const there = published.get(name)
        return there === undefined ? "nobody" : there === staged.get(key) ? "upload" : "other"
      }),
    carry: (from, extents, to) =>
      Effect.gen(function*() {
        const source = yield* file(from)
        const target = yield* file(to)
        for (const { length, offset } of extents) {
          target.write([source.bytes.slice(offset, offset + length)], offset)
        }
        return extents.map((extent) => ({ ...extent, locator: to }))
      }),
    trim: (key, length) =>
      Effect.map(file(key), (target) => {
        target.bytes = target.bytes.slice(0, length)
      }),
    drop: (key) => Effect.sync(() => void staged.delete(key))
  })

  const files: Context.Tag.Service<MemoryFiles> = {
    read: (name) => Effect.sync(() => Option.map(Option.fromNullable(published.get(name)), (found) => found.bytes)),
    names: Effect.sync(() => [...published.keys()].sort()),
    write: (name, bytes) =>
      Effect.sync(() => {
        const made = new MemoryFile()
        made.write([bytes], 0)
        published.set(name, made)
      }),
    remove: (name) => Effect.sync(() => void published.delete(name))
  }

  return Context.make(UploadStore, store).pipe(Context.add(MemoryFiles, files))
}

/** Uploads in memory. */
export const layerMemory: Layer.Layer<UploadStore | MemoryFiles> = Layer.effectContext(Effect.sync(makeMemory))
