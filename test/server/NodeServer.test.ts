import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schedule, Scope } from "effect"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as NodeServer from "../../src/server/NodeServer.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { authorized, connect, eventually, head, request, running, serve } from "../support/rawHttp.ts"

const MiB = 1024 * 1024
const large = new Uint8Array(4 * MiB).fill(97)

const chunk = (offset: number, length: number, more: Record<string, string | number> = {}) =>
  head("POST", "/upload", {
    ...authorized,
    "x-file-name": "a.txt",
    "x-upload-id": "u1",
    "x-chunk-offset": offset,
    "content-length": length,
    ...more
  })

const visible = (folder: string) => Fs.readdirSync(folder).filter((name) => name !== ".indexedcp")

const partsIn = (folder: string) => Fs.readdirSync(Path.join(folder, ".indexedcp", "parts"))

/** Bytes that have reached the part files. */
const staged = (folder: string) =>
  partsIn(folder).reduce(
    (sum, part) => sum + Fs.statSync(Path.join(folder, ".indexedcp", "parts", part)).size,
    0
  )

describe("NodeServer, refused requests", () => {
  it.scopedLive("lets a client that sends all before it reads see the 401 of a large body, and closes", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const connection = yield* connect(port)
      yield* connection.write(head("POST", "/upload", { "content-length": large.length }))
      for (let at = 0; at < large.length; at += MiB) yield* connection.write(large.subarray(at, at + MiB))
      const answer = yield* connection.answer
      expect([answer.status, answer.headers["connection"]]).toEqual([401, "close"])
      expect(yield* connection.closed).toBe("closed")
      expect([visible(folder), partsIn(folder)]).toEqual([[], []])
    }))

  it.scopedLive("answers before the body is there", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      for (const [status, headers] of [[404, {}], [401, {}], [400, { ...authorized, "x-chunk-index": "x" }]] as const) {
        const connection = yield* connect(port)
        yield* connection.write(head("POST", status === 404 ? "/" : "/upload", { ...headers, "content-length": 100 }))
        expect((yield* connection.answer).status).toBe(status)
        expect(yield* connection.closed).toBe("closed")
      }
    }))

  it.scopedLive("keeps the connection when nothing of the body is left", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      const connection = yield* connect(port)
      yield* connection.write(head("GET", "/nowhere"))
      expect((yield* connection.answer).status).toBe(404)
      yield* connection.write(head("GET", "/upload/u1"))
      expect((yield* connection.answer).status).toBe(401)
      yield* connection.write(chunk(0, 3), "abc")
      expect((yield* connection.answer).status).toBe(200)
      yield* connection.write(chunk(0, 3), "xyz")
      expect((yield* connection.answer).status).toBe(409)
      yield* connection.write(chunk(3, 0, { "x-file-size": 3 }))
      expect((yield* connection.answer).status).toBe(200)
    }))

  it.scopedLive("shows a 409 in the middle of a body that goes on", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      yield* request(port, "POST", "/upload", { ...authorized, "x-upload-id": "u1", "x-chunk-offset": 5 }, "abc")
      const connection = yield* connect(port)
      const headers = { ...authorized, "x-upload-id": "u1", "x-chunk-offset": 0, "transfer-encoding": "chunked" }
      yield* connection.write(head("POST", "/upload", headers))
      yield* connection.write(`${large.length.toString(16)}\r\n`, large, "\r\n0\r\n\r\n")
      expect((yield* connection.answer).status).toBe(409)
      expect(yield* connection.closed).toBe("closed")
    }))
})

