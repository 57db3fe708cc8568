/**
 * Requests that are answered before their body was read, or that are no requests at all.
 *
 * @internal
 */
import * as Http from "node:http"
import type * as Net from "node:net"

/** Bytes and milliseconds for which what a refused client still sends is read and thrown away. */
const linger = { bytes: 8 * 1024 * 1024, millis: 5000 }

export interface Refusal {
  readonly status: number
  readonly error: string
  /** What to do. */
  readonly message: string
  /** Seconds. */
  readonly retryAfter?: number
}

/** What is under way on a connection. */
export class Connection {
  readonly socket: Net.Socket
  /** Answers that have not gone out yet, oldest first. */
  readonly open = new Map<Http.ServerResponse, Http.IncomingMessage>()
  /** It was said that it closes: nothing that still comes is a request. */
  isClosing = false
  /** Nobody knows where its requests begin and end. */
  isGarbled = false
  /** Of the socket's bytes, the last that is still read. */
  #limit = Infinity

  constructor(socket: Net.Socket) {
    this.socket = socket
  }

  /** The last of the requests is answered, or will be. */
  closing(): void {
    if (this.isClosing) return
    this.isClosing = true
    this.#limit = this.socket.bytesRead + linger.bytes
  }

  /** Bounds what a client sends that was told to stop. */
  checkLinger(): void {
    if (this.socket.bytesRead > this.#limit) this.socket.destroy()
  }

  /** Destroys the connection unless its client closes it soon. */
  lingering(): void {
    const timer = setTimeout(() => this.socket.destroy(), linger.millis)
    this.socket.once("close", () => clearTimeout(timer))
  }

  /** Answers where there is no request to answer, after those before it, and closes. */
  refuse(refusal: Refusal): void {
    if (this.isClosing) return
    this.closing()
    const send = () => {
      if (!this.socket.writable) return
      this.socket.end(raw(refusal))
      this.lingering()
    }
    const last = [...this.open.keys()].at(-1)
    if (last === undefined) send()
    else last.once("finish", send)
  }
}

const bodyOf = ({ error, message }: Refusal) => JSON.stringify({ error, message })

const headersOf = ({ retryAfter }: Refusal, body: string) => ({
  "content-type": "application/json",
  "content-length": String(Buffer.byteLength(body)),
  ...(retryAfter === undefined ? {} : { "retry-after": String(retryAfter) })
})

const raw = (refusal: Refusal): string => {
  const body = bodyOf(refusal)
  const headers = { ...headersOf(refusal, body), date: new Date().toUTCString(), connection: "close" }
  return [
    `HTTP/1.1 ${refusal.status} ${Http.STATUS_CODES[refusal.status]}`,
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    "",
    body
  ].join("\r\n")
}

/** Answers a request that the app does not see. The connection goes on if the request is whole. */
export const refuse = (response: Http.ServerResponse, refusal: Refusal): void => {
  const body = bodyOf(refusal)
  response.writeHead(refusal.status, headersOf(refusal, body))
  response.end(body)
}

/** Answers a request whose framing cannot be trusted: whatever follows it is not looked at. */
export const refuseAndClose = (connection: Connection, response: Http.ServerResponse, refusal: Refusal): void => {
  response.shouldKeepAlive = false
  connection.isGarbled = true
  connection.closing()
  refuse(response, refusal)
}

const hasBody = ({ headers }: Http.IncomingMessage): boolean =>
  headers["transfer-encoding"] !== undefined || (headers["content-length"] ?? "0") !== "0"

/**
 * A client that is still sending when its answer goes out would see a reset instead of the answer. So the answer says
 * that the connection closes and our side of it is ended, but what the client sends is drained for a while before all of
 * it is closed (PROTOCOL.md, "Refused requests").
 */
export const drainRefused = (
  connection: Connection,
  request: Http.IncomingMessage,
  response: Http.ServerResponse,
  /** Whether the connection closes after this answer in any case. */
  isLast: () => boolean
): void => {
  const { socket } = connection
  const writeHead = response.writeHead.bind(response) as (...head: ReadonlyArray<unknown>) => Http.ServerResponse
  response.writeHead = (...head: ReadonlyArray<unknown>) => {
    if ((!request.complete && hasBody(request)) || isLast()) response.shouldKeepAlive = false
    if (!response.shouldKeepAlive) drain()
    return writeHead(...head)
  }
  const drain = () => {
    connection.closing()
    const close = socket.destroySoon.bind(socket)
    // what Node calls after the last answer of a connection
    socket.destroySoon = () => socket.end()
    // before Node drops what nobody reads, without counting it
    response.once("prefinish", () => {
      if (request.complete) return
      request.removeAllListeners("readable")
      request.on("data", () => connection.checkLinger())
      request.resume()
    })
    response.once("finish", () => {
      if (request.complete && !connection.isGarbled) return close()
      connection.lingering()
      if (!connection.isGarbled) request.once("end", close)
    })
  }
}
