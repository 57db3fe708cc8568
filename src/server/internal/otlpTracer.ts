/**
 * Spans on their way to a collector. Imported only where there is one.
 *
 * @internal
 */
import * as OtlpSerialization from "@effect/opentelemetry/OtlpSerialization"
import * as OtlpTracer from "@effect/opentelemetry/OtlpTracer"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Tracer from "effect/Tracer"
import type { Sampler, TracingSettings } from "../Tracing.ts"

/** Requests to a collector at once: what one that hangs may hold of our memory. More are dropped. */
const mostRequests = 4

/** Milliseconds that a stopping server waits for the collector to take what is left. */
const mostShutdown = 3000

/** One line when deliveries begin to fail, one when they succeed again, whatever happens between. */
const watched = (client: HttpClient.HttpClient, { timeout }: TracingSettings) => {
  let failing = false
  let running = 0
  const failed = (reason: string) => {
    if (failing) return Effect.void
    failing = true
    return Effect.annotateLogs(
      Effect.logWarning("Traces cannot be delivered; they are dropped until the collector takes them again"),
      { reason }
    )
  }
  const succeeded = Effect.suspend(() => {
    if (!failing) return Effect.void
    failing = false
    return Effect.logInfo("Traces are delivered again")
  })
  return HttpClient.transform(client, (attempt, request) => {
    const refuse = (description: string) =>
      new HttpClientError.RequestError({ request, reason: "Transport", description, cause: description })
    return Effect.acquireUseRelease(
      Effect.sync(() => ++running),
      (now) => now > mostRequests ? refuse("the collector is too slow") : attempt,
      () => Effect.sync(() => --running)
    ).pipe(
      Effect.timeoutFail({ duration: timeout, onTimeout: () => refuse("the collector did not answer in time") }),
      Effect.tapBoth({
        onFailure: (error) => failed(reasonOf(error)),
        onSuccess: ({ status }) => status < 400 ? succeeded : failed(`the collector answers ${status}`)
      })
    )
  })
}

/** The innermost cause: of `fetch`, only that says what happened. Never the request, which has the headers. */
const reasonOf = ({ cause, message }: HttpClientError.HttpClientError): string => {
  let reason: unknown = cause
  while (reason instanceof Error && reason.cause !== undefined) reason = reason.cause
  return typeof reason === "string" ? reason : reason instanceof Error ? reason.message : message
}

const isSpan = ({ spanId, traceId }: Tracer.AnySpan) =>
  /^(?!0+$)[0-9a-f]{32}$/i.test(traceId) && /^(?!0+$)[0-9a-f]{16}$/i.test(spanId)

/** Whether a trace is among this part of all: the same decision wherever it is taken. */
const isWithin = (traceId: string, ratio: number): boolean =>
  Number.parseInt(traceId.slice(-13), 16) >= (1 - ratio) * 2 ** 52

/** The same span, of which nobody is told. */
const unsampled = (span: Tracer.Span): Tracer.Span => ({
  ...span,
  _tag: "Span",
  sampled: false,
  end: () => {},
  attribute: () => {},
  event: () => {},
  addLinks: () => {}
})

const sampling = (tracer: Tracer.Tracer, { ofParent, ratio }: Sampler): Tracer.Tracer =>
  Tracer.make({
    context: (f, fiber) => tracer.context(f, fiber),
    span: (name, said, ...rest) => {
      // what came from outside may be anything; a collector would refuse it, and what is delivered with it
      const parent = Option.filter(said, isSpan)
      const span = tracer.span(name, parent, ...rest)
      const isSampled = Option.isSome(parent) && (ofParent || parent.value._tag === "Span")
        ? parent.value.sampled
        : isWithin(span.traceId, ratio)
      return isSampled ? span : unsampled(span)
    }
  })

/** Delivers spans every few seconds, and what is left when its scope closes. */
export const layer = (settings: TracingSettings): Layer.Layer<never> =>
  Layer.unwrapScoped(
    Effect.gen(function*() {
      const client = watched(yield* HttpClient.HttpClient, settings)
      const tracer = yield* Effect.provideService(
        OtlpTracer.make({
          url: settings.url,
          resource: { serviceName: settings.serviceName, attributes: settings.attributes },
          exportInterval: settings.interval,
          shutdownTimeout: Math.min(settings.timeout, mostShutdown)
        }),
        HttpClient.HttpClient,
        client
      )
      return Layer.setTracer(sampling(tracer, settings.sampler))
    }).pipe(
      // all of it was read already
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))
    )
  ).pipe(
    Layer.provide([
      settings.protocol === "http/json" ? OtlpSerialization.layerJson : OtlpSerialization.layerProtobuf,
      FetchHttpClient.layer
    ]),
    // here, not in the request, which stands in errors
    Layer.provide(Layer.succeed(FetchHttpClient.RequestInit, {
      headers: Redacted.value(settings.headers),
      redirect: "error"
    }))
  )
