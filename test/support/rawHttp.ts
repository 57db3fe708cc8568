/**
 * HTTP by hand over a socket: what no well-behaved client sends, and what really comes back.
 *
 * @module
 */
import * as HttpServer from "@effect/platform/HttpServer"
import { Effect, Layer, Logger, LogLevel, Redacted, Schedule, type Scope } from "effect"
import * as Net from "node:net"
import * as Tls from "node:tls"
import * as Server from "../../src/server/Server.ts"
import * as RawFiles from "./rawFiles.ts"

export interface RawAnswer {
  readonly status: number
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface Connection {
  /** Ends when the system has taken the bytes, or the other side is gone. */
  readonly write: (...data: ReadonlyArray<string | Uint8Array>) => Effect.Effect<void>
  /** The next whole answer; dies when the connection ends before it. */
  readonly answer: Effect.Effect<RawAnswer>
  /** How the server ended the connection. */
  readonly closed: Effect.Effect<"closed" | "reset">
  /** What comes after the answers that were taken, once the server has ended the connection. */
  readonly rest: Effect.Effect<string>
  /** Whether nobody takes what is written any more. */
  readonly isReset: Effect.Effect<boolean>
  /** Says that nothing more comes, and goes on listening. */
  readonly end: Effect.Effect<void>
  /** Reads nothing of what the server sends any more. */
  readonly ignore: Effect.Effect<void>
  /** Breaks the connection off. */
  readonly destroy: Effect.Effect<void>
}

const parse = (received: Buffer): { readonly answer: RawAnswer; readonly length: number } | undefined => {
  const end = received.indexOf("\r\n\r\n")
  if (end < 0) return undefined
  const [status, ...lines] = received.subarray(0, end).toString("latin1").split("\r\n")
  const headers = Object.fromEntries(lines.map((line) => {
    const at = line.indexOf(":")
    return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()]
  }))
  const length = end + 4 + Number(headers["content-length"] ?? 0)
  return received.length < length ? undefined : {
    answer: {
      status: Number(status!.split(" ")[1]),
      headers,
      body: received.subarray(end + 4, length).toString("utf8")
    },
    length
  }
}

/** A port of this machine, with TLS where there is an authority to trust; or the path of a Unix-domain socket. */
export type Target = number | { readonly port: number; readonly ca: string } | { readonly path: string }

const open = (to: Target, allowHalfOpen: boolean): Net.Socket => {
  if (typeof to === "object" && "path" in to) return Net.connect({ path: to.path, allowHalfOpen })
  const { port } = typeof to === "number" ? { port: to } : to
  return typeof to === "number"
    ? Net.connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen })
    : Tls.connect({ port, host: "127.0.0.1", ca: to.ca }).setNoDelay(true)
}

