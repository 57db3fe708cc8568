import { describe, expect, it } from "@effect/vitest"
import { Either, FastCheck } from "effect"
import * as SafeName from "../../src/server/SafeName.ts"

const bytes = (text: string) => Buffer.byteLength(text)
const safe = (name: string) => Either.getOrThrow(SafeName.check(name))

/** Any part, with much in it that is not safe. */
const anyPart = FastCheck.oneof(
  FastCheck.string({ unit: "binary", maxLength: 40 }),
  FastCheck.array(
    FastCheck.constantFrom(
      ..."aé€😀 .:/\\\0\n\x1b\x9b\u202e\u200d\ud800\ufffd",
      "con",
      "NUL",
      "..",
      ".txt",
      "e\u0301",
      ".indexedcp"
    ),
    { maxLength: 12 }
  ).map((units) => units.join("")),
  FastCheck.tuple(
    FastCheck.constantFrom("x", "€", "😀", " ", ".", "CON ", "\ufffd"),
    FastCheck.integer({ min: 0, max: 300 })
  )
    .map(([unit, count]) => unit.repeat(count)),
  FastCheck.tuple(
    FastCheck.constantFrom("con", "con ", "a. ", "€", ""),
    FastCheck.integer({ min: 1, max: 300 }),
    FastCheck.constantFrom(".txt", ".", ". ", "x.txt", "x", "")
  ).map(([unit, count, end]) => unit.repeat(count) + end)
)

/** Each of them is refused by the check, for itself and as any part of a path. */
const unsafe = [
  "",
  ".",
  "..",
  "...",
  " ",
  "a.",
  "a ",
  "a\\b",
  "..\\a",
  "a\0b",
  "a\nb",
  "a\x1b[31m",
  "a\x7fb",
  "a\x85b",
  "a\x9bb",
  "a\u061cb",
  "a\u200eb",
  "a\u200fb",
  "photo\u202egpj.exe",
  "a\u2066b",
  "a\u2069b",
  "a\u2028b",
  "a\u2029b",
  "a\ud800b",
  "a\udc00",
  "C:",
  "a.txt:stream",
  "a.txt::$DATA",
  "CON",
  "con",
  "Prn.txt",
  "aux.",
  "NUL.tar.gz",
  "nul .txt",
  "COM1",
  "com0.log",
  "LPT9.txt",
  "COM¹",
  "lpt²",
  "LPT³.x",
  "CONIN$",
  "conout$.txt",
  "x".repeat(256),
  "€".repeat(86)
]

