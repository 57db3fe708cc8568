/**
 * Effect's metrics in the text format of Prometheus. Slow to load: import it when somebody asks.
 *
 * @internal
 */
import * as OpenTelemetryMetrics from "@effect/opentelemetry/Metrics"
import * as Resource from "@effect/opentelemetry/Resource"
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus"
import * as Effect from "effect/Effect"
import * as Metrics from "../Metrics.ts"

const serializer = new PrometheusSerializer(undefined, false, undefined, true, true)

/** Those of ours, not what else the process counts. */
export const text: Effect.Effect<string> = OpenTelemetryMetrics.makeProducer.pipe(
  Effect.provide(Resource.layerEmpty),
  Effect.flatMap((producer) => Effect.promise(() => producer.collect())),
  Effect.map(({ resourceMetrics }) =>
    serializer.serialize({
      resource: resourceMetrics.resource,
      scopeMetrics: resourceMetrics.scopeMetrics.map(({ metrics, scope }) => ({
        scope,
        metrics: metrics.filter(({ descriptor }) => descriptor.name.startsWith(Metrics.prefix)).map((metric) => ({
          ...metric,
          // the names say it; here it would be 1 for all
          descriptor: { ...metric.descriptor, unit: "" }
        }))
      }))
    })
  )
)
