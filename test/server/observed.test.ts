import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Metric, Option, TestClock } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { Identifiers, UploadId } from "../../src/protocol/UploadId.ts"
import * as Metrics from "../../src/server/Metrics.ts"
import { recorder, serving } from "../support/observing.ts"
import { apiKey, authorized, request } from "../support/rawHttp.ts"
import { layer, send1, send2 } from "../support/rawReceiver.ts"

const open = { key: Option.none() }

const chunk = (more = {}) => ({
  ...authorized,
  "x-file-name": "a.txt",
  "x-upload-id": "u1",
  "x-chunk-offset": 0,
  "x-file-size": 3,
  ...more
})

describe("A request's id", () => {
  it.scopedLive("is the client's when it has a plain form, and one of ours otherwise, on every answer", () =>
    Effect.gen(function*() {
      const { port } = yield* serving(recorder().layer, open)
      const idOf = (id: string | undefined, method = "GET", path = "/health") =>
        Effect.map(
          request(port, method, path, id === undefined ? {} : { "x-request-id": id }),
          ({ headers }) => headers["x-request-id"]
        )
      for (const id of ["a", "A-b_c.9", "x".repeat(128)]) expect(yield* idOf(id)).toBe(id)
      for (const id of [undefined, "", "x".repeat(129), "a b", "a\"b", "a=b", "ä", "a,b"]) {
        expect(yield* idOf(id)).toMatch(/^[0-9a-f]{16}$/)
      }
      expect(yield* idOf(undefined)).not.toBe(yield* idOf(undefined))
      expect(yield* idOf("r1", "GET", "/nothing")).toBe("r1")
      expect(yield* idOf("r2", "GET", "/upload/u1")).toBe("r2")
      expect(yield* idOf("r3", "POST", "/upload")).toBe("r3")
    }))

  it.scopedLive("is made by what makes all identifiers", () =>
    Effect.gen(function*() {
      const { port } = yield* serving(
        Layer.merge(recorder().layer, Layer.succeed(Identifiers, { next: Effect.succeed("0123456789abcdef0123") })),
        open
      )
      expect((yield* request(port, "GET", "/health")).headers["x-request-id"]).toBe("0123456789abcdef")
    }))

  it.scopedLive("stands with one line for each completed upload, beside what the operator asks for", () =>
    Effect.gen(function*() {
      const logs = recorder()
      const { port } = yield* serving(logs.layer, open)
      yield* request(port, "POST", "/upload", chunk({ "x-request-id": "r1" }), "abc")
      yield* request(port, "POST", "/upload", chunk({ "x-request-id": "r2" }), "abc")
      const lines = logs.of("Upload complete")
      expect(lines).toHaveLength(1)
      expect(lines[0]).toMatchObject({
        level: "INFO",
        annotations: {
          request: "r1",
          file: "a.txt",
          size: 3,
          sha256: Sha256.of(new TextEncoder().encode("abc")),
          key: "a key",
          upload: "u1"
        }
      })
      expect(JSON.stringify(logs.lines)).not.toContain(apiKey)
    }))
})

describe("Metrics", () => {
  it.effect("counts as expired what was unfinished, not what was complete", () =>
    Effect.gen(function*() {
      const before = yield* Metric.value(Metrics.uploadsExpired)
      yield* send2(0, "ab", { size: 6 })
      yield* send2(0, "abc", { size: 3, id: UploadId.make("u2") })
      yield* send1(0, "abc")
      yield* TestClock.adjust("8 days")
      expect((yield* Metric.value(Metrics.uploadsExpired)).count - before.count).toBe(1)
      yield* TestClock.adjust("31 days")
      expect((yield* Metric.value(Metrics.uploadsExpired)).count - before.count).toBe(1)
    }).pipe(Effect.provide(layer({ upkeepInterval: "1 day" }))))
})