describe("SafeName", () => {
  it.each([
    "a.txt",
    "a/b/c.txt",
    ".profile",
    "a..b",
    " a",
    "a .txt",
    "-rf",
    "~",
    "Grüße €.txt",
    "👩\u200d👧.png",
    "x".repeat(255),
    "€".repeat(85),
    "console",
    "con-1.txt",
    "acon",
    "com10.txt",
    "nul_.txt",
    "lpt",
    "indexedcp",
    "a/.indexedcp"
  ])("takes %j as it is", (name) => {
    expect(SafeName.check(name)).toEqual(Either.right(name))
    expect(SafeName.sanitize(...name.split("/"))).toEqual(Either.right(name))
  })

  it.each(unsafe)("refuses %j as a name or a part of one", (part) => {
    for (const name of [part, `${part}/b`, `a/${part}`, `a/${part}/b`]) {
      expect(Either.isLeft(SafeName.check(name))).toBe(true)
    }
  })

  it.each(["/a", "a/", "a//b", "../a", "a/../b", "a/.", "x/".repeat(2048) + "x"])("refuses %j", (name) => {
    expect(Either.isLeft(SafeName.check(name))).toBe(true)
  })

  it("says which rule a name breaks, without what it does to a terminal", () => {
    const { message } = Either.getOrThrow(Either.flip(SafeName.check("a\x9b31m\u202e.txt")))
    expect(message).toBe(
      `The name "a\\u009b31m\\u202e.txt" has a separator, a colon or a character that cannot be shown in it; send another X-File-Name`
    )
    expect(Either.getOrThrow(Either.flip(SafeName.check("a/aux.c"))).message).toContain("is a device on Windows")
  })

  it("turns names to one normal form", () => {
    expect(safe("e\u0301/A\u030a.txt")).toBe("\u00e9/\u00c5.txt")
  })

  it.each([
    ".indexedcp",
    ".indexedcp/parts/x",
    ".IndexedCP",
    ".INDEXEDCP-probe",
    "．indexedcp",
    ".ｉｎｄｅｘｅｄｃｐ",
    ".indexed\u200ccp",
    "\ufeff.indexedcp",
    ".ındexedcp"
  ])("refuses the server's own folder as %j", (name) => {
    expect(Either.isLeft(SafeName.check(name))).toBe(true)
    expect(Either.isLeft(SafeName.sanitize(...name.split("/")))).toBe(true)
  })

  it.each([
    ["report.pdf", 0, "report.pdf"],
    ["report.pdf", 1, "report (1).pdf"],
    ["report.pdf", 12, "report (12).pdf"],
    ["report", 1, "report (1)"],
    [".profile", 1, ".profile (1)"],
    ["a.tar.gz", 1, "a.tar (1).gz"],
    ["dir.d/report", 2, "dir.d/report (2)"],
    ["dir/.x", 2, "dir/.x (2)"],
    ["a .txt", 1, "a  (1).txt"]
  ])("numbers %j with %d as %j", (name, number, numbered) => {
    expect(SafeName.numbered(safe(name), number)).toBe(numbered)
  })

  it("numbers any safe name safely: other names for other numbers, none too long, in the same folder", () => {
    const part = FastCheck.oneof(FastCheck.string({ unit: "grapheme", minLength: 1, maxLength: 255 }), anyPart)
    const long = FastCheck.tuple(FastCheck.constantFrom("x", "€", "😀"), FastCheck.integer({ min: 0, max: 300 }))
      .map(([unit, count]) => unit.repeat(count))
    const name = FastCheck.oneof(
      part,
      FastCheck.tuple(long, long).map(([stem, extension]) => `${stem}.${extension}`),
      FastCheck.tuple(part, part).map((parts) => parts.join("/"))
    ).filter((name) => Either.isRight(SafeName.check(name)))
    FastCheck.assert(FastCheck.property(name, FastCheck.integer({ min: 1, max: 10_000 }), (name, number) => {
      name = safe(name)
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

  it.each([
    ["a:b.txt", "a_b.txt"],
    ["a\0\n\x1b\u202eb", "a____b"],
    ["a/b\\c", "a_b_c"],
    ["a.txt. .", "a.txt"],
    ["nul", "_nul"],
    ["Con .txt", "_Con .txt"],
    ["aux. ", "_aux"],
    ["a\ud800", "a_"],
    ["e\u0301", "é"],
    [":", "_"],
    ["x".repeat(300) + ".txt", "x".repeat(251) + ".txt"],
    ["€".repeat(100), "€".repeat(85)],
    ["😀".repeat(100) + ".jpeg", "😀".repeat(62) + ".jpeg"],
    ["a" + " ".repeat(300) + "b", "a" + "_".repeat(254)],
    ["CON" + " ".repeat(300) + "x.txt", "_CON" + " ".repeat(247) + ".txt"],
    ["\ufeff" + "x".repeat(300), "\ufeff" + "x".repeat(252)]
  ])("makes %j safe as %j", (part, made) => {
    expect(SafeName.sanitize(part)).toEqual(Either.right(made))
  })

  it.each(["", ".", "..", "...", " ", ". .", ".indexedcp", ".indexedcp.", ".IndexedCP:"])(
    "cannot make %j safe",
    (part) => {
      expect(Either.isLeft(SafeName.sanitize(part))).toBe(true)
    }
  )

  it("makes any parts safe or refuses them; what it made is safe and stays as it is", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(anyPart, { minLength: 1, maxLength: 4 }), (parts) => {
        const made = SafeName.sanitize(...parts)
        if (Either.isLeft(made)) return
        expect(SafeName.check(made.right)).toEqual(made)
        expect(SafeName.sanitize(...made.right.split("/"))).toEqual(made)
        expect(made.right.split("/").length).toBe(parts.length)
        expect(made.right).toBe(made.right.normalize("NFC"))
      }),
      { numRuns: 2000 }
    )
  })

  it("refuses only what is nothing but dots and spaces, or leads to the server's own folder", () => {
    FastCheck.assert(
      FastCheck.property(anyPart, (part) => {
        FastCheck.pre(!/^[. ]*$/.test(part) && !/indexedcp/i.test(part))
        expect(Either.isRight(SafeName.sanitize(part))).toBe(true)
      }),
      { numRuns: 2000 }
    )
  })

  it("numbers each part of a path for itself, folders at their end", () => {
    const name = safe("v1.0/b/c.txt")
    expect(SafeName.numberedParts(name, [])).toBe(name)
    expect(SafeName.numberedParts(name, [2, 0, 1])).toBe("v1.0 (2)/b/c (1).txt")
    FastCheck.assert(
      FastCheck.property(anyPart, anyPart, (folder, file) => {
        const made = SafeName.sanitize(folder, file)
        if (Either.isLeft(made)) return
        const numbered = SafeName.numberedParts(made.right, [7, 8])
        expect(SafeName.check(numbered)).toEqual(Either.right(numbered))
      }),
      { numRuns: 500 }
    )
  })
})
