/**
 * The client for programs that do not use Effect.
 *
 * @module
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as NodePath from "@effect/platform-node/NodePath"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberRef from "effect/FiberRef"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import { types } from "node:util"
import * as ApiKey from "../client/ApiKey.ts"
import type { FileId } from "../client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../client/ChunkStoreSqlite.ts"
import * as HttpClientNode from "../client/HttpClientNode.ts"
import * as Source from "../client/Source.ts"
import * as TransportHttp from "../client/TransportHttp.ts"
import * as Uploader from "../client/Uploader.ts"
import type { UploadEvent } from "../client/UploadEvent.ts"
import { IndexCPError, UploadFailedError } from "./Errors.ts"
import type { UploadProgress, UploadSummary } from "./Events.ts"
import * as AskKey from "./internal/askKey.ts"
import * as Edge from "./internal/edge.ts"
import * as Failure from "./internal/failure.ts"
import * as Options from "./internal/options.ts"
import * as Telling from "./internal/telling.ts"

/** The settings of an {@link IndexCPClient}. All may be left out. */
export interface IndexCPClientOptions {
  /** The buffer's name: it lies in `~/.indexcp/<dbName>.db`. Several clients may share one. Default `indexcp`. */
  readonly dbName?: string | undefined
  /** Bytes a chunk, 1 to 16 MiB (16777216). Default 1 MiB (1048576). */
  readonly chunkSize?: number | undefined
  /** The server, like `http://127.0.0.1:3000/upload`, for calls that name none. Without a path it means `/upload`. */
  readonly serverUrl?: string | undefined
  /** Default: the variable `INDEXCP_API_KEY`, else `INDEXEDCP_API_KEY`, else asked for on a terminal. */
  readonly apiKey?: string | undefined
  /**
   * Tries after the first one, in a row without any success, while the server cannot be reached or is busy; then the call
   * rejects, and the file stays in the buffer. Default: 3 in a call that is awaited, without end in the background.
   */
  readonly maxRetries?: number | undefined
  /** Milliseconds before the first of these. Default 1000. */
  readonly initialRetryDelay?: number | undefined
  /** Milliseconds; no delay is longer, unless the server asks for that. Default 60000. */
  readonly maxRetryDelay?: number | undefined
  /** Each further delay is so many times the one before. Default 2. */
  readonly retryMultiplier?: number | undefined
  /**
   * Whether an old server is sent again what it may have got already, as the old clients do; it may be in its file twice
   * then. Default false: the file is kept, with an error whose code is `UNCONFIRMED`.
   */
  readonly resendUnconfirmed?: boolean | undefined
  /** Called when a server has acknowledged more of a file, and when a try failed. */
  readonly onUploadProgress?: ((progress: UploadProgress) => void) | null | undefined
  /** Called for each file that was not delivered; without a file's name when none can be, as with a wrong key. */
  readonly onUploadError?: ((error: IndexCPError, fileName?: string) => void) | null | undefined
  /** Called at the end of an upload; in the background, each time that nothing is left to be sent. */
  readonly onUploadComplete?: ((summary: UploadSummary) => void) | null | undefined
}

/** The 200 to a chunk. */
export interface ChunkResponse {
  /** 200. */
  readonly status: number
  /** What the server said. */
  readonly data: {
    readonly message: string
    /** The file's name on the server. */
    readonly actualFilename: string
    readonly chunkIndex: number | null
    /** The file's name as it was sent. */
    readonly clientFilename: string
  }
}

/** Bytes that come in pieces: a Node `Readable`, a Web `ReadableStream`, a generator; or all of them. Text is taken as UTF-8. */
export type ByteStream = AsyncIterable<Uint8Array | string> | Iterable<Uint8Array | string> | Uint8Array

const kinds: Readonly<Record<keyof IndexCPClientOptions, Options.Kind>> = {
  dbName: { what: "a name, not a path", has: (value) => /^[^/\\]+$/.test(`${value}`) },
  chunkSize: Options.whole(1, Uploader.largestChunk),
  serverUrl: { what: "a URL", has: (value) => typeof value === "string" || value instanceof URL },
  apiKey: Options.text,
  maxRetries: Options.count,
  initialRetryDelay: Options.number(0),
  maxRetryDelay: Options.number(0),
  retryMultiplier: Options.number(1),
  resendUnconfirmed: Options.flag,
  onUploadProgress: Options.callback,
  onUploadError: Options.callback,
  onUploadComplete: Options.callback
}

