/**
 * The whole server: storage in a folder, ledger in SQLite, API keys, HTTP.
 *
 * @module
 */
import type * as Platform from "@effect/platform/HttpApp"
import * as HttpServer from "@effect/platform/HttpServer"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Path from "node:path"
import * as FileName from "../protocol/FileName.ts"
import type { ServerFailure, StorageFull } from "../protocol/ProtocolError.ts"
import * as ApiKeysSqlite from "./ApiKeysSqlite.ts"
import * as Authenticator from "./Authenticator.ts"
import * as CompletionHook from "./CompletionHook.ts"
import * as CompletionHookCommand from "./CompletionHookCommand.ts"
import * as FilenameGenerator from "./FilenameGenerator.ts"
import * as HttpApp from "./HttpApp.ts"
import type { Durability } from "./internal/disk.ts"
import * as MetricsApp from "./MetricsApp.ts"
import * as NodeServer from "./NodeServer.ts"
import * as OutputFolder from "./OutputFolder.ts"
import * as Receiver from "./Receiver.ts"
import * as SimpleServer from "./SimpleServer.ts"
import type { UploadLedger } from "./UploadLedger.ts"
import * as UploadLedgerSqlite from "./UploadLedgerSqlite.ts"
import type { StoreError, UploadStore } from "./UploadStore.ts"
import * as UploadStoreFileSystem from "./UploadStoreFileSystem.ts"

/**
 * Everything that a server can be told. All of it may be left out; without `apiKey`, `authenticator` and named keys
 * nobody gets in.
 */
export interface ServerOptions
  extends Partial<NodeServer.ListenOptions>, Partial<Receiver.ReceiverOptions>, Partial<HttpApp.HttpAppOptions>
{
  /** Made if missing. Default: the current folder. */
  readonly outputDir?: string
  /** A key beside those of {@link ApiKeysSqlite}; its uploads belong to `default`. Default: none. */
  readonly apiKey?: Redacted.Redacted
  /** Further keys, whose uploads belong to their names. Default: none. */
  readonly apiKeys?: ReadonlyArray<Authenticator.GivenKey>
  /** Failures of one address before it has to wait. Default 50. */
  readonly maxAuthFailures?: number
  /** A command for the system's shell, run for every completed upload ({@link CompletionHookCommand}). Default: none. */
  readonly onComplete?: string
  /** Told of every completed upload, in place of `onComplete`. */
  readonly completionHook?: Layer.Layer<CompletionHook.CompletionHook>
  /** With it `/metrics` stands beside `/upload`, or asks for it at `metricsAddress`. Default: no metrics beside `/upload`. */
  readonly metricsKey?: Redacted.Redacted
  /** Where `/metrics` stands alone: `host:port`, or a port of 127.0.0.1. Default: nowhere. */
  readonly metricsAddress?: string
  /** Who may ask, in place of the API keys. */
  readonly authenticator?: Layer.Layer<Authenticator.Authenticator>
  /** What a 200 survives: loss of `power`, or only of the server's `process`. Default `power`. */
  readonly durability?: Durability
  /** How files are named after the client's names. Default `sanitize`. */
  readonly pathMode?: FilenameGenerator.PathMode
  /** The mode of received files, whatever the umask, without any right to execute. Default 0o640. */
  readonly fileMode?: number
  /** Where the bytes lie, in place of the output folder; the ledger and the keys stay there. */
  readonly uploadStore?: Layer.Layer<UploadStore, StoreError>
  /** Names the files on the server, in place of `pathMode`. */
  readonly filenameGenerator?: Layer.Layer<FilenameGenerator.FilenameGenerator>
}

/** Where the ledger of an output folder lies. */
export const ledgerFile = (outputDir: string): string => Path.join(OutputFolder.own(outputDir), "ledger.db")

/** Why a server does not start. */
export type StartError = NodeServer.CannotListen | OutputFolder.FolderInUse | StorageFull | ServerFailure

/** What {@link app} stands on. */
export type Services = Receiver.Receiver | Authenticator.Authenticator | UploadLedger

/**
 * The server without its HTTP server, for {@link app} under another one.
 *
 * The order of the layers is the order of the shutdown: the receiver ends before the ledger and the storage do.
 */
export const layerServices = (options: ServerOptions): Layer.Layer<Services, StartError> => {
  const outputDir = Path.resolve(options.outputDir ?? ".")
  const durability = options.durability ?? "power"
  return Receiver.layer(options).pipe(
    Layer.provide(hook(outputDir, options)),
    Layer.provide(metrics(options)),
    Layer.provideMerge(UploadLedgerSqlite.layer({ file: ledgerFile(outputDir), durability })),
    Layer.provide(
      options.uploadStore ?? UploadStoreFileSystem.layer({ outputDir, durability, fileMode: options.fileMode })
    ),
    Layer.provide(options.filenameGenerator ?? FilenameGenerator.layerPathMode(options.pathMode ?? "sanitize")),
    Layer.provideMerge(options.authenticator ?? keys(outputDir, options)),
    Layer.provide(OutputFolder.layer(outputDir))
  )
}

