/**
 * The protocol over HTTP: requests to {@link Receiver}, its errors to statuses. Knows no Node: it runs wherever an
 * `HttpApp` does, and can be mounted in another one.
 *
 * @module
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpMiddleware from "@effect/platform/HttpMiddleware"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Api from "../protocol/Api.ts"
import * as ChunkHeaders from "../protocol/ChunkHeaders.ts"
import * as PrefixDigest from "../protocol/PrefixDigest.ts"
import {
  Malformed,
  type ProtocolError,
  retryAfter,
  ServerFailure,
  toBody,
  UnsupportedEncoding
} from "../protocol/ProtocolError.ts"
import * as UploadBatch from "../protocol/UploadBatch.ts"
import { UploadId } from "../protocol/UploadId.ts"
import * as UploadLimit from "../protocol/UploadLimit.ts"
import { Authenticator, type Principal } from "./Authenticator.ts"
import * as Body from "./Body.ts"
import * as Flow from "./internal/flow.ts"
import { observed } from "./internal/observed.ts"
import { type Received, Receiver } from "./Receiver.ts"

/** Seconds a client waits before it asks again about an upload that is being finished. */
const finishingRetry = 1

/** Seconds for which a browser remembers what pages of other origins may send. */
const corsMaxAge = 600

const allowedHeaders = [
  "authorization",
  "content-type",
  "x-request-id",
  "traceparent",
  ...Object.keys(ChunkHeaders.Revision1Headers.fields),
  ...Object.keys(ChunkHeaders.Revision2Headers.fields)
]

const notFound = HttpServerResponse.text("Not Found", { status: 404 })

const answer = (error: ProtocolError) => {
  const seconds = retryAfter(error)
  return HttpServerResponse.unsafeJson(toBody(error), {
    status: error.status,
    headers: {
      ...(seconds === undefined ? {} : { "retry-after": String(seconds) }),
      ...(error._tag === "Unauthorized" ? { "www-authenticate": "Bearer" } : {})
    }
  })
}

/** A file's place in the answer to a batch. */
const resultOf = (result: Either.Either<Received, ProtocolError | Body.BodyCut>): object => {
  if (Either.isRight(result)) return { status: 200, receipt: result.right.receipt }
  const error = unread(result.left)
  const seconds = retryAfter(error)
  return { status: error.status, ...toBody(error), ...(seconds === undefined ? {} : { retryAfter: seconds }) }
}

/** Nobody is left to read the answer to a body that was cut; what it says does not matter. */
const unread = (error: ProtocolError | Body.BodyCut): ProtocolError =>
  error._tag === "BodyCut" ? new Malformed({ message: error.message }) : error

/** What an app is told of where it stands. */
export interface HttpAppOptions {
  /** Before all its paths, like `/files`. Default: nothing. */
  readonly basePath: string
  /** Whether the peer is a proxy whose `X-Forwarded-For` tells who asks: the last address in it counts. Default: no. */
  readonly trustProxy: boolean
  /** Origins whose pages may send files (CORS), like `https://example.org`, or `*`. Default: none, and OPTIONS is 404. */
  readonly corsOrigin: ReadonlyArray<string>
}

/** What holds where an option is not given. */
export const defaults: HttpAppOptions = { basePath: "", trustProxy: false, corsOrigin: [] }

/** Where chunks are sent. */
const endpoint = "/upload"

/** Header names and values as they came, where the platform keeps them (Node joins or drops repeated ones). */
const headersOf = (request: HttpServerRequest.HttpServerRequest) => {
  const raw = (request.source as { readonly rawHeaders?: ReadonlyArray<string> }).rawHeaders
  return ChunkHeaders.fromRaw(raw ?? Object.entries(request.headers).flat())
}

/** The address that the nearest proxy saw: those before it are whatever the client has written there. */
const forwardedFor = (request: HttpServerRequest.HttpServerRequest): string | undefined =>
  request.headers["x-forwarded-for"]?.split(",").at(-1)?.trim()