/** Tries after the first one, in a call that somebody awaits. */
const patientRetries = 3

/** A key for one call, in place of the client's. */
const keyOfCall = FiberRef.unsafeMake(Option.none<Redacted.Redacted>())

const encoder = new TextEncoder()

const bytesIn = (piece: Uint8Array | string): Uint8Array => typeof piece === "string" ? encoder.encode(piece) : piece

const bytesOf = async function*(stream: ByteStream): AsyncGenerator<Uint8Array> {
  // what is bytes or text as a whole would come apart into numbers or letters
  for await (const piece of types.isUint8Array(stream) || typeof stream === "string" ? [stream] : stream) {
    if (!Options.bytes.has(piece)) throw new TypeError("a piece of it is neither bytes nor text")
    yield bytesIn(piece)
  }
}

/**
 * Puts files into a durable buffer, and sends them until a server has said that it holds them.
 *
 * What was added survives the end of the program; an upload that was interrupted goes on at the next one. Every method that
 * returns a Promise rejects with an `IndexCPError`.
 *
 * A program that has nothing else to do ends, also when its clients were not closed; a background upload keeps it alive.
 *
 * @example
 * ```ts
 * import { IndexCPClient } from "indexedcp/promise"
 *
 * const client = new IndexCPClient({ serverUrl: "http://127.0.0.1:3000/upload", apiKey: "your-secure-api-key" })
 * await client.addFile("./report.pdf")
 * console.log(await client.uploadBufferedFiles()) // { "./report.pdf": "report.pdf" }
 * await client.close()
 * ```
 */
export class IndexCPClient implements AsyncDisposable {
  /** The key that servers are shown. May be set at any time; after it was looked for, it is what was found. */
  apiKey: string | undefined
  /** The server for calls that name none. May be set at any time. */
  serverUrl: string | undefined
  /** Bytes a chunk. */
  readonly chunkSize: number
  /** Called when a server has acknowledged more of a file, and when a try failed. May be set at any time. */
  onUploadProgress: ((progress: UploadProgress) => void) | null | undefined
  /** Called for each file that was not delivered, and for what concerns all of them. May be set at any time. */
  onUploadError: ((error: IndexCPError, fileName?: string) => void) | null | undefined
  /** Called at the end of an upload. May be set at any time. */
  onUploadComplete: ((summary: UploadSummary) => void) | null | undefined

  readonly #options: IndexCPClientOptions
  readonly #edge
  #background: Edge.Running<never> | undefined

  /** Throws the code `INVALID_ARGUMENT` when an option cannot be meant. */
  constructor(options: IndexCPClientOptions = {}) {
    const given = Options.checked("IndexCPClient", kinds, options)
    this.#options = given
    this.apiKey = given.apiKey
    this.serverUrl = given.serverUrl
    this.chunkSize = given.chunkSize ?? Uploader.defaults.chunkSize
    this.onUploadProgress = given.onUploadProgress
    this.onUploadError = given.onUploadError
    this.onUploadComplete = given.onUploadComplete
    this.#edge = Edge.make(this.#layer())
  }

  /**
   * Puts a file into the buffer, all of it or nothing, and returns its number of chunks (0 for an empty file). Durable when
   * it resolves; the file itself is needed no more. The same file added again replaces the unsent one.
   *
   * Rejects with `FileNotFoundError`, `FileReadError`, or the code `BUFFER` or `BUFFER_FULL`.
   *
   * @example
   * ```ts
   * const chunks = await client.addFile("./myfile.txt")
   * ```
   */
  addFile(path: string): Promise<number> {
    return this.#edge.run(Effect.flatMap(sourceOf(path), (source) => this.#add(source)))
  }

