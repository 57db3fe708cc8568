/**
 * The uploading program: add files to the buffer, and send them until a server has said that it holds them.
 *
 * @module
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Equal from "effect/Equal"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Receipt } from "../protocol/Receipt.ts"
import * as Sha256 from "../protocol/Sha256.ts"
import {
  type BufferedFile,
  type BufferFull,
  ChunkStore,
  ChunkStoreError,
  type DeliveryReceipt,
  type FileId,
  type Totals
} from "./ChunkStore.ts"
import * as Batches from "./internal/batches.ts"
import * as Delivery from "./internal/delivery.ts"
import * as Retry from "./internal/retry.ts"
import * as Sending from "./internal/sending.ts"
import * as Storing from "./internal/storing.ts"
import { verdictOf } from "./internal/verify.ts"
import { type External, type Source, SourceError } from "./Source.ts"
import { Transport, type TransportError } from "./Transport.ts"
import * as UploadEvent from "./UploadEvent.ts"

/** How an uploader cuts, sends and tries again. */
export interface UploaderOptions {
  /** Bytes of the first chunk on the wire, and of all chunks for servers of revision 1: 1 to 16 MiB. Default 1 MiB. */
  readonly chunkSize: number
  /** Bytes that a chunk on the wire may grow to while the link gets faster by it, and of stored pieces. Default 8 MiB. */
  readonly largestBody: number
  /** Requests in flight at most, and files at once, where the server speaks revision 2. Default 4. */
  readonly parallel: number
  /** Free bytes as they are acknowledged, instead of when their file is complete. Default false. */
  readonly freeEarly: boolean
  /**
   * How long to wait before trying again, and when to give up: 1 second at first, each time twice as long, up to 60
   * seconds, without end.
   */
  readonly retry: Partial<Retry.RetryOptions>
}

/** What holds where an option is not given. */
export const defaults: UploaderOptions = {
  chunkSize: 1024 * 1024,
  largestBody: 8 * 1024 * 1024,
  parallel: 4,
  freeEarly: false,
  retry: {}
}

/** Pieces are stored in one transaction each, which must stay short. */
export const largestChunk = 16 * 1024 * 1024

/** The chunk size is not a whole number from 1 to 16 MiB. */
export class InvalidChunkSize extends Schema.TaggedError<InvalidChunkSize>("indexedcp/InvalidChunkSize")(
  "InvalidChunkSize",
  { message: Schema.String }
) {}

/** The URL is none that files can be sent to. */
export class InvalidEndpoint extends Schema.TaggedError<InvalidEndpoint>("indexedcp/InvalidEndpoint")(
  "InvalidEndpoint",
  { message: Schema.String }
) {}

/** What was added, and the unsent file of the same source that it replaced. */
export interface Added {
  /** As it is in the buffer. */
  readonly file: BufferedFile
  /** What was in the buffer under the same source. */
  readonly replaced: Option.Option<BufferedFile>
}

/** Where files are sent, and which. */
export interface WatchOptions {
  /**
   * A full URL; without a path it means `/upload`. Files that were added for another one are left alone. Default: each file
   * goes where it was added for, and files that were added for nowhere are left alone.
   */
  readonly endpoint?: string
  /** Only files that were added for the endpoint. Default false. */
  readonly destined?: boolean
  /** Send again to a revision-1 server what it may have got already. Default false. */
  readonly resendUnconfirmed?: boolean
}

/** Where files are sent, and which. */
export interface UploadOptions extends WatchOptions {
  /** Only these files. Default: all. */
  readonly files?: ReadonlyArray<FileId>
}

/** What a file is added for. */
export interface AddOptions {
  /** The URL that the file is for. Default: the one that an upload names. */
  readonly to?: string
}

/** What ends an upload of several files: a refused key, a wrong URL, an unusable buffer. The data is kept. */
export type UploadError = Delivery.StopError | InvalidEndpoint | ChunkStoreError

/**
 * The uploading program over the buffer and the transport at hand.
 *
 * @example
 * ```ts
 * Effect.gen(function*() {
 *   const uploader = yield* Uploader.Uploader
 *   yield* uploader.add(yield* Source.file("report.pdf"))
 *   yield* Stream.runForEach(uploader.upload({ endpoint: "http://server:3000/upload" }), Console.log)
 * })
 * ```
 */
export class Uploader extends Context.Tag("indexedcp/Uploader")<Uploader, {
  /** Puts a source into the buffer, all of it or nothing. Durable on return; the source is needed no more. */
  readonly add: (
    source: Source,
    options?: AddOptions
  ) => Effect.Effect<Added, SourceError | ChunkStoreError | BufferFull | InvalidEndpoint>

