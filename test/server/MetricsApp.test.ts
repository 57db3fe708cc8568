import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, LogLevel, Option, Redacted } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as MetricsApp from "../../src/server/MetricsApp.ts"
import * as NodeServer from "../../src/server/NodeServer.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import { recorder, samples, serving } from "../support/observing.ts"
import { authorized, connect, head, request } from "../support/rawHttp.ts"

const open = { key: Option.none() }

const metricsKey = "m3tr1cs"

const flyingIn = (found: Readonly<Record<string, number>>) => found["indexedcp_bodies_in_flight"] ?? 0

/** The differences of all samples between two looks. */
const since = (before: Readonly<Record<string, number>>, after: Readonly<Record<string, number>>) =>
  Object.fromEntries(
    Object.entries(after).map(([name, value]) => [name, value - (before[name] ?? 0)]).filter(([, more]) => more !== 0)
  )

const look = (port: number, headers = {}) =>
  Effect.map(request(port, "GET", "/metrics", headers), ({ body }) => samples(body))

const chunk = (id: string, offset: number, more = {}) => ({
  ...authorized,
  "x-file-name": "a.txt",
  "x-upload-id": id,
  "x-chunk-offset": offset,
  ...more
})

describe("MetricsApp", () => {
  it.scopedLive("shows every metric with its help and type, those that nothing happened to at zero", () =>
    Effect.gen(function*() {
      const { metricsPort } = yield* serving(recorder().layer, open)
      const answer = yield* request(metricsPort, "GET", "/metrics")
      expect(answer.status).toBe(200)
      expect(answer.headers["content-type"]).toBe("text/plain; version=0.0.4; charset=utf-8")
      const types = Object.fromEntries(
        [...answer.body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name, type]) => [name, type])
      )
      expect(types).toMatchObject({
        indexedcp_received_bytes_total: "counter",
        indexedcp_chunks_total: "counter",
        indexedcp_duplicate_chunks_total: "counter",
        indexedcp_digest_mismatches_total: "counter",
        indexedcp_uploads_open: "gauge",
        indexedcp_uploads_completed_total: "counter",
        indexedcp_uploads_failed_total: "counter",
        indexedcp_uploads_expired_total: "counter",
        indexedcp_sync_seconds: "histogram",
        indexedcp_bodies_in_flight: "gauge"
      })
      const helped = [...answer.body.matchAll(/^# HELP (\S+) (.+)$/gm)].map(([, name]) => name)
      expect(helped.toSorted()).toEqual(Object.keys(types).toSorted())
      expect(answer.body).not.toContain("description missing")
      expect(answer.body).not.toMatch(/^(?!# |indexedcp_)./m)
    }))

  it.scopedLive("counts what happened: requests, bytes, chunks, repeats, wrong digests, syncs, completed uploads", () =>
    Effect.gen(function*() {
      const { metricsPort, port } = yield* serving(recorder().layer, open)
      const before = yield* look(metricsPort)
      yield* request(port, "POST", "/upload", chunk("u1", 0, { "x-file-size": 6 }), "abc")
      yield* request(port, "POST", "/upload", chunk("u1", 0), "abc")
      const digest = `sha-256=:${Buffer.from(Sha256.of(new TextEncoder().encode("other")), "hex").toString("base64")}:`
      expect((yield* request(port, "POST", "/upload", chunk("u1", 3, { "content-digest": digest }), "def")).status)
        .toBe(422)
      const during = since(before, yield* look(metricsPort))
      expect(during).toMatchObject({
        indexedcp_uploads_open: 1,
        indexedcp_received_bytes_total: 9,
        indexedcp_chunks_total: 1,
        indexedcp_duplicate_chunks_total: 1,
        indexedcp_digest_mismatches_total: 1
      })
      expect(during).not.toHaveProperty("indexedcp_uploads_completed_total")
      yield* request(port, "POST", "/upload", chunk("u1", 3), "def")
      yield* request(port, "GET", "/upload/u1", authorized)
      yield* request(port, "GET", "/upload/u1")
      yield* request(port, "SEARCH", "/upload/u1")
      const after = since(before, yield* look(metricsPort))
      expect(after).toMatchObject({
        "indexedcp_requests_total{method=\"POST\",status=\"200\"}": 3,
        "indexedcp_requests_total{method=\"POST\",status=\"422\"}": 1,
        "indexedcp_requests_total{method=\"GET\",status=\"200\"}": 1,
        "indexedcp_requests_total{method=\"GET\",status=\"401\"}": 1,
        "indexedcp_requests_total{method=\"other\",status=\"404\"}": 1,
        indexedcp_received_bytes_total: 12,
        indexedcp_chunks_total: 2,
        indexedcp_uploads_completed_total: 1
      })
      expect(after["indexedcp_sync_seconds_count"]).toBeGreaterThanOrEqual(2)
      expect(after["indexedcp_sync_seconds_bucket{le=\"+Inf\"}"]).toBe(after["indexedcp_sync_seconds_count"])
      expect(after).not.toHaveProperty("indexedcp_uploads_open")
    }))

  it.scopedLive("counts failed and repeated revision-1 chunks, and bodies in flight only as long as they are", () =>
    Effect.gen(function*() {
      const { metricsPort, port } = yield* serving(recorder().layer, open)
      const before = yield* look(metricsPort)
      const reprDigest = `sha-256=:${Buffer.alloc(32).toString("base64")}:`
      const failed = yield* request(
        port,
        "POST",
        "/upload",
        chunk("u1", 0, { "x-file-size": 3, "repr-digest": reprDigest }),
        "abc"
      )
      expect(failed.status).toBe(409)
      const revision1 = { ...authorized, "x-file-name": "b.txt", "x-chunk-index": 0 }
      yield* request(port, "POST", "/upload", revision1, "abc")
      yield* request(port, "POST", "/upload", revision1, "abc")
      const sending = yield* connect(port)
      yield* sending.write(head("POST", "/upload", { ...chunk("u2", 0), "content-length": 3 }), "a")
      const flying = (count: number): Effect.Effect<void> =>
        Effect.repeat(look(metricsPort), {
          until: (now) => flyingIn(now) === flyingIn(before) + count
        }).pipe(Effect.timeout("4 seconds"), Effect.orDie, Effect.asVoid)
      yield* flying(1)
      yield* sending.destroy
      yield* flying(0)
      expect(since(before, yield* look(metricsPort))).toMatchObject({
        "indexedcp_requests_total{method=\"POST\",status=\"499\"}": 1,
        indexedcp_uploads_failed_total: 1,
        indexedcp_duplicate_chunks_total: 1,
        // a failed upload is open until somebody deletes it
        indexedcp_uploads_open: 2
      })
    }))

  it.scopedLive("wants its key when it has one, and that of uploads does not open it", () =>
    Effect.gen(function*() {
      const { metricsPort } = yield* serving(recorder().layer, { key: Option.some(Redacted.make(metricsKey)) })
      for (
        const headers of [{}, authorized, { authorization: `Bearer ${metricsKey}x` }, { authorization: "Bearer " }]
      ) {
        const answer = yield* request(metricsPort, "GET", "/metrics", headers)
        expect([answer.status, answer.headers["www-authenticate"]]).toEqual([401, "Bearer"])
        expect(answer.body).not.toContain("indexedcp_")
        expect(answer.body).not.toContain(metricsKey)
      }
      const answer = yield* request(metricsPort, "GET", "/metrics", { authorization: `Bearer ${metricsKey}` })
      expect(answer.status).toBe(200)
      expect(answer.body).not.toContain(metricsKey)
    }))

  it.scopedLive("serves nothing else there, and no metrics beside the protocol unless asked", () =>
    Effect.gen(function*() {
      const { metricsPort, port } = yield* serving(recorder().layer, open)
      for (
        const [method, path] of [["POST", "/metrics"], ["GET", "/"], ["GET", "/metrics/x"], ["GET", "/health"]] as const
      ) {
        expect([path, (yield* request(metricsPort, method, path)).status]).toEqual([path, 404])
      }
      expect((yield* request(port, "GET", "/metrics", authorized)).status).toBe(404)
    }))

  it.effect("stands beside another app, below a base path", () =>
    Effect.gen(function*() {
      const other = Effect.succeed(HttpServerResponse.text("other"))
      const app = yield* MetricsApp.beside(other, { key: Redacted.make(metricsKey), basePath: "/base" })
      const status = (url: string, authorization = `Bearer ${metricsKey}`) =>
        Effect.map(
          Effect.provideService(
            app,
            HttpServerRequest.HttpServerRequest,
            HttpServerRequest.fromWeb(new Request(`http://test${url}`, { headers: { authorization } })).modify({ url })
          ),
          (
            { body, status }
          ) => [status, body._tag === "Uint8Array" ? new TextDecoder().decode(body.body).slice(0, 5) : ""]
        )
      expect(yield* status("/base/metrics")).toEqual([200, "# HEL"])
      expect(yield* status("/base/metrics?a=b")).toEqual([200, "# HEL"])
      expect(yield* status("/base/metrics", "Bearer wrong")).toEqual([401, "Send "])
      expect(yield* status("/metrics")).toEqual([200, "other"])
    }).pipe(Effect.provide(UploadLedger.layerMemory)))

  it.scopedLive("says which setting is wrong when it cannot listen", () =>
    Effect.gen(function*() {
      const { metricsPort } = yield* serving(recorder().layer, open)
      const again = MetricsApp.layer({ ...open, address: { host: "127.0.0.1", port: metricsPort } })
      const error = yield* Effect.flip(Layer.build(Layer.provide(again, UploadLedger.layerMemory)))
      expect(error).toBeInstanceOf(NodeServer.CannotListen)
      expect(error.message).toContain("--metrics-address")
    }))

  it("reads addresses: a port alone is one of this machine only", () => {
    const read = (text: string) => Option.getOrUndefined(MetricsApp.parseAddress(text))
    expect(read("9464")).toEqual({ host: "127.0.0.1", port: 9464 })
    expect(read("0.0.0.0:9464")).toEqual({ host: "0.0.0.0", port: 9464 })
    expect(read("metrics.internal:1")).toEqual({ host: "metrics.internal", port: 1 })
    expect(read("[::1]:9464")).toEqual({ host: "::1", port: 9464 })
    for (const wrong of ["", ":9464", "host", "host:", "host:65536", "::1:9464", "http://host:1", "a b:1", "-1"]) {
      expect([wrong, read(wrong)]).toEqual([wrong, undefined])
    }
  })

  it.scopedLive("never has a key in what is logged", () =>
    Effect.gen(function*() {
      const logs = recorder(LogLevel.All)
      const { metricsPort, port } = yield* serving(logs.layer, { key: Option.some(Redacted.make(metricsKey)) })
      yield* request(port, "POST", "/upload", chunk("u1", 0, { "x-file-size": 3 }), "abc")
      yield* request(metricsPort, "GET", "/metrics", { authorization: `Bearer ${metricsKey}` })
      yield* request(metricsPort, "GET", "/metrics", authorized)
      expect(logs.lines.length).toBeGreaterThan(0)
      expect(JSON.stringify(logs.lines)).not.toContain(metricsKey)
      expect(JSON.stringify(logs.lines)).not.toContain(authorized.authorization.slice(7))
    }))
})
