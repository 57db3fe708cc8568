import { describe, expect, it } from "@effect/vitest"
import * as PrefixDigest from "../../src/protocol/PrefixDigest.ts"

describe("PrefixDigest", () => {
  it.each([PrefixDigest.wanted, "sha-256=1", "sha-512=10, sha-256=3", "sha-256=10;a=b"])("is wanted: %s", (value) => {
    expect(PrefixDigest.isWanted(value)).toBe(true)
  })

  it.each(["", "sha-256=0", "sha-512=10", "sha-256", "sha-256=?1", "sha-256=1.5x", "=", "sha-256=:AAAA:"])(
    "is not wanted: %s",
    (value) => {
      expect(PrefixDigest.isWanted(value)).toBe(false)
    }
  )
})
