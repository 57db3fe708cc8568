import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as RawFiles from "../support/rawFiles.ts"
import { connect, eventually, head, request, serveSimple } from "../support/rawHttp.ts"

const MiB = 1024 * 1024

/** A simple server with the file it appends to, which is not there yet. */
const started = Effect.gen(function*() {
  const folder = yield* RawFiles.temporaryFolder
  const file = Path.join(folder, "out.bin")
  return { folder, file, port: yield* serveSimple(file) }
})

describe("SimpleServer", () => {
  it.scopedLive("appends every body in the order of the answers, with or without a key", () =>
    Effect.gen(function*() {
      const { file, port } = yield* started
      Fs.writeFileSync(file, "before ")
      for (const body of ["one ", "", "two "]) {
        const answer = yield* request(
          port,
          "POST",
          "/upload",
          { "x-chunk-index": 9, "authorization": "Bearer x" },
          body
        )
        expect([answer.status, answer.body]).toEqual([200, "Chunk received\n"])
      }
      expect(Fs.readFileSync(file, "utf8")).toBe("before one two ")
    }))

  it.scopedLive("never interleaves the bodies of two slow clients", () =>
    Effect.gen(function*() {
      const { file, port } = yield* started
      const [a, b] = [yield* connect(port), yield* connect(port)]
      for (const connection of [a, b]) yield* connection.write(head("POST", "/upload", { "content-length": 4 * MiB }))
      for (let piece = 0; piece < 4; piece++) {
        yield* a.write("a".repeat(MiB))
        yield* b.write("b".repeat(MiB))
      }
      expect([(yield* a.answer).status, (yield* b.answer).status]).toEqual([200, 200])
      const [one, two] = ["a".repeat(4 * MiB), "b".repeat(4 * MiB)]
      expect([one + two, two + one].includes(Fs.readFileSync(file, "utf8"))).toBe(true)
    }))

  it.scopedLive("never interleaves many large bodies that end at once", () =>
    Effect.gen(function*() {
      const { file, port } = yield* started
      const bodies = Array.from("abcdefgh", (letter) => letter.repeat(2 * MiB))
      yield* Effect.forEach(bodies, (body) => request(port, "POST", "/upload", {}, body), { concurrency: 8 })
      const found = Fs.readFileSync(file, "utf8").match(/(.)\1*/g) ?? []
      expect(found.map((run) => run.length)).toEqual(bodies.map(() => 2 * MiB))
    }))

  it.scopedLive("keeps nobody waiting for a slow client, and nothing of a body that is cut", () =>
    Effect.gen(function*() {
      const { file, folder, port } = yield* started
      const slow = yield* connect(port)
      yield* slow.write(head("POST", "/upload", { "content-length": 4 * MiB }), "x".repeat(2 * MiB))
      yield* eventually(() => Fs.readdirSync(folder).length === 1)
      expect((yield* request(port, "POST", "/upload", {}, "whole")).status).toBe(200)
      yield* slow.destroy
      yield* eventually(() => Fs.readdirSync(folder).length === 1)
      expect(Fs.readdirSync(folder)).toEqual(["out.bin"])
      expect(Fs.readFileSync(file, "utf8")).toBe("whole")
    }))

  it.scopedLive("answers 404 to all else", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* started
      for (
        const [method, path] of [["GET", "/upload"], ["PUT", "/upload"], ["POST", "/"], ["GET", "/health"], [
          "DELETE",
          "/upload/u1"
        ]] as const
      ) {
        const answer = yield* request(port, method, path)
        expect([method, path, answer.status, answer.body]).toEqual([method, path, 404, "Not Found"])
      }
      expect(Fs.readdirSync(folder)).toEqual([])
    }))

  it.scopedLive("answers 500 when it cannot write", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const port = yield* serveSimple(folder)
      const answer = yield* request(port, "POST", "/upload", {}, "abc")
      expect([answer.status, JSON.parse(answer.body)]).toEqual([500, { error: expect.any(String) }])
    }))

  it.runIf(process.platform === "linux")(
    "keeps nothing open of a body that it could not write",
    () =>
      Effect.gen(function*() {
        const folder = yield* RawFiles.temporaryFolder
        const port = yield* serveSimple(folder)
        yield* request(port, "POST", "/upload", {}, "abc")
        // a file that is removed shows as "<path> (deleted)"
        const open = Fs.readdirSync("/proc/self/fd").flatMap((fd) => {
          try {
            return [Fs.readlinkSync(`/proc/self/fd/${fd}`)]
          } catch {
            return []
          }
        })
        expect(open.filter((path) => path.startsWith(folder))).toEqual([])
      }).pipe(Effect.scoped, Effect.runPromise)
  )
})
