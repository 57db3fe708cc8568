/**
 * The client's durable buffer: files cut into pieces, kept until a server holds them.
 *
 * A file goes in by `begin`, any number of `append`s and one `seal`; only sealed files are listed, read and sent. Offsets
 * count the plain bytes of the file.
 *
 * @module
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Ranges from "../protocol/Ranges.ts"
import * as Sha256 from "../protocol/Sha256.ts"
import type { UploadId } from "../protocol/UploadId.ts"
import * as Adopted from "./internal/adopted.ts"
import type { External, SourceChanged, SourceError } from "./Source.ts"

/** A file's number in its buffer; never used again for another one. */
export const FileId = Schema.NonNegativeInt.pipe(Schema.brand("FileId"))
/** See the schema of this name. */
export type FileId = typeof FileId.Type

/** A file about to be added. */
export interface NewFile {
  /** As the user typed it: what lists and results show. */
  readonly path: string
  /** What makes it the same file when it is added again: its absolute path, for instance. */
  readonly source: string
  /** What servers are told. */
  readonly name: string
  /** Bytes a chunk; the last may be shorter. */
  readonly chunkSize: number
  /** The endpoint that the file is for; `None`: the one that an upload names. */
  readonly destination: Option.Option<string>
  /** Another one when the source has changed: of a file, made of its size, modification time and file id. */
  readonly version: Option.Option<string>
}

/** What is known of the server a file goes to. */
export interface Delivery {
  /** A full URL. */
  readonly endpoint: string
  /** What the server is told: the file's `name`, unless an old server would mix it with another file. */
  readonly name: string
  /** Under which the server knows it (PROTOCOL.md, "2. Revision 2"). */
  readonly uploadId: UploadId
  /** What the server speaks, once an answer has shown it. */
  readonly revision: Option.Option<1 | 2>
  /** The file's name on the server, from its first answer on. */
  readonly serverName: Option.Option<string>
  /** The index of the chunk that is on its way, or was when the program died. */
  readonly sending: Option.Option<number>
}

/** Why a file could not be sent, for now. */
export interface Trouble {
  /** For people. */
  readonly reason: string
  /** When it will be tried again: milliseconds since 1970. `None` when nobody is waiting for that. */
  readonly nextTry: Option.Option<number>
}

/** A sealed file. */
export interface BufferedFile extends NewFile {
  /** Its number in this buffer. */
  readonly id: FileId
  /** Bytes. */
  readonly size: number
  /** Of the whole file. `None` only of an adopted file: it is known when that has been read to its end. */
  readonly sha256: Option.Option<Sha256.Sha256>
  /** How many of `chunkSize` bytes, the last perhaps shorter; 0 for an empty file. */
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
  /** The last passing trouble, until more bytes are acknowledged. */
  readonly trouble: Option.Option<Trouble>
  /** A living program, this one perhaps, is sending it. */
  readonly held: boolean
  /** Some of its bytes were freed early: its server has them, and nobody else. */
  readonly freed: boolean
}

/** Sealed files that stand alike, added up. */
export interface Totals {
  /** What they were added for. */
  readonly destination: Option.Option<string>
  /** Where they were last sent. */
  readonly endpoint: Option.Option<string>
  /** They were given up. */
  readonly failed: boolean
  /** How many they are. */
  readonly files: number
  /** Bytes. */
  readonly size: number
  /** How many bytes servers have acknowledged. */
  readonly settledBytes: number
  /** The number of the one that was added last. */
  readonly newest: FileId
}

/** A file that a server holds as a whole, as it is remembered after it has left the buffer. */
export interface DeliveryReceipt {
  /** As the user typed it. */
  readonly path: string
  /** What the server was told. */
  readonly name: string
  /** The final name on the server. */
  readonly serverName: string
  /** Bytes. */
  readonly size: number
  /** Of the whole file. */
  readonly sha256: Sha256.Sha256
  /** The full URL that it was sent to. */
  readonly endpoint: string
  /** Under which the server still knows it, for some time. */
  readonly uploadId: UploadId
  /** What the server spoke: of a revision-1 server it is only known that it answered every chunk. */
  readonly revision: 1 | 2
  /** A revision-1 server was sent again what it may have got already: its file may have those bytes twice. */
  readonly resent: boolean
  /** Milliseconds since 1970. */
  readonly deliveredAt: number
}

