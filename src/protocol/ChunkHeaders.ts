/**
 * The request headers of a chunk, both revisions (PROTOCOL.md, "1. Revision 1" and "2. Revision 2").
 *
 * @module
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as FileName from "./FileName.ts"
import { Malformed } from "./ProtocolError.ts"
import * as Sha256 from "./Sha256.ts"
import { UploadId } from "./UploadId.ts"

/** A whole number from 0 to 2^53−1. */
export const Count = Schema.NonNegativeInt.pipe(Schema.lessThanOrEqualTo(Number.MAX_SAFE_INTEGER))

/** {@link Count} as a header or a URL holds it: `0` or `[1-9][0-9]*`, no sign, no leading zero. */
export const CountFromString: Schema.Schema<number, string> = Schema.transformOrFail(Schema.String, Count, {
  strict: true,
  decode: (text, _, ast) =>
    /^(0|[1-9][0-9]{0,15})$/.test(text) && Number.isSafeInteger(Number(text))
      ? ParseResult.succeed(Number(text))
      : ParseResult.fail(
        new ParseResult.Type(ast, text, "a whole number from 0 to 9007199254740991 is written 0 or 12")
      ),
  encode: (count) => ParseResult.succeed(String(count))
})

/** A digest header that may be missing, and then is not sent. */
const Digest = Schema.optionalToRequired(
  Sha256.FromHeader,
  Schema.OptionFromSelf(Schema.typeSchema(Sha256.Sha256)),
  { decode: Option.flatten, encode: Option.map(Option.some) }
)

/** The headers that count with or without `X-Upload-Id`. */
export const Revision1Headers = Schema.Struct({
  "x-chunk-index": Schema.optionalWith(CountFromString, { default: () => 0 }),
  "x-file-name": Schema.optionalWith(Schema.String, { default: () => FileName.absent }),
  "content-digest": Digest
})

/** The headers that count only with `X-Upload-Id`. */
export const Revision2Headers = Schema.Struct({
  "x-upload-id": UploadId,
  "x-chunk-offset": CountFromString,
  "x-file-size": Schema.optionalWith(CountFromString, { as: "Option" }),
  "x-file-name-encoding": Schema.optional(Schema.Literal("percent")),
  "repr-digest": Digest,
  "prefix-digest": Digest,
  "if-match": Schema.optional(Schema.Literal("*"))
})

/** What a chunk says of the upload it belongs to, in revision 2. */
export interface ChunkUpload {
  readonly id: UploadId
  /** Byte offset of the body in the file. */
  readonly offset: number
  /** Bytes of the whole file, once the client knows. */
  readonly size: Option.Option<number>
  /** Of the whole file. */
  readonly sha256: Option.Option<Sha256.Sha256>
  /** `Prefix-Digest`: of all bytes of the file up to the end of the body. It counts where there is no `Content-Digest`. */
  readonly prefixDigest: Option.Option<Sha256.Sha256>
  /** `If-Match: *`: the client had a 200 for this upload before. */
  readonly known: boolean
}

/** A chunk request, but for its body. */
export interface Chunk {
  readonly index: number
  /** The client's name for the file. */
  readonly fileName: string
  /** The name as it stood in the header: what the receipt echoes. */
  readonly sentName: string
  /** Of this body. */
  readonly contentDigest: Option.Option<Sha256.Sha256>
  /** `None` for a revision-1 request. */
  readonly upload: Option.Option<ChunkUpload>
}

const protocolHeaders: ReadonlySet<string> = new Set([
  ...Object.keys(Revision1Headers.fields),
  ...Object.keys(Revision2Headers.fields),
  "authorization",
  "content-length"
])

const decodeRevision1 = Schema.decodeUnknownEither(Revision1Headers)
const decodeRevision2 = Schema.decodeUnknownEither(Revision2Headers)

const malformed = (error: ParseResult.ParseError) => {
  const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
  return new Malformed({ message: `Header ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "is malformed"}` })
}

/**
 * Node's `rawHeaders` (name, value, name, value…) as a record of lower-case names; fails when a header of the protocol
 * stands there twice, which Node itself would join or drop.
 */
export const fromRaw = (raw: ReadonlyArray<string>): Either.Either<Record<string, string>, Malformed> => {
  const headers: Record<string, string> = {}
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at]!.toLowerCase()
    if (name in headers && protocolHeaders.has(name)) {
      return Either.left(new Malformed({ message: `Header ${name} was sent twice; send it once` }))
    }
    headers[name] = raw[at + 1]!
  }
  return Either.right(headers)
}

/**
 * Reads the headers of a chunk (lower-case names). A header that is empty or not of its form is `Malformed`; those of
 * revision 2 are passed over when `X-Upload-Id` is missing, but for `Content-Digest`.
 */
export const decode = (headers: Readonly<Record<string, string | undefined>>): Either.Either<Chunk, Malformed> =>
  Either.gen(function*() {
    for (const name of protocolHeaders) {
      if (headers[name] === "") return yield* Either.left(new Malformed({ message: `Header ${name} is empty` }))
    }
    const first = yield* Either.mapLeft(decodeRevision1(headers), malformed)
    const sentName = FileName.decode(first["x-file-name"])
    const chunk: Chunk = {
      index: first["x-chunk-index"],
      fileName: sentName,
      sentName,
      contentDigest: first["content-digest"],
      upload: Option.none()
    }
    if (headers["x-upload-id"] === undefined) return chunk
    const second = yield* Either.mapLeft(decodeRevision2(headers), malformed)
    const fileName = second["x-file-name-encoding"] === "percent" ? FileName.decodePercent(sentName) : sentName
    if (fileName === undefined) {
      return yield* Either.left(new Malformed({ message: "Header x-file-name: not percent-encoded UTF-8" }))
    }
    return {
      ...chunk,
      fileName,
      upload: Option.some({
        id: second["x-upload-id"],
        offset: second["x-chunk-offset"],
        size: second["x-file-size"],
        sha256: second["repr-digest"],
        prefixDigest: Option.isSome(chunk.contentDigest) ? Option.none() : second["prefix-digest"],
        known: second["if-match"] !== undefined
      })
    }
  })

/** The headers of a chunk as a client sends them, `Authorization` and `Content-Length` aside. */
export const encode = (chunk: Omit<Chunk, "sentName">): Record<string, string> => {
  const headers: Record<string, string> = { "x-chunk-index": String(chunk.index) }
  if (Option.isSome(chunk.contentDigest)) headers["content-digest"] = Sha256.toHeader(chunk.contentDigest.value)
  if (Option.isNone(chunk.upload)) {
    return { ...headers, "x-file-name": FileName.encodeRevision1(chunk.fileName) }
  }
  const upload = chunk.upload.value
  const name = FileName.encode(chunk.fileName)
  headers["x-file-name"] = name.value
  if (name.encoding !== undefined) headers["x-file-name-encoding"] = name.encoding
  headers["x-upload-id"] = upload.id
  headers["x-chunk-offset"] = String(upload.offset)
  if (Option.isSome(upload.size)) headers["x-file-size"] = String(upload.size.value)
  if (Option.isSome(upload.sha256)) headers["repr-digest"] = Sha256.toHeader(upload.sha256.value)
  if (Option.isSome(upload.prefixDigest)) {
    headers["prefix-digest"] = Sha256.toHeader(upload.prefixDigest.value)
  }
  if (upload.known) headers["if-match"] = "*"
  return headers
}
