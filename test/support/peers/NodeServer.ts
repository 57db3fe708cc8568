/**
 * A revision-1 server that behaves like the Node.js one (PROTOCOL.md, "Facts about revision-1 peers").
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Path from "node:path"
import { finished } from "node:stream"
import { listen } from "./internal/listen.ts"
import * as PeerServer from "./PeerServer.ts"

export interface Options extends PeerServer.Options {
  /** Answers `Chunk received` as text, as the simple servers do. */
  readonly plainText?: boolean
}

const header = (request: Http.IncomingMessage, name: string): string | undefined => {
  const value = request.headers[name]
  return typeof value === "string" && value !== "" ? value : undefined
}

const sendText = (response: Http.ServerResponse, status: number, text: string) =>
  response.writeHead(status, { "content-type": "text/plain" }).end(text)

const sendJson = (response: Http.ServerResponse, status: number, fields: object) =>
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(fields))

/** A file system that opens files only then. */
const openAfter = (earlier: Promise<void>) => ({
  ...Fs,
  open: (...args: Parameters<typeof Fs.open>) => void earlier.then(() => Fs.open(...args))
})

/**
 * Starts a server. A body flows into the file as it comes, and the answer goes out when the request has ended, which is
 * before the file is flushed: take from `exchanges` before looking at the file.
 */
export const make = (options: Options): Effect.Effect<PeerServer.PeerServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const exchanges = yield* Queue.unbounded<PeerServer.Exchange>()
    // Requests whose file is open, and by path the last answered one. The next request opens the same file only when
    // that one has been flushed, so that tests do not depend on which of two writes the system does first.
    const open = new Set<Promise<void>>()
    const answered = new Map<string, Promise<void>>()

    const store = (
      request: Http.IncomingMessage,
      response: Http.ServerResponse,
      path: string,
      clientFilename: string
    ) => {
      const actualFilename = Path.basename(path)
      const from = request.socket.remoteAddress ?? ""
      const earlier = answered.get(path)
      const file = Fs.createWriteStream(path, { flags: "a", fs: earlier ? openAfter(earlier) : Fs })
      const flushed = new Promise<void>((resolve) => {
        finished(file, (error) => {
          open.delete(flushed)
          resolve()
          if (error && !response.headersSent) sendJson(response, 500, { error: "Upload error", message: error.message })
          const over = { from, method: "POST", target: "/upload", bytes: file.bytesWritten, cut: !request.complete }
          const status = response.headersSent ? response.statusCode : 0
          exchanges.unsafeOffer(error ? { ...over, status } : { ...over, status, actualFilename })
        })
      })
      open.add(flushed)
      request.once("end", () => {
        answered.set(path, flushed)
        if (response.headersSent) return
        if (options.plainText) return void sendText(response, 200, "Chunk received\n")
        const chunkIndex = Number.parseInt(header(request, "x-chunk-index") ?? "")
        sendJson(response, 200, { message: "Chunk received", actualFilename, chunkIndex, clientFilename })
      })
      // Of a cut body the stream keeps what arrived, but nobody would end it.
      request.once("close", () => file.end())
      request.pipe(file)
    }

    const server = Http.createServer((request, response) => {
      const method = request.method ?? ""
      const target = request.url ?? ""
      const refused = () => {
        const over = { from: request.socket.remoteAddress ?? "", method, target, bytes: 0 }
        response.once("close", () => {
          exchanges.unsafeOffer({ ...over, status: response.statusCode, cut: !request.complete })
        })
      }
      if (method !== "POST" || target !== "/upload") {
        refused()
        sendText(response, 404, "Not Found")
      } else if (options.apiKey !== undefined && request.headers.authorization !== `Bearer ${options.apiKey}`) {
        refused()
        sendJson(response, 401, { error: "Invalid or missing API key" })
      } else {
        const clientFilename = header(request, "x-file-name") ?? PeerServer.absentName
        const path = Path.join(options.folder, Path.basename(clientFilename))
        store(request, response, path, clientFilename)
      }
    })
    // Runs once the listener is closed: nothing is written to the folder after the scope.
    yield* Effect.addFinalizer(() => Effect.promise(() => Promise.all(open)))
    const port = yield* listen(server, options.port)
    return { port, url: `http://127.0.0.1:${port}/upload`, folder: options.folder, exchanges }
  })
