import { describe, expect, it } from "@effect/vitest"
import { FastCheck } from "effect"
import * as UploadLimit from "../../src/protocol/UploadLimit.ts"

describe("UploadLimit", () => {
  it("round trips", () => {
    // structured integers have at most 15 digits
    const count = FastCheck.nat(2 ** 31 - 1)
    const limit = FastCheck.record({ maxSize: count, minAppendSize: count, maxAppendSize: count, maxAge: count }, {
      requiredKeys: []
    })
    FastCheck.assert(FastCheck.property(limit, (limit) => {
      expect(UploadLimit.decode(UploadLimit.encode(limit))).toEqual(limit)
    }))
  })

  it("writes the field as the draft has it", () => {
    expect(UploadLimit.encode({ maxSize: 5, minAppendSize: 1, maxAppendSize: 3, maxAge: 60 })).toBe(
      "max-size=5, min-append-size=1, max-append-size=3, max-age=60"
    )
  })

  it.each([
    ["", {}],
    ["max-size=100", { maxSize: 100 }],
    ["max-size=100;x=1, other=\"a\"", { maxSize: 100 }],
    ["max-size=-1, max-age=5", { maxAge: 5 }],
    ["max-size=1.5", {}],
    ["max-size=\"100\"", {}],
    ["max-size=?1", {}],
    ["max-size", {}],
    ["max-size=(1 2)", {}],
    ["max-size=1, max-size=2", { maxSize: 2 }],
    ["max-size==", {}]
  ])("reads %j as %j", (header, limit) => {
    expect(UploadLimit.decode(header)).toEqual(limit)
  })
})
