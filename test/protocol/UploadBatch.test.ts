import { describe, expect, it } from "@effect/vitest"
import { Either, FastCheck, Option, Schema } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as UploadBatch from "../../src/protocol/UploadBatch.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"

const whole = (id: string, name: string, bytes: Uint8Array): UploadBatch.Whole => ({
  uploadId: UploadId.make(id),
  clientFilename: name,
  size: bytes.length,
  sha256: Sha256.of(bytes),
  bytes
})

const text = (words: string) => new TextEncoder().encode(words)

const two = [whole("u1", "a.txt", text("abc")), whole("u2", "b/ü.txt", text(""))]

/** A body with this manifest, whatever it says. */
const framed = (manifest: string | Uint8Array, bytes = new Uint8Array(0), length?: number): Uint8Array => {
  const encoded = typeof manifest === "string" ? text(manifest) : manifest
  const body = new Uint8Array(4 + encoded.length + bytes.length)
  new DataView(body.buffer).setUint32(0, length ?? encoded.length)
  body.set(encoded, 4)
  body.set(bytes, 4 + encoded.length)
  return body
}

const manifest = (...changes: ReadonlyArray<object>) =>
  JSON.stringify({
    files: changes.map((change) => ({
      uploadId: "u1",
      clientFilename: "a",
      size: 0,
      sha256: Sha256.empty,
      ...change
    }))
  })

const refusal = (body: Uint8Array) =>
  Either.match(UploadBatch.fromBody(body), { onLeft: ({ message }) => message, onRight: () => "taken" })

describe("UploadBatch", () => {
  it("reads what it wrote, from within a larger buffer too", () => {
    const body = UploadBatch.toBody(two)
    const larger = new Uint8Array(body.length + 9)
    larger.set(body, 5)
    for (const bytes of [body, larger.subarray(5, 5 + body.length)]) {
      expect(Either.getOrThrow(UploadBatch.fromBody(bytes))).toEqual(two)
    }
    expect(Either.getOrThrow(UploadBatch.fromBody(UploadBatch.toBody([])))).toEqual([])
  })

  it("takes at most as much for a file as it reckons with", () => {
    const empty = UploadBatch.toBody([]).length
    FastCheck.assert(FastCheck.property(FastCheck.string({ unit: "grapheme" }), FastCheck.nat(2000), (name, size) => {
      const file = whole("u".repeat(32), name, new Uint8Array(size))
      expect(UploadBatch.toBody([file]).length - empty).toBeLessThanOrEqual(UploadBatch.bytesOf(file))
    }))
  })

  it.each([
    ["nothing", new Uint8Array(0), "in 4 bytes"],
    ["half a length", new Uint8Array(3), "in 4 bytes"],
    ["a manifest longer than the body", framed(manifest({}), undefined, 2 ** 32 - 1), "more than came"],
    ["no JSON", framed("{\"files\":["), "no JSON"],
    ["no UTF-8", framed(Uint8Array.of(0x22, 0xff, 0x22)), "no JSON"],
    ["no object", framed("null"), "{\"files\""],
    ["no files", framed("{}"), "{\"files\""],
    ["files that are none", framed("{\"files\":{\"length\":3}}"), "{\"files\""],
    ["a file that is null", framed("{\"files\":[null]}"), "file 0: no object"],
    ["a bad id", framed(manifest({}, { uploadId: "../u" })), "file 1: its uploadId"],
    ["a name that is none", framed(manifest({ clientFilename: 7 })), "file 0: its clientFilename"],
    ["a negative size", framed(manifest({ size: -1 })), "file 0: its size"],
    ["a broken size", framed(manifest({ size: 0.5 })), "file 0: its size"],
    ["a size as text", framed(manifest({ size: "0" })), "file 0: its size"],
    ["a hash in capitals", framed(manifest({ sha256: "A".repeat(64) })), "file 0: its sha256"],
    ["an id twice", framed(manifest({}, {})), "an upload id is there twice"],
    ["fewer bytes", framed(manifest({ size: 4 }), text("abc")), "more bytes than came"],
    ["more bytes", framed(manifest({ size: 2 }), text("abc")), "fewer bytes than came"],
    ["sizes beyond all numbers", framed(manifest({ size: Number.MAX_SAFE_INTEGER })), "more bytes than came"]
  ])("refuses %s", (_, body, why) => {
    expect(refusal(body)).toContain(why)
  })

  it("refuses a body that is cut anywhere", () => {
    const body = UploadBatch.toBody(two)
    for (let length = 0; length < body.length; length++) expect(refusal(body.subarray(0, length))).not.toBe("taken")
  })

  it("tells what a server takes", () => {
    const takes = { maxFiles: 256, maxSize: 8388608 }
    expect(UploadBatch.encode(takes)).toBe("max-files=256, max-size=8388608")
    expect(UploadBatch.decode(UploadBatch.encode(takes))).toEqual(Option.some(takes))
    for (
      const other of ["", "max-files=2", "max-files=0, max-size=9", "max-files=2.5, max-size=9", "max-files=\"", "?0"]
    ) {
      expect(UploadBatch.decode(other)).toEqual(Option.none())
    }
  })

  it("describes its answer", () => {
    const decode = Schema.decodeUnknownOption(UploadBatch.BatchAnswer)
    const receipt = {
      message: "Chunk received",
      actualFilename: "a.txt",
      chunkIndex: 0,
      clientFilename: "a.txt",
      uploadId: "u1",
      duplicate: false,
      bytesReceived: 3,
      complete: true,
      size: 3,
      sha256: Sha256.empty
    }
    const refused = { status: 409, error: "Conflict", message: "There is a file" }
    expect(Option.isSome(decode({ results: [{ status: 200, receipt }, refused] }))).toBe(true)
    expect(Option.isNone(decode({ results: [{ status: 204 }] }))).toBe(true)
  })
})
