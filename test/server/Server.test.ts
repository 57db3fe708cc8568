import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { text } from "../contract/UploadStore.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { authorized, request, serve } from "../support/rawHttp.ts"

const chunk = (offset: number, more: Record<string, string | number> = {}) => ({
  ...authorized,
  "x-file-name": "a.txt",
  "x-upload-id": "u1",
  "x-chunk-offset": offset,
  ...more
})

describe("Server", () => {
  it.scopedLive("goes on with both revisions after a restart between two chunks", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const old = (index: number) => ({ ...authorized, "x-file-name": "old.txt", "x-chunk-index": index })
      yield* Effect.scoped(Effect.gen(function*() {
        const { port } = yield* serve(folder)
        yield* request(port, "POST", "/upload", chunk(3, { "x-file-size": 9 }), "def")
        yield* request(port, "POST", "/upload", old(0), "old ")
      }))
      expect(Fs.readdirSync(folder).sort()).toEqual([".indexedcp", "old.txt"])
      yield* Effect.scoped(Effect.gen(function*() {
        const { port } = yield* serve(folder)
        const state = yield* request(port, "GET", "/upload/u1", authorized)
        expect(JSON.parse(state.body)).toMatchObject({ size: 9, missing: [[0, 3], [6, 9]] })
        yield* request(port, "POST", "/upload", chunk(0, { "if-match": "*" }), "abc")
        yield* request(port, "POST", "/upload", old(1), "file")
      }))
      const { port } = yield* serve(folder)
      const digest = Sha256.of(text("abcdefghi"))
      const last = yield* request(port, "POST", "/upload", chunk(6, { "repr-digest": Sha256.toHeader(digest) }), "ghi")
      expect(JSON.parse(last.body)).toMatchObject({ complete: true, size: 9, sha256: digest })
      const again = yield* request(port, "POST", "/upload", old(1), "file")
      expect(JSON.parse(again.body)).toMatchObject({ actualFilename: "old.txt" })
      expect(["a.txt", "old.txt"].map((name) => Fs.readFileSync(Path.join(folder, name), "utf8"))).toEqual([
        "abcdefghi",
        "old file"
      ])
    }))

  it.scopedLive("refuses a folder that another server has, and leaves that one alone", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const { port } = yield* serve(folder)
      expect(yield* Effect.flip(serve(folder))).toMatchObject({
        _tag: "FolderInUse",
        message: expect.stringContaining(folder)
      })
      expect((yield* request(port, "POST", "/upload", chunk(0, { "x-file-size": 3 }), "abc")).status).toBe(200)
      expect(Fs.readFileSync(Path.join(folder, "a.txt"), "utf8")).toBe("abc")
    }))

  it.scopedLive("does not blame another server when the lock cannot be taken for another reason", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      Fs.mkdirSync(Path.join(folder, ".indexedcp", "lock"), { recursive: true })
      expect(yield* Effect.flip(serve(folder))).toMatchObject({
        _tag: "ServerFailure",
        message: expect.stringContaining(folder)
      })
    }))

  it.scopedLive("does not start over a ledger that is damaged, and leaves it as it was", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const ledger = Path.join(folder, ".indexedcp", "ledger.db")
      Fs.mkdirSync(Path.dirname(ledger))
      Fs.writeFileSync(ledger, "nonsense ".repeat(1000))
      expect(yield* Effect.flip(serve(folder))).toMatchObject({ _tag: "ServerFailure" })
      expect(Fs.readFileSync(ledger, "utf8")).toBe("nonsense ".repeat(1000))
    }))

  it.scopedLive("puts many files together that arrive in pieces at once", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* serve(yield* RawFiles.temporaryFolder)
      const files = Array.from({ length: 10 }, (_, at) => `file ${at} `.repeat(1000))
      yield* Effect.forEach(
        files.flatMap((bytes, file) => [3, 1, 0, 2].map((piece) => ({ bytes, file, piece }))),
        ({ bytes, file, piece }) => {
          const [from, to] = [Math.floor(bytes.length * piece / 4), Math.floor(bytes.length * (piece + 1) / 4)]
          const headers = {
            ...chunk(from, { "x-file-size": bytes.length, "repr-digest": Sha256.toHeader(Sha256.of(text(bytes))) }),
            "x-upload-id": `u${file}`,
            "x-file-name": `${file}.txt`
          }
          return Effect.map(
            request(port, "POST", "/upload", headers, bytes.slice(from, to)),
            ({ status }) => expect(status).toBe(200)
          )
        },
        { concurrency: 16 }
      )
      for (const [at, bytes] of files.entries()) {
        expect(Fs.readFileSync(Path.join(folder, `${at}.txt`), "utf8")).toBe(bytes)
      }
      expect(Fs.readdirSync(Path.join(folder, ".indexedcp", "parts"))).toEqual([])
    }))
})
