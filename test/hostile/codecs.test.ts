import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, Equal, FastCheck, Option } from "effect"
import * as ChunkHeaders from "../../src/protocol/ChunkHeaders.ts"
import * as FileName from "../../src/protocol/FileName.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as UploadLimit from "../../src/protocol/UploadLimit.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as SafeName from "../../src/server/SafeName.ts"
import { world } from "../support/hostile.ts"
import { authorized, connect, head } from "../support/rawHttp.ts"

/** Header values as Node gives them: one character a byte. */
const value = FastCheck.oneof(
  FastCheck.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("latin1")),
  FastCheck.string({ unit: "binary", maxLength: 40 }),
  FastCheck.constantFrom("0", "1", "*", "percent", "u1", "sha-256=:YQ==:", "a%20b", "-1", "__proto__")
)

const name = FastCheck.oneof(
  value,
  FastCheck.constantFrom(
    ...Object.keys(ChunkHeaders.Revision1Headers.fields),
    ...Object.keys(ChunkHeaders.Revision2Headers.fields),
    "__proto__",
    "constructor"
  )
)

describe("The codecs, whatever they are given", () => {
  it("decode headers or say what is malformed, and never throw", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.array(FastCheck.tuple(name, value), { maxLength: 12 }), (headers) => {
        const decoded = Either.flatMap(ChunkHeaders.fromRaw(headers.flat()), ChunkHeaders.decode)
        return Either.match(decoded, {
          onLeft: ({ _tag }) => _tag === "Malformed",
          onRight: ({ index }) => Number.isSafeInteger(index)
        })
      }),
      { numRuns: 2000 }
    )
  })

  it("take a header's name for nothing but a name", () => {
    const decoded = Either.getOrThrow(ChunkHeaders.fromRaw(["__proto__", "x", "constructor", "y"]))
    expect(({} as { readonly x?: unknown }).x).toBeUndefined()
    expect(Object.getPrototypeOf(decoded)).not.toBe("x")
    expect(ChunkHeaders.decode(decoded)).toMatchObject({ _tag: "Right" })
  })

  it("decode names and limits of any bytes without throwing", () => {
    FastCheck.assert(
      FastCheck.property(value, (text) => {
        FileName.decode(text)
        FileName.decodePercent(text)
        UploadLimit.decode(text)
      }),
      { numRuns: 2000 }
    )
  })

  it("make of any parts one safe name, or none", () => {
    const part = FastCheck.oneof(
      FastCheck.string({ unit: "binary", maxLength: 300 }),
      FastCheck.constantFrom("..", ".", "", "con", "NUL.txt", ".indexedcp", "a:b", "x ", "\u202ex", "e\u0301")
    )
    FastCheck.assert(
      FastCheck.property(FastCheck.array(part, { minLength: 1, maxLength: 5 }), (parts) => {
        const made = SafeName.sanitize(...parts)
        return Either.match(made, {
          onLeft: ({ _tag }) => _tag === "Malformed",
          onRight: (name) =>
            Equal.equals(SafeName.check(name), made) && Equal.equals(SafeName.sanitize(...name.split("/")), made) &&
            name.split("/").length === parts.length
        })
      }),
      { numRuns: 2000 }
    )
  })

  it("read a digest only from what is one, and only that one", () => {
    const digest = Sha256.of(Uint8Array.of(1))
    const text = Sha256.toHeader(digest)
    const decode = (header: string) =>
      Either.map(
        ChunkHeaders.decode({ "content-digest": header }),
        ({ contentDigest }) => Option.getOrUndefined(contentDigest)
      )
    FastCheck.assert(
      FastCheck.property(
        FastCheck.nat(text.length - 1),
        FastCheck.constantFrom("", "=", ":", ",", ";", "\"", " ", "A", "\0", "\u00e9", "sha-256="),
        (at, put) => {
          const changed = text.slice(0, at) + put + text.slice(at + 1)
          return Either.match(decode(changed), {
            onLeft: ({ _tag }) => _tag === "Malformed",
            // an algorithm of another name says nothing, and another letter is another digest
            onRight: (found) => found === undefined || found === digest || put === "A"
          })
        }
      ),
      { numRuns: 1000 }
    )
  })

  it.effect("lead out of no folder, whatever path is asked for in whatever mode", () =>
    Effect.promise(() =>
      FastCheck.assert(
        FastCheck.asyncProperty(
          FastCheck.constantFrom<FilenameGenerator.PathMode>("sanitize", "ignore", "allow-paths", "timestamp"),
          FastCheck.array(
            FastCheck.oneof(
              FastCheck.constantFrom("..", ".", "/", "\\", "%2e", "\0", ":", " ", "a", "con", ".indexedcp", "\u2025"),
              FastCheck.string({ unit: "binary", maxLength: 4 })
            ),
            { maxLength: 12 }
          ),
          async (mode, pieces) => {
            const named = await Effect.runPromise(
              FilenameGenerator.FilenameGenerator.pipe(
                Effect.flatMap(({ generate }) => generate(pieces.join(""), 0, request)),
                Effect.provide(FilenameGenerator.layerPathMode(mode)),
                Effect.either
              )
            )
            if (Either.isLeft(named)) return named.left._tag === "Malformed"
            const parts = named.right.split("/")
            return parts.every((part) => !["", ".", ".."].includes(part)) &&
              parts[0] !== ".indexedcp" && !/[\\:\p{Cc}]/u.test(named.right) &&
              (mode === "allow-paths" || parts.length === 1)
          }
        ),
        { numRuns: 1000 }
      )
    ))
})

