import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Fiber, Layer, Option, Redacted } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as Tracing from "../../src/server/Tracing.ts"
import { freePort } from "../support/live.ts"
import { recorder, serving } from "../support/observing.ts"
import { attributesOf, type Collector, collector } from "../support/rawCollector.ts"
import { apiKey, authorized, eventually, request } from "../support/rawHttp.ts"

const secret = "c0ll3ct0r"

const traceId = "0af7651916cd43dd8448eb211c80319c"
const parentId = "b7ad6b7169203331"
const traceparent = (sampled = true) => `00-${traceId}-${parentId}-0${sampled ? 1 : 0}`

const chunk = (id: string, more = {}) => ({
  ...authorized,
  "x-file-name": "a.txt",
  "x-upload-id": id,
  "x-chunk-offset": 0,
  "x-file-size": 3,
  ...more
})

const environment = (values: Readonly<Record<string, string>>) =>
  Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(values))))

/** Runs with a server under the variables; what is to be delivered was when it returns. */
const tracing = <A, E>(
  values: Readonly<Record<string, string>>,
  use: (port: number) => Effect.Effect<A, E>,
  logs = recorder()
) =>
  Effect.scoped(Effect.flatMap(
    serving(
      Tracing.layer.pipe(Layer.provide(environment(values)), Layer.provideMerge(logs.layer)),
      { key: Option.none() }
    ),
    ({ port }) => use(port)
  ))

const toCollector = ({ url }: Collector, more: Readonly<Record<string, string>> = {}) => ({
  OTEL_EXPORTER_OTLP_ENDPOINT: url,
  OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
  ...more
})

const read = (values: Readonly<Record<string, string>>) => {
  const logs = recorder()
  return Effect.map(
    Effect.provide(Tracing.settings, Layer.merge(environment(values), logs.layer)),
    (settings) => ({ settings: Option.getOrUndefined(settings), warnings: logs.lines })
  )
}

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" }

