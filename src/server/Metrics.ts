/**
 * What a server counts, under the names that Prometheus shows. The counts are those of the process: they begin at zero
 * with it, and servers in one process share them.
 *
 * @module
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as MetricBoundaries from "effect/MetricBoundaries"

/** What the names of all of them begin with. */
export const prefix = "indexedcp_"

const counter = (name: string, description: string) =>
  Metric.counter(`${prefix}${name}`, { description, incremental: true })

/** Requests, by the labels `method` and `status`; count them with {@link answered}. */
export const requests = counter(
  "requests_total",
  "Requests by method and status; 499 are those whose client left before the answer"
)

/** Whole bodies only: what was cut off, or refused before its end, is not in it. */
export const receivedBytes = counter(
  "received_bytes_total",
  "Bytes of chunk bodies that arrived whole, repeated and refused ones too"
)

/** Repeated ones are in {@link duplicateChunks}. */
export const chunks = counter("chunks_total", "Chunks stored and acknowledged, repeated ones not counted")

/** Nothing was written for them. */
export const duplicateChunks = counter("duplicate_chunks_total", "Chunks acknowledged that were here before")

/** Damaged on their way, or by their client. Nothing of them was kept. */
export const digestMismatches = counter(
  "digest_mismatches_total",
  "Chunks refused because their bytes were not those of their digest"
)

/** Of revision 2. Asked of the ledger whenever somebody looks (`MetricsApp`), so it is exact then. */
export const uploadsOpen = Metric.gauge(`${prefix}uploads_open`, {
  description: "Uploads neither complete nor deleted"
})

/** Of revision 2; in revision 1 no request says that a file is whole. */
export const uploadsCompleted = counter("uploads_completed_total", "Uploads published under their final name")

/** Of revision 2: `409`, and their bytes are kept for the operator. */
export const uploadsFailed = counter(
  "uploads_failed_total",
  "Uploads not published because the whole file was not what was declared or what came"
)

/** After `unfinishedLifetime`. */
export const uploadsExpired = counter(
  "uploads_expired_total",
  "Unfinished uploads deleted because nothing came any more"
)

/** Seconds. One sync may serve many chunks. */
export const syncSeconds = Metric.histogram(
  `${prefix}sync_seconds`,
  MetricBoundaries.fromIterable([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]),
  "Seconds that a sync of chunks to the disk took"
)

/** Of both revisions; {@link inFlight} counts them. */
export const bodiesInFlight = Metric.gauge(`${prefix}bodies_in_flight`, {
  description: "Chunks being received just now"
})

/** Makes those without labels known at zero: else a metric is there only once something was counted. */
export const begin: Effect.Effect<void> = Effect.all([
  Metric.value(receivedBytes),
  Metric.value(chunks),
  Metric.value(duplicateChunks),
  Metric.value(digestMismatches),
  Metric.value(uploadsCompleted),
  Metric.value(uploadsFailed),
  Metric.value(uploadsExpired),
  Metric.value(syncSeconds),
  Metric.value(bodiesInFlight)
], { discard: true })

const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])

/** A counter with its labels costs much more to make than to count. */
const answers = new Map<string, Effect.Effect<void>>()

/** Counts a request. Methods that HTTP does not know are `other`, so that clients cannot make labels. */
export const answered = (method: string, status: number): Effect.Effect<void> => {
  const known = methods.has(method) ? method : "other"
  const key = `${known} ${status}`
  const there = answers.get(key)
  if (there !== undefined) return there
  const count = Metric.increment(Metric.tagged(Metric.tagged(requests, "method", known), "status", String(status)))
  answers.set(key, count)
  return count
}

/** Counts a chunk as in flight as long as the effect runs. */
export const inFlight = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(
    Metric.increment(bodiesInFlight),
    () => effect,
    () => Metric.incrementBy(bodiesInFlight, -1)
  )

/** Records how long a sync took that succeeded. */
export const timedSync: <A, E, R>(sync: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R> = Metric.trackDurationWith(
  syncSeconds,
  Duration.toSeconds
)
