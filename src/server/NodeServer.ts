/**
 * The Node HTTP server under the HTTP app: listening, TLS, limits, time-outs, refused requests, draining shutdown.
 *
 * @module
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpServer from "@effect/platform/HttpServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Queue from "effect/Queue"
import type * as Stream from "effect/Stream"
import * as Http from "node:http"
import * as Https from "node:https"
import type * as Net from "node:net"
import { CannotListen, isLoopback, listen } from "./internal/listening.ts"
import * as Requests from "./internal/requests.ts"
import * as Spans from "./internal/spans.ts"
import * as Tls from "./internal/tls.ts"

export { CannotListen, isLoopback }

/** Where the server listens, and what it bears of a client. */
export interface ListenOptions {
  /** Default 127.0.0.1. */
  readonly host: string
  /** 0 for any free one. Default 3000. */
  readonly port: number
  /**
   * The path of a Unix-domain socket, in place of host and port. A socket on which nobody listens any more is replaced;
   * it is removed at the end.
   */
  readonly socket?: string | undefined
  /**
   * The paths of PEM files; with them the server speaks TLS, 1.2 at least. They are read again for each element of
   * `reload`: new connections see the new certificate, and one that cannot be used leaves the old one in place.
   */
  readonly tls?: {
    readonly cert: string
    readonly key: string
    readonly reload?: Stream.Stream<unknown> | undefined
  } | undefined
  /** How long the headers of a request, or a TLS handshake, may take. Default 15 seconds. */
  readonly headersTimeout: Duration.DurationInput
  /** How long a connection stays open on which nothing is asked, or whose answer is not read. Default 65 seconds. */
  readonly keepAliveTimeout: Duration.DurationInput
  /** How long requests in flight may take to end at shutdown. Default 10 seconds. */
  readonly drainTimeout: Duration.DurationInput
  /** Bytes of a request's first line and headers. Default 16 KiB. */
  readonly maxHeaderSize: number
  /** A connection above is closed at once. Default 2000. */
  readonly maxConnections: number
  /** In flight, on all connections; one above is answered 503. Default 1000. */
  readonly maxRequests: number
}

/** What holds where an option is not given. */
export const defaults: ListenOptions = {
  host: "127.0.0.1",
  port: 3000,
  headersTimeout: "15 seconds",
  keepAliveTimeout: "65 seconds",
  drainTimeout: "10 seconds",
  maxHeaderSize: 16 * 1024,
  maxConnections: 2000,
  maxRequests: 1000
}

/** Servers that speak TLS, which an address does not tell. */
const secured = new WeakSet<HttpServer.HttpServer>()

const serverOptions = (options: ListenOptions): Http.ServerOptions => {
  const headersTimeout = Duration.toMillis(options.headersTimeout)
  return {
    headersTimeout,
    requestTimeout: 0,
    keepAliveTimeout: Duration.toMillis(options.keepAliveTimeout),
    maxHeaderSize: options.maxHeaderSize,
    connectionsCheckingInterval: Math.max(50, Math.min(1000, headersTimeout / 4)),
    // we answer these ourselves, and say what to do
    requireHostHeader: false
  }
}

/** Neither a full house nor a failed accept is worth a line each. */
const told = "1 minute"

/** Tells the operator of connections that are not taken, once a minute. */
const tellDropped = (server: Http.Server, options: ListenOptions) =>
  Effect.gen(function*() {
    const lines = yield* Queue.sliding<Effect.Effect<void>>(1)
    server.on("drop", () =>
      Queue.unsafeOffer(
        lines,
        Effect.annotateLogs(
          Effect.logWarning("Too many connections; new ones are closed. Raise the limit, or look for who opens them"),
          { connections: options.maxConnections }
        )
      ))
    server.on("error", (cause) => Queue.unsafeOffer(lines, Effect.logError("A connection was not taken", cause)))
    yield* Effect.forkScoped(Effect.forever(
      Queue.take(lines).pipe(Effect.flatten, Effect.andThen(Effect.sleep(told)))
    ))
  })

