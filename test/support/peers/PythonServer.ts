/**
 * A revision-1 server that behaves like the Python one (PROTOCOL.md, "Facts about revision-1 peers").
 *
 * It speaks HTTP/1.0 over bare sockets, because `node:http` would keep connections alive, read bodies by itself and
 * understand chunked coding.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Path from "node:path"
import { finished } from "node:stream"
import { listen } from "./internal/listen.ts"
import * as PeerServer from "./PeerServer.ts"

export interface Options extends PeerServer.Options {
  /** Asked for every chunk, with the headers as they came. The basename of the client's name by default. */
  readonly filename?: (clientName: string, chunkIndex: string) => string
}

interface Head {
  readonly method: string
  readonly target: string
  /** Lower-case names; of a repeated header the first. */
  readonly headers: ReadonlyMap<string, string>
}

interface Request {
  readonly head: Head
  readonly body: Uint8Array
  readonly cut: boolean
  /** Bytes taken from the socket that the program did not ask for. */
  readonly unread: number
}

interface Answer {
  readonly status: number
  readonly type: string
  readonly text: string
  readonly actualFilename?: string
}

/** What a buffered reader takes from the system ahead of the program. */
const readAhead = 8192

const reasons: Record<number, string> = {
  200: "OK",
  401: "Unauthorized",
  404: "Not Found",
  500: "Internal Server Error"
}

/** JSON with spaces after the separators and nothing but ASCII. */
const json = (status: number, fields: Record<string, string | number>): Answer => {
  const value = (of: string | number) =>
    JSON.stringify(of).replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
  const text = Object.entries(fields).map(([name, of]) => `${value(name)}: ${value(of)}`).join(", ")
  return { status, type: "application/json", text: `{${text}}` }
}

const toInt = (text: string): number => {
  if (!/^\s*[+-]?\d+(?:_\d+)*\s*$/.test(text)) throw new Error(`invalid literal for int() with base 10: '${text}'`)
  return Number(text.replaceAll("_", ""))
}

const parseHead = (text: string): Head => {
  const [first = "", ...lines] = text.split("\r\n")
  const [method = "", target = ""] = first.split(" ")
  const headers = new Map<string, string>()
  for (const line of lines) {
    const colon = line.indexOf(":")
    const name = line.slice(0, colon).toLowerCase()
    if (colon > 0 && !headers.has(name)) headers.set(name, line.slice(colon + 1).trim())
  }
  return { method, target, headers }
}

/**
 * Reads a head and then as many bytes as `wanted` says of it, or what there is before the connection ends. Stops reading
 * in the same turn, so that the rest stays with the system. `undefined` when not even a head arrived.
 */
const readRequest = (socket: Net.Socket, wanted: (head: Head) => number): Promise<Request | undefined> =>
  new Promise((resolve) => {
    if (socket.destroyed) return resolve(undefined)
    let head: Head | undefined
    let length = 0
    let arrived = 0
    let pieces: Array<Buffer> = []
    const stop = (cut: boolean) => {
      socket.pause()
      socket.off("data", onData).off("end", onEnd).off("close", onEnd)
      const unread = Math.max(arrived - length, 0)
      resolve(head && { head, body: Buffer.concat(pieces).subarray(0, length), cut, unread })
    }
    const onEnd = () => stop(true)
    const onData = (piece: Buffer) => {
      pieces.push(piece)
      arrived += piece.length
      if (!head) {
        const all = Buffer.concat(pieces)
        const end = all.indexOf("\r\n\r\n")
        if (end < 0) return
        head = parseHead(all.toString("latin1", 0, end))
        length = wanted(head)
        pieces = [all.subarray(end + 4)]
        arrived = all.length - end - 4
      }
      if (arrived >= length) stop(false)
    }
    socket.on("data", onData).on("end", onEnd).on("close", onEnd)
    socket.resume()
  })

/** Sends the answer and closes. What was not read turns into a reset, as it does where a program leaves it unread. */
const answerAndClose = (socket: Net.Socket, answer: Answer, unread: number): Promise<void> =>
  new Promise((resolve) => {
    if (socket.closed) return resolve()
    socket.once("close", () => resolve())
    finished(socket, { readable: false }, () => unread > readAhead ? socket.resetAndDestroy() : socket.destroy())
    socket.end(
      `HTTP/1.0 ${answer.status} ${reasons[answer.status]}\r\n` +
        `Server: BaseHTTP/0.6\r\nDate: ${
          new Date().toUTCString()
        }\r\nContent-Type: ${answer.type}\r\n\r\n${answer.text}`,
      "latin1"
    )
  })

const refuse = (head: Head, apiKey: string | undefined): Answer | undefined =>
  head.method !== "POST" || head.target !== "/upload"
    ? { status: 404, type: "text/plain", text: "Not Found" }
    : apiKey !== undefined && head.headers.get("authorization") !== `Bearer ${apiKey}`
    ? json(401, { error: "Invalid or missing API key" })
    : undefined

const bodyLength = (head: Head): number => {
  const length = Number(head.headers.get("content-length") ?? 0)
  return Number.isSafeInteger(length) && length > 0 ? length : 0
}

const store = async ({ head, body }: Request, options: Options): Promise<Answer> => {
  const clientFilename = head.headers.get("x-file-name") ?? PeerServer.absentName
  const index = head.headers.get("x-chunk-index") ?? "0"
  let actualFilename: string | undefined
  try {
    const name = options.filename?.(clientFilename, index) ?? clientFilename.slice(clientFilename.lastIndexOf("/") + 1)
    await Fs.appendFile(Path.join(options.folder, name), body)
    actualFilename = name
    const chunkIndex = toInt(index)
    return { ...json(200, { message: "Chunk received", actualFilename, chunkIndex, clientFilename }), actualFilename }
  } catch (error) {
    const failed = json(500, { error: `Upload error: ${error instanceof Error ? error.message : error}` })
    return actualFilename === undefined ? failed : { ...failed, actualFilename }
  }
}

const serve = async (
  socket: Net.Socket,
  options: Options,
  exchanges: Queue.Enqueue<PeerServer.Exchange>
): Promise<void> => {
  const from = socket.remoteAddress ?? ""
  const request = await readRequest(socket, (head) => refuse(head, options.apiKey) ? 0 : bodyLength(head))
  if (!request) {
    socket.destroy()
    return
  }
  const { method, target } = request.head
  const answer = refuse(request.head, options.apiKey) ?? await store(request, options)
  await answerAndClose(socket, answer, request.unread)
  const over = { from, method, target, status: answer.status, cut: request.cut }
  exchanges.unsafeOffer(
    answer.actualFilename === undefined
      ? { ...over, bytes: 0 }
      : { ...over, bytes: request.body.length, actualFilename: answer.actualFilename }
  )
}

/**
 * Starts a server. Connections are served strictly one after another: until the first is closed, nothing is read from
 * the next. A connection on which nothing is sent blocks all others.
 */
export const make = (options: Options): Effect.Effect<PeerServer.PeerServer, never, Scope.Scope> =>
  Effect.gen(function*() {
    const exchanges = yield* Queue.unbounded<PeerServer.Exchange>()
    let last: Promise<void> = Promise.resolve()
    const server = Net.createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
      // An error is followed by "close", which says enough.
      socket.on("error", () => {})
      last = last.then(() => serve(socket, options, exchanges))
    })
    // Runs once the listener is closed: nothing is written to the folder after the scope.
    yield* Effect.addFinalizer(() => Effect.promise(() => last))
    const port = yield* listen(server, options.port)
    return { port, url: `http://127.0.0.1:${port}/upload`, folder: options.folder, exchanges }
  })