export const connect = (
  to: Target,
  /** Whether it goes on sending though the server has ended its side. */
  goesOn = false
): Effect.Effect<Connection, never, Scope.Scope> =>
  Effect.gen(function*() {
    const socket = yield* Effect.acquireRelease(
      Effect.async<Net.Socket>((resume) => {
        const socket = open(to, goesOn)
        socket.once(typeof to === "object" && "ca" in to ? "secureConnect" : "connect", () =>
          resume(Effect.succeed(socket)))
        socket.once("error", (error) =>
          resume(Effect.die(error)))
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    let received: Buffer = Buffer.alloc(0)
    let ended: "closed" | "reset" | undefined
    const waiting = new Set<() => void>()
    const wake = () => waiting.forEach((check) => check())
    socket.on("data", (bytes) => {
      received = Buffer.concat([received, bytes])
      wake()
    })
    const end = (how: "closed" | "reset") => () => {
      ended ??= how
      wake()
    }
    socket.on("end", end("closed"))
    socket.on("error", end("reset"))
    socket.on("close", end("closed"))
    const until = <A>(check: () => A | undefined) =>
      Effect.async<A>((resume) => {
        const attempt = () => {
          const found = check()
          if (found === undefined) {
            if (ended === undefined) return
            waiting.delete(attempt)
            return resume(Effect.dieMessage(`the connection was ${ended} before an answer came`))
          }
          waiting.delete(attempt)
          resume(Effect.succeed(found))
        }
        waiting.add(attempt)
        attempt()
        return Effect.sync(() => waiting.delete(attempt))
      })
    return {
      write: (...data) =>
        Effect.async((resume) => {
          socket.write(Buffer.concat(data.map((part) => Buffer.from(part as Uint8Array))), () => resume(Effect.void))
        }),
      answer: until(() => {
        const found = parse(received)
        if (found !== undefined) received = received.subarray(found.length)
        return found?.answer
      }),
      closed: until(() => ended),
      rest: until(() => ended === undefined ? undefined : received.toString("latin1")),
      isReset: Effect.sync(() => socket.destroyed),
      end: Effect.sync(() => socket.end()),
      ignore: Effect.sync(() => socket.pause()),
      destroy: Effect.sync(() => socket.resetAndDestroy())
    }
  })

export const apiKey = "key 1"

export const authorized = { authorization: `Bearer ${apiKey}` }

/** The head of a request; a value that is an array is sent as that many headers. */
export const head = (
  method: string,
  path: string,
  headers: Readonly<Record<string, string | number | ReadonlyArray<string>>> = {}
): string =>
  [
    `${method} ${path} HTTP/1.1`,
    "host: test",
    ...Object.entries(headers).flatMap(([name, values]) => [values].flat().map((value) => `${name}: ${value}`)),
    "",
    ""
  ].join("\r\n")

/** Sends one request on a connection of its own. */
export const request = (
  to: Target,
  method: string,
  path: string,
  headers: Readonly<Record<string, string | number | ReadonlyArray<string>>> = {},
  body: string | Uint8Array = ""
): Effect.Effect<RawAnswer> =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* connect(to)
    const length = Buffer.byteLength(body)
    yield* connection.write(
      head(method, path, method === "POST" ? { "content-length": length, ...headers } : headers),
      body
    )
    return yield* connection.answer
  }))

/** Sends one request and closes the connection before any answer. */
export const leave = (
  port: number,
  headers: Readonly<Record<string, string | number>>,
  body: Uint8Array,
  how: "FIN" | "RST"
): Effect.Effect<void> =>
  Effect.async((resume) => {
    const socket = Net.connect({ port, host: "127.0.0.1", noDelay: true })
    socket.once("error", () => {})
    socket.once("close", () => resume(Effect.void))
    socket.write(head("POST", "/upload", { "content-length": body.length, ...headers }))
    socket.write(body, () => how === "FIN" ? socket.destroy() : socket.resetAndDestroy())
  })

/** Waits until something is so, as seen from outside the server, 5 s at most. */
export const eventually = (check: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => check() ? Effect.void : Effect.fail("not yet" as const)).pipe(
    Effect.retry({ schedule: Schedule.spaced("5 millis"), times: 1000 }),
    Effect.orDie
  )

export interface Running {
  readonly port: number
  readonly folder: string
}

const portOf = HttpServer.addressWith((address) =>
  address._tag === "TcpAddress" ? Effect.succeed(address.port) : Effect.dieMessage("no port")
)

const silent = Logger.minimumLogLevel(LogLevel.None)

/** A server on a free port that stops when the scope closes. */
export const serve = (folder: string, options: Partial<Server.ServerOptions> = {}) =>
  Effect.map(
    Effect.flatMap(
      Layer.build(Layer.provide(
        Server.layer({ outputDir: folder, apiKey: Redacted.make(apiKey), port: 0, ...options }),
        silent
      )),
      (context) => Effect.provide(portOf, context)
    ),
    (port): Running => ({ port, folder })
  )

/** The same on a folder of its own. */
export const running = Effect.flatMap(RawFiles.temporaryFolder, (folder) => serve(folder))

/** A simple server that appends to a file. */
export const serveSimple = (file: string) =>
  Effect.flatMap(
    Layer.build(Layer.provide(Server.layerSimple(file, { port: 0 }), silent)),
    (context) => Effect.provide(portOf, context)
  )