  /**
   * Puts a stream into the buffer under a name, all of it or nothing, and returns its number of chunks. Another stream of
   * that name replaces the unsent one.
   *
   * Rejects with `FileReadError` when the stream fails, or the code `BUFFER` or `BUFFER_FULL`.
   *
   * @example
   * ```ts
   * await client.addStream("shop.sql", process.stdin)
   * ```
   */
  addStream(name: string, stream: ByteStream): Promise<number> {
    return this.#edge.run(
      Effect.andThen(
        Options.need("The name", Options.filled, name),
        () => this.#add(Source.asyncIterable(name, bytesOf(stream)))
      )
    )
  }

  /** The paths of the files in the buffer, as they were given, the oldest first. Those that were delivered are not among them. */
  getBufferedFiles(): Promise<Array<string>> {
    return this.#edge.run(
      Effect.flatMap(Uploader.Uploader, ({ list }) =>
        Stream.runFold(list, [] as Array<string>, (paths, { path }) => {
          paths.push(path)
          return paths
        }))
    )
  }

  /** Empties the buffer. Servers that hold parts of its files are told, if they can be reached at once. */
  clearBuffer(): Promise<void> {
    return this.#edge.run(Effect.flatMap(Uploader.Uploader, ({ clear }) => clear))
  }

  /**
   * Sends all files in the buffer, several at once, and returns their names on the server by their paths as given: `{}` when
   * there are none. A file leaves the buffer when the server has said that it is complete.
   *
   * When some are not delivered, the others are, and then it rejects with `UploadFailedError`, which has both. Rejects at
   * once with `AuthenticationError`, `ApiKeyMissingError`, a `ServerError` whose status is 404 (a wrong URL), or the code
   * `BUFFER` or `INVALID_ARGUMENT`.
   *
   * @param url Default: the client's `serverUrl`.
   * @example
   * ```ts
   * for (const [path, name] of Object.entries(await client.uploadBufferedFiles("http://127.0.0.1:3000/upload"))) {
   *   console.log(`${path} is ${name} on the server`)
   * }
   * ```
   */
  uploadBufferedFiles(url?: string): Promise<Record<string, string>> {
    return this.#edge.run(Effect.gen(this, function*() {
      const endpoint = yield* this.#endpoint(url)
      const uploader = yield* Uploader.Uploader
      if (Option.isNone(yield* Stream.runHead(uploader.list))) return {}
      yield* this.#findKey
      const ended = yield* this.#tell(uploader.upload(this.#sending(endpoint)))
      const results = entries(ended, isName)
      const failures = entries(ended, isError)
      return Object.keys(failures).length === 0
        ? results
        : yield* Effect.fail(new UploadFailedError({ failures, results }))
    }))
  }

  /**
   * Sends a file from where it lies, without a copy in the buffer, and returns its name on the server. Asked again after it
   * was interrupted, it goes on where it was.
   *
   * Rejects with `FileNotFoundError`, `FileReadError`, `AuthenticationError`, `ApiKeyMissingError`, `NetworkError`,
   * `ServerError`, or one of the codes of `IndexCPError`.
   *
   * @param url Default: the client's `serverUrl`.
   * @example
   * ```ts
   * const name = await client.bufferAndUpload("./big.iso", "http://127.0.0.1:3000/upload")
   * ```
   */
  bufferAndUpload(path: string, url?: string): Promise<string> {
    return this.#edge.run(Effect.gen(this, function*() {
      const endpoint = yield* this.#endpoint(url)
      const source = yield* sourceOf(path)
      yield* this.#findKey
      const uploader = yield* Uploader.Uploader
      const [ended] = yield* this.#tell(uploader.bufferAndUpload(source, this.#sending(endpoint)))
      const result = ended?.result ?? notSent(path)
      return isName(result) ? result : yield* Effect.fail(result)
    }))
  }

  /**
   * Sends one chunk, once, in revision 1 of the protocol: for programs that read a file themselves and send index 0, 1, 2…
   * in order, each after the answer to the one before. Nothing is buffered or tried again.
   *
   * Rejects with `AuthenticationError`, `ApiKeyMissingError`, `NetworkError`, `ServerError`, or the code `INVALID_ARGUMENT`.
   *
   * @param data Text is taken as UTF-8.
   * @param apiKey Default: the client's.
   * @example
   * ```ts
   * let index = 0
   * for await (const bytes of createReadStream("./large.zip", { highWaterMark: client.chunkSize })) {
   *   await client.uploadChunk("http://127.0.0.1:3000/upload", bytes, index++, "large.zip")
   * }
   * ```
   */
  uploadChunk(
    url: string,
    data: Uint8Array | string,
    index: number,
    fileName: string,
    apiKey?: string
  ): Promise<ChunkResponse> {
    return this.#edge.run(
      Effect.gen(this, function*() {
        yield* Options.need("The index of a chunk", Options.whole(0), index)
        yield* Options.need("A chunk", Options.bytes, data)
        yield* Options.need("The file's name", Options.filled, fileName)
        const uploader = yield* Uploader.Uploader
        const endpoint = yield* this.#endpoint(url)
        return { status: 200, data: yield* uploader.sendChunk({ endpoint, bytes: bytesIn(data), index, fileName }) }
      }).pipe(
        apiKey === undefined ? (sending) => sending : Effect.locally(keyOfCall, Option.some(Redacted.make(apiKey)))
      )
    )
  }

  /**
   * The key: the one that was given, else the variable `INDEXCP_API_KEY`, else `INDEXEDCP_API_KEY`, else what is typed on the
   * terminal. From then on it is `apiKey`. Rejects with `ApiKeyMissingError`.
   */
  getApiKey(): Promise<string> {
    return this.#edge.run(Effect.map(this.#findKey, Redacted.value))
  }

  /**
   * Sends in the background what is in the buffer and whatever is added later, by this or any other program, until it is
   * stopped or the client is closed; files that were given up before are tried again. Trouble is told to `onUploadError`, and
   * tried again after `maxRetryDelay`; only when the buffer cannot be used, it ends. It does nothing when it goes on already.
   * Throws the code `INVALID_ARGUMENT` when there is no URL, or `CLOSED`.
   *
   * @param url Default: the client's `serverUrl`.
   * @example
   * ```ts
   * client.onUploadProgress = ({ fileName, bytesSent, bytesTotal }) => console.log(fileName, bytesSent, bytesTotal)
   * client.startUploadBackground("http://127.0.0.1:3000/upload")
   * await client.addFile("./myfile.txt")
   * ```
   */
  startUploadBackground(url?: string): void {
    if (this.#background !== undefined) return
    if (this.#edge.isClosed()) throw Edge.closed()
    // what cannot be meant is told at once
    const endpoint = Effect.runSync(Effect.either(this.#endpoint(url)))
    if (Either.isLeft(endpoint)) throw Failure.of(endpoint.left)
    const background = this.#edge.start(this.#watch(endpoint.right))
    this.#background = background
    background.done.catch((error: IndexCPError) => {
      if (this.#background === background) this.#background = undefined
      if (error.code !== "CLOSED") this.onUploadError?.(error)
    })
  }

  /** Stops what {@link startUploadBackground} has started; resolves when nothing is being sent any more. */
  async stopUploadBackground(): Promise<void> {
    const background = this.#background
    this.#background = undefined
    await background?.stop()
  }

  /**
   * Stops everything and closes the buffer; what was not sent stays in it. Calls that were going on reject with the code
   * `CLOSED`, and so do all later ones.
   */
  close(): Promise<void> {
    return this.#edge.close()
  }

  /** {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #layer() {
    const dbName = this.#options.dbName ?? "indexcp"
    return this.#uploader(patientRetries).pipe(
      Layer.provideMerge(TransportHttp.layerStreamed()),
      Layer.provideMerge(Layer.mergeAll(
        Layer.suspend(() => ChunkStoreSqlite.layer({ file: ChunkStoreSqlite.defaultFile(dbName) })),
        HttpClientNode.layer(),
        Layer.succeed(ApiKey.ApiKey, { get: this.#findKey }),
        NodeFileSystem.layer,
        NodePath.layer
      ))
    )
  }

  #uploader(maxRetries: number) {
    const { initialRetryDelay, maxRetryDelay, retryMultiplier } = this.#options
    return Uploader.layer({
      chunkSize: this.chunkSize,
      retry: {
        maxRetries: this.#options.maxRetries ?? maxRetries,
        ...(initialRetryDelay === undefined ? {} : { initialDelay: initialRetryDelay }),
        ...(maxRetryDelay === undefined ? {} : { maxDelay: maxRetryDelay }),
        ...(retryMultiplier === undefined ? {} : { factor: retryMultiplier })
      }
    })
  }

  /** Keys may be set, or appear in the environment, at any time. */
  readonly #lookForKey = Effect.flatMap(ApiKey.ApiKey, ({ get }) => get).pipe(
    Effect.provide(Layer.suspend(() => ApiKey.layerFromEnv(AskKey.isPossible() ? { prompt: AskKey.ask } : {}))),
    Effect.tap((key) =>
      Effect.sync(() => {
        this.apiKey = Redacted.value(key)
      })
    )
  )

  readonly #oneAtATime = Effect.unsafeMakeSemaphore(1)

  /** Several chunks may ask for it at once, a person is asked once. */
  readonly #findKey: Effect.Effect<Redacted.Redacted, ApiKey.ApiKeyMissing> = Effect.flatMap(
    FiberRef.get(keyOfCall),
    Option.match({
      onSome: Effect.succeed,
      onNone: () =>
        this.#oneAtATime.withPermits(1)(
          Effect.suspend(() => {
            const given = `${this.apiKey ?? ""}`.trim()
            return given !== "" ? Effect.succeed(Redacted.make(given)) : this.#lookForKey
          })
        )
    })
  )

  #endpoint(url = this.serverUrl): Effect.Effect<string, IndexCPError | Uploader.InvalidEndpoint> {
    return url === undefined || url === null
      ? Effect.fail(
        new IndexCPError({
          code: "INVALID_ARGUMENT",
          message: "No server: give its URL, like http://127.0.0.1:3000/upload, here or as serverUrl"
        })
      )
      : Uploader.endpointOf(url)
  }

  #add(source: Source.Source) {
    return Effect.flatMap(
      Uploader.Uploader,
      (uploader) => Effect.map(uploader.add(source), ({ file }) => file.chunks)
    )
  }

  #sending(endpoint: string) {
    return { endpoint, resendUnconfirmed: this.#options.resendUnconfirmed ?? false }
  }

  /** Tells the callbacks of an upload, and returns what became of its files. */
  #tell<E, R>(events: Stream.Stream<UploadEvent, E, R>) {
    return Effect.gen(this, function*() {
      const ended: Array<Telling.Ended> = []
      const telling = Telling.make(this, (file) => ended.push(file))
      yield* Effect.tapError(Stream.runForEach(events, telling.event), telling.error)
      yield* telling.complete
      return ended
    })
  }

  /** Tells the callbacks of an upload that never ends. */
  #watch(endpoint: string) {
    return Effect.gen(this, function*() {
      const uploader = yield* Uploader.Uploader
      const kept = new Set<FileId>()
      const telling = Telling.make(this, ({ file, result }) => {
        if (file !== undefined && isError(result)) kept.add(file)
      })
      /** Whether all that there is to be sent has had its turn. */
      const isDone = uploader.list.pipe(
        Stream.filter(({ failure, id }) => Option.isNone(failure) && !kept.has(id)),
        Stream.runHead,
        Effect.map(Option.isNone)
      )
      const complete = Effect.suspend(() => {
        kept.clear()
        return telling.complete
      })
      const watch = Stream.runForEach(uploader.watch(this.#sending(endpoint)), (event) =>
        Effect.zipRight(
          telling.event(event),
          event._tag === "Finished" ? Effect.whenEffect(complete, isDone) : Effect.void
        ))
      yield* uploader.retry()
      return yield* Effect.zipRight(watch, Effect.never).pipe(
        Effect.tapError((error) => error._tag === "ChunkStoreError" ? Effect.void : telling.error(error)),
        Effect.retry({
          while: ({ _tag }) => _tag !== "ChunkStoreError",
          schedule: Schedule.spaced(this.#options.maxRetryDelay ?? "60 seconds")
        })
      )
    }).pipe(Effect.provide(this.#uploader(Number.POSITIVE_INFINITY)))
  }
}

const sourceOf = (path: string) =>
  Effect.andThen(Options.need("The path", Options.filled, path), () => Source.file(path))

type Result = Telling.Ended["result"]

const isName = (result: Result): result is string => typeof result === "string"

const isError = (result: Result): result is IndexCPError => typeof result !== "string"

/** The results of one kind by their paths, in the order in which the files were added. */
const entries = <A extends Result>(
  ended: ReadonlyArray<Telling.Ended>,
  isKind: (result: Result) => result is A
): Record<string, A> =>
  Object.fromEntries(
    ended.toSorted((one, other) => (one.file ?? 0) - (other.file ?? 0)).flatMap(({ path, result }) =>
      isKind(result) ? [[path, result] as const] : []
    )
  )

const notSent = (path: string) =>
  new IndexCPError({ code: "BUSY", message: `${path} was not sent: somebody else has it in hand; try again` })
