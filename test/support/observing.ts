/**
 * What an operator sees of a server: its logs and its metrics.
 *
 * @module
 */
import * as HttpServer from "@effect/platform/HttpServer"
import { Effect, HashMap, Layer, Logger, LogLevel, type Scope } from "effect"
import * as Authenticator from "../../src/server/Authenticator.ts"
import * as HttpApp from "../../src/server/HttpApp.ts"
import * as MetricsApp from "../../src/server/MetricsApp.ts"
import * as NodeServer from "../../src/server/NodeServer.ts"
import { apiKey } from "./rawHttp.ts"
import * as RawReceiver from "./rawReceiver.ts"

export interface Line {
  readonly level: string
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** Everything that is logged, and a layer that has it logged here. */
export const recorder = (level: LogLevel.LogLevel = LogLevel.All) => {
  const lines: Array<Line> = []
  const logger = Logger.make<unknown, void>(({ annotations, logLevel, message }) => {
    lines.push({
      level: logLevel.label,
      message: [message].flat().map(String).join(" "),
      annotations: Object.fromEntries(HashMap.toEntries(annotations))
    })
  })
  return {
    lines,
    layer: Layer.merge(Logger.replace(Logger.defaultLogger, logger), Logger.minimumLogLevel(level)),
    of: (message: string) => lines.filter((line) => line.message.startsWith(message))
  }
}

/** A server over memory on a free port, with `/metrics` on another one; what it is given is under all of it. */
export const serving = (
  under: Layer.Layer<never>,
  metrics: Omit<MetricsApp.ListenOptions, "address">
): Effect.Effect<{ readonly port: number; readonly metricsPort: number }, never, Scope.Scope> =>
  Effect.gen(function*() {
    const listening = Effect.gen(function*() {
      const url = yield* NodeServer.baseUrl
      const shown = yield* MetricsApp.listen({ ...metrics, address: { host: "127.0.0.1", port: 0 } })
      return { port: Number(new URL(url).port), metricsPort: Number(new URL(shown).port) }
    })
    const app = Layer.unwrapEffect(Effect.map(HttpApp.app(), (app) => HttpServer.serve(app)))
    const context = yield* Layer.build(
      app.pipe(
        Layer.provideMerge(NodeServer.layer({ port: 0, drainTimeout: "1 second" })),
        Layer.provideMerge(RawReceiver.layer()),
        Layer.provide(Authenticator.layerMemory({ "a key": apiKey })),
        Layer.provideMerge(under)
      )
    )
    return yield* Effect.provide(listening, context)
  }).pipe(Effect.orDie)

/** The samples of a text in Prometheus's format, by name and labels. */
export const samples = (text: string): Readonly<Record<string, number>> =>
  Object.fromEntries(
    text.split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
      const at = line.lastIndexOf(" ")
      return [line.slice(0, at), Number(line.slice(at + 1))]
    })
  )
