import { describe, expect, it } from "@effect/vitest"
import { Either, FastCheck, Option } from "effect"
import * as ChunkHeaders from "../../src/protocol/ChunkHeaders.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"

const id = UploadId.make("u-1_A")
const revision2 = { "x-upload-id": id, "x-chunk-offset": "0" }

const decoded = (headers: Record<string, string>) => Either.getOrThrow(ChunkHeaders.decode(headers))
const refused = (headers: Record<string, string>) =>
  Either.isLeft(ChunkHeaders.decode(headers)) ? "Malformed" : "accepted"

const header = Sha256.toHeader(Sha256.empty)

describe("ChunkHeaders, revision 1", () => {
  it("takes a request without any header", () => {
    expect(decoded({})).toEqual({
      index: 0,
      fileName: "uploaded_file.txt",
      sentName: "uploaded_file.txt",
      contentDigest: Option.none(),
      upload: Option.none()
    })
  })

  it("passes over the headers of revision 2 when X-Upload-Id is missing, whatever they hold", () => {
    const chunk = decoded({
      "x-chunk-index": "3",
      "x-file-name": "100%25.txt",
      "x-chunk-offset": "-1",
      "x-file-size": "many",
      "x-file-name-encoding": "rot13",
      "repr-digest": "nothing",
      "if-match": "\"v1\""
    })
    expect(chunk).toMatchObject({ index: 3, fileName: "100%25.txt", upload: Option.none() })
  })

  it("reads Content-Digest without X-Upload-Id", () => {
    expect(decoded({ "content-digest": header }).contentDigest).toEqual(Option.some(Sha256.empty))
    expect(refused({ "content-digest": "sha-256=:AAAA:" })).toBe("Malformed")
  })

  it.each(["text/plain", "application/octet-stream"])("does not care for a content type of %s", (type) => {
    expect(refused({ "content-type": type })).toBe("accepted")
  })
})

describe("ChunkHeaders, Prefix-Digest", () => {
  const upload = { "x-upload-id": "u1", "x-chunk-offset": "3", "prefix-digest": header }

  it("counts with X-Upload-Id, and where there is no Content-Digest", () => {
    const prefixDigest = (headers: Record<string, string>) =>
      Option.map(decoded(headers).upload, (upload) => upload.prefixDigest)
    expect(prefixDigest(upload)).toEqual(Option.some(Option.some(Sha256.empty)))
    expect(prefixDigest({ ...upload, "content-digest": header })).toEqual(Option.some(Option.none()))
    expect(prefixDigest({ "prefix-digest": "nothing" })).toEqual(Option.none())
  })

  it("is malformed as the other digests are", () => {
    expect(refused({ ...upload, "prefix-digest": "sha-256=:AAAA:" })).toBe("Malformed")
    expect(refused({ ...upload, "prefix-digest": "" })).toBe("Malformed")
  })
})

describe("ChunkHeaders, numbers", () => {
  const numeric = ["x-chunk-index", "x-chunk-offset", "x-file-size"]

  it.each(
    [
      "-1",
      "+1",
      "1.5",
      "1e3",
      "0x10",
      "01",
      "00",
      "-0",
      " 1",
      "1 ",
      "1,1",
      "٣",
      "１",
      "9007199254740992",
      "99999999999999999"
    ]
  )("%j is malformed in every numeric header", (value) => {
    for (const name of numeric) expect([name, refused({ ...revision2, [name]: value })]).toEqual([name, "Malformed"])
  })

  it("reads every whole number up to 2^53-1", () => {
    FastCheck.assert(FastCheck.property(FastCheck.maxSafeNat(), (value) => {
      const { index, upload } = decoded({
        ...revision2,
        "x-chunk-index": String(value),
        "x-chunk-offset": String(value),
        "x-file-size": String(value)
      })
      const found = Option.getOrThrow(upload)
      expect([index, found.offset, Option.getOrThrow(found.size)]).toEqual([value, value, value])
    }))
    expect(decoded({ "x-chunk-index": "9007199254740991" }).index).toBe(Number.MAX_SAFE_INTEGER)
  })
})

