/**
 * The whole protocol as an `HttpApi`: what the server serves as OpenAPI at `/openapi.json`, and what typed clients are
 * derived from.
 *
 * @module
 */
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiMiddleware from "@effect/platform/HttpApiMiddleware"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as HttpApiSecurity from "@effect/platform/HttpApiSecurity"
import * as OpenApi from "@effect/platform/OpenApi"
import * as Schema from "effect/Schema"
import { CountFromString, Revision1Headers, Revision2Headers } from "./ChunkHeaders.ts"
import { ErrorBody } from "./ProtocolError.ts"
import { Receipt } from "./Receipt.ts"
import * as UploadBatch from "./UploadBatch.ts"
import { UploadId } from "./UploadId.ts"
import { UploadState } from "./UploadState.ts"

const status = (code: number, description: string) =>
  [
    ErrorBody.annotations({ identifier: `Error${code}`, description }),
    { status: code }
  ] as const

/** `Authorization: Bearer <api key>`. */
export class ApiKeyAuth extends HttpApiMiddleware.Tag<ApiKeyAuth>()("indexedcp/ApiKeyAuth", {
  failure: ErrorBody.annotations({
    ...HttpApiSchema.annotations({ status: 401 }),
    identifier: "Error401",
    description: "No key, or not a right one"
  }),
  security: { bearer: HttpApiSecurity.bearer }
}) {}

const ChunkHeaders = Schema.Struct({
  ...Revision1Headers.fields,
  ...Revision2Headers.fields,
  "x-upload-id": Schema.optional(UploadId),
  "x-chunk-offset": Schema.optional(CountFromString)
})

const chunk = HttpApiEndpoint.post("chunk", "/upload")
  .setHeaders(ChunkHeaders)
  .setPayload(HttpApiSchema.Uint8Array({ contentType: "application/octet-stream" }))
  .addSuccess(Receipt)
  .addError(...status(400, "A header is malformed, or the name is unusable"))
  .addError(...status(403, "The key may not do this"))
  .addError(...status(408, "The body came too slowly"))
  .addError(...status(409, "Contradicts what the server holds: committed bytes, size, digest, a taken name, a gap"))
  .addError(...status(412, "If-Match was sent and the upload is not known"))
  .addError(...status(413, "A chunk or a file over a limit"))
  .addError(...status(415, "Content-Encoding other than identity"))
  .addError(...status(422, "The body is not what Content-Digest says; nothing was kept"))
  .addError(...status(429, "Too many requests; obey Retry-After"))
  .addError(...status(500, "The server failed; nothing was kept"))
  .addError(...status(503, "Passing trouble; obey Retry-After"))
  .addError(...status(507, "The server's disk or quota is full"))
  .middleware(ApiKeyAuth)
  .annotate(OpenApi.Description, "Sends one chunk of a file. Without X-Upload-Id this is revision 1.")

const batch = HttpApiEndpoint.post("batch", `/upload${UploadBatch.path}`)
  .setPayload(HttpApiSchema.Uint8Array({ contentType: "application/octet-stream" }))
  .addSuccess(UploadBatch.BatchAnswer)
  .addError(...status(400, "No Content-Length, a manifest that does not fit the body, or too many files"))
  .addError(...status(403, "The key may not do this"))
  .addError(...status(408, "The body came too slowly"))
  .addError(...status(413, "More bytes than Upload-Batch says"))
  .addError(...status(415, "Content-Encoding other than identity"))
  .addError(...status(429, "Too many requests; obey Retry-After"))
  .addError(...status(500, "The server failed"))
  .addError(...status(503, "Passing trouble; obey Retry-After"))
  .addError(...status(507, "The server's disk or quota is full"))
  .middleware(ApiKeyAuth)
  .annotate(
    OpenApi.Description,
    "Sends many whole files: 4 bytes with the length of a manifest, the manifest, then the bytes of each file in turn."
  )

const UploadPath = Schema.Struct({ uploadId: UploadId })

const state = HttpApiEndpoint.get("state", "/upload/:uploadId")
  .setPath(UploadPath)
  .setUrlParams(Schema.Struct({
    check: Schema.optional(Schema.Literal("content").annotations({ description: "Read the published file again" }))
  }))
  .addSuccess(UploadState)
  .addError(...status(403, "The key may not do this"))
  .addError(...status(404, "This key has no such upload"))
  .addError(...status(429, "Too many requests; obey Retry-After"))
  .addError(...status(410, "With check=content: the published file is gone"))
  .middleware(ApiKeyAuth)
  .annotate(OpenApi.Description, "Tells what has arrived of an upload and what is missing.")

const abort = HttpApiEndpoint.del("abort", "/upload/:uploadId")
  .setPath(UploadPath)
  .addError(...status(403, "The key may not do this"))
  .addError(...status(404, "This key has no such upload"))
  .addError(...status(409, "The upload is complete"))
  .addError(...status(429, "Too many requests; obey Retry-After"))
  .middleware(ApiKeyAuth)
  .annotate(OpenApi.Description, "Deletes an unfinished upload with the bytes that have arrived.")

const health = HttpApiEndpoint.get("health", "/health")
  .addSuccess(Schema.Struct({ status: Schema.Literal("ok") }))
  .annotate(OpenApi.Description, "Answers while the server is alive. Needs no key.")

const ready = HttpApiEndpoint.get("ready", "/ready")
  .addSuccess(Schema.Struct({ status: Schema.Literal("ready") }))
  .addError(...status(500, "The disk or the ledger does not answer"))
  .addError(...status(503, "The server is shutting down"))
  .addError(...status(507, "The disk has no room left"))
  .annotate(OpenApi.Description, "Answers while chunks can be taken. Needs no key.")

/** What concerns uploads, with a key: send a chunk or many small files, ask how an upload stands, delete one. */
export class Uploads extends HttpApiGroup.make("uploads").add(chunk).add(batch).add(state).add(abort) {}

/** What anybody may ask: whether the server is alive, and whether it can take chunks. */
export class Server extends HttpApiGroup.make("server", { topLevel: true }).add(health).add(ready) {}

/**
 * The IndexedCP protocol, revisions 1 and 2 (PROTOCOL.md).
 *
 * @example
 * ```ts
 * import { HttpApiClient } from "@effect/platform"
 * import { Api } from "indexedcp/protocol"
 *
 * const client = HttpApiClient.make(Api.Api, { baseUrl: "http://127.0.0.1:3000" })
 * ```
 */
export class Api extends HttpApi.make("indexedcp")
  .add(Uploads)
  .add(Server)
  .annotate(OpenApi.Title, "IndexedCP")
  // the highest revision
  .annotate(OpenApi.Version, "2")
  .annotate(OpenApi.Description, "Chunked, resumable, durable file uploads.")
{}

/** The OpenAPI document of {@link Api}. */
export const openApi = (): OpenApi.OpenAPISpec => OpenApi.fromApi(Api)
