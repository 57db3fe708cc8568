/**
 * The errors of the wire: one class a status, each with one meaning (PROTOCOL.md, "Errors").
 *
 * `message` is for the person at the other end and says what to do.
 *
 * @module
 */
import * as Schema from "effect/Schema"

/** The JSON body of every error. The old servers send `error` alone. */
export const ErrorBody = Schema.Struct({ error: Schema.String, message: Schema.optional(Schema.String) })
/** See the schema of this name. */
export type ErrorBody = typeof ErrorBody.Type

const fields = { message: Schema.String }

/** 400: a header is malformed or a name is unusable. */
export class Malformed extends Schema.TaggedError<Malformed>("indexedcp/Malformed")("Malformed", fields) {
  readonly status = 400
  readonly error: string = "Malformed request"
}

/** 401: no key, or not a right one. */
export class Unauthorized extends Schema.TaggedError<Unauthorized>("indexedcp/Unauthorized")("Unauthorized", fields) {
  readonly status = 401
  readonly error: string = "Invalid or missing API key"
}

/** 403: the key is right but may not do this. */
export class Forbidden extends Schema.TaggedError<Forbidden>("indexedcp/Forbidden")("Forbidden", fields) {
  readonly status = 403
  readonly error: string = "Not allowed"
}

/** 404 on GET and DELETE: this principal has no such upload. */
export class UnknownUpload extends Schema.TaggedError<UnknownUpload>("indexedcp/UnknownUpload")(
  "UnknownUpload",
  fields
) {
  readonly status = 404
  readonly error: string = "Unknown upload"
}

/** 408: the body came slower than the server waits for. */
export class TooSlow extends Schema.TaggedError<TooSlow>("indexedcp/TooSlow")("TooSlow", fields) {
  readonly status = 408
  readonly error: string = "Too slow"
}

/** 409: the request contradicts what the server holds (committed bytes, size, digest, a taken name, a gap). */
export class Conflict extends Schema.TaggedError<Conflict>("indexedcp/Conflict")("Conflict", fields) {
  readonly status = 409
  readonly error: string = "Conflict"
}

/** 410: the upload is complete, but its file is no longer under its name. */
export class Gone extends Schema.TaggedError<Gone>("indexedcp/Gone")("Gone", fields) {
  readonly status = 410
  readonly error: string = "File is gone"
}

/** 412: `If-Match: *` was sent and the server does not know this upload (any more), or it was deleted. */
export class UploadGone extends Schema.TaggedError<UploadGone>("indexedcp/UploadGone")("UploadGone", fields) {
  readonly status = 412
  readonly error: string = "Upload is not known"
}

/** 413: a chunk or a file over a limit. */
export class TooLarge extends Schema.TaggedError<TooLarge>("indexedcp/TooLarge")("TooLarge", fields) {
  readonly status = 413
  readonly error: string = "Too large"
}

/** 415: `Content-Encoding` other than identity. */
export class UnsupportedEncoding extends Schema.TaggedError<UnsupportedEncoding>("indexedcp/UnsupportedEncoding")(
  "UnsupportedEncoding",
  fields
) {
  readonly status = 415
  readonly error: string = "Unsupported content encoding"
}

/** 422: the body is not what `Content-Digest` says; nothing of it was kept. */
export class DigestMismatch extends Schema.TaggedError<DigestMismatch>("indexedcp/DigestMismatch")(
  "DigestMismatch",
  fields
) {
  readonly status = 422
  readonly error: string = "Digest mismatch"
}

/** 429: too much of something for now, come again after `retryAfter` seconds. */
export class TooMany extends Schema.TaggedError<TooMany>("indexedcp/TooMany")("TooMany", {
  message: Schema.String,
  retryAfter: Schema.Number
}) {
  readonly status = 429
  readonly error: string = "Too many requests"
}

/** 503: passing trouble, come again after `retryAfter` seconds. */
export class Busy extends Schema.TaggedError<Busy>("indexedcp/Busy")("Busy", {
  message: Schema.String,
  retryAfter: Schema.Number
}) {
  readonly status = 503
  readonly error: string = "Busy"
}

/** 507: the server's disk or quota is full. */
export class StorageFull extends Schema.TaggedError<StorageFull>("indexedcp/StorageFull")("StorageFull", fields) {
  readonly status = 507
  readonly error: string = "Storage is full"
}

/** 500: the server failed; nothing of the request was kept. */
export class ServerFailure extends Schema.TaggedError<ServerFailure>("indexedcp/ServerFailure")("ServerFailure", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {
  readonly status = 500
  readonly error: string = "Server error"
}

/** Every error a server of this protocol answers with. */
export type ProtocolError =
  | Malformed
  | Unauthorized
  | Forbidden
  | UnknownUpload
  | TooSlow
  | Conflict
  | Gone
  | UploadGone
  | TooLarge
  | UnsupportedEncoding
  | DigestMismatch
  | TooMany
  | Busy
  | StorageFull
  | ServerFailure

/** The body that goes over the wire for an error; a `cause` stays behind. */
export const toBody = (error: ProtocolError): ErrorBody => ({ error: error.error, message: error.message })

/** Seconds for `Retry-After`, for the errors that have one. */
export const retryAfter = (error: ProtocolError): number | undefined =>
  error._tag === "Busy" || error._tag === "TooMany" ? error.retryAfter : undefined
