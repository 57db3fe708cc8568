/**
 * A collector of traces, which keeps what it is sent.
 *
 * @module
 */
import { Effect, type Scope } from "effect"
import * as Http from "node:http"
import { listen } from "./peers/internal/listen.ts"

export interface CollectedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly attributes: ReadonlyArray<{ readonly key: string; readonly value: Readonly<Record<string, unknown>> }>
}

export interface Delivery {
  readonly path: string
  readonly headers: Http.IncomingHttpHeaders
  readonly body: Buffer
}

export interface Collector {
  readonly url: string
  readonly deliveries: ReadonlyArray<Delivery>
  /** Of deliveries in JSON. */
  readonly spans: () => ReadonlyArray<CollectedSpan>
  /** The status of answers from now on; 0 for none at all. */
  answer: number
}

export const collector: Effect.Effect<Collector, never, Scope.Scope> = Effect.gen(function*() {
  const deliveries: Array<Delivery> = []
  const server = Http.createServer((request, response) => {
    const pieces: Array<Buffer> = []
    request.on("data", (piece: Buffer) => pieces.push(piece))
    request.on("end", () => {
      deliveries.push({ path: request.url ?? "", headers: request.headers, body: Buffer.concat(pieces) })
      if (made.answer !== 0) response.writeHead(made.answer, { "content-type": "application/json" }).end("{}")
    })
  })
  const port = yield* listen(server)
  yield* Effect.addFinalizer(() => Effect.sync(() => server.closeAllConnections()))
  const made: Collector = {
    url: `http://127.0.0.1:${port}`,
    deliveries,
    spans: () =>
      deliveries.flatMap(({ body }) => {
        const { resourceSpans } = JSON.parse(body.toString()) as {
          readonly resourceSpans: ReadonlyArray<{
            readonly scopeSpans: ReadonlyArray<{ readonly spans: ReadonlyArray<CollectedSpan> }>
          }>
        }
        return resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap(({ spans }) => spans))
      }),
    answer: 200
  }
  return made
})

/** The attributes of a span as plain values. */
export const attributesOf = (span: CollectedSpan | undefined): Readonly<Record<string, unknown>> =>
  Object.fromEntries((span?.attributes ?? []).map(({ key, value }) => [key, Object.values(value)[0]]))
