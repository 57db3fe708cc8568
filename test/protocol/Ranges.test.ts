import { describe, expect, it } from "@effect/vitest"
import { FastCheck } from "effect"
import * as Ranges from "../../src/protocol/Ranges.ts"

const range = FastCheck.tuple(FastCheck.nat(40), FastCheck.nat(40)).map(([a, b]): Ranges.Range => [
  Math.min(a, b),
  Math.max(a, b)
])

const bytesOf = (ranges: Ranges.Ranges) => {
  const bytes: Array<number> = []
  for (const [from, to] of ranges) for (let at = from; at < to; at++) bytes.push(at)
  return bytes
}

/** The same set, byte by byte. */
const model = (ranges: Ranges.Ranges) => [...new Set(bytesOf(ranges))].sort((a, b) => a - b)

const added = (ranges: Ranges.Ranges) => ranges.reduce(Ranges.add, Ranges.empty)

describe("Ranges", () => {
  it("holds just the bytes that were added, sorted and joined", () => {
    FastCheck.assert(FastCheck.property(FastCheck.array(range), (ranges) => {
      const set = added(ranges)
      expect(bytesOf(set)).toEqual(model(ranges))
      expect(Ranges.total(set)).toBe(model(ranges).length)
      for (const [at, [from, to]] of set.entries()) {
        expect(from).toBeLessThan(to)
        expect(set[at - 1]?.[1] ?? -1).toBeLessThan(from)
      }
    }))
  })

  it("misses just the bytes that were not added", () => {
    FastCheck.assert(FastCheck.property(FastCheck.array(range), FastCheck.nat(50), (ranges, size) => {
      const there = new Set(model(ranges))
      const lacking = Array.from({ length: size }, (_, at) => at).filter((at) => !there.has(at))
      expect(bytesOf(Ranges.missing(added(ranges), size))).toEqual(lacking)
    }))
  })

  it("says whether two ranges share a byte", () => {
    const some = range.filter(([from, to]) => from < to)
    FastCheck.assert(FastCheck.property(some, some, (a, b) => {
      const inB = new Set(bytesOf([b]))
      expect(Ranges.overlap(a, b)).toBe(bytesOf([a]).some((at) => inB.has(at)))
    }))
    expect(Ranges.overlap([0, 5], [5, 9])).toBe(false)
  })

  it("leaves the set it was given as it was", () => {
    const before: Ranges.Ranges = [[0, 2], [4, 6]]
    Ranges.add(before, [1, 5])
    expect(before).toEqual([[0, 2], [4, 6]])
  })
})
