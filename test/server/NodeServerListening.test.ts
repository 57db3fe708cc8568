import * as HttpServer from "@effect/platform/HttpServer"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Redacted, Schedule } from "effect"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as NodeServer from "../../src/server/NodeServer.ts"
import * as Server from "../../src/server/Server.ts"
import * as EchoServer from "../support/echoServer.ts"
import { isWindows } from "../support/platform.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { apiKey, authorized, connect, eventually, head, request } from "../support/rawHttp.ts"

const socketPath = Effect.map(RawFiles.temporaryFolder, (folder) => Path.join(folder, "s.sock"))

/** Why a server does not start: always one line. */
const refusal = (options: Partial<NodeServer.ListenOptions>) =>
  Effect.map(Effect.flip(Effect.scoped(EchoServer.make(options))), ({ _tag, message }) => {
    expect([_tag, message.includes("\n")]).toEqual(["CannotListen", false])
    return message
  })

/** A socket file on which nobody listens, as a killed server leaves it. */
const abandoned = (path: string) =>
  Effect.async<void>((resume) => {
    const server = Net.createServer()
    server.listen(path, () => {
      Fs.renameSync(path, `${path}.kept`)
      server.close(() => {
        Fs.renameSync(`${path}.kept`, path)
        resume(Effect.void)
      })
    })
  })

describe.skipIf(isWindows)("NodeServer, Unix-domain sockets", () => {
  it.scopedLive("serves the whole protocol on one, removes it at the end, and tells its URL", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const folder = yield* RawFiles.temporaryFolder
      yield* Effect.scoped(Effect.gen(function*() {
        const { endpoint, port } = yield* Server.start({
          outputDir: folder,
          apiKey: Redacted.make(apiKey),
          socket: path
        })
        expect([endpoint, port]).toEqual([`http://unix:${path}:/upload`, 0])
        for (const [index, body] of ["abc", "def"].entries()) {
          const headers = { ...authorized, "x-file-name": "a.txt", "x-chunk-index": index }
          expect((yield* request({ path }, "POST", "/upload", headers, body)).status).toBe(200)
        }
        expect((yield* request({ path }, "POST", "/upload", {}, new Uint8Array(4_000_000))).status).toBe(401)
      }))
      expect(Fs.readFileSync(Path.join(folder, "a.txt"), "utf8")).toBe("abcdef")
      expect(Fs.existsSync(path)).toBe(false)
    }))

  it.scopedLive("replaces one on which nobody listens any more", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* abandoned(path)
      expect(Fs.lstatSync(path).isSocket()).toBe(true)
      yield* EchoServer.make({ socket: path })
      expect((yield* request({ path }, "POST", "/", {}, "a")).body).toBe("a")
    }))

  it.scopedLive("leaves alone one on which somebody listens", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      yield* EchoServer.make({ socket: path })
      expect(yield* refusal({ socket: path })).toBe(
        `Cannot listen on ${path}: another server listens on it; stop that one, or choose another path`
      )
      expect((yield* request({ path }, "POST", "/", {}, "a")).body).toBe("a")
    }))

  it.scopedLive("says why a path cannot be one, and changes nothing there", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const file = Path.join(folder, "file")
      Fs.writeFileSync(file, "mine")
      Fs.symlinkSync(file, Path.join(folder, "link"))
      const at = (...names: ReadonlyArray<string>) => refusal({ socket: Path.join(folder, ...names) })
      expect(yield* at("file")).toContain("there is a file that is no socket")
      expect(yield* at("link")).toContain("there is a file that is no socket")
      expect(yield* at("none", "s.sock")).toContain(`there is no folder ${Path.join(folder, "none")}`)
      expect(yield* at("file", "s.sock")).toContain(`there is no folder ${file}`)
      expect(yield* at("x".repeat(100))).toMatch(/the path is longer than the 10\d bytes a socket may have/)
      expect(yield* refusal({ socket: "" })).toContain("the path of the socket is empty")
      expect([Fs.readdirSync(folder).sort(), Fs.readFileSync(file, "utf8")]).toEqual([["file", "link"], "mine"])
    }))

  it.scopedLive("ends at once what waits, and lets a request in flight end", () =>
    Effect.gen(function*() {
      const path = yield* socketPath
      const { stop } = yield* EchoServer.make({ socket: path })
      const [inFlight, silent] = [yield* connect({ path }), yield* connect({ path })]
      yield* inFlight.write(head("POST", "/", { "content-length": 2 }), "a")
      yield* request({ path }, "GET", "/")
      const stopping = yield* Effect.fork(stop)
      expect(yield* silent.closed).not.toBe("open")
      yield* eventually(() => !Fs.existsSync(path))
      yield* inFlight.write("b")
      expect((yield* inFlight.answer).body).toBe("ab")
      yield* Fiber.join(stopping)
    }), 5000)
})

