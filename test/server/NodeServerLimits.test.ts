import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Schedule, Stream } from "effect"
import * as EchoServer from "../support/echoServer.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { authorized, connect, eventually, head, type RawAnswer, request, running, serve } from "../support/rawHttp.ts"

const MiB = 1024 * 1024

/** An answer of `/first` that waits until it may go, and tells how many wait. */
const held = Effect.map(Deferred.make<void>(), (go) => {
  const waits = { now: 0 }
  const app = Effect.acquireUseRelease(
    Effect.sync(() => {
      waits.now++
    }),
    () => Effect.as(Deferred.await(go), EchoServer.answer("first")),
    () =>
      Effect.sync(() => {
        waits.now--
      })
  )
  return { app, waits, go: Deferred.succeed(go, undefined) }
})

const said = ({ body, headers, status }: RawAnswer) => ({
  status,
  connection: headers["connection"],
  ...JSON.parse(body) as { readonly error: string; readonly message: string }
})

const large = { "x-large": "a".repeat(20_000) }

describe("NodeServer, headers", () => {
  it.scopedLive("answers 431 to more than 16 KiB of them, and says how many it takes", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make()
      const more = [
        head("GET", "/", large),
        head("GET", `/${"a".repeat(20_000)}`),
        head("GET", "/") + head("GET", "/", large)
      ]
      for (const [at, bytes] of more.entries()) {
        const connection = yield* connect(port)
        yield* connection.write(bytes)
        if (at === 2) expect((yield* connection.answer).status).toBe(200)
        expect(said(yield* connection.answer)).toEqual({
          status: 431,
          connection: "close",
          error: "Headers too large",
          message: expect.stringContaining("more than 16384 bytes")
        })
        expect(yield* connection.rest).toBe("")
      }
      expect(asked.length).toBe(1)
      expect((yield* request(port, "GET", "/", { "x-large": "a".repeat(15_000) })).status).toBe(200)
    }))

  it.scopedLive("takes larger ones where that was set", () =>
    Effect.gen(function*() {
      const { port } = yield* EchoServer.make({ maxHeaderSize: 32 * 1024 })
      expect((yield* request(port, "GET", "/", large)).status).toBe(200)
      expect(said(yield* request(port, "GET", "/", { ...large, "x-more": "a".repeat(20_000) })).message).toContain(
        "32768"
      )
    }))

  it.scopedLive("answers 408 when they are slow or never come, but lets a body take its time", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make({ headersTimeout: "300 millis" })
      const [slow, silent, body] = [yield* connect(port), yield* connect(port), yield* connect(port)]
      yield* body.write(head("POST", "/body", { "content-length": 2 }), "a")
      yield* slow.write("GET /slow HTTP/1.1\r\nHost:")
      for (const connection of [slow, silent]) {
        expect(said(yield* connection.answer)).toEqual({
          status: 408,
          connection: "close",
          error: "Too slow",
          message: expect.stringContaining("longer than 0.3 seconds")
        })
        // too late
        yield* connection.write(" test\r\n\r\n", head("GET", "/late"))
        expect(yield* connection.rest).toBe("")
      }
      yield* body.write("b")
      expect((yield* body.answer).body).toBe("ab")
      expect(asked.map(({ url }) => url)).toEqual(["/body"])
    }))

  it.scopedLive("closes a connection on which nothing more is asked, but not one that waits for its answer", () =>
    Effect.gen(function*() {
      const { app, go, waits } = yield* held
      const { port } = yield* EchoServer.make({ keepAliveTimeout: "100 millis" }, app)
      const [waiting, idle] = [yield* connect(port), yield* connect(port)]
      yield* waiting.write(head("GET", "/"))
      expect((yield* waiting.answer).status).toBe(200)
      yield* waiting.write(head("GET", "/first"))
      yield* eventually(() => waits.now === 1)
      yield* idle.write(head("GET", "/"))
      expect((yield* idle.answer).status).toBe(200)
      expect(yield* idle.closed).toBe("closed")
      yield* go
      expect((yield* waiting.answer).body).toBe("first")
    }))
})