/** The request's own pieces where it has them: nothing stands between the socket and the hash. */
const bodyOf = (request: HttpServerRequest.HttpServerRequest, length: Option.Option<number>): Body.Body => {
  const source = request.source as object
  if (Flow.isReadable(source)) return { length, pieces: Flow.fromReadable(source) }
  if (Symbol.asyncIterator in source) return { length, pieces: source as AsyncIterable<Uint8Array> }
  // the stream of a Web `Request` without a body fails
  return Option.contains(length, 0) ? Body.of() : { length, pieces: Stream.toAsyncIterable(request.stream) }
}

/**
 * A connection that is gone has no address any more, by which clients of revision 1 are told apart: its chunk would go to
 * the wrong upload. (Unix-domain sockets have no addresses on either side, platforms without sockets none at all.)
 */
const isGone = ({ remoteAddress, source }: HttpServerRequest.HttpServerRequest): boolean => {
  const { socket } = source as { readonly socket?: { readonly destroyed?: boolean; readonly localAddress?: string } }
  return Option.isNone(remoteAddress) && socket !== undefined &&
    !(socket.destroyed === false && socket.localAddress === undefined)
}

const decodeLength = Schema.decodeOption(ChunkHeaders.CountFromString)
const decodeId = Schema.decodeOption(UploadId)

/** Bytes of the body, where that is said. */
const lengthOf = (
  headers: Readonly<Record<string, string>>,
  source: unknown
): Effect.Effect<Option.Option<number>, Malformed> => {
  const said = headers["content-length"]
  const coding = headers["transfer-encoding"]
  if (coding !== undefined && (said !== undefined || coding.toLowerCase() !== "chunked")) {
    return new Malformed({ message: "Send a body either with Content-Length or with Transfer-Encoding: chunked" })
  }
  if (said === undefined) {
    // neither a length nor a chunked coding: the request has no body (RFC 9112, section 6.3); a Web `Request` may have one
    const hasBody = coding !== undefined ||
      (source as { readonly body?: unknown }).body instanceof ReadableStream
    return Effect.succeed(hasBody ? Option.none() : Option.some(0))
  }
  const length = decodeLength(said)
  return Option.isNone(length)
    ? Effect.fail(new Malformed({ message: "Header content-length: not a whole number" }))
    : Effect.succeed(length)
}

