import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Schedule } from "effect"
import { world } from "../support/hostile.ts"
import { authorized, connect, type Connection, head, request } from "../support/rawHttp.ts"

const mebibyte = 1024 * 1024

/** A file of 8 MiB in chunks, one after the other. */
const healthy = (port: number, id: string) =>
  Effect.forEach([0, 1, 2, 3, 4, 5, 6, 7], (at) =>
    Effect.map(
      request(port, "POST", "/upload", {
        ...authorized,
        "x-file-name": "healthy.bin",
        "x-upload-id": id,
        "x-chunk-offset": at * mebibyte,
        "x-file-size": 8 * mebibyte
      }, new Uint8Array(mebibyte).fill(at)),
      ({ status }) => status
    ))

interface Slow {
  readonly begins: string
  /** Sent again and again, far below any pace. */
  readonly goesOn?: string
}

const body = (name: string) => ({ ...authorized, "x-file-name": name, "content-length": 100_000 })

/** Ways of taking one's time. */
const ways: ReadonlyArray<(at: number) => Slow> = [
  () => ({ begins: "" }),
  () => ({ begins: "POST /upload HT" }),
  () => ({ begins: head("POST", "/upload", authorized).slice(0, -4) }),
  () => ({ begins: head("POST", "/upload", authorized).slice(0, -2), goesOn: "x-a: b\r\n" }),
  () => ({ begins: "POST /upload HTTP/1.1\r\nx-slow: ", goesOn: "a" }),
  (at) => ({ begins: head("POST", "/upload", body(`slow ${at}.txt`)) }),
  (at) => ({ begins: head("POST", "/upload", body(`slow ${at}.txt`)) + "abc" }),
  (at) => ({ begins: head("POST", "/upload", body(`slow ${at}.txt`)), goesOn: "a" }),
  (at) => ({
    begins: head("POST", "/upload", { ...body("slow.txt"), "x-upload-id": `slow-${at}`, "x-chunk-offset": 0 }),
    goesOn: "a"
  }),
  (at) => ({
    begins: head("POST", "/upload", {
      ...authorized,
      "x-file-name": `slow ${at}.txt`,
      "transfer-encoding": "chunked"
    }),
    goesOn: "1\r\na\r\n"
  })
]

const trickle = ({ write }: Connection, { goesOn }: Slow) =>
  goesOn === undefined ? Effect.void : Effect.repeat(write(goesOn), Schedule.spaced("200 millis"))

describe("A crowd", () => {
  it.scopedLive(
    "of slow clients hangs beside a healthy one, is ended by the limits, and leaves nothing",
    () =>
      Effect.gen(function*() {
        const hostile = yield* world({ headersTimeout: "3 seconds", bodyTimeout: "3 seconds" })
        const { port } = hostile
        const connections = yield* Effect.forEach(Array.from({ length: 100 }, (_, at) => at), (at) =>
          Effect.gen(function*() {
            const connection = yield* connect(port)
            const slow = ways[at % ways.length]!(at)
            yield* connection.write(slow.begins)
            yield* Effect.forkScoped(trickle(connection, slow))
            return connection
          }), { concurrency: 10 })
        const answers = yield* Effect.forkScoped(
          Effect.forEach(connections, ({ answer }) =>
            answer, { concurrency: "unbounded" })
        )
        expect(yield* healthy(port, "beside")).toEqual(Array.from({ length: 8 }, () =>
          200))
        // all of them were still hanging when the healthy one had its last answer
        expect(answers.unsafePoll()).toBeNull()
        const ended = yield* Fiber.join(answers)
        expect(ended.map(({ status }) =>
          status
        )).toEqual(Array.from({ length: 100 }, () => 408))
        yield* Effect.forEach(connections, ({ destroy }) => destroy)
        // those of revision 2 have opened uploads, which have none of these bytes
        yield* hostile.check(ended, { statuses: [408], appears: ["healthy.bin"], staged: 10 })
      }),
    30_000
  )

  it.scopedLive("that never reads its answers is not waited for", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ keepAliveTimeout: "1 second" })
      const deaf = yield* Effect.forEach(Array.from({ length: 50 }), () => connect(hostile.port), { concurrency: 10 })
      yield* Effect.forEach(deaf, ({ ignore, write }) =>
        Effect.andThen(ignore, Effect.forkScoped(write(head("GET", "/openapi.json").repeat(200)))))
      expect(yield* healthy(hostile.port, "beside")).toEqual(Array.from({ length: 8 }, () =>
        200))
      yield* hostile.check([], { statuses: [], appears: ["healthy.bin"] })
    }), 30_000)

  it.scopedLive("of connections beyond the limit is not let in, and those that are go on", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ maxConnections: 20 })
      const first = yield* connect(hostile.port)
      yield* Effect.scoped(Effect.gen(function*() {
        const more = yield* Effect.forEach(Array.from({ length: 40 }), () => connect(hostile.port))
        yield* Effect.forEach(more.slice(19), ({ closed }) => closed, { concurrency: "unbounded" })
        yield* first.write(head("GET", "/health"))
        expect((yield* first.answer).status).toBe(200)
      }))
      yield* first.destroy
      yield* Effect.retry(Effect.sandbox(hostile.check([], { statuses: [] })), { times: 50 })
    }))
})