describe("NodeServer, where it listens", () => {
  it("knows what only this machine can reach", () => {
    const near = ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "0:0:0:0:0:0:0:1", "::ffff:127.0.0.1", "localhost"]
    const far = ["0.0.0.0", "::", "", "10.0.0.1", "128.0.0.1", "::ffff:10.0.0.1", "localhost.example", "127.0.0.1.x"]
    expect(near.filter(NodeServer.isLoopback)).toEqual(near)
    expect(far.filter(NodeServer.isLoopback)).toEqual([])
  })

  it.scopedLive("warns where others can listen in, and only there", () =>
    Effect.gen(function*() {
      const warnings = (options: Partial<NodeServer.ListenOptions>) =>
        Effect.map(EchoServer.make(options), ({ lines }) => lines)
      expect(yield* warnings({ host: "0.0.0.0" })).toEqual([
        expect.stringMatching(/in the clear.*--tls-cert.*0\.0\.0\.0/)
      ])
      expect(yield* warnings({ host: "localhost" })).toEqual([])
      if (!isWindows) expect(yield* warnings({ socket: yield* socketPath, host: "0.0.0.0" })).toEqual([])
    }))

  it.scopedLive("says that a host is not known, and what to do", () =>
    Effect.gen(function*() {
      expect(yield* refusal({ host: "no-such-host.invalid" })).toMatch(/port 0: the host .* --host$/)
    }))

  it.scopedLive("asks to come again while no app is there", () =>
    Effect.gen(function*() {
      const { address } = yield* HttpServer.HttpServer
      const port = address._tag === "TcpAddress" ? address.port : 0
      const early = yield* request(port, "POST", "/upload", {}, "abc")
      expect([early.status, early.headers["retry-after"]]).toEqual([503, "1"])
    }).pipe(Effect.provide(NodeServer.layer({ port: 0 }))))

  it.scopedLive("answers 503 on connections that are open when it stops, drained", () =>
    Effect.gen(function*() {
      const { asked, port, stop } = yield* EchoServer.make({ drainTimeout: "5 seconds" })
      const [inFlight, large] = [yield* connect(port), new Uint8Array(4_000_000)]
      yield* inFlight.write(head("POST", "/one", { "content-length": 2 }), "a")
      yield* request(port, "GET", "/")
      const stopping = yield* Effect.fork(stop)
      yield* Effect.exit(Effect.scoped(connect(port))).pipe(
        Effect.repeat({ until: Exit.isFailure, schedule: Schedule.spaced("5 millis"), times: 1000 })
      )
      yield* inFlight.write("b", head("POST", "/two", { "content-length": large.length }), large)
      expect((yield* inFlight.answer).body).toBe("ab")
      const exit = yield* Effect.exit(inFlight.answer)
      expect(Exit.isSuccess(exit) && [exit.value.status, exit.value.headers["retry-after"]]).toEqual([503, "5"])
      yield* Fiber.join(stopping)
      expect(asked.map(({ url }) => url)).toEqual(["/", "/one"])
    }), 8000)
})
