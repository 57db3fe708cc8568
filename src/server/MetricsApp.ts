/**
 * `/metrics` for Prometheus: beside the protocol behind a key of its own, or on an address of its own.
 *
 * @module
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Authenticator from "./Authenticator.ts"
import * as Metrics from "./Metrics.ts"
import * as NodeServer from "./NodeServer.ts"
import { UploadLedger } from "./UploadLedger.ts"

/** Where the metrics are, below whatever they are mounted on. */
export const path = "/metrics"

/** Who may see the metrics. */
export interface MetricsAppOptions {
  /** Sent as `Authorization: Bearer <key>`. `None`: whoever reaches the app sees the metrics. */
  readonly key: Option.Option<Redacted.Redacted>
}

const contentType = "text/plain; version=0.0.4; charset=utf-8"
const notFound = HttpServerResponse.text("Not Found", { status: 404 })
const refused = HttpServerResponse.text("Send the metrics key as Authorization: Bearer <key>\n", {
  status: 401,
  headers: { "www-authenticate": "Bearer" }
})
const slowDown = HttpServerResponse.text("Too many wrong keys from this address; try again later\n", { status: 429 })

const isMetrics = ({ method, url }: HttpServerRequest.HttpServerRequest, basePath: string): boolean =>
  method === "GET" && url.split("?", 1)[0] === basePath + path

/** `GET /metrics`; everything else is 404. The number of open uploads is NaN while the ledger does not answer. */
export const app = (
  { key }: MetricsAppOptions
): Effect.Effect<HttpApp.Default, never, UploadLedger> =>
  Effect.gen(function*() {
    const ledger = yield* UploadLedger
    const authenticator = Option.isSome(key)
      ? Option.some(yield* Effect.provide(Authenticator.Authenticator, Authenticator.layer(key.value)))
      : Option.none()

    const shown = Effect.gen(function*() {
      const open = yield* Effect.orElseSucceed(ledger.open(Option.none()), () => Number.NaN)
      yield* Metric.set(Metrics.uploadsOpen, open)
      yield* Metrics.begin
      const { text } = yield* Effect.promise(() => import("./internal/prometheus.ts"))
      return HttpServerResponse.text(yield* text, { headers: { "content-type": contentType } })
    })

    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
      if (!isMetrics(request, "")) return Effect.succeed(notFound)
      if (Option.isNone(authenticator)) return shown
      return authenticator.value.authenticate({
        authorization: Option.fromNullable(request.headers["authorization"]),
        address: Option.getOrElse(request.remoteAddress, () => "")
      }).pipe(
        Effect.andThen(shown),
        Effect.catchTags({
          Unauthorized: () => Effect.succeed(refused),
          TooMany: () => Effect.succeed(slowDown)
        })
      )
    })
  })

/** An app with `GET /metrics` beside it: put a key before it, for everybody reaches it who reaches the app. */
export const beside = <E, R>(
  other: HttpApp.Default<E, R>,
  options: { readonly key: Redacted.Redacted; readonly basePath?: string }
): Effect.Effect<HttpApp.Default<E, R>, never, UploadLedger> =>
  Effect.map(app({ key: Option.some(options.key) }), (metrics) =>
    Effect.flatMap(
      HttpServerRequest.HttpServerRequest,
      (request): HttpApp.Default<E, R> =>
        isMetrics(request, options.basePath ?? "")
          ? Effect.provideService(metrics, HttpServerRequest.HttpServerRequest, request.modify({ url: path }))
          : other
    ))

/** Where to listen. */
export interface Address {
  readonly host: string
  readonly port: number
}

/** `host:port`, `[::1]:9464`, or a port alone, which is one of 127.0.0.1. */
export const parseAddress = (text: string): Option.Option<Address> => {
  const [, host, port] = /^(?:(\[[0-9A-Fa-f:.]+\]|[^:[\]\s/]+):)?(\d{1,5})$/.exec(text) ?? []
  return port === undefined || Number(port) > 65535
    ? Option.none()
    : Option.some({ host: host?.replace(/^\[|\]$/g, "") ?? NodeServer.defaults.host, port: Number(port) })
}

/** Who may see the metrics, and where. */
export interface ListenOptions extends MetricsAppOptions {
  readonly address: Address
}

/** Listens until the scope closes; returns where, like `http://127.0.0.1:9464/metrics`. */
export const listen = (
  { address, key }: ListenOptions
): Effect.Effect<string, NodeServer.CannotListen, Scope.Scope | UploadLedger> =>
  Effect.gen(function*() {
    const metrics = yield* app({ key })
    const server = yield* Layer.build(NodeServer.layer({ ...address, drainTimeout: "1 second" }))
    const url = yield* Effect.provide(NodeServer.baseUrl, server)
    yield* Layer.build(HttpServer.serve(metrics)).pipe(
      Effect.provide(server),
      // who looks every few seconds is no news
      Effect.locally(HttpMiddleware.currentTracerDisabledWhen, () => true)
    )
    yield* Effect.logInfo("Metrics are served").pipe(Effect.annotateLogs({ url: url + path }))
    return url + path
  }).pipe(
    Effect.mapError(({ cause, message }) =>
      new NodeServer.CannotListen({ message: message.replace(/--(host|port)/g, "--metrics-address"), cause })
    )
  )

/** {@link listen} as a layer. */
export const layer = (
  options: ListenOptions
): Layer.Layer<never, NodeServer.CannotListen, UploadLedger> => Layer.scopedDiscard(listen(options))