/** {@link app} over HTTP; it listens once the layer is built, and requests in flight end before what it stands on does. */
export const layerListening = (
  options: ServerOptions
): Layer.Layer<HttpServer.HttpServer, NodeServer.CannotListen, Services> =>
  Layer.provideMerge(
    Layer.unwrapEffect(Effect.map(app(options), (app) => HttpServer.serve(app))),
    NodeServer.layer(options)
  )

/** A running server; it listens once the layer is built, and `HttpServer` tells its address. */
export const layer = (options: ServerOptions): Layer.Layer<HttpServer.HttpServer, StartError> =>
  Layer.provide(layerListening(options), layerServices(options))

/** The protocol, and beside it the metrics if they have a key and no address of their own. */
export const app = (
  options: Pick<ServerOptions, "metricsKey" | "metricsAddress"> & Partial<HttpApp.HttpAppOptions> = {}
): Effect.Effect<Platform.Default, never, Services> =>
  Effect.flatMap(HttpApp.app(options), (app) =>
    options.metricsKey === undefined || options.metricsAddress !== undefined
      ? Effect.succeed(app)
      : MetricsApp.beside(app, { key: options.metricsKey, basePath: options.basePath ?? "" }))

/** What is told of completed uploads. */
const hook = (outputDir: string, { completionHook, onComplete }: ServerOptions) =>
  completionHook ??
    (onComplete === undefined ? CompletionHook.layer : CompletionHookCommand.layer({ command: onComplete, outputDir }))

/** The metrics at an address of their own, if they have one. */
const metrics = ({ metricsAddress, metricsKey }: ServerOptions) => {
  if (metricsAddress === undefined) return Layer.empty
  return Option.match(MetricsApp.parseAddress(metricsAddress), {
    onNone: () =>
      Layer.fail(
        new NodeServer.CannotListen({ message: `The metrics' address ${metricsAddress} is not like 127.0.0.1:9464` })
      ),
    onSome: (address) => MetricsApp.layer({ address, key: Option.fromNullable(metricsKey) })
  })
}

/** The keys with names of an output folder, and those given. */
const keys = (outputDir: string, { apiKey, apiKeys, maxAuthFailures }: ServerOptions) =>
  Authenticator.layerKeys({
    single: apiKey,
    given: apiKeys,
    maxFailures: maxAuthFailures
  }).pipe(Layer.provide(ApiKeysSqlite.layer({ file: ApiKeysSqlite.keysFile(outputDir) })))

/** A running simple server that appends to `outputFile`. */
export const layerSimple = (
  outputFile: string,
  options: Partial<NodeServer.ListenOptions> = {}
): Layer.Layer<HttpServer.HttpServer, NodeServer.CannotListen> =>
  Layer.unwrapEffect(Effect.map(SimpleServer.app(outputFile), (app) => HttpServer.serve(app))).pipe(
    Layer.provideMerge(NodeServer.layer(options))
  )

/** A server that listens. */
export interface Running {
  /** Where clients send to, like `http://127.0.0.1:3000/upload`. */
  readonly endpoint: string
  /** The one that it listens on; 0 for a Unix-domain socket. */
  readonly port: number
}

const running = <E>(server: Layer.Layer<HttpServer.HttpServer, E>): Effect.Effect<Running, E, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Layer.build(server)
    const { address } = Context.get(context, HttpServer.HttpServer)
    const url = yield* Effect.provide(NodeServer.baseUrl, context)
    return { endpoint: `${url}/upload`, port: address._tag === "TcpAddress" ? address.port : 0 }
  })

/**
 * Starts a server and returns once it listens; it stops when the scope closes.
 *
 * @example
 * ```ts
 * Effect.scoped(Effect.gen(function*() {
 *   const { endpoint } = yield* Server.start({ outputDir: "uploads", port: 0, apiKey: Redacted.make("…") })
 *   yield* Console.log(`send files to ${endpoint}`)
 *   yield* Effect.never
 * }))
 * ```
 */
export const start = (options: ServerOptions): Effect.Effect<Running, StartError, Scope.Scope> =>
  running(layer(options))

/** {@link start} for the simple server: appends every body to `outputFile`. */
export const startSimple = (
  outputFile: string = FileName.absent,
  port: number = NodeServer.defaults.port
): Effect.Effect<Running, NodeServer.CannotListen, Scope.Scope> => running(layerSimple(outputFile, { port }))