describe("NodeServer, how many", () => {
  it.scopedLive("closes a connection above the limit at once, says so in the log, and takes one when another ended", () =>
    Effect.gen(function*() {
      const { lines, port } = yield* EchoServer.make({ maxConnections: 2 })
      const [one, two] = [yield* connect(port), yield* connect(port)]
      yield* one.write(head("GET", "/"))
      yield* one.answer
      for (const _ of [1, 2, 3]) expect(yield* (yield* connect(port)).closed).not.toBe("open")
      yield* eventually(() => lines.length > 0)
      expect(lines).toEqual([expect.stringMatching(/^Too many connections; .* 2$/)])
      yield* two.write(head("GET", "/"))
      expect((yield* two.answer).status).toBe(200)
      yield* one.destroy
      const three = yield* Effect.sandbox(request(port, "GET", "/")).pipe(
        Effect.retry({ schedule: Schedule.spaced("5 millis"), times: 1000 })
      )
      expect(three.status).toBe(200)
    }))

  it.scopedLive("answers 503 to a request above the limit, drained, but goes on to tell its health", () =>
    Effect.gen(function*() {
      const { app, go, waits } = yield* held
      const { asked, port } = yield* EchoServer.make({ maxRequests: 2 }, app)
      const inFlight = [yield* connect(port), yield* connect(port)]
      for (const connection of inFlight) yield* connection.write(head("GET", "/first"))
      yield* eventually(() => waits.now === 2)
      const above = yield* connect(port)
      yield* above.write(head("POST", "/above", { "content-length": 4 * MiB }), new Uint8Array(4 * MiB))
      const answer = yield* above.answer
      expect(said(answer)).toEqual({
        status: 503,
        connection: "close",
        error: "Busy",
        message: expect.stringContaining("2 requests already")
      })
      expect(answer.headers["retry-after"]).toBe("1")
      expect(yield* above.closed).toBe("closed")
      const statuses = Effect.forEach(
        ["/health", "/ready", "/ready?x", "/healthy", "/upload"],
        (path) => Effect.map(request(port, "GET", path), ({ status }) => status)
      )
      expect(yield* statuses).toEqual([200, 200, 200, 503, 503])
      expect((yield* request(port, "POST", "/health", {}, "a")).status).toBe(503)
      yield* go
      expect((yield* inFlight[0]!.answer).body).toBe("first")
      expect((yield* inFlight[1]!.answer).body).toBe("first")
      expect((yield* request(port, "POST", "/after", {}, "a")).body).toBe("a")
      expect(asked.some(({ url }) => url === "/above")).toBe(false)
    }))

  it.scopedLive("no longer counts requests whose clients are gone, or that were malformed", () =>
    Effect.gen(function*() {
      const { app, waits } = yield* held
      const { port } = yield* EchoServer.make({ maxRequests: 1 }, app)
      for (const _ of [1, 2, 3]) {
        const gone = yield* connect(port)
        yield* gone.write(head("GET", "/first"), head("GET", "/first"))
        yield* eventually(() => waits.now === 1)
        yield* gone.destroy
        yield* eventually(() => waits.now === 0)
        expect((yield* request(port, "GET", "/", { host: "other" })).status).toBe(400)
      }
      expect((yield* request(port, "POST", "/", {}, "a")).status).toBe(200)
    }))
})

