import { describe, expect, it } from "@effect/vitest"
import { Either, FastCheck } from "effect"
import * as SafeName from "../../src/server/SafeName.ts"

const bytes = (text: string) => Buffer.byteLength(text)
const safe = (name: string) => Either.getOrThrow(SafeName.check(name))

describe("SafeName", () => {
  it.each([
    "a.txt",
    "a/b/c.txt",
    ".profile",
    "...",
    "a..b",
    " ",
    "Grüße €.txt",
    "x".repeat(255),
    "indexedcp",
    "a/.indexedcp"
  ])("takes %j", (name) => {
    expect(SafeName.check(name)).toEqual(Either.right(name))
  })

  it.each([
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/.",
    "a\\b",
    "..\\a",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "x".repeat(256),
    "€".repeat(86),
    Array.from({ length: 50 }, () => "x".repeat(100)).join("/")
  ])("refuses %j", (name) => {
    expect(Either.isLeft(SafeName.check(name))).toBe(true)
  })

  it.each([
    ".indexedcp",
    ".indexedcp/parts/x",
    ".IndexedCP",
    ".INDEXEDCP-probe",
    "．indexedcp",
    ".ｉｎｄｅｘｅｄｃｐ",
    ".indexed\u200ccp",
    "\ufeff.indexedcp"
  ])("refuses the server's own folder as %j", (name) => {
    expect(Either.isLeft(SafeName.check(name))).toBe(true)
  })

  it.each([
    ["report.pdf", 0, "report.pdf"],
    ["report.pdf", 1, "report (1).pdf"],
    ["report.pdf", 12, "report (12).pdf"],
    ["report", 1, "report (1)"],
    [".profile", 1, ".profile (1)"],
    ["a.tar.gz", 1, "a.tar (1).gz"],
    ["dir.d/report", 2, "dir.d/report (2)"],
    ["dir/.x", 2, "dir/.x (2)"]
  ])("numbers %j with %d as %j", (name, number, numbered) => {
    expect(SafeName.numbered(safe(name), number)).toBe(numbered)
  })

  it("numbers any safe name safely: other names for other numbers, none too long, in the same folder", () => {
    const part = FastCheck.string({ unit: "grapheme", minLength: 1, maxLength: 255 })
    const long = FastCheck.tuple(FastCheck.constantFrom("x", "€", "😀"), FastCheck.integer({ min: 0, max: 300 }))
      .map(([unit, count]) => unit.repeat(count))
    const name = FastCheck.oneof(
      part,
      FastCheck.tuple(long, long).map(([stem, extension]) => `${stem}.${extension}`),
      FastCheck.tuple(part, part).map((parts) => parts.join("/"))
    ).filter((name) => Either.isRight(SafeName.check(name)))
    FastCheck.assert(FastCheck.property(name, FastCheck.integer({ min: 1, max: 10_000 }), (name, number) => {
      const numbered = SafeName.numbered(safe(name), number)
      expect(SafeName.check(numbered)).toEqual(Either.right(numbered))
      expect(numbered).toContain(`(${number})`)
      expect(numbered.split("/").slice(0, -1)).toEqual(name.split("/").slice(0, -1))
      expect(bytes(numbered.split("/").at(-1)!)).toBeLessThanOrEqual(255)
      expect(SafeName.numbered(safe(name), number + 1)).not.toBe(numbered)
    }))
  })

  it("cuts a long name between characters, and keeps its extension", () => {
    expect(SafeName.numbered(safe(`${"€".repeat(84)}.pd`), 1)).toBe(`${"€".repeat(82)} (1).pd`)
    expect(SafeName.numbered(safe(`a.${"x".repeat(253)}`), 1)).toBe(`a.${"x".repeat(249)} (1)`)
  })
})
