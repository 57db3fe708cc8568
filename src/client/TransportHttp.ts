/**
 * The transport over HTTP.
 *
 * @module
 */
import * as HttpBody from "@effect/platform/HttpBody"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as ChunkHeaders from "../protocol/ChunkHeaders.ts"
import * as UploadBatch from "../protocol/UploadBatch.ts"
import { ApiKey, ApiKeyMissing } from "./ApiKey.ts"
import * as Answer from "./internal/answer.ts"
import * as HttpFailure from "./internal/httpFailure.ts"
import { IterableBodies } from "./internal/iterableBodies.ts"
import * as RateLimit from "./internal/rateLimit.ts"
import * as Stall from "./internal/stall.ts"
import { NoAnswer, Transport, type TransportError, Unreachable } from "./Transport.ts"

/** No answer of the protocol is longer: what lies behind is not read. Bytes. */
const longestAnswer = 4 * 1024 * 1024

/** Answers to chunks are shorter: they are read in one go where their length is known. */
const shortAnswer = 4 * 1024

const read = (response: HttpClientResponse.HttpClientResponse, moved: () => void) =>
  Effect.gen(function*() {
    moved()
    if (Number(response.headers["content-length"]) <= shortAnswer) {
      return { status: response.status, headers: response.headers, text: yield* response.text } satisfies Answer.Answer
    }
    const decoder = new TextDecoder()
    let text = ""
    yield* Stream.runForEachWhile(response.stream, (bytes) =>
      Effect.sync(() => {
        moved()
        text += decoder.decode(bytes, { stream: true })
        return text.length < longestAnswer
      }))
    return { status: response.status, headers: response.headers, text } satisfies Answer.Answer
  })

/** A header cannot hold other keys; a request with one would fail each time it is tried. */
const sendable = (key: Redacted.Redacted): boolean => /^[\x20-\x7e\x80-\xff]+$/.test(Redacted.value(key))

const unsendable = new ApiKeyMissing({
  message: "The API key has a line end or another character that cannot be sent. Set INDEXCP_API_KEY to the right one"
})

/** `<endpoint>/<id>`, the id before a query string. */
const withId = (endpoint: string, id: string, query: Readonly<Record<string, string>> = {}): string => {
  const url = new URL(endpoint)
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
  url.pathname = `${url.pathname.replace(/\/$/, "")}/${id}`
  return url.href
}

/** How requests go over the wire. */
interface Wire {
  /** Sends a request, with a body if it has one, and reads the answer. */
  readonly exchange: (
    client: HttpClient.HttpClient,
    request: HttpClientRequest.HttpClientRequest,
    body?: Uint8Array
  ) => Effect.Effect<Answer.Answer, Unreachable | NoAnswer>
}

const contentType = "application/octet-stream"

const whole: Wire = {
  exchange: (client, request, body) =>
    Effect.scoped(Effect.flatMap(
      client.execute(body === undefined ? request : HttpClientRequest.bodyUint8Array(request, body, contentType)),
      (response) => read(response, () => {})
    )).pipe(Effect.mapError((error) => HttpFailure.make(error)))
}

/** Bytes. */
const longestSlice = 1024 * 1024

/**
 * How bodies are sliced. A slice is seen to move when all of it was taken, so it must be short on a slow link; and each one
 * costs, so it may be long on a fast one. It is as long as the last body to that host took a sixteenth of a second for,
 * counted until its answer came: buffers on the way take bytes at once and tell nothing of the link.
 *
 * Before that is known, it is a sixteenth of a body at most, so that a short one shows progress too. A limited rate must not
 * come in jerks.
 */
