/**
 * PROTOCOL.md, "Which answers count, for a client", answer by answer.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Either, Option } from "effect"
import * as Answer from "../../src/client/internal/answer.ts"
import type { Refused } from "../../src/client/Transport.ts"
import type { Chunk } from "../../src/protocol/ChunkHeaders.ts"
import * as FileName from "../../src/protocol/FileName.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"

const id = UploadId.make("upload-1")

/** A chunk of revision 2, or of revision 1 only. */
const chunk = (revision: 1 | 2, fileName = "logs/a.txt"): Omit<Chunk, "sentName"> => ({
  index: 2,
  fileName,
  contentDigest: Option.none(),
  upload: revision === 1
    ? Option.none()
    : Option.some({
      id,
      offset: 8,
      size: Option.some(12),
      sha256: Option.none(),
      prefixDigest: Option.none(),
      known: true
    })
})

const receipt1 = { message: "Chunk received", actualFilename: "a.txt", chunkIndex: 2, clientFilename: "logs/a.txt" }
const receipt2 = { ...receipt1, uploadId: id, duplicate: false, bytesReceived: 12, complete: true, size: 12 }

const answer = (body: unknown, status = 200, headers: Record<string, string> = {}): Answer.Answer => ({
  status,
  headers,
  text: typeof body === "string" ? body : JSON.stringify(body)
})

const sentNameOf = (asked: Omit<Chunk, "sentName">): string =>
  Option.isSome(asked.upload) ? FileName.encode(asked.fileName).value : FileName.encodeRevision1(asked.fileName)

const forChunk = (came: Answer.Answer, asked = chunk(2)) => Answer.forChunk(came, asked, sentNameOf(asked))

/** What came of it in one word, and its message. */
const verdict = (result: Either.Either<unknown, { readonly _tag: string; readonly message: string }>) =>
  Either.match(result, { onLeft: ({ _tag }) => _tag, onRight: () => "acknowledged" })

