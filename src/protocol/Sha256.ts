/**
 * SHA-256, computed while bytes pass, and the two digest headers it travels in (RFC 9530).
 *
 * @module
 */
import { sha256 as portable } from "@noble/hashes/sha2.js"
import * as Effect from "effect/Effect"
import * as Encoding from "effect/Encoding"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as StructuredHeaders from "structured-headers"

const hexDigits = /^[0-9a-f]{64}$/

/** A SHA-256 as 64 lower-case hex digits. */
export const Sha256 = Schema.String.pipe(Schema.pattern(hexDigits), Schema.brand("Sha256"))
/** See the schema of this name. */
export type Sha256 = typeof Sha256.Type

/** Whether it is one. What the schema says, in a tenth of the time that `Schema.is` takes: long lists ask it for each row. */
export const isSha256 = (input: unknown): input is Sha256 => typeof input === "string" && hexDigits.test(input)

/** A running hash. */
export interface Hasher {
  /** Takes the next bytes; they may be overwritten afterwards. */
  readonly update: (bytes: Uint8Array) => void
  /** The hash of all bytes. May be called once, at the end. */
  readonly digest: () => Sha256
  /** Another one that goes on from the same bytes. */
  readonly copy: () => Hasher
}

interface NodeHash {
  readonly update: (bytes: Uint8Array) => unknown
  readonly digest: (encoding: "hex") => string
  readonly copy: () => NodeHash
}

/** Node's native hash where there is one (asked at run time, so that nothing here imports Node), else portable code. */
const native = (globalThis as {
  readonly process?: {
    readonly getBuiltinModule?: (name: string) => { readonly createHash: (name: string) => NodeHash }
  }
}).process?.getBuiltinModule?.("node:crypto")

const overNative = (hash: NodeHash): Hasher => ({
  update: (bytes) => void hash.update(bytes),
  digest: () => hash.digest("hex") as Sha256,
  copy: () => overNative(hash.copy())
})

const overPortable = (hash: ReturnType<typeof portable.create>): Hasher => ({
  update: (bytes) => void hash.update(bytes),
  digest: () => Encoding.encodeHex(hash.digest()) as Sha256,
  copy: () => overPortable(hash.clone())
})

/** Starts a hash. */
export const make = (): Hasher =>
  native === undefined ? overPortable(portable.create()) : overNative(native.createHash("sha256"))

/** The SHA-256 of some bytes at hand. */
export const of = (...pieces: ReadonlyArray<Uint8Array>): Sha256 => {
  const hasher = make()
  pieces.forEach(hasher.update)
  return hasher.digest()
}

/** Bytes whose hash is worth the way to another thread. */
const manyBytes = 1024 * 1024

/**
 * The SHA-256 of some bytes at hand: of many (1 MiB) computed on another thread where the platform has one for that, while
 * this one does something else. They have to stay as they are until then.
 */
export const aside = (bytes: Uint8Array): Effect.Effect<Sha256> => {
  // browsers have it on secure pages only
  const subtle = globalThis.crypto.subtle as SubtleCrypto | undefined
  return subtle === undefined || bytes.length < manyBytes
    ? Effect.sync(() => of(bytes))
    : Effect.map(
      Effect.promise(() => subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>)),
      (hash) => Encoding.encodeHex(new Uint8Array(hash)) as Sha256
    )
}

/** The SHA-256 of no bytes at all. */
export const empty: Sha256 = of()

/** `sha-256=:<base64>:`, the value of `Content-Digest` and `Repr-Digest` (RFC 9530, sections 2 and 3). */
export const toHeader = (sha256: Sha256): string =>
  StructuredHeaders.serializeDictionary({
    "sha-256": [Uint8Array.from(Encoding.decodeHex(sha256).pipe(Effect.runSync)).buffer, new Map()]
  })

const fromHeader = (header: string): Option.Option<Sha256> => {
  const value = StructuredHeaders.parseDictionary(header).get("sha-256")?.[0]
  if (value === undefined) return Option.none()
  if (!(value instanceof ArrayBuffer) || value.byteLength !== 32) throw new TypeError("sha-256 is not 32 bytes")
  return Option.some(Encoding.encodeHex(new Uint8Array(value)) as Sha256)
}

/** A digest header as the SHA-256 in it. Other algorithms are passed over (then it is `None`); malformed values fail. */
export const FromHeader: Schema.Schema<Option.Option<Sha256>, string> = Schema.transformOrFail(
  Schema.String,
  Schema.OptionFromSelf(Schema.typeSchema(Sha256)),
  {
    strict: true,
    decode: (header, _, ast) =>
      ParseResult.try({
        try: () => fromHeader(header),
        catch: () => new ParseResult.Type(ast, header, "a digest header looks like sha-256=:<base64 of 32 bytes>:")
      }),
    encode: (sha256) => ParseResult.succeed(Option.match(sha256, { onNone: () => "", onSome: toHeader }))
  }
)
