/**
 * Where a server listens, and why it cannot.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import type * as Http from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"

/** The server cannot listen. */
export class CannotListen extends Schema.TaggedError<CannotListen>("indexedcp/CannotListen")("CannotListen", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

/** A host and a port, or the path of a Unix-domain socket. */
export interface Place {
  readonly host: string
  readonly port: number
  readonly socket?: string | undefined
}

export const codeOf = (cause: unknown): string => (cause as { readonly code?: string } | undefined)?.code ?? ""

const explainPort: Readonly<Record<string, string>> = {
  EADDRINUSE: "the port is in use; choose another with --port, or 0 for any free one",
  EACCES: "no permission for that port; choose one above 1023",
  EADDRNOTAVAIL: "this machine has no such address; choose another with --host",
  ENOTFOUND: "the host is not known; choose another with --host",
  EAI_AGAIN: "the host cannot be looked up now; give an address with --host"
}

const explainSocket: Readonly<Record<string, string>> = {
  EADDRINUSE: "another server listens on it; stop that one, or choose another path",
  EACCES: "no permission to make a socket in that folder; choose another path",
  EROFS: "that folder cannot be written to; choose another path"
}

const cannot = (place: Place, why: string | undefined, cause?: unknown) =>
  new CannotListen({
    message: `Cannot listen on ${place.socket ?? `${place.host} port ${place.port}`}: ${
      why ?? (cause instanceof Error ? cause.message : String(cause))
    }`,
    ...(cause === undefined ? {} : { cause })
  })

/** What fits in the system's address of a socket; Node cuts off the rest and listens somewhere else. */
const longestPath = process.platform === "linux" ? 107 : 103

/** Whether anybody listens on a socket file. */
const listens = (path: string) =>
  Effect.async<boolean>((resume) => {
    const probe = Net.connect({ path })
    const answer = (found: boolean) => () => {
      probe.destroy()
      resume(Effect.succeed(found))
    }
    probe.once("connect", answer(true))
    // only a refusal says that nobody is there
    probe.once("error", (cause) => answer(codeOf(cause) !== "ECONNREFUSED" && codeOf(cause) !== "ENOENT")())
  })

/** Makes room for a socket: what a server that died has left there goes, nothing else does. */
const clearSocket = (place: Place, path: string) =>
  Effect.gen(function*() {
    if (path === "") return yield* cannot(place, "the path of the socket is empty; give one like /run/indexedcp.sock")
    if (Buffer.byteLength(path) > longestPath) {
      return yield* cannot(
        place,
        `the path is longer than the ${longestPath} bytes a socket may have; choose a shorter`
      )
    }
    const folder = Path.dirname(path)
    const isFolder = yield* Effect.promise(() => Fs.stat(folder).then((found) => found.isDirectory(), codeOf))
    if (isFolder === false || isFolder === "ENOENT" || isFolder === "ENOTDIR") {
      return yield* cannot(place, `there is no folder ${folder}; make it first`)
    }
    const found = yield* Effect.promise(() => Fs.lstat(path).catch(() => undefined))
    if (found === undefined) return
    if (!found.isSocket()) return yield* cannot(place, "there is a file that is no socket; choose another path")
    if (yield* listens(path)) return yield* cannot(place, explainSocket["EADDRINUSE"])
    yield* Effect.tryPromise({
      try: () => Fs.rm(path, { force: true }),
      catch: (cause) => cannot(place, "a dead server's socket is there and cannot be removed; remove it", cause)
    })
  })

/** Listens until the scope closes; then no more connections are taken, and it waits until the last one has ended. */
export const listen = (
  server: Http.Server,
  place: Place
): Effect.Effect<Net.AddressInfo | string, CannotListen, Scope.Scope> =>
  Effect.gen(function*() {
    const { socket } = place
    if (socket !== undefined) yield* clearSocket(place, socket)
    const started = Effect.async<void, CannotListen>((resume) => {
      const failed = (cause: unknown) => {
        const explain = socket === undefined ? explainPort : explainSocket
        resume(Effect.fail(cannot(place, explain[codeOf(cause)], cause)))
      }
      server.once("error", failed)
      server.listen(socket === undefined ? { host: place.host, port: place.port } : { path: socket }, () => {
        server.off("error", failed)
        resume(Effect.void)
      })
    })
    yield* Effect.acquireRelease(started, () =>
      Effect.async<void>((resume) => {
        server.close(() => resume(Effect.void))
      }))
    return server.address()!
  })

const loopback = new Net.BlockList()
loopback.addSubnet("127.0.0.0", 8, "ipv4")
loopback.addAddress("::1", "ipv6")

/** Whether only this machine can reach a host or address. */
export const isLoopback = (host: string): boolean => {
  const bare = host.replace(/^\[(.*)\]$/, "$1")
  const version = Net.isIP(bare)
  return version === 0
    ? /^localhost\.?$/i.test(bare)
    : loopback.check(bare, version === 6 ? "ipv6" : "ipv4")
}
