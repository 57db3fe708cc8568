/**
 * One exchange with a server: send bytes, ask for an upload's state, abort one.
 *
 * @module
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Chunk } from "../protocol/ChunkHeaders.ts"
import type { Receipt } from "../protocol/Receipt.ts"
import type { UploadBatch, Whole } from "../protocol/UploadBatch.ts"
import type { UploadId } from "../protocol/UploadId.ts"
import type { UploadLimit } from "../protocol/UploadLimit.ts"
import type { UploadState } from "../protocol/UploadState.ts"
import { ApiKeyMissing } from "./ApiKey.ts"

/** *Retryable*: the server was not reached, nothing of the body was sent. */
export class Unreachable extends Schema.TaggedError<Unreachable>("indexedcp/Unreachable")("Unreachable", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

/**
 * *Ambiguous*: no answer that counts came, and the server may have got the bytes. The connection broke, or somebody else
 * answered: a captive portal, a proxy, a redirect.
 */
export class NoAnswer extends Schema.TaggedError<NoAnswer>("indexedcp/NoAnswer")("NoAnswer", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

/** *The server said no*, and what this means depends on the status (PROTOCOL.md, "Errors"). */
export class Refused extends Schema.TaggedError<Refused>("indexedcp/Refused")("Refused", {
  status: Schema.Number,
  /** The short title of a JSON error, or the beginning of a text. */
  error: Schema.String,
  message: Schema.String,
  /** Seconds, from `Retry-After`. */
  retryAfter: Schema.optional(Schema.Number),
  /** Bytes, from `Upload-Limit: max-append-size`. */
  maxBody: Schema.optional(Schema.Number)
}) {}

/** Whether an error of any kind is {@link Refused}. */
export const isRefused = Schema.is(Refused)

/** Whether an error of any kind is a {@link TransportError}. */
export const isTransportError = Schema.is(Schema.Union(Unreachable, NoAnswer, Refused, ApiKeyMissing))

/**
 * Why an exchange failed. `Unreachable` may be tried again at once, after `NoAnswer` the server may have the bytes,
 * `Refused` says what by its status, and without a key nothing is sent.
 */
export type TransportError = Unreachable | NoAnswer | Refused | ApiKeyMissing

/** A chunk to be sent; its `upload` is `None` for a request of revision 1 only. */
export interface Outgoing {
  /** A full URL. */
  readonly endpoint: string
  readonly chunk: Omit<Chunk, "sentName">
  readonly body: Uint8Array
}

/** Whole files to be sent in one body. */
export interface OutgoingBatch {
  /** A full URL. */
  readonly endpoint: string
  readonly files: ReadonlyArray<Whole>
}

/** A 200 that counts (PROTOCOL.md, "Which answers count, for a client"). */
export interface Acknowledged {
  readonly receipt: Receipt
  readonly limit: UploadLimit
  /** What the server takes in one request, where it does. */
  readonly batch?: UploadBatch
  /** The server takes `Prefix-Digest` in place of `Content-Digest`. Default: false. */
  readonly takesPrefix?: boolean
}

/**
 * One exchange with a server, tried once: trying again is the `Uploader`'s. Layers: `TransportHttp.layer` and
 * `.layerStreamed` over any
 * `HttpClient`; in `indexedcp/testing` one without sockets, and one that fails as networks do.
 */
export class Transport extends Context.Tag("indexedcp/Transport")<Transport, {
  /** Sends one chunk, once. */
  readonly send: (outgoing: Outgoing) => Effect.Effect<Acknowledged, TransportError>

  /**
   * Sends many whole files, once. Returns in their order the server's name of each that it says it holds as a whole; `None`
   * where it says anything else.
   */
  readonly sendBatch: (outgoing: OutgoingBatch) => Effect.Effect<ReadonlyArray<Option.Option<string>>, TransportError>

  /**
   * `None` when a server of revision 2 says that it does not know the upload; `Refused` 404 from any other. With `content`,
   * the server reads a published file again and says its hash, or 410 when it is gone.
   */
  readonly state: (
    endpoint: string,
    id: UploadId,
    check?: "content"
  ) => Effect.Effect<Option.Option<UploadState>, TransportError>

  /** Deletes an unfinished upload. An unknown one is fine. */
  readonly abort: (endpoint: string, id: UploadId) => Effect.Effect<void, TransportError>
}>() {}
