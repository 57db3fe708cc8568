/**
 * The Node HTTP server under the HTTP app: listening, time-outs, refused bodies, draining shutdown.
 *
 * @module
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as HttpServer from "@effect/platform/HttpServer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Http from "node:http"
import type * as Net from "node:net"

export interface ListenOptions {
  /** Default 127.0.0.1. */
  readonly host: string
  /** 0 for any free one. Default 3000. */
  readonly port: number
  /** How long requests in flight may take to end at shutdown. Default 10 seconds. */
  readonly drainTimeout: Duration.DurationInput
  /** A body that moves no byte for so long is cut off, and what it had claimed is free again. Default 30 seconds. */
  readonly bodyTimeout: Duration.DurationInput
}

export const defaults: ListenOptions = {
  host: "127.0.0.1",
  port: 3000,
  drainTimeout: "10 seconds",
  bodyTimeout: "30 seconds"
}

/** The server cannot listen. */
export class CannotListen extends Schema.TaggedError<CannotListen>("indexedcp/CannotListen")("CannotListen", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

/** Bytes and milliseconds for which the rest of a refused body is read and thrown away. */
const linger = { bytes: 8 * 1024 * 1024, millis: 5000 }

const hasBody = ({ headers }: Http.IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0"

/**
 * A client that is still sending when its answer goes out would see a reset instead of the answer. So the answer says
 * that the connection closes and our side of it is ended, but what the client sends is drained for a while before all of
 * it is closed (PROTOCOL.md, "Refused requests").
 */
const drainRefused = (request: Http.IncomingMessage, response: Http.ServerResponse): void => {
  const writeHead = response.writeHead.bind(response) as (...head: ReadonlyArray<unknown>) => Http.ServerResponse
  response.writeHead = (...head: ReadonlyArray<unknown>) => {
    if (!request.complete && hasBody(request)) refuse()
    return writeHead(...head)
  }
  const refuse = () => {
    const { socket } = request
    const close = socket.destroySoon.bind(socket)
    response.shouldKeepAlive = false
    // what Node calls after the last answer of a connection
    socket.destroySoon = () => socket.end()
    response.once("finish", () => {
      if (request.complete) return close()
      const timer = setTimeout(() => socket.destroy(), linger.millis)
      let left = linger.bytes
      socket.once("close", () => clearTimeout(timer))
      request.removeAllListeners("readable")
      request.on("data", (bytes: Uint8Array) => {
        left -= bytes.length
        if (left < 0) socket.destroy()
      })
      request.once("end", close)
      request.resume()
    })
  }
}

/** Destroys a connection on which nothing moves before the body has ended; after that it may take its time. */
const cutStalled = (request: Http.IncomingMessage, millis: number): void => {
  if (!hasBody(request)) return
  const { socket } = request
  socket.setTimeout(millis)
  request.once("end", () => socket.setTimeout(0))
}

const explain: Readonly<Record<string, string>> = {
  EADDRINUSE: "the port is in use; choose another with --port, or 0 for any free one",
  EACCES: "no permission for that port; choose one above 1023",
  EADDRNOTAVAIL: "this machine has no such address; choose another with --host",
  ENOTFOUND: "the host is not known; choose another with --host"
}

const make = (options: ListenOptions) =>
  Effect.gen(function*() {
    let draining = false
    const server = Http.createServer({ headersTimeout: 15_000, requestTimeout: 0, keepAliveTimeout: 65_000 })
    // Node does not count these among its idle connections
    const unused = new Set<Net.Socket>()
    server.on("connection", (socket: Net.Socket) => {
      unused.add(socket)
      socket.once("close", () => unused.delete(socket))
    })
    server.on("request", (request: Http.IncomingMessage, response: Http.ServerResponse) => {
      unused.delete(request.socket)
      drainRefused(request, response)
      cutStalled(request, Duration.toMillis(options.bodyTimeout))
      if (!draining) return
      response.writeHead(503, { "connection": "close", "content-type": "application/json", "retry-after": "5" })
      response.end(JSON.stringify({ error: "Busy", message: "The server is shutting down; try again soon" }))
    })
    const made = yield* NodeHttpServer.make(() => server, { host: options.host, port: options.port }).pipe(
      Effect.mapError(({ cause }) => {
        const code = (cause as { readonly code?: string }).code ?? ""
        return new CannotListen({
          message: `Cannot listen on ${options.host} port ${options.port}: ${explain[code] ?? String(cause)}`,
          cause
        })
      })
    )
    // runs before the server's own finalizer, which stops listening and waits for the last connection
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        draining = true
        unused.forEach((socket) => socket.destroy())
        server.closeIdleConnections()
        const idle = setInterval(() => server.closeIdleConnections(), 50)
        const deadline = setTimeout(() => server.closeAllConnections(), Duration.toMillis(options.drainTimeout))
        server.once("close", () => {
          clearInterval(idle)
          clearTimeout(deadline)
        })
      })
    )
    return HttpServer.make({
      address: made.address,
      serve: (app, middleware) =>
        Effect.zipRight(
          made.serve(app, middleware!),
          // while anybody listens for upgrades, Node takes requests that offer one (as `curl --http2` does) to have no body
          Effect.sync(() => server.removeAllListeners("upgrade"))
        )
    })
  })

/** A listening server. At shutdown it stops listening, answers 503 and lets requests in flight end. */
export const layer = (options: Partial<ListenOptions> = {}): Layer.Layer<HttpServer.HttpServer, CannotListen> =>
  Layer.scoped(HttpServer.HttpServer, make({ ...defaults, ...options }))

/** The base URL of the server at hand, like `http://127.0.0.1:3000`. */
export const baseUrl: Effect.Effect<string, never, HttpServer.HttpServer> = Effect.map(
  HttpServer.HttpServer,
  ({ address }) =>
    address._tag === "UnixAddress"
      ? address.path
      : `http://${address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname}:${address.port}`
)
