import { describe, expect, it } from "@effect/vitest"
import { Either, Equal, FastCheck } from "effect"
import * as ChunkHeaders from "../../src/protocol/ChunkHeaders.ts"
import * as FileName from "../../src/protocol/FileName.ts"
import * as UploadLimit from "../../src/protocol/UploadLimit.ts"
import * as SafeName from "../../src/server/SafeName.ts"

/** Header values as Node gives them: one character a byte. */
const value = FastCheck.oneof(
  FastCheck.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
  FastCheck.string({ unit: "binary", maxLength: 40 }),
  FastCheck.constantFrom("0", "1", "*", "percent", "u1", "sha-256=:YQ==:", "a%20b", "-1", "__proto__")
)

const name = FastCheck.oneof(
  value,
  FastCheck.constantFrom(
    ...Object.keys(ChunkHeaders.Revision1Headers.fields),
    ...Object.keys(ChunkHeaders.Revision2Headers.fields),
    "__proto__",
    "constructor"
  )
)

describe("The codecs, whatever they are given", () => {
  it("decode headers or say what is malformed, and never throw", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(FastCheck.tuple(name, value), { maxLength: 12 }), (headers) => {
        const decoded = Either.flatMap(ChunkHeaders.fromRaw(headers.flat()), ChunkHeaders.decode)
        return Either.match(decoded, {
          onLeft: ({ _tag }) => _tag === "Malformed",
          onRight: ({ index }) => Number.isSafeInteger(index)
        })
      }),
      { numRuns: 2000 }
    )
  })

  it("take a header's name for nothing but a name", () => {
    const decoded = Either.getOrThrow(ChunkHeaders.fromRaw(["__proto__", "x", "constructor", "y"]))
    expect(({} as { readonly x?: unknown }).x).toBeUndefined()
    expect(Object.getPrototypeOf(decoded)).not.toBe("x")
    expect(ChunkHeaders.decode(decoded)).toMatchObject({ _tag: "Right" })
  })

  it("decode names and limits of any bytes without throwing", () => {
    FastCheck.assert(
      FastCheck.property(value, (text) => {
        FileName.decode(text)
        FileName.decodePercent(text)
        UploadLimit.decode(text)
      }),
      { numRuns: 2000 }
    )
  })

  it("make of any parts one safe name, or none", () => {
    const part = FastCheck.oneof(
      FastCheck.string({ unit: "binary", maxLength: 300 }),
      FastCheck.constantFrom("..", ".", "", "con", "NUL.txt", ".indexedcp", "a:b", "x ", "\u202ex", "e\u0301")
    )
    FastCheck.assert(
      FastCheck.property(FastCheck.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
        const made = SafeName.sanitize(...parts)
        return Either.match(made, {
          onLeft: ({ _tag }) => _tag === "Malformed",
          onRight: (name) =>
            Equal.equals(SafeName.check(name), made) && Equal.equals(SafeName.sanitize(...name.split("/")), made) &&
            name.split("/").length === parts.length
        })
      }),
      { numRuns: 2000 }
    )
  })
})
