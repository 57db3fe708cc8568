import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { world } from "../support/hostile.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { authorized, connect, head, request, serve } from "../support/rawHttp.ts"

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

describe("A crowd", () => {
  it.scopedLive(
    "of slow clients hangs beside a healthy one, is ended by the limits, and leaves nothing",
    () =>
      Effect.gen(function*() {
        const hostile = yield* world({ headersTimeout: "3 seconds", bodyTimeout: "3 seconds", minFreeSpace: 0 })
        const { port } = hostile
        const slow = (at: number) =>
          at % 2 === 0
            ? head("POST", "/upload", authorized).slice(0, -4)
            : head("POST", "/upload", { ...authorized, "x-file-name": `slow ${at}.txt`, "content-length": 1000 }) +
              "abc"
        const connections = yield* Effect.forEach(Array.from({ length: 100 }, (_, at) => at), (at) =>
          Effect.tap(connect(port), (connection) => connection.write(slow(at))), { concurrency: 10 })
        const answers = yield* Effect.forkScoped(
          Effect.forEach(connections, ({ answer }) =>
            answer, { concurrency: "unbounded" })
        )
        expect(yield* healthy(port, "beside")).toEqual(Array.from({ length: 8 }, () =>
          200))
        // all of them were still hanging when the healthy one had its last answer
        expect(answers.unsafePoll()).toBeNull()
        const ended = yield* Fiber.join(answers)
        expect(new Set(ended.map(({ status }) => status))).toEqual(new Set([408]))
        yield* hostile.check(ended, { statuses: [408], appears: ["healthy.bin"] })
      }),
    30_000
  )

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
      yield* Effect.retry(
        Effect.sandbox(hostile.check([], { statuses: [] })),
        { times: 50 }
      )
    }))

  it.scopedLive(
    "of ten thousand open uploads is held from the start on, and the next one is told to wait",
    () =>
      Effect.gen(function*() {
        const folder = yield* RawFiles.temporaryFolder
        const options = { minFreeSpace: 0, durability: "process" } as const
        const headers = (id: string) => ({
          ...authorized,
          "x-file-name": `${id}.txt`,
          "x-upload-id": id,
          "x-chunk-offset": 1,
          "x-file-size": 3
        })
        yield* Effect.scoped(Effect.gen(function*() {
          const first = yield* serve(folder, options)
          expect((yield* request(first.port, "POST", "/upload", headers("open-0"), "b")).status).toBe(200)
        }))
        // 9 999 more like the one that is there
        const parts = Path.join(folder, ".indexedcp/parts")
        const [key] = Fs.readdirSync(parts)
        const many = "WITH RECURSIVE more (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM more WHERE n < 9999)"
        yield* RawFiles.execute(
          Path.join(folder, ".indexedcp/ledger.db"),
          `INSERT INTO uploads ${many} SELECT printf('%032x', n), principal, 'open-' || n, clientName, plannedName, name,
           size, sha256, state, received, chunks, replayCursor, address, touchedAt FROM uploads, more;
         INSERT INTO extents ${many} SELECT printf('%032x', n), position, "offset", length, sha256, locator
           FROM extents, more WHERE key = '${key}'`
        )
        for (let n = 1; n < 10_000; n++) {
          Fs.copyFileSync(Path.join(parts, key!), Path.join(parts, n.toString(16).padStart(32, "0")))
        }
        const { port } = yield* serve(folder, options)
        const next = yield* request(port, "POST", "/upload", headers("next"), "b")
        expect(next.status).toBe(429)
        expect(Number(next.headers["retry-after"])).toBeGreaterThan(0)
        const state = yield* request(port, "GET", "/upload/open-5000", authorized)
        expect(JSON.parse(state.body)).toMatchObject({ bytesReceived: 1, missing: [[0, 1], [2, 3]] })
        expect((yield* request(port, "DELETE", "/upload/open-5000", authorized)).status).toBe(204)
        expect((yield* request(port, "POST", "/upload", headers("next"), "b")).status).toBe(200)
        expect(Fs.readdirSync(parts).length).toBe(10_000)
        expect(Fs.readdirSync(folder)).toEqual([".indexedcp"])
      }),
    60_000
  )
})