describe("NodeServer, connections that die", () => {
  it.scopedLive(
    "lets a new request take over from a half-dead one within 250 ms, which sees its 503",
    () =>
      Effect.gen(function*() {
        const { folder, port } = yield* running
        const dead = yield* connect(port)
        yield* dead.write(chunk(0, 2 * large.length, { "x-file-size": 2 * large.length }), large)
        yield* eventually(() => staged(folder) >= 3 * MiB)
        const before = Date.now()
        const fresh = yield* connect(port)
        const whole = new Uint8Array(2 * large.length).fill(98)
        yield* fresh.write(chunk(0, whole.length, { "x-file-size": whole.length }), whole)
        const old = yield* dead.answer
        expect(Date.now() - before).toBeLessThan(250)
        expect([old.status, old.headers["retry-after"], old.headers["connection"]]).toEqual([503, "1", "close"])
        expect(yield* dead.closed).toBe("closed")
        expect(JSON.parse((yield* fresh.answer).body)).toMatchObject({ complete: true, duplicate: false })
        expect(Fs.readFileSync(Path.join(folder, "a.txt")).equals(whole)).toBe(true)
        // by the clock: a machine that is busy gets another try, a server that is slow fails them all
      }),
    { retry: 3 }
  )

  it.scopedLive("shows its 503 to a client that goes on sending, and drains it", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const old = yield* connect(port)
      yield* old.write(chunk(0, 2 * large.length), large)
      yield* eventually(() => staged(folder) >= 3 * MiB)
      const answered = yield* Effect.fork(
        request(port, "POST", "/upload", { ...authorized, "x-upload-id": "u1", "x-chunk-offset": 0 }, "short")
      )
      // another length at the same offset is no takeover
      expect((yield* Fiber.join(answered)).status).toBe(503)
      const newer = yield* connect(port)
      yield* newer.write(chunk(0, 2 * large.length))
      expect((yield* old.answer).status).toBe(503)
      yield* old.write(large)
      expect(yield* old.closed).toBe("closed")
    }))

  it.scopedLive("keeps nothing of a body whose client disconnects", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const [two, one] = [yield* connect(port), yield* connect(port)]
      yield* two.write(chunk(0, 2 * large.length), large)
      yield* eventually(() => partsIn(folder).length === 1 && staged(folder) >= 3 * MiB)
      yield* two.destroy
      yield* one.write(
        head("POST", "/upload", { ...authorized, "x-file-name": "one.txt", "content-length": 2 * large.length }),
        large
      )
      yield* eventually(() => partsIn(folder).length === 2 && staged(folder) >= 6 * MiB)
      yield* one.destroy
      // the upload of revision 1 is gone altogether; the other one is free again
      yield* eventually(() => partsIn(folder).length === 1)
      expect(visible(folder)).toEqual([])
      const state = yield* request(port, "GET", "/upload/u1", authorized)
      expect(JSON.parse(state.body)).toMatchObject({ bytesReceived: 0, missing: [] })
      const headers = { ...authorized, "x-upload-id": "u1", "x-chunk-offset": 0, "x-file-size": 2 }
      const answer = yield* request(port, "POST", "/upload", headers, "ab").pipe(
        // the server may not have noticed yet that the first client is gone
        Effect.filterOrFail(({ status }) => status !== 503),
        Effect.retry({ schedule: Schedule.spaced("5 millis"), times: 1000 })
      )
      expect(JSON.parse(answer.body)).toMatchObject({ complete: true })
      expect(Fs.readFileSync(Path.join(folder, visible(folder)[0]!), "utf8")).toBe("ab")
    }))
})