/** A file that is sent from where it lies: its bytes are not in the buffer. */
export interface ExternalFile extends NewFile {
  /** Bytes. */
  readonly size: number
}

/** Bytes read back, and their hash. */
export interface Piece {
  readonly bytes: Uint8Array
  /** Of these bytes; of all bytes of the file up to their end where `isPrefix` says so. */
  readonly sha256: Sha256.Sha256
  /** Default: false. */
  readonly isPrefix?: boolean
  /** The hash of the whole file: of an adopted one, where these bytes end with it. */
  readonly whole?: Sha256.Sha256
}

/** What is known of a piece before it is stored. */
export interface PieceHashes {
  /** Of its bytes. */
  readonly sha256: Sha256.Sha256
  /** Of all bytes of the file up to its end. */
  readonly prefix: Sha256.Sha256
}

/** How bytes are read back. */
export interface ReadOptions {
  /** Where they may lie, with room for them; else in memory of the store's own. A reading that failed may write there later. */
  readonly into?: Uint8Array
  /** The hash may be that of all bytes up to their end, which costs less where it is known. Default: false. */
  readonly prefix?: boolean
}

/** The buffer itself cannot be used: it cannot be opened, is locked for long, full, damaged, or of a newer program. */
export class ChunkStoreError extends Schema.TaggedError<ChunkStoreError>("indexedcp/ChunkStoreError")(
  "ChunkStoreError",
  { message: Schema.String, cause: Schema.optional(Schema.Defect) }
) {}

/** The buffer has reached the size that it may have, or its disk is nearly full. */
export class BufferFull extends Schema.TaggedError<BufferFull>("indexedcp/BufferFull")("BufferFull", {
  message: Schema.String
}) {}

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

/**
 * The buffer. Layers: `layerMemory` here, and `ChunkStoreSqlite.layer`.
 *
 * What a method has done when it returns survives the death of the program. "Durable on return" says that it survives a loss
 * of power too. Whatever else was done before that is durable then as well: a loss of power takes only the last of it.
 */
export class ChunkStore extends Context.Tag("indexedcp/ChunkStore")<ChunkStore, {
  /** Opens a file for `append`. When the scope closes before `seal`, or the program dies, all of it is removed again. */
  readonly begin: (file: NewFile) => Effect.Effect<FileId, ChunkStoreError, Scope.Scope>

  /**
   * Stores the next bytes as one piece, in a short transaction of their own, with their length and SHA-256; `seal` makes them
   * durable. A piece is one or more whole chunks of `chunkSize` bytes, the last of the file perhaps shorter; none is empty.
   * `hashes` are what is known of them; the `prefix` may be kept for `read`.
   */
  readonly append: (
    file: FileId,
    bytes: Uint8Array,
    hashes?: PieceHashes
  ) => Effect.Effect<void, ChunkStoreError | BufferFull>

  /**
   * Makes the file visible; durable on return, with all of its pieces. An unclaimed file of the same `source` is replaced by it and returned.
   */
  readonly seal: (
    file: FileId,
    whole: { readonly size: number; readonly sha256: Sha256.Sha256 }
  ) => Effect.Effect<Option.Option<BufferedFile>, ChunkStoreError>

  /**
   * Keeps track of a file that is sent from where it lies. The same source in the same version and chunk size is the one that
   * was adopted before, with all that is known of its delivery; one of another version is dropped. Durable on return. It is not
   * listed, and can be read only by the program that gave `open`.
   */
  readonly adopt: (file: ExternalFile, open: External["open"]) => Effect.Effect<FileId, ChunkStoreError>

  /**
   * `adopt` for many new ones, in one transaction. `None` in place of one whose source was adopted before, and is left as it
   * is, or stands there twice. Durable with what is recorded durably next, like `startAll`.
   */
  readonly adoptAll: (
    files: ReadonlyArray<{ readonly file: ExternalFile; readonly open: External["open"] }>
  ) => Effect.Effect<ReadonlyArray<Option.Option<BufferedFile>>, ChunkStoreError>