describe("an answer to a chunk", () => {
  it.each<readonly [string, Answer.Answer]>([
    ["a receipt of revision 2", answer(receipt2)],
    ["one with fields that nobody knows", answer({ ...receipt2, more: [1] })],
    ["a receipt of revision 1", answer(receipt1)],
    ["the text", answer("Chunk received\n")],
    ["the text without a line end", answer("Chunk received")],
    ["the text with more white space", answer("Chunk received \r\n\r\n")]
  ])("counts: %s", (_, came) => {
    expect(verdict(forChunk(came))).toBe("acknowledged")
  })

  it.each<readonly [string, Answer.Answer]>([
    ["the login page of a captive portal", answer("<html><body>Welcome! Please log in</body></html>")],
    ["nothing", answer("")],
    ["JSON of another shape", answer({ ok: true })],
    ["a JSON list", answer([receipt2])],
    ["a JSON text", answer("\"Chunk received\"")],
    ["null", answer("null")],
    ["JSON that was cut", answer(JSON.stringify(receipt2).slice(0, -1))],
    ["the text among others", answer("Chunk received\nok")],
    ["the text in other letters", answer("chunk received")],
    ["white space before the text", answer(" Chunk received")],
    ["a page that has the text in it", answer("<p>Chunk received</p>")],
    ["201 with a receipt", answer(receipt2, 201)],
    ["202 with a receipt", answer(receipt2, 202)],
    ["204", answer("", 204)],
    ["206 with the text", answer("Chunk received\n", 206)],
    ["304", answer("", 304)],
    ["511", answer("<html>Log in</html>", 511)],
    ["511 with a receipt", answer(receipt2, 511)],
    ["a receipt for another chunk", answer({ ...receipt2, chunkIndex: 1 })],
    ["a receipt for no chunk", answer({ ...receipt2, chunkIndex: null })],
    ["a receipt with the chunk as a text", answer({ ...receipt2, chunkIndex: "2" })],
    ["a receipt for another file", answer({ ...receipt2, clientFilename: "logs/b.txt" })],
    ["a receipt for another upload", answer({ ...receipt2, uploadId: "upload-2" })],
    ["a receipt for an upload without a right id", answer({ ...receipt2, uploadId: "" })],
    ["a receipt of revision 1 for another chunk", answer({ ...receipt1, chunkIndex: 0 })],
    ["a receipt of revision 1 for another file", answer({ ...receipt1, clientFilename: "a.txt" })]
  ])("does not count: %s", (_, came) => {
    expect(verdict(forChunk(came))).toBe("NoAnswer")
  })

  it.each<readonly [string, object]>([
    ["bytesReceived", { bytesReceived: "12" }],
    ["negative bytesReceived", { bytesReceived: -1 }],
    ["complete", { complete: "yes" }],
    ["duplicate", { duplicate: undefined }],
    ["sha256", { sha256: "abc" }],
    ["uploadId", { uploadId: null }],
    ["size", { size: null }]
  ])("is not taken for revision 1 when its %s is malformed", (_, wrong) => {
    expect(verdict(forChunk(answer({ ...receipt2, ...wrong })))).toBe("NoAnswer")
  })

  it("to a chunk without an id has none", () => {
    expect(verdict(forChunk(answer(receipt1), chunk(1)))).toBe("acknowledged")
    expect(verdict(forChunk(answer(receipt2), chunk(1)))).toBe("NoAnswer")
  })

  it("gives back what it says", () => {
    expect(Either.getOrThrow(forChunk(answer(receipt2, 200, { "upload-limit": "max-append-size=100" })))).toEqual({
      receipt: receipt2,
      limit: { maxAppendSize: 100 }
    })
    expect(Either.getOrThrow(forChunk(answer(receipt1))).receipt).toEqual(receipt1)
  })

  it("in plain text names the file by the base name of what was sent", () => {
    const named = (asked: Omit<Chunk, "sentName">) =>
      Either.getOrThrow(forChunk(answer("Chunk received\n"), asked)).receipt
    expect(named(chunk(2))).toEqual(receipt1)
    expect(named(chunk(2, "dir/a b.txt")).actualFilename).toBe("a b.txt")
    // such a server keeps a name in percent encoding as it is
    expect(named(chunk(2, "dir/ü.txt")).actualFilename).toBe("%C3%BC.txt")
    expect(named(chunk(1, "C:\\dir\\ü.txt")).actualFilename).toBe("ü.txt")
  })

  const utf8AsLatin1 = (name: string) => Buffer.from(name, "utf8").toString("latin1")

  it.each<readonly [string, 1 | 2, string, string]>([
    ["as it was sent", 2, "ü €.txt", "%C3%BC%20%E2%82%AC.txt"],
    ["as it is", 2, "ü €.txt", "ü €.txt"],
    ["in Latin-1", 1, "ü.txt", "ü.txt"],
    ["in UTF-8 read as Latin-1", 1, "€.txt", utf8AsLatin1("€.txt")],
    ["in UTF-8 read as UTF-8", 1, "€.txt", "€.txt"],
    ["with a space", 1, "a b.txt", "a b.txt"],
    ["with a percent sign of its own", 2, "100%.txt", "100%.txt"]
  ])("may bring the name back %s", (_, revision, name, back) => {
    const asked = chunk(revision, name)
    const receipt = revision === 1 ? receipt1 : receipt2
    expect(verdict(forChunk(answer({ ...receipt, clientFilename: back }), asked))).toBe("acknowledged")
    expect(verdict(forChunk(answer({ ...receipt, clientFilename: `${back}x` }), asked))).toBe("NoAnswer")
  })

  it("that redirects is not followed, and its message says where it pointed", () => {
    for (const status of [301, 302, 303, 307, 308]) {
      const came = answer("", status, { location: "https://portal.example/login" })
      expect(Either.getOrThrowWith(Either.flip(forChunk(came)), () => new Error("it counted"))).toMatchObject({
        _tag: "NoAnswer",
        message: expect.stringContaining("https://portal.example/login") as string
      })
    }
    expect(verdict(forChunk(answer(receipt2, 302, { location: "x" })))).toBe("NoAnswer")
  })

  it("that does not count is told to be from no IndexedCP server", () => {
    expect(Either.flip(forChunk(answer("<html>"))).pipe(Either.getOrThrow).message).toContain("no IndexedCP server")
  })
})