const make = (options: HttpAppOptions) =>
  Effect.gen(function*() {
    const authenticator = yield* Authenticator
    const receiver = yield* Receiver
    // takes some 20 ms to make, and hardly anybody asks
    const openApi = yield* Effect.cached(Effect.sync(() => HttpServerResponse.unsafeJson(Api.openApi())))
    const health = HttpServerResponse.unsafeJson({ status: "ok" })
    const ready = HttpServerResponse.unsafeJson({ status: "ready" })
    const limits = { "upload-limit": UploadLimit.encode(receiver.limits) }
    const takes = {
      ...limits,
      [UploadBatch.header]: UploadBatch.encode(receiver.batches),
      [PrefixDigest.header]: PrefixDigest.wanted
    }
    const path = options.basePath + endpoint
    const batchPath = path + UploadBatch.path

    const addressOf = (request: HttpServerRequest.HttpServerRequest): string =>
      (options.trustProxy ? forwardedFor(request) : undefined) ?? Option.getOrElse(request.remoteAddress, () => "")

    /** Whose request it is, and its headers, none of which came twice. */
    const authenticate = (request: HttpServerRequest.HttpServerRequest) =>
      Effect.zip(
        authenticator.authenticate({
          authorization: Option.fromNullable(request.headers["authorization"]),
          address: addressOf(request)
        }),
        Effect.suspend(() => headersOf(request))
      )

    /** Whose request it is, what is known of it, and its unread body. */
    const opened = Effect.fnUntraced(function*(
      request: HttpServerRequest.HttpServerRequest,
      principal: Principal,
      headers: Record<string, string>
    ) {
      const encoding = headers["content-encoding"]
      if (encoding !== undefined && encoding.toLowerCase() !== "identity") {
        return yield* new UnsupportedEncoding({ message: "Send the bytes as they are, without Content-Encoding" })
      }
      if (isGone(request)) {
        return yield* new Body.BodyCut({ message: "The connection broke before the request was looked at" })
      }
      const { authorization: _, ...shown } = headers
      return {
        principal,
        body: bodyOf(request, yield* lengthOf(headers, request.source)),
        request: {
          headers: shown,
          method: request.method,
          url: request.url,
          remoteAddress: addressOf(request),
          keyName: principal.name
        }
      }
    })

    const chunk = Effect.fnUntraced(function*(request: HttpServerRequest.HttpServerRequest) {
      const [principal, headers] = yield* authenticate(request)
      const decoded = yield* ChunkHeaders.decode(headers)
      const { finishing, receipt } = yield* receiver.receive({
        ...yield* opened(request, principal, headers),
        chunk: decoded
      })
      const told = "uploadId" in receipt ? takes : limits
      return HttpServerResponse.unsafeJson(receipt, {
        headers: finishing ? { ...told, "retry-after": String(finishingRetry) } : told
      })
    })

    const batch = Effect.fnUntraced(function*(request: HttpServerRequest.HttpServerRequest) {
      const [principal, headers] = yield* authenticate(request)
      const results = yield* receiver.receiveBatch(yield* opened(request, principal, headers))
      return HttpServerResponse.unsafeJson({ results: results.map(resultOf) }, { headers: takes })
    })

    const state = Effect.fnUntraced(function*(request: HttpServerRequest.HttpServerRequest, id: UploadId) {
      const query = new URLSearchParams(request.url.split("?", 2)[1])
      const ask = query.get("check") === "content" ? receiver.content : receiver.state
      const [principal] = yield* authenticate(request)
      const state = yield* ask(principal, id)
      return HttpServerResponse.unsafeJson(
        state,
        state.state === "finishing" ? { headers: { "retry-after": String(finishingRetry) } } : {}
      )
    })

    const abort = Effect.fnUntraced(function*(request: HttpServerRequest.HttpServerRequest, id: UploadId) {
      const [principal] = yield* authenticate(request)
      yield* receiver.abort(principal, id)
      return HttpServerResponse.empty({ status: 204 })
    })

    const route = (request: HttpServerRequest.HttpServerRequest) => {
      const at = request.url.split("?", 1)[0]!
      const id = at.startsWith(`${path}/`) ? decodeId(at.slice(path.length + 1)) : Option.none<UploadId>()
      if (request.method === "POST" && at === path) return chunk(request)
      if (request.method === "POST" && at === batchPath) return batch(request)
      if (request.method === "GET" && Option.isSome(id)) return state(request, id.value)
      if (request.method === "DELETE" && Option.isSome(id)) return abort(request, id.value)
      if (request.method === "GET" && at === `${options.basePath}/health`) return Effect.succeed(health)
      if (request.method === "GET" && at === `${options.basePath}/ready`) return Effect.as(receiver.ready, ready)
      if (request.method === "GET" && at === `${options.basePath}/openapi.json`) return openApi
      return Effect.succeed(notFound)
    }

    const app = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
      // a server runs its app uninterruptibly, but a request whose client is gone should end
      Effect.interruptible(route(request)).pipe(
        Effect.tapErrorTag("ServerFailure", (error) => Effect.logError(error.message, error.cause)),
        Effect.catchAll((error) => Effect.succeed(answer(unread(error)))),
        Effect.catchAllDefect((defect) =>
          Effect.as(
            Effect.logError("Unexpected failure", defect),
            answer(new ServerFailure({ message: "The server failed; nothing of this request was kept" }))
          )
        )
      ))
    return observed(
      options.corsOrigin.length === 0 ? app : HttpMiddleware.cors({
        allowedOrigins: options.corsOrigin,
        allowedMethods: ["POST", "GET", "DELETE"],
        allowedHeaders,
        exposedHeaders: ["retry-after", "upload-limit", UploadBatch.header, PrefixDigest.header, "x-request-id"],
        maxAge: corsMaxAge
      })(app)
    )
  })

/** The protocol at `/upload`, with `/health`, `/ready` and `/openapi.json` beside it. Never fails. */
export const app = (
  options: Partial<HttpAppOptions> = {}
): Effect.Effect<HttpApp.Default, never, Authenticator | Receiver> => make({ ...defaults, ...options })
