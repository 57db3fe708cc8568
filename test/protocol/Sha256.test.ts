import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, FastCheck, Option, Schema } from "effect"
import { createHash } from "node:crypto"
import * as Sha256 from "../../src/protocol/Sha256.ts"

const decode = Schema.decodeEither(Sha256.FromHeader)
const accepted = (header: string) => Either.getOrThrow(decode(header))

describe("Sha256", () => {
  it("hashes as the platform does, in any pieces", () => {
    FastCheck.assert(FastCheck.property(FastCheck.array(FastCheck.uint8Array()), (pieces) => {
      expect(Sha256.of(...pieces)).toBe(createHash("sha256").update(Buffer.concat(pieces)).digest("hex"))
    }))
  })

  it("goes on from the same bytes in a copy", () => {
    FastCheck.assert(FastCheck.property(FastCheck.uint8Array(), FastCheck.uint8Array(), (first, second) => {
      const hasher = Sha256.make()
      hasher.update(first)
      const copy = hasher.copy()
      copy.update(second)
      expect(hasher.copy().digest()).toBe(Sha256.of(first))
      expect(copy.digest()).toBe(Sha256.of(first, second))
      hasher.update(second)
      expect(hasher.digest()).toBe(Sha256.of(first, second))
    }))
  })

  it.effect.each([0, 1000, 1024 * 1024, 3_000_000])(
    "hashes %i bytes aside as at once",
    (length) =>
      Effect.gen(function*() {
        const bytes = Uint8Array.from({ length }, (_, at) => at * 7 % 251)
        expect(yield* Sha256.aside(bytes)).toBe(Sha256.of(bytes))
      })
  )

  it("knows the example of RFC 9530, appendix B.1", () => {
    const content = new TextEncoder().encode("{\"hello\": \"world\"}\n")
    const header = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    expect(accepted(header)).toEqual(Option.some(Sha256.of(content)))
    expect(Sha256.toHeader(Sha256.of(content))).toBe(header)
  })

  it("knows the example of RFC 9530, appendix B.2, of an empty body", () => {
    const header = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"
    expect(accepted(header)).toEqual(Option.some(Sha256.empty))
  })

  it("round trips through the header", () => {
    FastCheck.assert(FastCheck.property(FastCheck.uint8Array(), (bytes) => {
      expect(accepted(Sha256.toHeader(Sha256.of(bytes)))).toEqual(Option.some(Sha256.of(bytes)))
    }))
  })

  const ours = Sha256.toHeader(Sha256.empty)

  it.each([
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
    "md5=:AAAA:",
    "unixsum=5"
  ])("passes over %s", (header) => {
    expect(accepted(header)).toEqual(Option.none())
    expect(accepted(`${header}, ${ours}`)).toEqual(Option.some(Sha256.empty))
    expect(accepted(`${ours},${header}`)).toEqual(Option.some(Sha256.empty))
  })

  it.each([
    "sha-256",
    "sha-256=",
    "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    "sha-256=\"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\"",
    "sha-256=:47DEQpj8HBSa:",
    "sha-256=::",
    "sha-256=:!!!!:",
    "sha-256=5",
    "sha-256=(:AAAA:)",
    "SHA-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
    `${ours}, `,
    "= ="
  ])("refuses %j", (header) => {
    expect(Either.isLeft(decode(header))).toBe(true)
  })
})