  /** The file that was adopted from a source and is not delivered yet. */
  readonly adopted: (source: string) => Effect.Effect<Option.Option<BufferedFile>, ChunkStoreError>

  /** Whether a source is in the buffer, or was delivered from it, in this very version. */
  readonly knows: (source: string, version: string) => Effect.Effect<boolean, ChunkStoreError>

  /** All sealed files, oldest first, read in pages. */
  readonly list: Stream.Stream<BufferedFile, ChunkStoreError>

  /** What `list` has, added up: it costs no reading of each. */
  readonly totals: Effect.Effect<ReadonlyArray<Totals>, ChunkStoreError>

  /**
   * The names under which an endpoint has acknowledged files of this buffer in revision 1, or the beginnings of some: whatever has
   * become of them here.
   */
  readonly revision1Names: (endpoint: string) => Effect.Effect<ReadonlyArray<string>, ChunkStoreError>

  /** A sealed or adopted file. */
  readonly get: (file: FileId) => Effect.Effect<BufferedFile, NotBuffered | ChunkStoreError>

  /**
   * The bytes `from` to `to` (not included) of a sealed file, checked against the hashes taken when they were added; of an
   * adopted one, what its source holds. The hash of that as a whole runs along, and is there with its last byte: what was not
   * read before is read then. Of bytes that come with the hash of all up to their end, only that tells whether they are right.
   */
  readonly read: (
    file: FileId,
    from: number,
    to: number,
    options?: ReadOptions
  ) => Effect.Effect<Piece, NotBuffered | PieceDamaged | SourceError | SourceChanged | ChunkStoreError>