describe("NodeServer, shutdown", () => {
  /** A server that stops when asked to. */
  const stoppable = Effect.gen(function*() {
    const folder = yield* RawFiles.temporaryFolder
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
    const { port } = yield* Scope.extend(serve(folder, { drainTimeout: "1 second" }), scope)
    return { port, folder, stop: Scope.close(scope, Exit.void) }
  })

  it.scopedLive("lets a request in flight end with its 200, answers 503 on open connections, and refuses new ones", () =>
    Effect.gen(function*() {
      const { folder, port, stop } = yield* stoppable
      const [inFlight, open] = [yield* connect(port), yield* connect(port)]
      yield* inFlight.write(chunk(0, large.length + 3, { "x-file-size": large.length + 8 }), large)
      yield* open.write(chunk(large.length + 3, 5), "a")
      yield* eventually(() => staged(folder) >= 3 * MiB)
      const stopping = yield* Effect.fork(stop)
      // until it has stopped listening
      yield* Effect.exit(Effect.scoped(connect(port))).pipe(
        Effect.repeat({ until: Exit.isFailure, schedule: Schedule.spaced("5 millis"), times: 1000 })
      )
      expect(Exit.isFailure(yield* Effect.exit(Effect.scoped(connect(port))))).toBe(true)
      yield* open.write("bcde", head("GET", "/upload/u1", authorized))
      expect((yield* open.answer).status).toBe(200)
      const second = yield* Effect.exit(open.answer)
      expect(Exit.isFailure(second) || second.value.status === 503).toBe(true)
      yield* inFlight.write("end")
      expect(JSON.parse((yield* inFlight.answer).body)).toMatchObject({ complete: true })
      yield* Fiber.join(stopping)
    }))

  it.scopedLive("ends at once when only idle keep-alive connections are open", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* stoppable
      const idle = yield* connect(port)
      yield* idle.write(head("GET", "/health"))
      expect((yield* idle.answer).status).toBe(200)
      const before = Date.now()
      yield* stop
      expect(Date.now() - before).toBeLessThan(500)
      expect(yield* idle.closed).toBe("closed")
    }))

  it.scopedLive("does not wait for connections on which nothing was asked yet", () =>
    Effect.gen(function*() {
      const { port, stop } = yield* stoppable
      const silent = yield* connect(port)
      yield* request(port, "GET", "/health")
      const before = Date.now()
      yield* stop
      expect(Date.now() - before).toBeLessThan(500)
      expect(yield* silent.closed).toBe("closed")
    }))

  it.scopedLive("does not wait for a hanging request longer than it may", () =>
    Effect.gen(function*() {
      const { folder, port, stop } = yield* stoppable
      const hanging = yield* connect(port)
      yield* hanging.write(head("POST", "/upload", { ...authorized, "content-length": 100 }), "some")
      yield* eventually(() => partsIn(folder).length === 1)
      const before = Date.now()
      yield* stop
      expect(Date.now() - before).toBeLessThan(2000)
    }))
})

describe("NodeServer, listening", () => {
  it.scopedLive("says that a port is in use, and what to do", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      const folder = yield* RawFiles.temporaryFolder
      const error = yield* Effect.flip(serve(folder, { port }))
      expect(error).toMatchObject({
        _tag: "CannotListen",
        message: expect.stringContaining(`port ${port}: the port is in use`)
      })
      // nothing stays behind that keeps the folder
      yield* serve(folder)
    }))

  it.scopedLive("says that a host is not of this machine", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(serve(yield* RawFiles.temporaryFolder, { host: "192.0.2.1" }))
      expect(error).toMatchObject({ _tag: "CannotListen", message: expect.stringContaining("no such address") })
    }))

  it.scopedLive("tells its base URL", () =>
    Effect.gen(function*() {
      const url = yield* NodeServer.baseUrl
      const answered = yield* Deferred.make<string>()
      const socket = Net.connect({ port: Number(new URL(url).port), host: new URL(url).hostname })
      socket.once("connect", () => Deferred.unsafeDone(answered, Effect.succeed("connected")))
      expect(yield* Deferred.await(answered)).toBe("connected")
      expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
      socket.destroy()
    }).pipe(Effect.provide(NodeServer.layer({ port: 0 }))))

  it("has documented defaults", () => {
    expect(NodeServer.defaults).toEqual({
      host: "127.0.0.1",
      port: 3000,
      headersTimeout: "15 seconds",
      keepAliveTimeout: "65 seconds",
      drainTimeout: "10 seconds",
      maxHeaderSize: 16384,
      maxConnections: 2000,
      maxRequests: 1000
    })
  })
})