  /** Whether a source is in the buffer, or was delivered from it, as it is now. Never, where that cannot be known. */
  readonly has: (source: Source) => Effect.Effect<boolean, SourceError | ChunkStoreError>

  /** The files in the buffer, oldest first. */
  readonly list: Stream.Stream<BufferedFile, ChunkStoreError>

  /** What {@link list} has, added up: it costs no reading of each. */
  readonly totals: Effect.Effect<ReadonlyArray<Totals>, ChunkStoreError>

  /**
   * Sends buffered files and tells how it goes. Each file ends with a `Finished` event; one that is not delivered stays in
   * the buffer, and the others go on. Ending the stream early stops the upload, to be gone on with later.
   */
  readonly upload: (options: UploadOptions) => Stream.Stream<UploadEvent.UploadEvent, UploadError>

  /** {@link upload} to its end: what became of each file. */
  readonly uploadAll: (options: UploadOptions) => Effect.Effect<ReadonlyArray<UploadEvent.Outcome>, UploadError>

  /**
   * {@link upload} that never ends: it sends what is there, and whatever is added later, by this or any other program. A
   * file that was given up is tried again after `retry`. Ending the stream stops it.
   *
   * @example
   * ```ts
   * const background = yield* Effect.forkScoped(Stream.runForEach(uploader.watch({ endpoint }), Effect.logDebug))
   * yield* Fiber.interrupt(background) // stops it
   * ```
   */
  readonly watch: (options: WatchOptions) => Stream.Stream<UploadEvent.UploadEvent, UploadError>

  /**
   * Sends sources. A file is sent from where it lies, without being copied: asked again after an interruption, it goes on
   * where it was, unless the file has changed; one that changes while it is sent is not published. Any other source is
   * added to the buffer first, and stays there when that does not succeed. A source that cannot be read ends with a
   * `Skipped` event, and the others go on.
   */
  readonly bufferAndUpload: (
    sources: Source | Stream.Stream<Either.Either<Source, SourceError>, SourceError>,
    options: Omit<UploadOptions, "files" | "destined"> & { readonly endpoint: string }
  ) => Stream.Stream<UploadEvent.UploadEvent, SourceError | BufferFull | UploadError>

  /**
   * Sends one chunk, once, in revision 1: for somebody who reads a stream themselves and sends index 0, 1, 2… in order,
   * each after the answer for the one before, without a closing call.
   */
  readonly sendChunk: (
    chunk: { readonly endpoint: string; readonly bytes: Uint8Array; readonly index: number; readonly fileName: string }
  ) => Effect.Effect<Receipt, TransportError | InvalidEndpoint>

  /** The receipts of delivered files, oldest first. */
  readonly receipts: Stream.Stream<DeliveryReceipt, ChunkStoreError>

  /** Asks a server to read again the files that it has received from here. */
  readonly verify: (endpoint: string) => Stream.Stream<
    UploadEvent.Verification,
    TransportError | InvalidEndpoint | Delivery.KeyRefused | ChunkStoreError
  >

  /** Lets files that were given up be tried again: these, or all. */
  readonly retry: (files?: ReadonlyArray<FileId>) => Effect.Effect<void, ChunkStoreError>

  /** Removes files from the buffer. Servers that hold parts of them are told, if they can be reached at once. */
  readonly remove: (files: ReadonlyArray<FileId>) => Effect.Effect<void, ChunkStoreError>

  /** Empties the buffer. Servers that hold parts of its files are told, if they can be reached at once. */
  readonly clear: Effect.Effect<void, ChunkStoreError>
}>() {}

/** A full HTTP URL, `/upload` when it has no path. */
export const endpointOf = (url: string): Effect.Effect<string, InvalidEndpoint> =>
  Effect.suspend(() => {
    const parsed = URL.canParse(url) ? new URL(url) : undefined
    if (parsed === undefined || !/^https?:$/.test(parsed.protocol)) {
      return Effect.fail(
        new InvalidEndpoint({ message: `Not a URL: ${url}. Give one like http://127.0.0.1:3000/upload` })
      )
    }
    if (parsed.pathname === "/") parsed.pathname = "/upload"
    return Effect.succeed(parsed.href)
  })

/**
 * Where an upload sends a file of the buffer: to the endpoint that it names, or where the file was added for. `undefined`
 * when it leaves the file alone ({@link WatchOptions}). URLs are full ones, as {@link endpointOf} returns them.
 */