const makeSlicing = (limit: RateLimit.RateLimit | undefined) => {
  /** By host, in bytes a second. */
  const rates = new Map<string, number>()
  const most = limit === undefined ? longestSlice : Math.max(1024, Math.round(limit.rate / 16))
  return {
    lengthFor: (host: string, body: Uint8Array): number => {
      const cautious = Math.min(64 * 1024, Math.max(4 * 1024, Math.ceil(body.length / 16)))
      return Math.min(most, longestSlice, Math.max(cautious, Math.round((rates.get(host) ?? 0) / 16)))
    },
    /** Watches how long a body takes. */
    timed: <A, E, R>(host: string, body: Uint8Array, exchange: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      Effect.flatMap(
        Clock.currentTimeMillis,
        (began) =>
          Effect.onExit(exchange, (exit) =>
            Effect.map(Clock.currentTimeMillis, (now) => {
              if (Exit.isSuccess(exit)) rates.set(host, body.length / Math.max(1, now - began) * 1000)
              else rates.delete(host)
            }))
      )
  }
}

/** The body in slices; `moved` when one is asked for. */
function* slices(body: Uint8Array, length: number, moved: () => void, handedOver: () => void) {
  for (let from = 0; from < body.length; from += length) {
    moved()
    yield body.subarray(from, from + length)
  }
  handedOver()
}

/** The same as a stream, each slice after its turn has come. */
const slicesInTurn = (
  body: Uint8Array,
  length: number,
  turn: (bytes: number) => Effect.Effect<void>,
  handedOver: () => void
) =>
  Stream.unfoldEffect(0, (from) => {
    if (from >= body.length) return Effect.sync(() => (handedOver(), Option.none()))
    const slice = body.subarray(from, from + length)
    return Effect.as(turn(slice.length), Option.some([slice, from + length] as const))
  })

const streamed = (
  stallTimeout: Duration.Duration,
  limit: RateLimit.RateLimit | undefined,
  takesIterables: boolean
): Wire => {
  const slicing = makeSlicing(limit)
  return {
    exchange: (client, request, body) =>
      Effect.suspend(() => {
        const { host } = new URL(request.url)
        let started = false
        const hasBody = body !== undefined && body.length > 0
        const stalled = () => {
          const standstill = `no byte moved for ${seconds(stallTimeout)}`
          return hasBody && !started
            ? new Unreachable({ message: `${host} cannot be reached: ${standstill}` })
            : new NoAnswer({ message: `The connection to ${host} stalled: ${standstill}` })
        }
        return Stall.guard(stallTimeout, stalled, ({ handedOver, held, moved }) => {
          const sends = () => {
            started = true
            moved()
          }
          const withBody = (body: Uint8Array) => {
            const length = slicing.lengthFor(host, body)
            const told = { contentType, contentLength: body.length }
            if (limit === undefined && takesIterables) {
              return HttpClientRequest.setBody(request, HttpBody.raw(slices(body, length, sends, handedOver), told))
            }
            const send = Effect.sync(sends)
            const turn = (bytes: number) => limit === undefined ? send : Effect.zipRight(held(limit.take(bytes)), send)
            return HttpClientRequest.bodyStream(request, slicesInTurn(body, length, turn, handedOver), told)
          }
          const exchange = (request: HttpClientRequest.HttpClientRequest) =>
            Effect.scoped(Effect.flatMap(client.execute(request), (response) => read(response, moved)))
          const outgoing = body === undefined
            ? exchange(request)
            : hasBody
            ? slicing.timed(host, body, Effect.suspend(() => exchange(withBody(body))))
            : exchange(HttpClientRequest.bodyUint8Array(request, body, contentType))
          return Effect.mapError(outgoing, (error) => HttpFailure.make(error, hasBody && !started))
        })
      })
  }
}

const seconds = (duration: Duration.Duration): string => {
  const number = Duration.toSeconds(duration)
  return `${number} second${number === 1 ? "" : "s"}`
}

const make = (wire: Wire) =>
  Effect.gen(function*() {
    const apiKey = yield* ApiKey
    const client = HttpClient.withTracerPropagation(yield* HttpClient.HttpClient, false)

    const exchange = <A>(
      request: HttpClientRequest.HttpClientRequest,
      interpret: (answer: Answer.Answer) => Either.Either<A, TransportError>,
      body?: Uint8Array
    ): Effect.Effect<A, TransportError> =>
      Effect.gen(function*() {
        const key = yield* Effect.filterOrFail(apiKey.get, sendable, () => unsendable)
        const answer = yield* wire.exchange(client, HttpClientRequest.bearerToken(request, key), body)
        return yield* interpret(answer)
      })

    return Transport.of({
      send: ({ body, chunk, endpoint }) => {
        const headers = ChunkHeaders.encode(chunk)
        return exchange(
          HttpClientRequest.setHeaders(HttpClientRequest.post(endpoint), headers),
          (answer) => Answer.forChunk(answer, chunk, headers["x-file-name"]!),
          body
        )
      },
      sendBatch: ({ endpoint, files }) =>
        exchange(
          HttpClientRequest.post(withId(endpoint, UploadBatch.path.slice(1))),
          (answer) => Answer.forBatch(answer, files),
          UploadBatch.toBody(files)
        ),
      state: (endpoint, id, check) =>
        exchange(
          HttpClientRequest.get(withId(endpoint, id, check === undefined ? {} : { check })),
          (answer) => Answer.forState(answer, id)
        ),
      abort: (endpoint, id) => exchange(HttpClientRequest.del(withId(endpoint, id)), Answer.forAbort)
    })
  })

/**
 * A transport over any `HttpClient`, which must not follow redirects. A body goes in one piece, and nobody sees how far it
 * got: there is no time limit of any kind.
 *
 * With the `fetch` client this is the only right one. It sends a streamed body without its length, which a Python server
 * of revision 1 takes for an empty one.
 */
export const layer: Layer.Layer<Transport, never, HttpClient.HttpClient | ApiKey> = Layer.effect(Transport, make(whole))

/** When a request that does not move is cut, and how fast bodies may go. */
export interface StreamedOptions {
  /**
   * How long nothing may move, in either direction, before a request is cut: while it connects, sends, waits for the
   * answer or reads it. A request may take as long as it likes otherwise. Bytes that the system or a proxy has taken count
   * as moved, so the answer is waited for as long as the body took, if that is longer. Positive; 30 seconds by default,
   * `Duration.infinity` for no limit.
   */
  readonly stallTimeout: Duration.DurationInput
  /** Bytes of bodies a second, of all requests together. Positive; no limit by default. */
  readonly limitRate: number
}

/**
 * A transport that watches its requests move and may hold them back, over an `HttpClient` that does not follow redirects
 * and **sends the length of a streamed body**: both of `NodeHttpClient` and `HttpClientNode` do, `fetch` does not.
 *
 * A request that stands still fails with `Unreachable` if nothing of its body was asked for yet, else with `NoAnswer`.
 */
export const layerStreamed = (
  options: Partial<StreamedOptions> = {}
): Layer.Layer<Transport, never, HttpClient.HttpClient | ApiKey> =>
  Layer.effect(
    Transport,
    Effect.flatMap(IterableBodies, (takesIterables) =>
      make(streamed(
        Duration.decode(options.stallTimeout ?? "30 seconds"),
        options.limitRate === undefined ? undefined : RateLimit.make(options.limitRate),
        takesIterables
      )))
  )
