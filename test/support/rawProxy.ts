/**
 * An HTTP proxy as companies have them: `CONNECT` for tunnels, whole addresses for plain HTTP.
 *
 * @module
 */
import { Effect, type Scope } from "effect"
import * as Http from "node:http"
import * as Net from "node:net"
import { listen } from "./peers/internal/listen.ts"

export interface Seen {
  /** Method and target, like `CONNECT 127.0.0.1:443` or `POST http://127.0.0.1:80/upload`. */
  readonly line: string
  /** Lower-case names. */
  readonly headers: Http.IncomingHttpHeaders
}

export interface RawProxy {
  /** Without a scheme. */
  readonly address: string
  readonly seen: ReadonlyArray<Seen>
}

const lineOf = (request: Http.IncomingMessage) => `${request.method} ${request.url}`

export const make: Effect.Effect<RawProxy, never, Scope.Scope> = Effect.gen(function*() {
  const seen: Array<Seen> = []
  const server = Http.createServer((request, response) => {
    seen.push({ line: lineOf(request), headers: request.headers })
    const forwarded = Http.request(request.url!, { method: request.method!, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(response)
    })
    forwarded.on("error", () => response.destroy())
    request.pipe(forwarded)
  })
  server.on("connect", (request, client, head) => {
    seen.push({ line: lineOf(request), headers: request.headers })
    const { hostname, port } = new URL(`http://${request.url}`)
    const target = Net.connect({ host: hostname, port: Number(port) }, () => {
      client.write("HTTP/1.1 200 Connection established\r\n\r\n")
      target.write(head)
      target.pipe(client).pipe(target)
    })
    for (const [socket, other] of [[client, target], [target, client]] as const) {
      socket.on("error", () => other.destroy())
      socket.on("close", () => other.destroy())
    }
  })
  const port = yield* listen(server)
  return { address: `127.0.0.1:${port}`, seen }
})