describe("a refusal", () => {
  const refusal = (came: Answer.Answer) => Either.getOrThrow(Either.flip(forChunk(came)))
  const retryAfter = (came: Answer.Answer) => (refusal(came) as Refused).retryAfter

  it.each([400, 401, 403, 404, 408, 409, 412, 413, 415, 418, 422, 425, 429, 451, 500, 501, 502, 503, 504, 507, 599])(
    "is one with status %i, whatever its body",
    (status) => {
      for (const body of [{ error: "No", message: "because" }, { error: "No" }, "<html>", "", receipt2]) {
        expect(refusal(answer(body, status))).toMatchObject({ _tag: "Refused", status })
      }
    }
  )

  it("says what the server says", () => {
    expect(refusal(answer({ error: "Conflict", message: "other bytes" }, 409))).toMatchObject({
      error: "Conflict",
      message: "The server answered 409: other bytes"
    })
    expect(refusal(answer({ error: "Invalid or missing API key" }, 401)).message).toContain(
      "Invalid or missing API key"
    )
    expect(refusal(answer(`  Bad\n\n gateway ${"x".repeat(1000)}`, 502)).message.length).toBeLessThan(250)
    expect(refusal(answer("", 502)).message).toBe("The server answered 502")
  })

  it.each<readonly [string, number | undefined]>([
    ["120", 120],
    ["0", 0],
    ["", undefined],
    ["soon", undefined],
    ["-5", undefined],
    ["1.5", undefined]
  ])("with Retry-After %j", (value, seconds) => {
    expect(retryAfter(answer("", 503, { "retry-after": value }))).toBe(seconds)
  })

  it("with Retry-After as a date counts from the server's own clock", () => {
    const at = (date: string | undefined, after: string) =>
      retryAfter(answer("", 503, { "retry-after": after, ...(date === undefined ? {} : { date }) }))
    expect(at("Fri, 31 Dec 1999 23:58:00 GMT", "Fri, 31 Dec 1999 23:59:30 GMT")).toBe(90)
    expect(at("Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 1999 23:59:30 GMT")).toBe(0)
    expect(at(undefined, "Fri, 31 Dec 1999 23:59:30 GMT")).toBe(undefined)
  })

  it("tells the largest body that the server takes", () => {
    expect(refusal(answer("", 413, { "upload-limit": "max-append-size=65536, max-size=9" }))).toMatchObject({
      maxBody: 65536
    })
    expect(refusal(answer("", 413))).not.toHaveProperty("maxBody")
  })
})

describe("an answer to the question for an upload", () => {
  const state = {
    uploadId: id,
    clientFilename: "a",
    actualFilename: "a",
    size: 12,
    bytesReceived: 4,
    missing: [[4, 12]],
    state: "receiving",
    complete: false
  }
  const forState = (came: Answer.Answer) => Answer.forState(came, id)

  it("is the state", () => {
    for (const more of [{}, { size: null }, { state: "finishing" }, { state: "failed" }, { more: true, new: 1 }]) {
      expect(Either.getOrThrow(forState(answer({ ...state, ...more })))).toMatchObject(Option.some({ uploadId: id }))
    }
  })

  it("is that the upload is not known", () => {
    expect(Either.getOrThrow(forState(answer({ error: "Unknown upload" }, 404)))).toEqual(Option.none())
    expect(Either.getOrThrow(forState(answer({ error: "Unknown upload", message: "x" }, 404)))).toEqual(Option.none())
  })

  it.each<readonly [string, Answer.Answer, string]>([
    ["404 in text, of a revision-1 server", answer("Not Found", 404), "Refused"],
    ["404 in JSON of somebody else", answer({ error: "Not Found" }, 404), "Refused"],
    ["the right words with another status", answer({ error: "Unknown upload" }, 410), "Refused"],
    ["401", answer({ error: "Invalid or missing API key" }, 401), "Refused"],
    ["503", answer("", 503), "Refused"],
    ["a login page", answer("<html>"), "NoAnswer"],
    ["the state of another upload", answer({ ...state, uploadId: "upload-2" }), "NoAnswer"],
    ["a malformed state", answer({ ...state, missing: [[4]] }), "NoAnswer"],
    ["a state nobody knows", answer({ ...state, state: "lost" }), "NoAnswer"],
    ["a receipt", answer(receipt2), "NoAnswer"],
    ["204", answer("", 204), "NoAnswer"],
    ["201 with a state", answer(state, 201), "NoAnswer"],
    ["302", answer("", 302, { location: "https://portal.example" }), "NoAnswer"],
    ["511", answer("", 511), "NoAnswer"],
    ["the unknown upload in a 200", answer({ error: "Unknown upload" }), "NoAnswer"]
  ])("is none: %s", (_, came, tag) => {
    expect(verdict(forState(came))).toBe(tag)
  })
})

describe("an answer to a deletion", () => {
  it.each<readonly [string, Answer.Answer, string]>([
    ["204", answer("", 204), "acknowledged"],
    ["an unknown upload", answer({ error: "Unknown upload" }, 404), "acknowledged"],
    ["404 in text", answer("Not Found", 404), "Refused"],
    ["409", answer({ error: "Conflict" }, 409), "Refused"],
    ["200", answer("<html>"), "NoAnswer"],
    ["302", answer("", 302), "NoAnswer"],
    ["511", answer("", 511), "NoAnswer"]
  ])("%s", (_, came, tag) => {
    expect(verdict(Answer.forAbort(came))).toBe(tag)
  })
})
