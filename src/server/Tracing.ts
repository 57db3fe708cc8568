/**
 * OpenTelemetry traces over OTLP, by the usual environment variables. Without `OTEL_EXPORTER_OTLP_ENDPOINT` or
 * `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` nothing is loaded and nothing is sent.
 *
 * | variable | what is taken |
 * |---|---|
 * | `OTEL_EXPORTER_OTLP_ENDPOINT`, `…_TRACES_ENDPOINT` | `http:` or `https:`; to the first `/v1/traces` is added |
 * | `OTEL_EXPORTER_OTLP_PROTOCOL`, `…_TRACES_PROTOCOL` | `http/protobuf` (default) or `http/json`; no gRPC |
 * | `OTEL_EXPORTER_OTLP_HEADERS`, `…_TRACES_HEADERS` | `name=value,…`, percent-encoded |
 * | `OTEL_EXPORTER_OTLP_TIMEOUT`, `…_TRACES_TIMEOUT` | milliseconds, default 10 000 |
 * | `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | default name `indexcp-server` |
 * | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | the six standard ones, default `parentbased_always_on` |
 * | `OTEL_BSP_SCHEDULE_DELAY` | milliseconds between deliveries, default 5000 |
 * | `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER` | `true` and `none` switch it off |
 *
 * Nothing of it stops a server: what cannot be used is one warning.
 *
 * @module
 */
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

/** Which traces are kept. */
export interface Sampler {
  /** Whether a trace that began elsewhere is kept if its caller keeps it. */
  readonly ofParent: boolean
  /** The part of all others, from 0 to 1. */
  readonly ratio: number
}

/** Where traces go, and which. See the table above for where each comes from. */
export interface TracingSettings {
  /** With its path. */
  readonly url: string
  readonly protocol: "http/protobuf" | "http/json"
  readonly headers: Redacted.Redacted<Readonly<Record<string, string>>>
  /** Milliseconds for one delivery. */
  readonly timeout: number
  /** Milliseconds between deliveries. */
  readonly interval: number
  readonly serviceName: string
  readonly attributes: Readonly<Record<string, string>>
  readonly sampler: Sampler
}

const defaults = { protocol: "http/protobuf", timeout: 10_000, interval: 5000, serviceName: "indexcp-server" } as const

/** The first of some variables that has a value. */
const read = (...names: ReadonlyArray<string>): Effect.Effect<string | undefined> =>
  Effect.reduce(names, undefined as string | undefined, (found, name) =>
    found !== undefined
      ? Effect.succeed(found)
      : Effect.map(
        Effect.option(Config.string(name)),
        (text) => Option.getOrUndefined(Option.filter(Option.map(text, (text) => text.trim()), (text) => text !== ""))
      ))

const warn = (variable: string, problem: string) =>
  Effect.annotateLogs(Effect.logWarning(`Traces: ${problem}`), { variable })

const milliseconds = (fallback: number, ...names: ReadonlyArray<string>) =>
  Effect.flatMap(read(...names), (text) =>
    text === undefined || /^[1-9]\d{0,8}$/.test(text)
      ? Effect.succeed(text === undefined ? fallback : Number(text))
      : Effect.as(
        warn(names.at(-1)!, `${JSON.stringify(text)} is no number of milliseconds; it is left aside`),
        fallback
      ))

const decode = (text: string): string | undefined => {
  try {
    return decodeURIComponent(text.trim())
  } catch {
    return undefined
  }
}

/** `name=value,…`. Values may be secret, so what is wrong is not shown. */
const list = (variable: string, text: string | undefined, isName: RegExp) =>
  Effect.gen(function*() {
    const found: Record<string, string> = {}
    for (const entry of (text ?? "").split(",").filter((entry) => entry.trim() !== "")) {
      const at = entry.indexOf("=")
      const [name, value] = [decode(entry.slice(0, Math.max(at, 0))), decode(entry.slice(at + 1))]
      if (at < 1 || name === undefined || value === undefined || !isName.test(name) || /[\0\r\n]/.test(value)) {
        yield* warn(variable, "an entry is not like name=value; it is left aside")
      } else {
        found[name] = value
      }
    }
    return found
  })

const samplers: Readonly<Record<string, (argument: number) => Sampler>> = {
  always_on: () => ({ ofParent: false, ratio: 1 }),
  always_off: () => ({ ofParent: false, ratio: 0 }),
  traceidratio: (ratio) => ({ ofParent: false, ratio }),
  parentbased_always_on: () => ({ ofParent: true, ratio: 1 }),
  parentbased_always_off: () => ({ ofParent: true, ratio: 0 }),
  parentbased_traceidratio: (ratio) => ({ ofParent: true, ratio })
}

