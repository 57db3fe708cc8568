import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as RawFiles from "../support/rawFiles.ts"
import { authorized, request, serve } from "../support/rawHttp.ts"

const chunk = (id: string) => ({
  ...authorized,
  "x-file-name": `${id}.txt`,
  "x-upload-id": id,
  "x-chunk-offset": 1,
  "x-file-size": 3,
  "content-length": 1
})

/** Opens uploads, many at once; how many were, and what was answered. */
const openMany = (port: number, uploads: number) =>
  Effect.map(
    Effect.forEach(
      Array.from({ length: uploads }, (_, at) => `more-${at}`),
      (id) => Effect.map(request(port, "POST", "/upload", chunk(id), "b"), ({ status }) => status),
      { concurrency: 40 }
    ),
    (statuses) => ({
      taken: statuses.filter((status) => status === 200).length,
      statuses: [...new Set(statuses)].sort()
    })
  )

describe("Ten thousand open uploads", () => {
  it.scopedLive(
    "are held from a start on, and not one more is opened before one has ended",
    () =>
      Effect.gen(function*() {
        const folder = yield* RawFiles.temporaryFolder
        const options = { minFreeSpace: 0, durability: "process" } as const
        yield* Effect.scoped(Effect.gen(function*() {
          const first = yield* serve(folder, options)
          expect((yield* request(first.port, "POST", "/upload", chunk("open-0"), "b")).status).toBe(200)
        }))
        // 9 899 more like the one that is there
        const parts = Path.join(folder, ".indexedcp/parts")
        const [key] = Fs.readdirSync(parts)
        const many = "WITH RECURSIVE more (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM more WHERE n < 9899)"
        yield* RawFiles.execute(
          Path.join(folder, ".indexedcp/ledger.db"),
          `INSERT INTO uploads ${many} SELECT printf('%032x', n), principal, 'open-' || n, clientName, plannedName, name,
           size, sha256, state, received, chunks, replayCursor, address, touchedAt FROM uploads, more;
         INSERT INTO extents ${many} SELECT printf('%032x', n), position, "offset", length, sha256, locator, isPrefix
           FROM extents, more WHERE key = '${key}'`
        )
        const bytes = Fs.readFileSync(Path.join(parts, key!))
        for (let n = 1; n < 9900; n++) {
          Fs.writeFileSync(Path.join(parts, n.toString(16).padStart(32, "0")), bytes)
        }
        const { port } = yield* serve(folder, options)
        // the last ones at once, by more than there is room for
        expect(yield* openMany(port, 140)).toEqual({ taken: 100, statuses: [200, 429] })
        const next = yield* request(port, "POST", "/upload", chunk("next"), "b")
        expect(next.status).toBe(429)
        expect(Number(next.headers["retry-after"])).toBeGreaterThan(0)
        // those that are open go on
        const state = yield* request(port, "GET", "/upload/open-5000", authorized)
        expect(JSON.parse(state.body)).toMatchObject({ bytesReceived: 1, missing: [[0, 1], [2, 3]] })
        const more = yield* request(port, "POST", "/upload", { ...chunk("open-5000"), "x-chunk-offset": 0 }, "a")
        expect(JSON.parse(more.body)).toMatchObject({ bytesReceived: 2, complete: false })
        expect((yield* request(port, "DELETE", "/upload/open-5000", authorized)).status).toBe(204)
        expect((yield* request(port, "POST", "/upload", chunk("next"), "b")).status).toBe(200)
        expect((yield* request(port, "POST", "/upload", chunk("another"), "b")).status).toBe(429)
        expect(Fs.readdirSync(parts).length).toBe(10_000)
        expect(Fs.readdirSync(folder)).toEqual([".indexedcp"])
      }),
    60_000
  )
})
