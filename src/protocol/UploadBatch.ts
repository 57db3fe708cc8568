/**
 * Many small files in one request (PROTOCOL.md, "Many files in one request"): what a server takes, the body, the answer.
 *
 * @module
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as StructuredHeaders from "structured-headers"
import { Count } from "./ChunkHeaders.ts"
import { ErrorBody, Malformed } from "./ProtocolError.ts"
import { Receipt2 } from "./Receipt.ts"
import { Sha256 } from "./Sha256.ts"
import { UploadId } from "./UploadId.ts"

/** Where batches are sent, below the endpoint. */
export const path = "/batch"

/** The field of answers by which a server says that it takes batches. */
export const header = "upload-batch"

/** What a server takes in one request. */
export interface UploadBatch {
  readonly maxFiles: number
  /** Bytes of the whole body. */
  readonly maxSize: number
}

/** The value of `Upload-Batch`, a dictionary of integers as in RFC 9651. */
export const encode = ({ maxFiles, maxSize }: UploadBatch): string =>
  StructuredHeaders.serializeDictionary(
    new Map([["max-files", [maxFiles, new Map()]], ["max-size", [maxSize, new Map()]]])
  )

/** What a server takes, by the value of its `Upload-Batch`; a malformed one says nothing. */
export const decode = (value: string): Option.Option<UploadBatch> => {
  try {
    const members = StructuredHeaders.parseDictionary(value)
    const count = (name: string): number => {
      const found = members.get(name)?.[0]
      return typeof found === "number" && Number.isSafeInteger(found) && found > 0 ? found : 0
    }
    const batch = { maxFiles: count("max-files"), maxSize: count("max-size") }
    return Option.liftPredicate(batch, ({ maxFiles, maxSize }) => maxFiles > 0 && maxSize > 0)
  } catch {
    return Option.none()
  }
}

/** A whole file in a batch, but for its bytes. */
export const BatchFile = Schema.Struct({
  uploadId: UploadId,
  /** The client's name for the file. */
  clientFilename: Schema.String,
  /** Bytes. */
  size: Count,
  /** Of the file: `Content-Digest` and `Repr-Digest` in one. */
  sha256: Sha256
})
export type BatchFile = typeof BatchFile.Type

/** A file and its bytes. */
export interface Whole extends BatchFile {
  readonly bytes: Uint8Array
}

const isUploadId = Schema.is(UploadId)
const isSha256 = Schema.is(Sha256)

/** Why a value in a manifest is no {@link BatchFile}. Looked at by hand: there are many of them in a request. */
const wrong = (file: Readonly<Record<keyof BatchFile, unknown>> | null): string | undefined =>
  typeof file !== "object" || file === null
    ? "no object"
    : !isUploadId(file.uploadId)
    ? "its uploadId is not 1 to 128 of the characters A-Z a-z 0-9 _ -"
    : typeof file.clientFilename !== "string"
    ? "its clientFilename is no text"
    : !Number.isSafeInteger(file.size) || (file.size as number) < 0
    ? "its size is no whole number"
    : !isSha256(file.sha256)
    ? "its sha256 is not 64 hex digits in lower case"
    : undefined

const lengthBytes = 4

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

/** How many bytes a file adds to a body, or a little more. */
export const bytesOf = ({ clientFilename, size }: Pick<BatchFile, "clientFilename" | "size">): number =>
  size + 6 * clientFilename.length + 300

/** The body of a batch: the manifest behind its length in 4 bytes, big-endian, then the bytes of each file in turn. */
export const toBody = (files: ReadonlyArray<Whole>): Uint8Array => {
  const manifest = new TextEncoder().encode(
    JSON.stringify({
      files: files.map(({ clientFilename, sha256, size, uploadId }) => ({ uploadId, clientFilename, size, sha256 }))
    })
  )
  const body = new Uint8Array(files.reduce((sum, { size }) => sum + size, lengthBytes + manifest.length))
  new DataView(body.buffer).setUint32(0, manifest.length)
  body.set(manifest, lengthBytes)
  let at = lengthBytes + manifest.length
  for (const { bytes, size } of files) {
    body.set(bytes, at)
    at += size
  }
  return body
}

/** The value in a manifest; `undefined` when it is none. */
const manifestOf = (bytes: Uint8Array): unknown => {
  try {
    return JSON.parse(utf8.decode(bytes))
  } catch {
    return undefined
  }
}

const malformed = (message: string) => Either.left(new Malformed({ message: `The batch is malformed: ${message}` }))

/** The files in a body, each over its part of it; not yet compared with their hashes. */
export const fromBody = (body: Uint8Array): Either.Either<ReadonlyArray<Whole>, Malformed> => {
  if (body.length < lengthBytes) return malformed("it begins with the length of its manifest in 4 bytes")
  const length = new DataView(body.buffer, body.byteOffset).getUint32(0)
  let at = lengthBytes + length
  if (at > body.length) return malformed(`its manifest has ${length} bytes, more than came`)
  const manifest = manifestOf(body.subarray(lengthBytes, at))
  if (manifest === undefined) return malformed("its manifest is no JSON in UTF-8")
  const files = (manifest as { readonly files?: unknown } | null)?.files
  if (!Array.isArray(files)) return malformed("its manifest is not {\"files\":[…]}")
  for (const [index, file] of files.entries()) {
    const why = wrong(file)
    if (why !== undefined) return malformed(`file ${index}: ${why}`)
  }
  if (new Set(files.map(({ uploadId }) => uploadId)).size < files.length) {
    return malformed("an upload id is there twice")
  }
  const whole = (files as ReadonlyArray<BatchFile>).map(({ clientFilename, sha256, size, uploadId }) => ({
    uploadId,
    clientFilename,
    size,
    sha256,
    bytes: body.subarray(at, at += size)
  }))
  return at === body.length
    ? Either.right(whole)
    : malformed(`its files have ${at - body.length > 0 ? "more" : "fewer"} bytes than came`)
}

/** What became of one file: what the answer to a chunk with all of it would have been. */
export const BatchResult = Schema.Union(
  Schema.Struct({ status: Schema.Literal(200), receipt: Receipt2 }),
  Schema.Struct({
    status: Schema.Int.pipe(Schema.greaterThanOrEqualTo(400)),
    ...ErrorBody.fields,
    /** Seconds, what `Retry-After` would have been. */
    retryAfter: Schema.optional(Count)
  })
)
export type BatchResult = typeof BatchResult.Type

/** The 200 of a batch: a result for each file, in the order of the manifest. */
export const BatchAnswer = Schema.Struct({ results: Schema.Array(BatchResult) })
export type BatchAnswer = typeof BatchAnswer.Type
