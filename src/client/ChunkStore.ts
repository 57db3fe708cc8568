/**
 * The client's durable buffer: files cut into pieces, kept until a server holds them.
 *
 * A file goes in by `begin`, any number of `append`s and one `seal`; only sealed files are listed, read and sent. Offsets
 * count the plain bytes of the file.
 *
 * @module
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Ranges } from "../protocol/Ranges.ts"
import type { Sha256 } from "../protocol/Sha256.ts"
import type { UploadId } from "../protocol/UploadId.ts"

/** A file's number in its buffer; never used again for another one. */
export const FileId = Schema.NonNegativeInt.pipe(Schema.brand("FileId"))
export type FileId = typeof FileId.Type

/** A file about to be added. */
export interface NewFile {
  /** As the user typed it: what lists and results show. */
  readonly path: string
  /** What makes it the same file when it is added again: its absolute path, for instance. */
  readonly source: string
  /** What servers are told. */
  readonly name: string
  /** Bytes a piece; the last may be shorter. */
  readonly chunkSize: number
}

/** What is known of the server a file goes to. */
export interface Delivery {
  readonly endpoint: string
  readonly uploadId: UploadId
  /** What the server speaks, once an answer has shown it. */
  readonly revision: Option.Option<1 | 2>
  /** The file's name on the server, from its first answer on. */
  readonly serverName: Option.Option<string>
  /** The index of the chunk that is on its way, or was when the program died. */
  readonly sending: Option.Option<number>
}

/** A sealed file. */
export interface BufferedFile extends NewFile {
  readonly id: FileId
  /** Bytes. */
  readonly size: number
  readonly sha256: Sha256
  readonly chunks: number
  /**
   * Above 0 only for a file that the Python client had half sent: the bytes before this chunk are at the server and
   * nowhere else, offsets count from here, and the file goes on in revision 1.
   */
  readonly firstIndex: number
  /** Milliseconds since 1970. */
  readonly addedAt: number
  /** How many bytes a server has acknowledged. */
  readonly settledBytes: number
  /** `None` before the first byte was sent anywhere. */
  readonly delivery: Option.Option<Delivery>
  /** Why it was given up, if it was; it stays in the buffer. */
  readonly failure: Option.Option<string>
}

/** Bytes read back, and their hash. */
export interface Piece {
  readonly bytes: Uint8Array
  readonly sha256: Sha256
}

/** The buffer itself cannot be used: it cannot be opened, is locked for long, full, damaged, or of a newer program. */
export class ChunkStoreError extends Schema.TaggedError<ChunkStoreError>("indexedcp/ChunkStoreError")(
  "ChunkStoreError",
  { message: Schema.String, cause: Schema.optional(Schema.Defect) }
) {}

/** The file is not in the buffer (any more). */
export class NotBuffered extends Schema.TaggedError<NotBuffered>("indexedcp/NotBuffered")("NotBuffered", {
  file: FileId,
  message: Schema.String
}) {}

/** Another process, or another fiber of this one, is sending the file. */
export class AlreadyClaimed extends Schema.TaggedError<AlreadyClaimed>("indexedcp/AlreadyClaimed")("AlreadyClaimed", {
  file: FileId,
  message: Schema.String
}) {}

/** Stored bytes are no longer those that were added. They are never sent. */
export class PieceDamaged extends Schema.TaggedError<PieceDamaged>("indexedcp/PieceDamaged")("PieceDamaged", {
  file: FileId,
  offset: Schema.Number,
  message: Schema.String
}) {}

export class ChunkStore extends Context.Tag("indexedcp/ChunkStore")<ChunkStore, {
  /** Opens a file for `append`. When the scope closes before `seal`, all of it is removed again. */
  readonly begin: (file: NewFile) => Effect.Effect<FileId, ChunkStoreError, Scope.Scope>

  /**
   * Stores the next bytes as one piece, in a short transaction of their own, with their length and SHA-256. Durable on
   * return. Every piece but the last has `chunkSize` bytes; no piece is empty.
   */
  readonly append: (file: FileId, bytes: Uint8Array) => Effect.Effect<void, ChunkStoreError>

  /**
   * Makes the file visible; durable on return. An unclaimed file of the same `source` is replaced by it and returned.
   */
  readonly seal: (
    file: FileId,
    whole: { readonly size: number; readonly sha256: Sha256 }
  ) => Effect.Effect<Option.Option<BufferedFile>, ChunkStoreError>

  /** All sealed files, oldest first, read in pages. */
  readonly list: Stream.Stream<BufferedFile, ChunkStoreError>

  readonly get: (file: FileId) => Effect.Effect<BufferedFile, NotBuffered | ChunkStoreError>

  /**
   * The bytes `from` to `to` (not included) of a sealed file, checked against the hashes taken when they were added.
   */
  readonly read: (
    file: FileId,
    from: number,
    to: number
  ) => Effect.Effect<Piece, NotBuffered | PieceDamaged | ChunkStoreError>

  /** Records that a server holds these bytes. Durable on return, repeatable. The bytes stay. */
  readonly settle: (file: FileId, from: number, to: number) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /** What has been settled since `startDelivery`. */
  readonly settled: (file: FileId) => Effect.Effect<Ranges, NotBuffered | ChunkStoreError>

  /**
   * Makes the file this holder's alone until the scope closes. A holder that died holds nothing: at once where the store
   * can tell, else after a minute without a heartbeat.
   */
  readonly claim: (file: FileId) => Effect.Effect<void, AlreadyClaimed | NotBuffered | ChunkStoreError, Scope.Scope>

  /**
   * Points the file at a server under a new upload id: what was settled and known before is forgotten, and a `failure`
   * too. Durable on return.
   */
  readonly startDelivery: (
    file: FileId,
    to: { readonly endpoint: string; readonly uploadId: UploadId }
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /** Changes what is known of the server. Durable on return. Needs `startDelivery` before it. */
  readonly remember: (
    file: FileId,
    known: Partial<Pick<Delivery, "revision" | "serverName" | "sending">>
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /** Records why the file was given up, or with `None` that it may be tried again. */
  readonly setFailure: (
    file: FileId,
    reason: Option.Option<string>
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /** Removes the file and gives its space back to the disk. Once it has returned, the file does not come back. */
  readonly drop: (file: FileId) => Effect.Effect<void, ChunkStoreError>

  /** Drops every sealed file, claimed ones too; files that are just being added stay. */
  readonly clear: Effect.Effect<void, ChunkStoreError>
}>() {}