  /**
   * Records that a server holds these bytes, with what its answer has shown (`known`, which needs `startDelivery` before it),
   * and forgets a `trouble`. Repeatable. Durable on return, unless the revision was known to be 2 before: then a loss of power
   * may take it back, and the server is asked again. The bytes stay, unless `free` asks for pieces to be freed of which nothing
   * is unsettled any more; nobody can read those again.
   */
  readonly settle: (
    file: FileId,
    from: number,
    to: number,
    options?: {
      readonly free?: boolean
      readonly known?: Partial<Pick<Delivery, "revision" | "serverName" | "sending">>
    }
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /**
   * The bytes of small files that were added, each whole and with the hash that it had then. Those that are not here like
   * that are left out: `read` says why.
   */
  readonly readAll: (
    files: ReadonlyArray<BufferedFile>
  ) => Effect.Effect<ReadonlyMap<FileId, Uint8Array>, ChunkStoreError>

  /** What has been settled since `startDelivery`. */
  readonly settled: (file: FileId) => Effect.Effect<Ranges.Ranges, NotBuffered | ChunkStoreError>

  /**
   * Makes the file this holder's alone until the scope closes. A holder that died holds nothing: at once where the store
   * can tell, else after a minute without a heartbeat. Neither the claim nor its end is durable: no program outlives a loss of
   * power.
   */
  readonly claim: (file: FileId) => Effect.Effect<void, AlreadyClaimed | NotBuffered | ChunkStoreError, Scope.Scope>

  /**
   * Points the file at a server under a new upload id: what was settled and known before is forgotten, and a `failure` or
   * `trouble` too. Durable on return.
   */
  readonly startDelivery: (
    file: FileId,
    to: Pick<Delivery, "endpoint" | "name" | "uploadId">
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /**
   * `claim` and `startDelivery` for many whose first chunk is on its way from now on (`sending` is 0), in one transaction.
   * Returns those that it did this with: files that were never sent nor given up, and that nobody holds. Durable on return.
   */
  readonly startAll: (
    files: ReadonlyArray<{ readonly file: FileId; readonly to: Pick<Delivery, "endpoint" | "name" | "uploadId"> }>
  ) => Effect.Effect<ReadonlySet<FileId>, ChunkStoreError, Scope.Scope>

  /** Changes what is known of the server. Durable on return. Needs `startDelivery` before it. */
  readonly remember: (
    file: FileId,
    known: Partial<Pick<Delivery, "revision" | "serverName" | "sending">>
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /** Records why the file was given up, or with `None` that it may be tried again. Durable on return. */
  readonly setFailure: (
    file: FileId,
    reason: Option.Option<string>
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /** Records a passing trouble, for now: when the claim on the file ends, nobody waits for its `nextTry` any more. */
  readonly setTrouble: (file: FileId, trouble: Trouble) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /**
   * Frees a file that its server holds as a whole, as `drop` does, and keeps a receipt: both or neither. Durable on return,
   * unless the revision is 2: then a loss of power may bring the file back without its receipt, and the server says that it
   * has it. Needs a delivery whose revision is known.
   */
  readonly delivered: (
    file: FileId,
    as: Pick<DeliveryReceipt, "serverName" | "resent" | "sha256">
  ) => Effect.Effect<void, NotBuffered | ChunkStoreError>

  /**
   * `delivered` for many that a server of revision 2 holds, in one transaction. Returns those that were in the buffer. A loss
   * of power may take it back.
   */
  readonly deliveredAll: (
    files: ReadonlyArray<{ readonly file: FileId } & Pick<DeliveryReceipt, "serverName" | "sha256">>
  ) => Effect.Effect<ReadonlySet<FileId>, ChunkStoreError>

  /** The receipts, oldest first, read in pages. */
  readonly receipts: Stream.Stream<DeliveryReceipt, ChunkStoreError>

  /**
   * Emits at once, and each time that a program may since have added a file, or freed one of its `failure`. Never ends. A
   * store that other processes share may be up to a second late for what those do.
   */
  readonly arrivals: Stream.Stream<void, ChunkStoreError>

  /**
   * Removes the file. Durable on return: the file does not come back. Its space serves the files that come; a store on a disk
   * gives back what is free beyond 64 MiB at once, and the rest when the last program closes it.
   */
  readonly drop: (file: FileId) => Effect.Effect<void, ChunkStoreError>

  /** Drops every sealed file, claimed ones too; files that are just being added stay. */
  readonly clear: Effect.Effect<void, ChunkStoreError>
}>() {}

interface HeldPiece {
  /** Gone once they were freed. */
  readonly bytes: Uint8Array | undefined
  readonly sha256: Sha256.Sha256
  readonly start: number
  readonly stop: number
}

interface Held extends Omit<BufferedFile, "settledBytes" | "held"> {
  /** It is sent from where it lies. */
  readonly external: boolean
  readonly state: "adding" | "sealed"
  readonly pieces: Array<HeldPiece>
  readonly settled: Ranges.Ranges
}

const readHeld = ({ id, pieces }: Held, from: number, to: number): Effect.Effect<Piece, PieceDamaged> => {
  const bytes = new Uint8Array(Math.max(0, to - from))
  const damaged = (offset: number, what: string) =>
    new PieceDamaged({ file: id, offset, message: `The bytes of file ${id} from ${offset} on ${what}` })
  let filled = 0
  for (const piece of pieces) {
    if (piece.stop <= from || piece.start >= to || from >= to) continue
    if (piece.bytes === undefined) {
      return damaged(Math.max(from, piece.start), "were freed after the server had acknowledged them")
    }
    if (Sha256.of(piece.bytes) !== piece.sha256) return damaged(piece.start, "are not those that were added")
    const part = piece.bytes.subarray(Math.max(0, from - piece.start), to - piece.start)
    bytes.set(part, filled)
    filled += part.byteLength
  }
  return filled < bytes.byteLength
    ? damaged(from + filled, "are missing")
    : Effect.succeed({ bytes, sha256: Sha256.of(bytes) })
}

/** The pieces without the bytes of those that lie wholly in one of the ranges. */
const free = (pieces: ReadonlyArray<HeldPiece>, settled: Ranges.Ranges): Array<HeldPiece> =>
  pieces.map((piece) =>
    settled.some(([from, to]) => from <= piece.start && piece.stop <= to) ? { ...piece, bytes: undefined } : piece
  )

/** A signal at once, and one for whatever is published from now on: what comes while the listener is busy is one signal. */
const signalsOf = (signals: PubSub.PubSub<void>): Stream.Stream<void> =>
  Stream.unwrapScoped(
    Effect.map(PubSub.subscribe(signals), (published) =>
      Stream.concat(Stream.succeed(undefined), Stream.fromQueue(published, { maxChunkSize: 1 })))
  )

/** Each method looks and changes in one go, without a yield between. */
const makeMemory = Effect.gen(function*() {
  const signals = yield* PubSub.sliding<void>(1)
  const signal = PubSub.publish(signals, undefined)
  let lastId = 0
  const files = new Map<FileId, Held>()
  const claimed = new Set<FileId>()
  const revision1Names = new Map<string, Set<string>>()
  const receipts: Array<DeliveryReceipt & Pick<NewFile, "source" | "version">> = []
  const adopted = Adopted.make()

  const toFile = ({ external: _external, pieces: _pieces, settled, state: _state, ...file }: Held): BufferedFile => ({
    ...file,
    settledBytes: Ranges.total(settled),
    held: claimed.has(file.id)
  })

  const whenSealed = <A, E>(file: FileId, use: (held: Held) => Effect.Effect<A, E>) =>
    Effect.suspend((): Effect.Effect<A, E | NotBuffered> => {
      const held = files.get(file)
      return held?.state === "sealed"
        ? use(held)
        : new NotBuffered({ file, message: `File ${file} is not in the buffer (any more)` })
    })

  const whenAdding = <A>(file: FileId, use: (held: Held) => Effect.Effect<A>) =>
    Effect.suspend((): Effect.Effect<A, ChunkStoreError> => {
      const held = files.get(file)
      return held?.state === "adding"
        ? use(held)
        : new ChunkStoreError({ message: `File ${file} is not being added any more: it was sealed or dropped` })
    })

  const change = (file: FileId, changes: (held: Held) => Partial<Held>) =>
    whenSealed(file, (held) => {
      files.set(file, { ...held, ...changes(held) })
      return Effect.void
    })

  /** A delivery with what an answer has shown. */
  const learn = (before: Delivery, known: Partial<Delivery>): Delivery => {
    const { endpoint, name } = before
    if (Option.contains(known.revision ?? Option.none(), 1)) {
      revision1Names.set(endpoint, new Set(revision1Names.get(endpoint)).add(name))
    }
    return { ...before, ...known }
  }

  const remove = ({ id }: Held) => {
    files.delete(id)
    claimed.delete(id)
    adopted.forget(id)
  }

  const letGo = (file: FileId) => {
    claimed.delete(file)
    const held = files.get(file)
    if (held !== undefined) {
      files.set(file, {
        ...held,
        trouble: Option.map(held.trouble, ({ reason }) => ({ reason, nextTry: Option.none() }))
      })
    }
  }

  const inState = (state: Held["state"]) => [...files.values()].filter((held) => held.state === state)

  const unsent = {
    firstIndex: 0,
    settled: Ranges.empty,
    delivery: Option.none(),
    failure: Option.none(),
    trouble: Option.none(),
    freed: false
  }

  const adoptNew = (file: ExternalFile, open: External["open"], addedAt: number): FileId => {
    const id = FileId.make(++lastId)
    const chunks = Math.ceil(file.size / file.chunkSize)
    const whole = { sha256: Option.none(), chunks, pieces: [], external: true }
    files.set(id, { ...unsent, ...file, ...whole, id, addedAt, state: "sealed" })
    adopted.set(id, file.size, open)
    return id
  }

  return ChunkStore.of({
    begin: (file) =>
      Effect.acquireRelease(
        Effect.map(Clock.currentTimeMillis, (addedAt) => {
          const id = FileId.make(++lastId)
          files.set(id, {
            ...unsent,
            ...file,
            id,
            addedAt,
            size: 0,
            sha256: Option.none(),
            chunks: 0,
            pieces: [],
            external: false,
            state: "adding"
          })
          return id
        }),
        (id) => Effect.sync(() => inState("adding").filter((held) => held.id === id).forEach(remove))
      ),
    append: (file, bytes) =>
      whenAdding(file, (held) => {
        const { chunkSize, pieces, size } = held
        if (bytes.byteLength === 0 || size % chunkSize !== 0) {
          return Effect.dieMessage(`a piece of ${bytes.byteLength} bytes at ${size}, of chunks of ${chunkSize}`)
        }
        pieces.push({ bytes: bytes.slice(), sha256: Sha256.of(bytes), start: size, stop: size + bytes.byteLength })
        const end = size + bytes.byteLength
        files.set(file, { ...held, size: end, chunks: Math.ceil(end / chunkSize) })
        return Effect.void
      }),
    adopt: (file, open) =>
      Effect.map(Clock.currentTimeMillis, (addedAt) => {
        const before = inState("sealed").filter(({ external, source }) => external && source === file.source)
        const same = before.find(({ chunkSize, version }) =>
          Equal.equals(version, file.version) && chunkSize === file.chunkSize
        )
        before.filter((held) => held !== same).forEach(remove)
        if (same === undefined) return adoptNew(file, open, addedAt)
        adopted.set(same.id, file.size, open)
        return same.id
      }),
    adoptAll: (all) =>
      Effect.map(Clock.currentTimeMillis, (addedAt) =>
        all.map(({ file, open }) => {
          if (inState("sealed").some(({ external, source }) => external && source === file.source)) {
            return Option.none()
          }
          return Option.some(toFile(files.get(adoptNew(file, open, addedAt))!))
        })),
    adopted: (source) =>
      Effect.sync(() =>
        Option.map(
          Option.fromNullable(
            inState("sealed").find((held) => held.external && held.source === source)
          ),
          toFile
        )
      ),
    knows: (source, version) =>
      Effect.sync(() =>
        [...inState("sealed"), ...receipts].some((known) =>
          known.source === source && Equal.equals(known.version, Option.some(version))
        )
      ),
    seal: (file, whole) =>
      whenAdding(file, (held) => {
        if (held.size !== whole.size) {
          return Effect.dieMessage(`sealed as ${whole.size} bytes, but ${held.size} were appended`)
        }
        const replaced = inState("sealed").filter(({ external, id, source }) =>
          source === held.source && !external && !claimed.has(id)
        )
        replaced.forEach(remove)
        files.set(file, { ...held, state: "sealed", sha256: Option.some(whole.sha256) })
        return Effect.succeed(Option.map(Option.fromNullable(replaced.at(-1)), toFile))
      }).pipe(Effect.ensuring(signal)),
    list: Stream.suspend(() => Stream.fromIterable(inState("sealed").filter(({ external }) => !external).map(toFile))),
    totals: Effect.sync(() => {
      const totals = new Map<string, Totals>()
      for (const { delivery, destination, external, failure, id, settled, size } of inState("sealed")) {
        if (external) continue
        const endpoint = Option.map(delivery, ({ endpoint }) => endpoint)
        const alike = { destination, endpoint, failed: Option.isSome(failure) }
        const key = JSON.stringify(alike)
        const before = totals.get(key) ?? { files: 0, size: 0, settledBytes: 0 }
        totals.set(key, {
          ...alike,
          files: before.files + 1,
          size: before.size + size,
          settledBytes: before.settledBytes + Ranges.total(settled),
          newest: id
        })
      }
      return [...totals.values()]
    }),
    revision1Names: (endpoint) => Effect.sync(() => [...revision1Names.get(endpoint) ?? []]),
    get: (file) => whenSealed(file, (held) => Effect.succeed(toFile(held))),
    read: (file, from, to, options) =>
      whenSealed(
        file,
        (held): Effect.Effect<Piece, PieceDamaged | SourceError | SourceChanged> =>
          held.external ? adopted.read(file, from, to, options) : readHeld(held, from, to)
      ),
    readAll: (asked) =>
      Effect.map(
        Effect.forEach(asked, ({ id, sha256, size }) =>
          Effect.option(Effect.suspend(() => {
            const held = files.get(id)
            return held?.state === "sealed" && !held.external
              ? Effect.filterOrFail(readHeld(held, 0, size), (piece) => Option.contains(sha256, piece.sha256))
              : Effect.fail(undefined)
          }))),
        (found) =>
          new Map(
            found.flatMap((piece, at) => Option.isSome(piece) ? [[asked[at]!.id, piece.value.bytes] as const] : [])
          )
      ),
    settle: (file, from, to, options) =>
      change(file, (held) => {
        const delivery = Option.map(held.delivery, (before) => learn(before, options?.known ?? {}))
        const settled = Ranges.add(held.settled, [from, to])
        const pieces = options?.free === true ? free(held.pieces, settled) : held.pieces
        return {
          delivery,
          settled,
          pieces,
          trouble: Option.none(),
          freed: pieces.some(({ bytes }) => bytes === undefined)
        }
      }),
    settled: (file) => whenSealed(file, ({ settled }) => Effect.succeed(settled)),
    claim: (file) =>
      Effect.zipRight(
        Effect.acquireRelease(
          whenSealed(file, ({ path }): Effect.Effect<void, AlreadyClaimed> => {
            if (claimed.has(file)) {
              return new AlreadyClaimed({ file, message: `This program is sending ${path} already` })
            }
            claimed.add(file)
            return Effect.void
          }),
          () => Effect.zipRight(Effect.sync(() => letGo(file)), signal)
        ),
        adopted.keepOpen(file)
      ),
    startAll: (asked) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          const started = new Set<FileId>()
          for (const { file, to } of asked) {
            const held = files.get(file)
            if (held?.state !== "sealed" || claimed.has(file)) continue
            if (Option.isSome(held.delivery) || Option.isSome(held.failure)) continue
            const unknown = { revision: Option.none(), serverName: Option.none() }
            files.set(file, { ...held, delivery: Option.some({ ...to, ...unknown, sending: Option.some(0) }) })
            claimed.add(file)
            started.add(file)
          }
          return started
        }),
        (started) =>
          Effect.suspend(() => {
            const left = [...started].filter((file) => claimed.has(file))
            left.forEach(letGo)
            return left.length > 0 ? signal : Effect.void
          })
      ),
    startDelivery: (file, to) =>
      change(file, () => ({
        delivery: Option.some({ ...to, revision: Option.none(), serverName: Option.none(), sending: Option.none() }),
        failure: Option.none(),
        trouble: Option.none(),
        settled: Ranges.empty
      })),
    remember: (file, known) =>
      whenSealed(file, ({ delivery }) =>
        Option.isNone(delivery)
          ? Effect.dieMessage("remember before startDelivery")
          : change(file, () => ({ delivery: Option.some(learn(delivery.value, known)) }))),
    setFailure: (file, failure) =>
      Effect.ensuring(change(file, () => ({ failure })), Option.isNone(failure) ? signal : Effect.void),
    setTrouble: (file, trouble) => change(file, () => ({ trouble: Option.some(trouble) })),
    delivered: (file, as) =>
      whenSealed(file, (held) =>
        Effect.flatMap(Clock.currentTimeMillis, (deliveredAt) => {
          const delivery = Option.getOrUndefined(held.delivery)
          const revision = Option.getOrUndefined(delivery?.revision ?? Option.none())
          if (delivery === undefined || revision === undefined) return Effect.dieMessage("delivered before it was sent")
          const { path, size, source, version } = held
          const { endpoint, name, uploadId } = delivery
          receipts.push({ path, name, size, endpoint, uploadId, revision, deliveredAt, source, version, ...as })
          remove(held)
          return Effect.void
        })),
    deliveredAll: (done) =>
      Effect.map(Clock.currentTimeMillis, (deliveredAt) => {
        const known = done.flatMap(({ file, serverName, sha256 }) => {
          const held = files.get(file)
          const delivery = Option.getOrUndefined(held?.delivery ?? Option.none())
          return held?.state === "sealed" && delivery !== undefined ? [{ delivery, held, serverName, sha256 }] : []
        })
        for (const { delivery, held, serverName, sha256 } of known) {
          const { path, size, source, version } = held
          const { endpoint, name, uploadId } = delivery
          const more = { revision: 2 as const, resent: false, serverName, deliveredAt }
          receipts.push({ path, name, size, sha256, endpoint, uploadId, source, version, ...more })
          remove(held)
        }
        return new Set(known.map(({ held }) => held.id))
      }),
    receipts: Stream.suspend(() =>
      Stream.fromIterable(receipts.map(({ source: _source, version: _version, ...receipt }) => receipt))
    ),
    arrivals: signalsOf(signals),
    drop: (file) => Effect.sync(() => inState("sealed").filter(({ id }) => id === file).forEach(remove)),
    clear: Effect.sync(() => inState("sealed").forEach(remove))
  })
})

/** A buffer that is gone with the program. All users of one build of the layer share it. */
export const layerMemory: Layer.Layer<ChunkStore> = Layer.effect(ChunkStore, makeMemory)