describe("ChunkHeaders, revision 2", () => {
  it("requires X-Chunk-Offset beside X-Upload-Id", () => {
    expect(refused({ "x-upload-id": id })).toBe("Malformed")
  })

  it.each(["a", "A-Z_09", "x".repeat(128)])("takes the upload id %s", (id) => {
    expect(Option.getOrThrow(decoded({ ...revision2, "x-upload-id": id }).upload).id).toBe(id)
  })

  it.each(["", "x".repeat(129), "a.b", "a/b", "a b", "ä", "a\n"])("refuses the upload id %j", (id) => {
    expect(refused({ ...revision2, "x-upload-id": id })).toBe("Malformed")
  })

  it("decodes a percent-encoded name and keeps it as sent for the echo", () => {
    expect(decoded({ ...revision2, "x-file-name": "a%20%E2%82%AC/100%25", "x-file-name-encoding": "percent" }))
      .toMatchObject({ fileName: "a €/100%", sentName: "a%20%E2%82%AC/100%25" })
    expect(decoded({ ...revision2, "x-file-name": "100%25" })).toMatchObject({ fileName: "100%25" })
  })

  it.each(["%", "%2", "%GG", "%FF", "%C3%28", "a b", "é"])("refuses %j as a percent-encoded name", (name) => {
    expect(refused({ ...revision2, "x-file-name": name, "x-file-name-encoding": "percent" })).toBe("Malformed")
  })

  it("refuses an unknown name encoding and any If-Match but *", () => {
    expect(refused({ ...revision2, "x-file-name-encoding": "base64" })).toBe("Malformed")
    expect(refused({ ...revision2, "if-match": "\"v1\"" })).toBe("Malformed")
    expect(Option.getOrThrow(decoded({ ...revision2, "if-match": "*" }).upload).known).toBe(true)
  })

  it("refuses malformed digests and passes over other algorithms", () => {
    for (const name of ["content-digest", "repr-digest"]) {
      expect(refused({ ...revision2, [name]: "sha-256=:not base64!:" })).toBe("Malformed")
      expect(refused({ ...revision2, [name]: "sha-512=:AAAA:" })).toBe("accepted")
    }
    expect(Option.getOrThrow(decoded({ ...revision2, "repr-digest": `md5=:AAAA:, ${header}` }).upload).sha256)
      .toEqual(Option.some(Sha256.empty))
  })

  it.each([
    "authorization",
    "content-length",
    "x-chunk-index",
    "x-file-name",
    "x-upload-id",
    "x-chunk-offset",
    "x-file-size",
    "x-file-name-encoding",
    "content-digest",
    "repr-digest",
    "if-match"
  ])("an empty or repeated %s is malformed", (name) => {
    expect(refused({ ...revision2, [name]: "" })).toBe("Malformed")
    const raw = [name.toUpperCase(), "1", "Host", "x", name, "1"]
    expect(Either.isLeft(ChunkHeaders.fromRaw(raw))).toBe(true)
  })

  it("takes repeated headers that are none of the protocol's", () => {
    expect(ChunkHeaders.fromRaw(["Via", "a", "VIA", "b", "X-File-Name", "n", "constructor", "c"])).toEqual(
      Either.right({ via: "b", "x-file-name": "n", constructor: "c" })
    )
  })

  it("encodes what it decodes", () => {
    const text = FastCheck.string({ minLength: 1, unit: "grapheme" })
    const digest = FastCheck.option(FastCheck.uint8Array(), { nil: undefined })
    const property = FastCheck.property(
      FastCheck.record({
        index: FastCheck.maxSafeNat(),
        fileName: text,
        offset: FastCheck.maxSafeNat(),
        size: FastCheck.option(FastCheck.maxSafeNat(), { nil: undefined }),
        body: digest,
        whole: digest,
        prefix: digest,
        known: FastCheck.boolean()
      }).filter(({ body, prefix }) => body === undefined || prefix === undefined),
      ({ body, fileName, index, known, offset, prefix, size, whole }) => {
        const chunk = {
          index,
          fileName,
          contentDigest: Option.map(Option.fromNullable(body), (bytes) => Sha256.of(bytes)),
          upload: Option.some({
            id,
            offset,
            size: Option.fromNullable(size),
            sha256: Option.map(Option.fromNullable(whole), (bytes) => Sha256.of(bytes)),
            prefixDigest: Option.map(Option.fromNullable(prefix), (bytes) => Sha256.of(bytes)),
            known
          })
        }
        const headers = ChunkHeaders.encode(chunk)
        for (const value of Object.values(headers)) expect(value).toMatch(/^[!-~](?:[ -~]*[!-~])?$/)
        expect(decoded(headers)).toEqual({ ...chunk, sentName: headers["x-file-name"] })
      }
    )
    FastCheck.assert(property)
  })
})
