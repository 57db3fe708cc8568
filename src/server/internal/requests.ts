/**
 * What stands between Node's HTTP server and the app: which requests it sees, and how the others are refused.
 *
 * @internal
 */
import type * as Http from "node:http"
import type * as Net from "node:net"
import { codeOf } from "./listening.ts"
import * as Malformed from "./malformed.ts"
import { Connection, drainRefused, type Refusal, refuse, refuseAndClose } from "./refused.ts"

export type Handler = (request: Http.IncomingMessage, response: Http.ServerResponse) => void

export interface Limits {
  /** Bytes. */
  readonly maxHeaderSize: number
  /** Milliseconds. */
  readonly headersTimeout: number
  readonly maxRequests: number
}

export interface Requests {
  /** The app; without one, requests are told to come again. */
  handler: Handler | undefined
  /** The answers say that their connections close, and new requests are told to come again. */
  drain: () => void
  /** A connection that may be asked something, with TLS one whose handshake is done. */
  readonly connected: (socket: Net.Socket) => void
}

const stopping: Refusal = {
  status: 503,
  error: "Busy",
  message: "The server is shutting down; try again soon",
  retryAfter: 5
}

const starting: Refusal = { ...stopping, message: "The server is starting; try again soon", retryAfter: 1 }

const full = (most: number): Refusal => ({
  status: 503,
  error: "Busy",
  message: `The server works on ${most} requests already; try again soon`,
  retryAfter: 1
})

/** What tells an operator that the server lives answers even when nothing else does. */
const isProbe = ({ method, url }: Http.IncomingMessage) =>
  (method === "GET" || method === "HEAD") && /\/(health|ready)(\?|$)/.test(url ?? "")

/** Says 100 when the app begins to read the body, in whichever way: only then has it looked at all else. */
const continueWhenRead = (request: Http.IncomingMessage, response: Http.ServerResponse) => {
  const read = request._read.bind(request)
  request._read = (size) => {
    request._read = read
    if (!response.headersSent) response.writeContinue()
    read(size)
  }
}

/** Takes the server's requests. */
export const make = (server: Http.Server, limits: Limits): Requests => {
  const connections = new WeakMap<Net.Socket, Connection>()
  // Node does not count these among its idle connections
  const unused = new Set<Net.Socket>()
  let inFlight = 0
  let draining = false

  const connected = (socket: Net.Socket) => {
    // once asked for it is known for as long as the socket is, also after a reset
    if (socket.remoteAddress === undefined && socket.localAddress !== undefined) return socket.destroy()
    const connection = new Connection(socket)
    connections.set(socket, connection)
    unused.add(socket)
    socket.once("close", () => {
      unused.delete(socket)
      inFlight -= connection.open.size
      connection.open.clear()
    })
  }

  /** Counts a request until its answer is out or its connection is gone. */
  const count = (connection: Connection, request: Http.IncomingMessage, response: Http.ServerResponse) => {
    inFlight++
    connection.open.set(response, request)
    response.once("close", () => {
      if (connection.open.delete(response)) inFlight--
    })
    // an answer that nobody reads is kept no longer than a connection on which nobody asks
    response.once("prefinish", () => {
      if (connection.open.size === 1) connection.socket.setTimeout(server.keepAliveTimeout)
    })
    response.prependOnceListener("finish", () => connection.socket.setTimeout(0))
  }

  const why = (request: Http.IncomingMessage): Refusal | undefined =>
    draining
      ? stopping
      : requests.handler === undefined
      ? starting
      : inFlight > limits.maxRequests && !isProbe(request)
      ? full(limits.maxRequests)
      : undefined

  const take = (expects: "nothing" | "100-continue" | "other"): Handler => (request, response) => {
    const connection = connections.get(request.socket)
    if (connection === undefined) return void request.socket.destroy()
    // behind an answer that closes the connection: executed by nobody
    if (connection.isClosing) return void request.on("data", () => connection.checkLinger())
    unused.delete(request.socket)
    count(connection, request, response)
    drainRefused(connection, request, response, () => draining && connection.open.size === 1)
    const fault = Malformed.faultOf(request)
    if (fault !== undefined) return refuseAndClose(connection, response, fault)
    request.url = Malformed.pathOf(request.url ?? "")
    const refusal = expects === "other" ? Malformed.unmet : why(request)
    if (refusal !== undefined) return refuse(response, refusal)
    if (expects === "100-continue") continueWhenRead(request, response)
    requests.handler!(request, response)
  }

  const requests: Requests = {
    handler: undefined,
    connected,
    drain: () => {
      draining = true
      unused.forEach((socket) => socket.destroy())
    }
  }

  server.on("request", take("nothing"))
  // Node takes lists and other values that have the word in them, too
  server.on(
    "checkContinue",
    (request: Http.IncomingMessage, response: Http.ServerResponse) =>
      take(request.headers.expect?.toLowerCase() === "100-continue" ? "100-continue" : "other")(request, response)
  )
  server.on("checkExpectation", take("other"))
  server.on("connect", (_: Http.IncomingMessage, socket: Net.Socket) => {
    const connection = connections.get(socket)
    if (connection === undefined) return socket.destroy()
    // Node has let go of it
    socket.on("error", () => {})
    unused.delete(socket)
    connection.refuse(Malformed.noProxy)
    socket.on("data", () => connection.checkLinger())
  })
  server.on("clientError", (error: Error, socket: Net.Socket) => {
    const connection = connections.get(socket)
    const code = codeOf(error)
    // a handshake that failed, or a client that is gone
    if (connection === undefined || !/^(HPE_|ERR_HTTP_REQUEST_TIMEOUT)/.test(code)) return socket.destroy()
    unused.delete(socket)
    if (connection.isClosing) return connection.checkLinger()
    const [response, request] = [...connection.open].at(-1) ?? []
    if (request === undefined || response === undefined || request.complete) {
      return connection.refuse(Malformed.refusalOf(code, limits))
    }
    if (response.headersSent) return socket.destroy()
    // for the app this is the end of the request
    response.emit("close")
    refuseAndClose(connection, response, Malformed.refusalOf(code, limits))
  })
  return requests
}