const request: FilenameGenerator.GeneratorRequest = {
  headers: {},
  method: "POST",
  url: "/upload",
  remoteAddress: "127.0.0.1",
  keyName: "default"
}

/** A good request of each kind, as bytes. */
const requests = [
  head("POST", "/upload", { ...authorized, "x-file-name": "m.txt", "x-chunk-index": 0, "content-length": 3 }) + "abc",
  head("POST", "/upload", {
    ...authorized,
    "x-file-name": "m%20m.txt",
    "x-file-name-encoding": "percent",
    "x-upload-id": "mutant",
    "x-chunk-offset": 0,
    "x-file-size": 3,
    "content-digest": Sha256.toHeader(Sha256.of(new TextEncoder().encode("abc"))),
    "transfer-encoding": "chunked"
  }) + "3\r\nabc\r\n0\r\n\r\n",
  head("GET", "/upload/mutant?check=content", authorized),
  head("DELETE", "/upload/mutant", authorized)
].map((text) => Buffer.from(text))

/** What is done to a request at a place: bytes are put there in the place of some. */
const change = FastCheck.record({
  at: FastCheck.integer({ min: 0, max: 999 }),
  drop: FastCheck.integer({ min: 0, max: 3 }),
  put: FastCheck.oneof(
    FastCheck.uint8Array({ maxLength: 3 }),
    FastCheck.constantFrom("\r\n", "\n", "\0", ": ", "../", "%2e%2e%2f", "-1", "999999999999", "\r\n\r\n", "\u00e9")
      .map((text) => Uint8Array.from(Buffer.from(text)))
  )
})

const mutant = FastCheck.tuple(
  FastCheck.constantFrom(...requests),
  FastCheck.array(change, { minLength: 1, maxLength: 3 })
).map(([bytes, changes]) =>
  changes.reduce((bytes, { at, drop, put }) => {
    const place = Math.floor(at * bytes.length / 1000)
    return Buffer.concat([bytes.subarray(0, place), put, bytes.subarray(place + drop)])
  }, bytes)
)

describe("Requests with a few bytes changed", () => {
  it.scopedLive("harm nothing, and are answered as the protocol has it", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ pathMode: "allow-paths" })
      // the same ones each time
      const mutants = FastCheck.sample(FastCheck.noBias(mutant), { numRuns: 400, seed: 20_240_229 })
      const answers = yield* Effect.forEach(mutants, (bytes) =>
        Effect.scoped(Effect.gen(function*() {
          const connection = yield* connect(hostile.port)
          yield* connection.write(bytes)
          // some wait for more that never comes, and some are garbage behind a whole request
          const answer = yield* Effect.timeoutOption(Effect.sandbox(connection.answer), "500 millis").pipe(
            Effect.catchAll(() => Effect.succeedNone)
          )
          return Option.toArray(answer)
        })), { concurrency: 20 })
      const all = answers.flat()
      expect(all.length).toBeGreaterThan(200)
      // every kind of outcome is among them
      expect([...new Set(all.map(({ status }) => status))]).toEqual(expect.arrayContaining([200, 400, 401, 404]))
      yield* hostile.check(all.filter(({ status }) => status !== 200), {
        statuses: [204, 400, 401, 404, 409, 412, 413, 415, 417, 422, 431, 503],
        appears: /^(?!.*(^|\/)\.{1,2}(\/|$))[^\\:\p{Cc}]+$/u,
        staged: 400
      })
    }), 60_000)
})
