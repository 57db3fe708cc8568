/**
 * A server that answers by hand: what really comes over the wire, and answers that no well-behaved server gives.
 *
 * @module
 */
import { Effect, Queue, type Scope } from "effect"
import * as Net from "node:net"
import { listen } from "./peers/internal/listen.ts"

/** A request as it came, one JavaScript character for each byte. */
export interface RawRequest {
  /** Method and target. */
  readonly line: string
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** Writes to the connection what it likes, once a request has come. */
export type Respond = (socket: Net.Socket, request: RawRequest, number: number) => void

export interface RawServer {
  readonly port: number
  readonly url: string
  readonly requests: Queue.Dequeue<RawRequest>
}

const parse = (text: string): RawRequest | undefined => {
  const end = text.indexOf("\r\n\r\n")
  if (end < 0) return undefined
  const [first = "", ...lines] = text.slice(0, end).split("\r\n")
  const headers = Object.fromEntries(lines.map((line) => {
    const at = line.indexOf(":")
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()]
  }))
  const body = text.slice(end + 4)
  return body.length < Number(headers["content-length"] ?? 0)
    ? undefined
    : { line: first.replace(/ HTTP\/1\.1$/, ""), headers, body }
}

/** A whole answer after which the connection ends. */
export const answer = (
  status: number,
  body: string | object,
  headers: Readonly<Record<string, string>> = {}
): Respond => {
  const text = typeof body === "string" ? body : JSON.stringify(body)
  const lines = Object.entries({ "connection": "close", "content-length": String(Buffer.byteLength(text)), ...headers })
  return (socket) =>
    socket.end(`HTTP/1.1 ${status} Status\r\n${lines.map(([name, of]) => `${name}: ${of}\r\n`).join("")}\r\n${text}`)
}

export const make = (respond: Respond): Effect.Effect<RawServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const requests = yield* Queue.unbounded<RawRequest>()
    let number = 0
    const server = Net.createServer({ noDelay: true }, (socket) => {
      let text = ""
      socket.on("error", () => {})
      socket.on("data", (bytes) => {
        text += bytes.toString("latin1")
        const request = parse(text)
        if (request === undefined) return
        text = ""
        requests.unsafeOffer(request)
        respond(socket, request, number++)
      })
    })
    const port = yield* listen(server)
    return { port, url: `http://127.0.0.1:${port}/upload`, requests }
  })
