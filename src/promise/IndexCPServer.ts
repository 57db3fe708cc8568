/**
 * The server for programs that do not use Effect.
 *
 * @module
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServer from "@effect/platform/HttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { randomBytes } from "node:crypto"
import type * as Http from "node:http"
import * as CompletionHook from "../server/CompletionHook.ts"
import * as FilenameGenerator from "../server/FilenameGenerator.ts"
import type * as HttpAppOptions from "../server/HttpApp.ts"
import * as NodeServer from "../server/NodeServer.ts"
import type * as Receiver from "../server/Receiver.ts"
import * as Server from "../server/Server.ts"
import { IndexCPError } from "./Errors.ts"
import * as Edge from "./internal/edge.ts"
import * as Gate from "./internal/gate.ts"
import * as Options from "./internal/options.ts"

/** The request of a file's first chunk. */
export type UploadRequest = FilenameGenerator.GeneratorRequest

/** A file that has arrived as a whole. */
export type CompletedFile = CompletionHook.CompletedFile

/** The settings of an {@link IndexCPServer}. All may be left out. Times are milliseconds, or texts like `"10 seconds"`. */
export interface IndexCPServerOptions
  extends
    Partial<Omit<NodeServer.ListenOptions, "socket" | "tls">>,
    Partial<Receiver.ReceiverOptions>,
    Partial<HttpAppOptions.HttpAppOptions>,
    Pick<
      Server.ServerOptions,
      "outputDir" | "pathMode" | "durability" | "fileMode" | "maxAuthFailures" | "metricsAddress"
    >
{
  /**
   * The key that clients have to show. Default: the variable `INDEXCP_API_KEY`, else `INDEXEDCP_API_KEY`, else a new one,
   * which is {@link IndexCPServer.apiKey}; with `apiKeys` none but those.
   */
  readonly apiKey?: string | undefined
  /**
   * Further keys. In an object each has a name, and who sends with it sees and touches only uploads of that name; those in an
   * array share theirs with `apiKey`. Keys that `indexcp-server keys add` has made for the output folder count besides.
   */
  readonly apiKeys?: ReadonlyArray<string> | Readonly<Record<string, string>> | undefined
  /**
   * Names the files, in place of `pathMode`: given the client's name for a file, the index of the first chunk and its request,
   * it returns a name below `outputDir`, which may have `/` in it. Asked once for each upload.
   */
  readonly filenameGenerator?:
    | ((clientName: string, chunkIndex: number, request: UploadRequest) => string | Promise<string>)
    | null
    | undefined
  /** The paths of PEM files; with them the server speaks HTTPS. Default: HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string } | undefined
  /**
   * Called with each file that has arrived as a whole; or a command for the system's shell. No answer waits for it. Clients of
   * revision 1 never say that a file is whole, so it is not called for theirs. Default: nothing.
   */
  readonly onComplete?: ((file: CompletedFile) => void | Promise<void>) | string | undefined
  /** With it `/metrics` stands beside `/upload` for who shows it, or at `metricsAddress`. Default: no metrics beside it. */
  readonly metricsKey?: string | undefined
}

/** Where a server listens. */
export interface ServerAddress {
  /** Like `127.0.0.1`. */
  readonly address: string
  readonly port: number
}