describe("NodeServer, clients that misbehave", () => {
  it.scopedLive("executes nothing that stands behind a refused body", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make({}, Effect.succeed(EchoServer.answer("no", 401)))
      const connection = yield* connect(port)
      const behind = head("POST", "/behind", { "content-length": 3 })
      yield* connection.write(head("POST", "/first", { "content-length": 5 }), "abc")
      expect((yield* connection.answer).status).toBe(401)
      yield* connection.write("de", behind, "bad", behind, "bad")
      expect([yield* connection.rest, asked]).toEqual(["", []])
    }))

  it.scopedLive("drains only so much of a refused body", () =>
    Effect.gen(function*() {
      const { port } = yield* EchoServer.make({}, Effect.succeed(EchoServer.answer("no", 401)))
      const huge = head("POST", "/first", { "content-length": 1000 * MiB })
      for (const first of [huge, "no request\r\n\r\n", head("GET", "/", { host: "other" }) + huge]) {
        const connection = yield* connect(port, true)
        yield* connection.write(first)
        expect([400, 401]).toContain((yield* connection.answer).status)
        let sent = 0
        const more = Effect.tap(connection.write(new Uint8Array(MiB)), () => {
          sent++
        })
        const isReset = Effect.map(connection.isReset, (isReset) => isReset || sent > 100)
        yield* Effect.repeat(Effect.zipRight(more, isReset), { until: (isDone) => isDone })
        expect(sent).toBeGreaterThanOrEqual(8)
        expect(sent).toBeLessThan(50)
      }
    }))

  it.scopedLive("ends a request at once whose body goes wrong, though its client stays", () =>
    Effect.gen(function*() {
      const { app, waits } = yield* held
      const { port } = yield* EchoServer.make({}, app)
      for (const wrong of ["zz\r\n", "end"]) {
        const connection = yield* connect(port, true)
        yield* connection.write(head("POST", "/first", { "transfer-encoding": "chunked" }), "3\r\nabc\r\n")
        yield* eventually(() => waits.now === 1)
        yield* wrong === "end" ? connection.end : connection.write(wrong)
        expect(said(yield* connection.answer)).toMatchObject({ status: 400, connection: "close" })
        yield* eventually(() => waits.now === 0)
        if (wrong !== "end") expect(yield* connection.isReset).toBe(false)
      }
    }))

  it.scopedLive("does not keep an answer for a client that never reads it", () =>
    Effect.gen(function*() {
      const { port } = yield* EchoServer.make(
        { keepAliveTimeout: "100 millis", maxConnections: 1 },
        Effect.succeed(EchoServer.answer("a".repeat(32 * MiB)))
      )
      const deaf = yield* connect(port)
      yield* deaf.ignore
      yield* deaf.write(head("GET", "/first"))
      // there is room for another once that one is gone
      const answer = yield* Effect.sandbox(request(port, "GET", "/")).pipe(
        Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 200 })
      )
      expect(answer.status).toBe(200)
    }), 5000)

  it.scopedLive("never writes into an answer that has begun", () =>
    Effect.gen(function*() {
      const go = yield* Deferred.make<void>()
      const pieces = Stream.concat(
        Stream.make("begin "),
        Stream.drain(Deferred.await(go)).pipe(Stream.concat(Stream.make("end")))
      )
      const { port } = yield* EchoServer.make(
        {},
        Effect.succeed(HttpServerResponse.stream(Stream.encodeText(pieces), { contentLength: 9 }))
      )
      const connection = yield* connect(port)
      yield* connection.write(head("GET", "/first"))
      yield* connection.write("rubbish\r\n\r\n")
      // handled by now: a later connection was answered
      expect((yield* request(port, "GET", "/")).status).toBe(200)
      yield* Deferred.succeed(go, undefined)
      expect((yield* connection.answer).body).toBe("begin end")
      expect((yield* connection.answer).status).toBe(400)
      const half = yield* connect(port)
      yield* half.write(head("POST", "/first", { "transfer-encoding": "chunked" }), "3\r\nabc\r\n")
      const answer = yield* half.answer
      yield* half.write("zz\r\nrubbish\r\n")
      expect([answer.body, yield* half.rest]).toEqual(["begin end", ""])
    }))

  it.scopedLive("cares little about clients that are reset anywhere", () =>
    Effect.gen(function*() {
      const { lines, port } = yield* EchoServer.make()
      for (
        const bytes of ["", "GET / HT", head("POST", "/", { "content-length": 3 }), head("GET", "/"), "rubbish\r\n\r\n"]
      ) {
        const connection = yield* connect(port)
        yield* connection.write(bytes)
        yield* connection.destroy
      }
      expect((yield* request(port, "POST", "/", {}, "a")).body).toBe("a")
      expect(lines).toEqual([])
    }))
})

describe("NodeServer, expectations", () => {
  const expects = { ...authorized, expect: "100-continue" }

  it.scopedLive("says 100 only after the key and the headers were looked at, then takes the body", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      for (
        const [status, headers] of [[401, { expect: "100-continue" }], [400, {
          ...expects,
          "x-chunk-index": "x"
        }]] as const
      ) {
        const refused = yield* connect(port)
        yield* refused.write(head("POST", "/upload", { ...headers, "content-length": 3 }))
        const answer = yield* refused.answer
        expect([answer.status, answer.headers["connection"]]).toEqual([status, "close"])
        expect(yield* refused.rest).toBe("")
      }
      const right = yield* connect(port)
      for (const [index, body] of [[0, "abc"], [1, "def"]] as const) {
        const headers = { ...expects, "x-chunk-index": index, "content-length": 3, expect: "100-Continue" }
        yield* right.write(head("POST", "/upload", headers))
        expect((yield* right.answer).status).toBe(100)
        yield* right.write(body)
        expect((yield* right.answer).status).toBe(200)
      }
    }))

  it.scopedLive("does not say it to one whose body nobody reads, or that speaks HTTP/1.0", () =>
    Effect.gen(function*() {
      const { port } = yield* EchoServer.make({}, Effect.succeed(EchoServer.answer("first")))
      const first = yield* connect(port)
      yield* first.write(head("POST", "/first", { ...expects, "content-length": 3 }))
      expect((yield* first.answer).status).toBe(200)
      expect(yield* first.rest).toBe("")
      const old = yield* connect(port)
      yield* old.write("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na")
      expect((yield* old.answer).status).toBe(200)
    }))

  it.scopedLive("answers 417 to any other", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const { port } = yield* serve(folder)
      for (const expect_ of ["200-ok", "100-continue, 200-ok", "not 100-continue", ["100-continue", "200-ok"]]) {
        const connection = yield* connect(port)
        yield* connection.write(head("POST", "/upload", { ...authorized, expect: expect_, "content-length": 3 }))
        expect(said(yield* connection.answer)).toMatchObject({
          status: 417,
          message: expect.stringContaining("leave out")
        })
        yield* connection.write("abc")
        expect(yield* connection.rest).toBe("")
      }
      expect((yield* request(port, "POST", "/upload", { ...authorized, "x-file-name": "a" }, "abc")).status).toBe(200)
    }))
})
