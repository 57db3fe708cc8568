import { describe, expect, it } from "@effect/vitest"
import { FastCheck } from "effect"
import * as FileName from "../../src/protocol/FileName.ts"

const utf8Bytes = (text: string) => Buffer.from(text, "utf8").toString("latin1")
const unicode = FastCheck.string({ minLength: 1, unit: "binary" })

describe("FileName", () => {
  it("reads header bytes as UTF-8 where they are valid UTF-8, else as Latin-1", () => {
    expect(FileName.decode(utf8Bytes("Grüße €.txt"))).toBe("Grüße €.txt")
    expect(FileName.decode("Gr\xfc\xdfe.txt")).toBe("Grüße.txt")
    expect(FileName.decode(`${utf8Bytes("ü")}\xfc`)).toBe("Ã¼ü")
    expect(FileName.decode(`\xef\xbb\xbfa`)).toBe("\ufeffa")
  })

  it("leaves plain names alone and announces no encoding for them", () => {
    for (const name of ["a.txt", "C:\\x\\a b.txt", "100%.txt", "100%25", "~"]) {
      expect(FileName.encode(name)).toEqual({ value: name, encoding: undefined })
    }
  })

  it("percent-encodes every byte outside ! to ~, and %, but not /", () => {
    expect(FileName.encode("ü/ 50%\n")).toEqual({ value: "%C3%BC/%2050%25%0A", encoding: "percent" })
    expect(FileName.encode(" a")).toEqual({ value: "%20a", encoding: "percent" })
  })

  it("gives back any Unicode name that travelled percent-encoded or plain", () => {
    FastCheck.assert(FastCheck.property(unicode, (name) => {
      const { encoding, value } = FileName.encode(name)
      expect(encoding === "percent" ? FileName.decodePercent(value) : FileName.decode(value)).toBe(name)
    }))
  })

  it("gives back any Unicode name that travelled as revision 1 sends it", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.oneof(
        unicode,
        FastCheck.uint8Array({ minLength: 1 }).map((bytes) => Buffer.from(bytes).toString("latin1"))
      ),
      (name) => {
        const header = FileName.encodeRevision1(name)
        expect(header).toMatch(/^[\0-\xff]+$/)
        expect(FileName.decode(header)).toBe(name)
      }
    ))
    expect(FileName.encodeRevision1("Grüße")).toBe("Gr\xfc\xdfe")
    expect(FileName.encodeRevision1("Ã¼")).toBe(utf8Bytes("Ã¼"))
  })

  it.each([
    ["/var/data/a.txt", "a.txt"],
    ["C:\\data\\a.txt", "a.txt"],
    ["a/b\\c", "c"],
    ["folder/", "folder"],
    ["a.txt", "a.txt"],
    ["..", ".."],
    ["///", ""],
    ["", ""]
  ])("takes the last part of %j", (name, base) => {
    expect(FileName.base(name)).toBe(base)
  })
})