const kinds: Readonly<Record<keyof IndexCPServerOptions, Options.Kind>> = {
  outputDir: Options.text,
  host: Options.filled,
  port: Options.port,
  apiKey: Options.text,
  apiKeys: Options.either(
    Options.listOf(Options.text, "an array of texts"),
    Options.recordOf(Options.text, "an object of texts by their names")
  ),
  pathMode: Options.oneOf("sanitize", "ignore", "allow-paths", "timestamp"),
  filenameGenerator: Options.callback,
  onConflict: Options.oneOf("rename", "overwrite", "reject"),
  durability: Options.oneOf("power", "process"),
  fileMode: { ...Options.whole(0, 0o777), what: "a mode like 0o640, a number" },
  tls: Options.recordOf(Options.filled, "the paths { cert, key }"),
  basePath: { what: "a path like /files, without / at its end", has: (value) => /^(\/[^/?#]+)*$/.test(`${value}`) },
  trustProxy: Options.flag,
  corsOrigin: Options.listOf(Options.filled, "an array of origins"),
  onComplete: Options.either(Options.callback, Options.filled),
  metricsKey: Options.filled,
  metricsAddress: Options.filled,
  maxAuthFailures: Options.whole(1),
  maxChunkSize: Options.whole(1),
  maxFileSize: Options.whole(1),
  maxNameLength: Options.whole(1),
  maxHeaderSize: Options.whole(1024),
  maxOpenUploads: Options.whole(1),
  maxKeyBytes: Options.whole(1),
  maxConnections: Options.whole(1),
  maxRequests: Options.whole(1),
  minFreeSpace: Options.whole(0),
  minBodyRate: Options.number(0),
  bodyMemory: Options.whole(1),
  bodyTimeout: Options.timer,
  headersTimeout: Options.timer,
  keepAliveTimeout: Options.timer,
  drainTimeout: Options.timer,
  finishWait: Options.timer,
  upkeepInterval: Options.timer,
  unfinishedLifetime: Options.time,
  endedLifetime: Options.time,
  revision1Idle: Options.time,
  revision1Lifetime: Options.time
}

/** The first key that there is. White space around it is left out. */
const firstOf = (...keys: ReadonlyArray<string | undefined>): string | undefined =>
  keys.map((key) => key?.trim()).find((key) => key !== undefined && key !== "")

const newKey = (): string => randomBytes(32).toString("hex")

const named = (apiKeys: IndexCPServerOptions["apiKeys"] = {}) =>
  (Array.isArray(apiKeys) ? apiKeys.map((key: string) => ["default", key] as const) : Object.entries(apiKeys))
    .map(([name, key]) => ({ name, key: key.trim() }))
    .filter(({ key }) => key !== "")

const hookOf = (onComplete: IndexCPServerOptions["onComplete"]): Pick<
  Server.ServerOptions,
  "onComplete" | "completionHook"
> =>
  typeof onComplete === "function"
    ? {
      completionHook: CompletionHook.layerFunction((file) =>
        // oxlint-disable-next-line require-await -- what the function throws at once is a rejection too
        Effect.tryPromise(async () => onComplete(file))
      )
    }
    : onComplete === undefined
    ? {}
    : { onComplete }

/**
 * Takes files from clients and puts them into a folder.
 *
 * A chunk that was answered is on the disk, and survives loss of power; a file appears under its name when it is whole and
 * checked. It listens itself ({@link listen}), or stands in another server ({@link handler}, {@link fetch}), or both. One
 * server at a time may have an output folder. Every method that returns a Promise rejects with an `IndexCPError`.
 *
 * @example
 * ```ts
 * import { IndexCPServer } from "indexedcp/promise"
 *
 * const server = new IndexCPServer({ outputDir: "./uploads", port: 3000, apiKey: "your-secure-api-key" })
 * await server.listen()
 * console.log(`Listening on port ${server.address().port}`)
 * ```
 */
export class IndexCPServer implements AsyncDisposable {
  /** A key that clients may use: the one given, or the first of those given, or the new one. */
  readonly apiKey: string

  readonly #options: Server.ServerOptions
  readonly #edge: Edge.Edge<Server.Services>
  readonly #gate = Gate.make()
  #starting: Promise<unknown> = Promise.resolve()
  #listening: { readonly scope: Scope.CloseableScope; address?: ServerAddress } | undefined

  /** Throws the code `INVALID_ARGUMENT` when an option cannot be meant. */
  constructor(options: IndexCPServerOptions = {}) {
    const { apiKey, apiKeys, filenameGenerator, metricsKey, onComplete, ...rest } = Options.checked(
      "IndexCPServer",
      kinds,
      options
    )
    const further = named(apiKeys)
    const single = firstOf(apiKey) ?? (further.length > 0
      ? undefined
      : firstOf(process.env["INDEXCP_API_KEY"], process.env["INDEXEDCP_API_KEY"]) ?? newKey())
    this.apiKey = single ?? further[0]!.key
    this.#options = {
      ...rest,
      apiKeys: further.map(({ key, name }) => ({ name, key: Redacted.make(key) })),
      ...(single === undefined ? {} : { apiKey: Redacted.make(single) }),
      ...(metricsKey === undefined ? {} : { metricsKey: Redacted.make(metricsKey) }),
      ...(filenameGenerator ? { filenameGenerator: FilenameGenerator.layerFunction(filenameGenerator) } : {}),
      ...hookOf(onComplete)
    }
    this.#edge = Edge.make(Layer.suspend(() => Server.layerServices(this.#options)))
  }

  /**
   * Listens, and resolves once clients can connect. Rejects with the system's code, like `EADDRINUSE`, or with
   * `FOLDER_IN_USE`, `STORAGE` or `CANNOT_LISTEN`; it can be asked again then. While it listens, with `ALREADY_LISTENING`.
   *
   * @param port 0 for any free one. Default: the `port` of the options, which is 3000.
   * @param callback Called once it listens.
   * @example
   * ```ts
   * server.listen(3000, () => console.log("Server started"))
   * ```
   */
  async listen(port?: number, callback?: () => void): Promise<void> {
    const asked = port ?? this.#options.port ?? NodeServer.defaults.port
    const started = this.#edge.run(
      Effect.zipRight(Options.need("The port", Options.port, asked), this.#listen({ ...this.#options, port: asked }))
    )
    this.#starting = Promise.allSettled([this.#starting, started])
    await started
    callback?.()
  }

  /**
   * {@link listen} on the `port` of the options.
   *
   * @param callback Called once it listens.
   */
  start(callback?: () => void): Promise<void> {
    return this.listen(undefined, callback)
  }

  /** Where it listens. Throws the code `NOT_LISTENING` while it does not. */
  address(): ServerAddress {
    const address = this.#listening?.address
    if (address === undefined) {
      throw new IndexCPError({ code: "NOT_LISTENING", message: "The server does not listen; call listen() first" })
    }
    return address
  }

  /** A new key from a cryptographic source: 64 hex digits. It does not count before a server is given it. */
  generateApiKey(): string {
    return newKey()
  }

  /**
   * A request listener for a Node `http` server, or a handler for Express and the like, where it must come before anything
   * that reads the body. It takes `/upload` below the path that it is mounted under, `/health`, `/ready` and
   * `/openapi.json`, and answers everything else with 404. The limits of connections and headers are those of the other server.
   *
   * @example
   * ```ts
   * const app = express()
   * app.use("/files", server.handler()) // clients send to /files/upload
   * ```
   */
  handler(): (request: Http.IncomingMessage, response: Http.ServerResponse) => void {
    const open = this.#opened((app) => NodeHttpServer.makeHandler(app))
    return (request, response) => {
      open().then((handle) => handle(request, response), (error: IndexCPError) => {
        const { body, headers, status } = unavailable(error)
        response.writeHead(status, headers).end(body)
      })
    }
  }

  /**
   * Answers a Web `Request`, for the runtimes and frameworks that speak it. Its body is streamed. A `Request` does not tell who
   * sends it, so set `trustProxy` where a proxy adds `X-Forwarded-For`: clients of revision 1 are told apart by it.
   *
   * @example
   * ```ts
   * export default { fetch: server.fetch }
   * ```
   */
  readonly fetch = async (request: Request): Promise<Response> => {
    try {
      return await (await this.#web())(request)
    } catch (error) {
      const { body, headers, status } = unavailable(error as IndexCPError)
      return new Response(body, { headers, status })
    }
  }

  /**
   * Stops listening and lets requests in flight end, for `drainTimeout` (10 seconds by default) at most; resolves when all of
   * it is over. A closed server cannot be opened again; make a new one.
   */
  async close(): Promise<void> {
    // who does not wait for it to listen is not told that it could not
    await this.#starting
    await this.#edge.close(Effect.suspend(() => {
      const scope = this.#listening?.scope
      this.#listening = undefined
      return Effect.all([
        scope === undefined ? Effect.void : Scope.close(scope, Exit.void),
        this.#gate.close(this.#options.drainTimeout ?? NodeServer.defaults.drainTimeout)
      ], { concurrency: 2, discard: true })
    }))
  }

  /** {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #listen(options: Server.ServerOptions) {
    return Effect.gen(this, function*() {
      if (this.#listening !== undefined) {
        return yield* Effect.fail(
          new IndexCPError({ code: "ALREADY_LISTENING", message: "The server listens already, or is about to" })
        )
      }
      const listening: { readonly scope: Scope.CloseableScope; address?: ServerAddress } = {
        scope: yield* Scope.make()
      }
      this.#listening = listening
      const context = yield* Layer.buildWithScope(Server.layerListening(options), listening.scope).pipe(
        Effect.onError((cause) => {
          this.#listening = undefined
          return Scope.close(listening.scope, Exit.failCause(cause))
        })
      )
      const { address } = Context.get(context, HttpServer.HttpServer)
      if (address._tag === "TcpAddress") listening.address = { address: address.hostname, port: address.port }
    })
  }

  /** Begins at once to open the storage for an app, and is asked for what was made of it; again, when that failed. */
  #opened<A>(make: (app: HttpApp.Default) => Effect.Effect<A, never, Server.Services>): () => Promise<A> {
    let made: Promise<A> | undefined
    const open = () =>
      made ??= this.#edge.run(Effect.flatMap(Server.app(this.#options), (app) => make(this.#gate.through(app)))).catch(
        (error: IndexCPError) => {
          made = undefined
          // who asks is told less
          if (error.code !== "CLOSED") process.emitWarning(error)
          throw error
        }
      )
    open().catch(() => {})
    return open
  }

  #webHandler: (() => Promise<(request: Request) => Promise<Response>>) | undefined

  #web() {
    this.#webHandler ??= this.#opened((app) =>
      Effect.map(Effect.runtime<Server.Services>(), (runtime) => HttpApp.toWebHandlerRuntime(runtime)(app))
    )
    return this.#webHandler()
  }
}

/** The answer of a server that is closed, or cannot open its storage. */
const unavailable = ({ code }: IndexCPError) => ({
  status: code === "CLOSED" ? 503 : 500,
  headers: { "content-type": "application/json", ...(code === "CLOSED" ? { "retry-after": "5" } : {}) },
  body: JSON.stringify(
    code === "CLOSED"
      ? Gate.closed
      : { error: "Server failure", message: "The server cannot open its storage; it has said why in its own output" }
  )
})