const sampler = Effect.gen(function*() {
  const name = (yield* read("OTEL_TRACES_SAMPLER")) ?? "parentbased_always_on"
  const argument = Number((yield* read("OTEL_TRACES_SAMPLER_ARG")) ?? 1)
  const isRatio = argument >= 0 && argument <= 1
  const make = Object.hasOwn(samplers, name) ? samplers[name] : undefined
  if (make === undefined) {
    yield* warn("OTEL_TRACES_SAMPLER", `there is no sampler ${JSON.stringify(name)} here; all are kept`)
  }
  if (!isRatio && name.endsWith("ratio")) yield* warn("OTEL_TRACES_SAMPLER_ARG", "it is not from 0 to 1; all are kept")
  return (make ?? samplers["parentbased_always_on"]!)(isRatio ? argument : 1)
})

/** Where traces go, or why they go nowhere. */
const endpoint = Effect.gen(function*() {
  const own = yield* read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
  const common = yield* read("OTEL_EXPORTER_OTLP_ENDPOINT")
  const exporter = (yield* read("OTEL_TRACES_EXPORTER")) ?? "otlp"
  if ((yield* read("OTEL_SDK_DISABLED"))?.toLowerCase() === "true" || exporter === "none") return Option.none()
  const text = own ?? (common === undefined ? undefined : `${common.replace(/\/+$/, "")}/v1/traces`)
  if (text === undefined) return Option.none()
  const variable = own === undefined ? "OTEL_EXPORTER_OTLP_ENDPOINT" : "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
  if (exporter !== "otlp") {
    return yield* Effect.as(
      warn("OTEL_TRACES_EXPORTER", `${JSON.stringify(exporter)} is neither otlp nor none; none are sent`),
      Option.none()
    )
  }
  const url = URL.canParse(text) ? new URL(text) : undefined
  const problem = url === undefined || !/^https?:$/.test(url.protocol)
    ? "the endpoint is no http or https URL; none are sent"
    : url.username !== "" || url.password !== ""
    ? "put credentials into OTEL_EXPORTER_OTLP_HEADERS, not into the endpoint; none are sent"
    : undefined
  return problem === undefined ? Option.some(text) : yield* Effect.as(warn(variable, problem), Option.none())
})

/** The settings of the environment; `None` when no traces are to be sent. Logs what it cannot use. */
export const settings: Effect.Effect<Option.Option<TracingSettings>> = Effect.gen(function*() {
  const url = yield* endpoint
  if (Option.isNone(url)) return Option.none()
  const protocol = (yield* read("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")) ??
    defaults.protocol
  if (protocol !== "http/protobuf" && protocol !== "http/json") {
    yield* warn(
      "OTEL_EXPORTER_OTLP_PROTOCOL",
      `${JSON.stringify(protocol)} is not spoken here, only http/protobuf and http/json; none are sent`
    )
    return Option.none()
  }
  const { "service.name": named, ...attributes } = yield* list(
    "OTEL_RESOURCE_ATTRIBUTES",
    yield* read("OTEL_RESOURCE_ATTRIBUTES"),
    /./
  )
  return Option.some({
    url: url.value,
    protocol,
    headers: Redacted.make(
      yield* list(
        "OTEL_EXPORTER_OTLP_HEADERS",
        yield* read("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"),
        /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
      )
    ),
    timeout: yield* milliseconds(
      defaults.timeout,
      "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
      "OTEL_EXPORTER_OTLP_TIMEOUT"
    ),
    interval: yield* milliseconds(defaults.interval, "OTEL_BSP_SCHEDULE_DELAY"),
    serviceName: (yield* read("OTEL_SERVICE_NAME")) ?? named ?? defaults.serviceName,
    attributes,
    sampler: yield* sampler
  })
})

/** Probes come every few seconds and say nothing. */
const isProbe = ({ url }: { readonly url: string }) => /\/(?:health|ready|metrics)$/.test(url.split("?", 1)[0]!)

/**
 * Spans go to the collector of the environment, if there is one; those of a request belong to the trace of its
 * `traceparent`. Provide it below the whole server, so that what the last requests did is delivered too.
 */
export const layer: Layer.Layer<never> = Layer.unwrapEffect(
  Effect.gen(function*() {
    const found = yield* settings
    if (Option.isNone(found)) return Layer.empty
    const { layer } = yield* Effect.promise(() => import("./internal/otlpTracer.ts"))
    yield* Effect.logInfo("Traces are sent").pipe(Effect.annotateLogs({ protocol: found.value.protocol }))
    return Layer.merge(
      layer(found.value),
      Layer.fiberRefLocallyScopedWith(
        HttpMiddleware.currentTracerDisabledWhen,
        (before) => (request) => before(request) || isProbe(request)
      )
    )
  })
)