export const endpointFor: (
  asked: { readonly endpoint?: string | undefined; readonly destined?: boolean | undefined },
  file: Pick<BufferedFile, "destination">
) => string | undefined = Sending.endpointFor

/** The source as it is now, where that can be known. */
const look = ({ external }: Source): Effect.Effect<Option.Option<External>, SourceError> =>
  external === undefined ? Effect.succeedNone : Effect.asSome(external)

/** Changes when the source does, where that can be known. */
const versionOf = (source: Source): Effect.Effect<Option.Option<string>, SourceError> =>
  Effect.map(look(source), Option.map(({ version }) => version))

const make = (options: UploaderOptions) =>
  Effect.gen(function*() {
    const store = yield* ChunkStore
    const transport = yield* Transport
    const { chunkSize } = options
    if (!Number.isInteger(chunkSize) || chunkSize < 1 || chunkSize > largestChunk) {
      return yield* new InvalidChunkSize({
        message: `The chunk size is ${chunkSize}; choose a whole number of bytes from 1 to ${largestChunk} (16 MiB)`
      })
    }
    const sending = { store, transport, options: { ...options, retry: { ...Retry.defaults, ...options.retry } } }

    const add = Effect.fn("Uploader.add")((source: Source, { to }: AddOptions = {}) =>
      Effect.scoped(Effect.gen(function*() {
        const { name, path } = source
        const destination = to === undefined ? Option.none() : Option.some(yield* endpointOf(to))
        const seen = yield* look(source)
        const version = Option.map(seen, ({ version }) => version)
        const file = yield* store.begin({ path, name, source: source.source, chunkSize, destination, version })
        const length = Storing.pieceLength(chunkSize, options.largestBody)
        const whole = yield* Storing.store(store, file, source, Option.getOrUndefined(seen), length)
        if (!Equal.equals(yield* versionOf(source), version)) {
          return yield* new SourceError({ path, message: Storing.changed(path) })
        }
        const replaced = yield* store.seal(file, whole)
        if (Option.isSome(replaced)) yield* forsake(replaced.value)
        const sealed = yield* Effect.catchTag(
          store.get(file),
          "NotBuffered",
          () => new ChunkStoreError({ message: `The buffer was cleared while ${path} was added to it; add it again` })
        )
        return { file: sealed, replaced }
      }))
    )

    const forsake = (file: BufferedFile) => Delivery.forsake(transport, file)

    /** Tells the servers of several files, as far as that can be done at once. */
    const forsakeAll = <E>(files: Stream.Stream<BufferedFile, E>) =>
      files.pipe(
        Stream.mapEffect(forsake, { concurrency: options.parallel }),
        Stream.runDrain,
        Effect.timeout(Delivery.patienceForAbort),
        Effect.ignore
      )

    /** The file of a source that is sent from where it lies: the one half sent before, or a new one. */
    const adopt = (source: Source, external: External) =>
      Effect.gen(function*() {
        const { size } = external
        const version = Option.some(external.version)
        const before = yield* store.adopted(source.source)
        const same = Option.filter(
          before,
          (file) => Equal.equals(file.version, version) && file.chunkSize === chunkSize
        )
        if (Option.isSome(before) && Option.isNone(same)) yield* forsake(before.value)
        const { name, path } = source
        return yield* store.adopt(
          { path, name, source: source.source, chunkSize, destination: Option.none(), size, version },
          external.open
        )
      })

    const buffered = (file: FileId) =>
      Effect.catchTag(Effect.asSome(store.get(file)), "NotBuffered", () => Effect.succeedNone)

    /** What gets a source into the buffer; `None` when it cannot be read. */
    const admit = <E>(admitted: Effect.Effect<FileId, E | SourceError>, emit: Sending.Emit) =>
      Effect.flatMap(admitted, buffered).pipe(
        Effect.catchIf((error): error is SourceError => error instanceof SourceError, ({ message, path }) =>
          Effect.as(emit(UploadEvent.Skipped({ path, message })), Option.none<BufferedFile>()))
      )

    /** A source to be sent at once: a small one gets into the buffer when it is known how it is sent. */
    const itemOf = (
      source: Either.Either<Source, SourceError>,
      emit: Sending.Emit
    ): Effect.Effect<Option.Option<Sending.Item>, ChunkStoreError | BufferFull | InvalidEndpoint> => {
      if (Either.isLeft(source)) {
        return admit(Effect.fail(source.left), emit)
      }
      const { external, found } = source.right
      if (external === undefined) {
        return admit(
          Effect.map(add(source.right), ({ file }) =>
            file.id),
          emit
        )
      }
      const admitted = admit(Effect.flatMap(external, (external) => adopt(source.right, external)), emit)
      return found !== undefined && found.size <= Batches.largest
        ? Effect.succeedSome({ source: source.right, found, admit: admitted })
        : admitted
    }

    const given = (files: ReadonlyArray<FileId>) =>
      Stream.fromIterable(files).pipe(
        Stream.mapEffect(buffered),
        Stream.filterMap((file) => file)
      )

    /** A stream of the events of a program, which stops when the stream does. */
    const eventsOf = <E>(
      program: (emit: Sending.Emit) => Effect.Effect<unknown, E, Scope.Scope>
    ): Stream.Stream<UploadEvent.UploadEvent, E> =>
      Stream.unwrapScoped(Effect.gen(function*() {
        const events = yield* Mailbox.make<UploadEvent.UploadEvent, E>({ capacity: 256 })
        yield* Effect.forkScoped(Mailbox.into(program((event) => Effect.asVoid(events.offer(event))), events))
        return Mailbox.toStream(events)
      }))

    const asked = <A extends WatchOptions>(options: A) =>
      options.endpoint === undefined
        ? Effect.succeed(options)
        : Effect.map(endpointOf(options.endpoint), (endpoint) => ({ ...options, endpoint }))

    const upload = (options: UploadOptions) =>
      eventsOf((emit) =>
        Effect.flatMap(asked(options), (options) =>
          Sending.send(
            sending,
            options,
            options.files === undefined ? store.list : given(options.files),
            emit
          ))
      )

    return Uploader.of({
      add,
      has: (source) =>
        Effect.flatMap(
          versionOf(source),
          (version) => Option.isNone(version) ? Effect.succeed(false) : store.knows(source.source, version.value)
        ),
      list: store.list,
      totals: store.totals,
      upload,
      uploadAll: (asked) =>
        upload(asked).pipe(
          Stream.filterMap((event) => event._tag === "Finished" ? Option.some(event) : Option.none()),
          Stream.runCollect,
          Effect.map(Chunk.toReadonlyArray)
        ),
      watch: (options) =>
        eventsOf((emit) => Effect.flatMap(asked(options), (options) => Sending.watch(sending, options, emit))),
      bufferAndUpload: (sources, options) =>
        eventsOf((emit) =>
          // a URL that cannot be meant is found before a file is read
          Effect.flatMap(asked(options), (options) =>
            Sending.send(
              sending,
              options,
              (Predicate.hasProperty(sources, Stream.StreamTypeId) ? sources : Stream.make(Either.right(sources))).pipe(
                Stream.mapEffect((source) => itemOf(source, emit)),
                Stream.filterMap((item) => item)
              ),
              emit
            ))
        ),
      sendChunk: Effect.fn("Uploader.sendChunk")(function*({ bytes, endpoint, fileName, index }) {
        const { receipt } = yield* transport.send({
          endpoint: yield* endpointOf(endpoint),
          body: bytes,
          chunk: { index, fileName, contentDigest: Option.some(Sha256.of(bytes)), upload: Option.none() }
        })
        return receipt
      }),
      receipts: store.receipts,
      verify: (url) =>
        Stream.unwrap(Effect.map(endpointOf(url), (endpoint) =>
          store.receipts.pipe(
            Stream.filter((receipt) => receipt.endpoint === endpoint),
            Stream.mapEffect((receipt) =>
              Effect.map(verdictOf(transport, receipt), (verdict) => ({ receipt, verdict }))
            )
          ))),
      retry: (files) =>
        Stream.runForEach(files === undefined ? store.list : given(files), ({ failure, id }) =>
          Option.isNone(failure)
            ? Effect.void
            : Effect.catchTag(store.setFailure(id, Option.none()), "NotBuffered", () => Effect.void)),
      remove: (files) => Effect.andThen(forsakeAll(given(files)), Effect.forEach(files, store.drop, { discard: true })),
      clear: Effect.andThen(forsakeAll(store.list), store.clear)
    })
  })

/** An uploader over the buffer and the transport at hand. */
export const layer = (
  options: Partial<UploaderOptions> = {}
): Layer.Layer<Uploader, InvalidChunkSize, ChunkStore | Transport> =>
  Layer.effect(Uploader, make({ ...defaults, ...options }))