describe("Tracing", () => {
  it.scopedLive("sends a span for each request in the client's trace, and one for what finishes the upload", () =>
    Effect.gen(function*() {
      const there = yield* collector
      yield* tracing(
        toCollector(there, { OTEL_EXPORTER_OTLP_HEADERS: `x-token=${secret}%3D1`, OTEL_SERVICE_NAME: "uploads" }),
        (port) =>
          Effect.gen(function*() {
            yield* request(
              port,
              "POST",
              "/upload",
              chunk("u1", { traceparent: traceparent(), "x-request-id": "r1" }),
              "abc"
            )
            yield* request(port, "GET", "/upload/u1", { ...authorized, traceparent: traceparent() })
            yield* request(port, "GET", "/health")
          })
      )
      const spans = there.spans()
      const requests = spans.filter(({ name }) => name.startsWith("http.server"))
      expect(requests.map(({ kind, name, parentSpanId, traceId }) => [name, kind, traceId, parentSpanId])).toEqual([
        ["http.server POST", 2, traceId, parentId],
        ["http.server GET", 2, traceId, parentId]
      ])
      expect(attributesOf(requests[0])).toMatchObject({
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.response.header.x-request-id": "r1",
        "http.request.header.authorization": "<redacted>"
      })
      const chunkSpan = spans.find(({ name }) => name === "Receiver.revision2")
      expect(chunkSpan).toMatchObject({ traceId, parentSpanId: requests[0]!.spanId })
      expect(attributesOf(chunkSpan)).toMatchObject({ upload: "u1", file: "a.txt", offset: 0 })
      const finish = spans.find(({ name }) => name === "Receiver.finish")
      expect(finish).toMatchObject({ traceId })
      expect(attributesOf(finish)).toMatchObject({
        upload: "u1",
        file: "a.txt",
        size: 3,
        key: "a key",
        sha256: Sha256.of(new TextEncoder().encode("abc"))
      })
      const [first] = there.deliveries
      expect(first).toMatchObject({
        path: "/v1/traces",
        headers: { "x-token": `${secret}=1`, "content-type": "application/json" }
      })
      const sent = there.deliveries.map(({ body }) => body.toString()).join("")
      expect(sent).toContain("{\"key\":\"service.name\",\"value\":{\"stringValue\":\"uploads\"}}")
      expect(sent).not.toContain(apiKey)
      expect(sent).not.toContain(secret)
    }))

  it.scopedLive("speaks protobuf unless told otherwise", () =>
    Effect.gen(function*() {
      const there = yield* collector
      yield* tracing(
        { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${there.url}/own/path` },
        (port) => request(port, "POST", "/upload", chunk("u1", { traceparent: traceparent() }), "abc")
      )
      expect(there.deliveries[0]).toMatchObject({
        path: "/own/path",
        headers: { "content-type": "application/x-protobuf" }
      })
      expect(there.deliveries[0]!.body.includes(Buffer.from(traceId, "hex"))).toBe(true)
    }))

  it.scopedLive("delivers what is left when the server is interrupted", () =>
    Effect.gen(function*() {
      const there = yield* collector
      const logs = recorder()
      const running = yield* Effect.fork(
        tracing(
          toCollector(there),
          (port) =>
            Effect.andThen(
              request(port, "GET", "/upload/u1", authorized),
              Effect.andThen(Effect.logInfo("asked"), Effect.never)
            ),
          logs
        ).pipe(Effect.provide(logs.layer))
      )
      yield* eventually(() => logs.of("asked").length === 1)
      expect(there.deliveries).toEqual([])
      yield* Fiber.interrupt(running)
      expect(there.spans().map(({ name }) => name)).toContain("http.server GET")
    }))

  it.scopedLive("keeps a trace if its caller keeps it, unless the sampler says otherwise", () =>
    Effect.gen(function*() {
      const there = yield* collector
      const traced = (sampler: Readonly<Record<string, string>>) =>
        Effect.gen(function*() {
          const before = there.deliveries.length
          yield* tracing(toCollector(there, sampler), (port) =>
            Effect.gen(function*() {
              yield* request(port, "GET", "/upload/kept", { ...authorized, traceparent: traceparent() })
              yield* request(port, "GET", "/upload/dropped", { ...authorized, traceparent: traceparent(false) })
              yield* request(port, "GET", "/upload/own", authorized)
            }))
          return there.deliveries.slice(before).flatMap((
            { body }
          ) => [...body.toString().matchAll(/"stringValue":"\/upload\/(\w+)"/g)])
            .map(([, name]) => name)
        })
      expect(yield* traced({})).toEqual(["kept", "own"])
      expect(yield* traced({ OTEL_TRACES_SAMPLER: "always_on" })).toEqual(["kept", "dropped", "own"])
      expect(yield* traced({ OTEL_TRACES_SAMPLER: "always_off" })).toEqual([])
      expect(yield* traced({ OTEL_TRACES_SAMPLER: "parentbased_always_off" })).toEqual(["kept"])
      // the last 52 bits of the trace's id are 0.557 of their range; kept is what lies above the part that is not
      const ratio = (part: string) => traced({ OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: part })
      expect(yield* ratio("0.44")).not.toContain("kept")
      expect(yield* ratio("0.45")).toEqual(expect.arrayContaining(["kept", "dropped"]))
    }))

  it.scopedLive("begins a trace of its own where a header names none that could be one", () =>
    Effect.gen(function*() {
      const there = yield* collector
      yield* tracing(toCollector(there), (port) =>
        Effect.forEach(
          [
            { b3: "x-y" },
            { "x-b3-traceid": "'", "x-b3-spanid": "'" },
            { traceparent: `00-${"0".repeat(32)}-${parentId}-01` },
            { traceparent: "nonsense" }
          ],
          (headers) => request(port, "GET", "/upload/u1", { ...authorized, ...headers })
        ))
      const requests = there.spans().filter(({ name }) => name === "http.server GET")
      expect(requests).toHaveLength(4)
      for (const span of requests) {
        expect(span.parentSpanId).toBeUndefined()
        expect(span.traceId).toMatch(/^(?!0+$)[0-9a-f]{32}$/)
      }
    }))

  it.scopedLive("disturbs no upload and says one thing when the collector is not there, fails or does not answer", () =>
    Effect.gen(function*() {
      const there = yield* collector
      const nobody = {
        OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${yield* freePort}`,
        OTEL_EXPORTER_OTLP_TIMEOUT: "1000"
      }
      const failing = toCollector(there, {
        OTEL_EXPORTER_OTLP_HEADERS: `authorization=${secret}`,
        OTEL_EXPORTER_OTLP_TIMEOUT: "50"
      })
      const attempt = (values: Readonly<Record<string, string>>) => {
        const logs = recorder()
        return Effect.map(
          tracing({ ...values, OTEL_BSP_SCHEDULE_DELAY: "10" }, (port) =>
            Effect.gen(function*() {
              for (const id of ["u1", "u2", "u3"]) {
                const answer = yield* request(port, "POST", "/upload", chunk(id), "abc")
                expect([answer.status, JSON.parse(answer.body).complete]).toEqual([200, true])
              }
              yield* eventually(() => logs.of("Traces cannot be delivered").length > 0)
            }), logs),
          () => {
            expect(JSON.stringify(logs.lines)).not.toContain(secret)
            return logs.lines.filter(({ level }) => level === "WARN" || level === "ERROR")
          }
        )
      }
      const refused = yield* attempt(nobody)
      expect(refused.map(({ annotations }) => annotations["reason"])).toEqual([expect.stringContaining("ECONNREFUSED")])
      there.answer = 403
      expect((yield* attempt(failing)).map(({ annotations }) => annotations["reason"])).toEqual([
        "the collector answers 403"
      ])
      there.answer = 0
      expect((yield* attempt(failing)).map(({ annotations }) => annotations["reason"])).toEqual([
        "the collector did not answer in time"
      ])
    }))

  it.scopedLive("sends nothing without an endpoint, or when it is switched off", () =>
    Effect.gen(function*() {
      const there = yield* collector
      for (
        const off of [{ OTEL_SDK_DISABLED: "TRUE" }, { OTEL_TRACES_EXPORTER: "none" }, {
          OTEL_EXPORTER_OTLP_ENDPOINT: ""
        }]
      ) {
        yield* tracing(toCollector(there, off), (port) => request(port, "GET", "/upload/u1", authorized))
        expect(yield* read({ ...endpoint, ...off })).toEqual({ settings: undefined, warnings: [] })
      }
      expect(there.deliveries).toEqual([])
      expect(yield* read({})).toEqual({ settings: undefined, warnings: [] })
    }))

  it.effect("reads the usual variables, those for traces first", () =>
    Effect.gen(function*() {
      expect((yield* read(endpoint)).settings).toMatchObject({
        url: "http://collector:4318/v1/traces",
        protocol: "http/protobuf",
        timeout: 10_000,
        interval: 5000,
        serviceName: "indexcp-server",
        attributes: {},
        sampler: { ofParent: true, ratio: 1 }
      })
      const { settings, warnings } = yield* read({
        ...endpoint,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://traces/x",
        OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/json",
        OTEL_EXPORTER_OTLP_HEADERS: "x=no",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS: "authorization=Bearer%20a%3Db, x-b = c",
        OTEL_EXPORTER_OTLP_TIMEOUT: "1",
        OTEL_EXPORTER_OTLP_TRACES_TIMEOUT: "250",
        OTEL_RESOURCE_ATTRIBUTES: "service.name=from%20attributes,deployment.environment=a%2Cb",
        OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG: "0.25"
      })
      expect(warnings).toEqual([])
      expect(settings).toMatchObject({
        url: "https://traces/x",
        protocol: "http/json",
        timeout: 250,
        serviceName: "from attributes",
        attributes: { "deployment.environment": "a,b" },
        sampler: { ofParent: true, ratio: 0.25 }
      })
      expect(Redacted.value(settings!.headers)).toEqual({ "authorization": "Bearer a=b", "x-b": "c" })
    }))

  it.effect("warns once of each thing that it cannot use, and never shows a value that may be secret", () =>
    Effect.gen(function*() {
      const cases: ReadonlyArray<readonly [Readonly<Record<string, string>>, boolean]> = [
        [{ OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, false],
        [{ OTEL_EXPORTER_OTLP_ENDPOINT: "collector:4318" }, false],
        [{ OTEL_EXPORTER_OTLP_ENDPOINT: `http://me:${secret}@collector` }, false],
        [{ OTEL_TRACES_EXPORTER: "zipkin" }, false],
        [{ OTEL_EXPORTER_OTLP_HEADERS: secret }, true],
        [{ OTEL_EXPORTER_OTLP_HEADERS: `a b=${secret}` }, true],
        [{ OTEL_EXPORTER_OTLP_HEADERS: `a=${secret}%0D%0Ab` }, true],
        [{ OTEL_EXPORTER_OTLP_HEADERS: `a=%zz${secret}` }, true],
        [{ OTEL_EXPORTER_OTLP_TIMEOUT: "soon" }, true],
        [{ OTEL_TRACES_SAMPLER: "toString" }, true],
        [{ OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "2" }, true]
      ]
      for (const [values, goesOn] of cases) {
        const { settings, warnings } = yield* read({ ...endpoint, ...values })
        expect([values, settings !== undefined]).toEqual([values, goesOn])
        expect([values, warnings.map(({ level }) => level)]).toEqual([values, ["WARN"]])
        expect(JSON.stringify([settings, warnings])).not.toContain(secret)
      }
    }))
})