/** Open connections, with TLS also those whose handshake goes on. Node's server does not end these. */
const track = (server: Http.Server, requests: Requests.Requests, isSecure: boolean) => {
  const sockets = new Set<Net.Socket>()
  const handshaking = new Map<string, Net.Socket>()
  const keyOf = ({ remoteAddress, remotePort }: Net.Socket) => `${remoteAddress} ${remotePort}`
  server.on("connection", (socket: Net.Socket) => {
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
    if (!isSecure) return requests.connected(socket)
    const key = keyOf(socket)
    handshaking.set(key, socket)
    socket.once("close", () => {
      if (handshaking.get(key) === socket) handshaking.delete(key)
    })
  })
  server.on("secureConnection", (socket: Net.Socket) => {
    handshaking.delete(keyOf(socket))
    requests.connected(socket)
  })
  return {
    closeHandshaking: () => handshaking.forEach((socket) => socket.destroy()),
    closeAll: () => sockets.forEach((socket) => socket.destroy())
  }
}

/** Makes what handles requests so that they open spans only if these are kept. */
const untracedUnlessKept = <A, E, R>(make: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Spans.areKept,
    (areKept) => areKept ? make : HttpMiddleware.withTracerDisabledWhenEffect(make, () => true)
  )

const make = (options: ListenOptions) =>
  Effect.gen(function*() {
    const { tls } = options
    const headersTimeout = Duration.toMillis(options.headersTimeout)
    const secure = tls === undefined ? undefined : Https.createServer({
      ...serverOptions(options),
      ...yield* Tls.load(tls),
      handshakeTimeout: headersTimeout
    })
    const server = secure ?? Http.createServer(serverOptions(options))
    server.maxConnections = options.maxConnections
    // else Node hides those above 2000 from us, but heeds them itself; their bytes are bounded
    server.maxHeadersCount = 0
    const { maxHeaderSize, maxRequests } = options
    const requests = Requests.make(server, { maxHeaderSize, maxRequests, headersTimeout })
    const connections = track(server, requests, secure !== undefined)
    const address = yield* listen(server, options)
    yield* tellDropped(server, options)
    if (secure !== undefined && tls !== undefined) yield* Effect.forkScoped(Tls.reloading(secure, tls))
    // runs before the server's own finalizer, which stops listening and waits for the last connection
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        requests.drain()
        connections.closeHandshaking()
        server.closeIdleConnections()
        const idle = setInterval(() => server.closeIdleConnections(), 50)
        const deadline = setTimeout(connections.closeAll, Duration.toMillis(options.drainTimeout))
        server.once("close", () => {
          clearInterval(idle)
          clearTimeout(deadline)
        })
      })
    )
    if (secure === undefined && typeof address !== "string" && !isLoopback(address.address)) {
      yield* Effect.logWarning(
        "Listening without TLS: keys and files travel in the clear. Give --tls-cert and --tls-key, or listen on 127.0.0.1 behind a proxy that has TLS"
      ).pipe(Effect.annotateLogs({ address: address.address, port: address.port }))
    }
    const made = HttpServer.make({
      address: typeof address === "string"
        ? { _tag: "UnixAddress", path: address }
        : { _tag: "TcpAddress", hostname: address.address === "::" ? "0.0.0.0" : address.address, port: address.port },
      serve: (app, middleware) =>
        Effect.flatMap(untracedUnlessKept(NodeHttpServer.makeHandler(app, middleware!)), (handler) =>
          Effect.acquireRelease(
            Effect.sync(() => {
              requests.handler = handler
            }),
            () =>
              Effect.sync(() => {
                requests.handler = undefined
              })
          ))
    })
    if (secure !== undefined) {
      secured.add(made)
    }
    return made
  })

/** A listening server. At shutdown it stops listening, answers 503 and lets requests in flight end. */
export const layer = (options: Partial<ListenOptions> = {}): Layer.Layer<HttpServer.HttpServer, CannotListen> =>
  Layer.scoped(HttpServer.HttpServer, make({ ...defaults, ...options }))

/**
 * The base URL of the server at hand, like `http://127.0.0.1:3000`; on a Unix-domain socket in the manner of several
 * clients and proxies, `http://unix:/run/indexedcp.sock:`.
 */
export const baseUrl: Effect.Effect<string, never, HttpServer.HttpServer> = Effect.map(
  HttpServer.HttpServer,
  (server) => {
    const { address } = server
    const scheme = secured.has(server) ? "https" : "http"
    if (address._tag === "UnixAddress") return `${scheme}://unix:${address.path}:`
    return `${scheme}://${address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname}:${address.port}`
  }
)
