/**
 * The transport over HTTP.
 *
 * @module
 */
import * as HttpClient from "@effect/platform/HttpClient"
import type * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import type * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as ChunkHeaders from "../protocol/ChunkHeaders.ts"
import { ApiKey, ApiKeyMissing } from "./ApiKey.ts"
import * as Answer from "./internal/answer.ts"
import { NoAnswer, Transport, type TransportError, Unreachable } from "./Transport.ts"

/** No answer of the protocol is longer: what lies behind is not read. */
const longestAnswer = 1024 * 1024

/** Failures before anything was sent, by the codes of Node and undici. */
const unreachable: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "ENETDOWN",
  "UND_ERR_CONNECT_TIMEOUT"
])

const codes = (cause: unknown): ReadonlyArray<string> => {
  const error = cause as { readonly code?: string; readonly cause?: unknown; readonly errors?: ReadonlyArray<unknown> }
  if (typeof error !== "object" || error === null) return []
  return [...(error.code === undefined ? [] : [error.code]), ...[error.cause, ...(error.errors ?? [])].flatMap(codes)]
}

/** An error of the client library, without the request that it carries. */
const failure = (error: HttpClientError.HttpClientError): Unreachable | NoAnswer => {
  const found = codes(error.cause)
  const { host } = new URL(error.request.url)
  return found.some((code) => unreachable.has(code))
    ? new Unreachable({ message: `${host} cannot be reached (${found[0]})`, cause: error.cause })
    : new NoAnswer({ message: `The connection to ${host} broke (${found[0] ?? error.reason})`, cause: error.cause })
}

const read = (response: HttpClientResponse.HttpClientResponse) =>
  Effect.gen(function*() {
    const decoder = new TextDecoder()
    let text = ""
    yield* Stream.runForEachWhile(response.stream, (bytes) =>
      Effect.sync(() => {
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

const make = Effect.gen(function*() {
  const apiKey = yield* ApiKey
  const client = HttpClient.withTracerPropagation(yield* HttpClient.HttpClient, false)

  const exchange = <A>(
    request: HttpClientRequest.HttpClientRequest,
    interpret: (answer: Answer.Answer) => Either.Either<A, TransportError>
  ): Effect.Effect<A, TransportError> =>
    Effect.gen(function*() {
      const key = yield* Effect.filterOrFail(apiKey.get, sendable, () => unsendable)
      const answer = yield* Effect.scoped(Effect.flatMap(
        client.execute(HttpClientRequest.bearerToken(request, key)),
        read
      )).pipe(Effect.mapError(failure))
      return yield* interpret(answer)
    })

  return Transport.of({
    send: ({ body, chunk, endpoint }) => {
      const headers = ChunkHeaders.encode(chunk)
      return exchange(
        HttpClientRequest.post(endpoint).pipe(
          HttpClientRequest.setHeaders(headers),
          HttpClientRequest.bodyUint8Array(body, "application/octet-stream")
        ),
        (answer) => Answer.forChunk(answer, chunk, headers["x-file-name"]!)
      )
    },
    state: (endpoint, id, check) =>
      exchange(
        HttpClientRequest.get(withId(endpoint, id, check === undefined ? {} : { check })),
        (answer) => Answer.forState(answer, id)
      ),
    abort: (endpoint, id) => exchange(HttpClientRequest.del(withId(endpoint, id)), Answer.forAbort)
  })
})

/** A transport over the `HttpClient` at hand, which must not follow redirects. */
export const layer: Layer.Layer<Transport, never, HttpClient.HttpClient | ApiKey> = Layer.effect(Transport, make)
