import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as RawFiles from "../support/rawFiles.ts"
import { apiKey, authorized, connect, head, request, serve } from "../support/rawHttp.ts"

const chunk = { ...authorized, "x-file-name": "a.txt" }

const served = (options: Parameters<typeof serve>[1]) =>
  Effect.flatMap(RawFiles.temporaryFolder, (folder) => serve(folder, options))

describe("HttpApp, where it stands", () => {
  it.scopedLive("stands below a base path, and nowhere else", () =>
    Effect.gen(function*() {
      const { port } = yield* served({ basePath: "/files/in" })
      expect((yield* request(port, "POST", "/files/in/upload", chunk, "a")).status).toBe(200)
      expect((yield* request(port, "GET", "/files/in/upload/u1", authorized)).body).toContain("Unknown upload")
      for (const path of ["/health", "/ready", "/openapi.json"]) {
        expect((yield* request(port, "GET", `/files/in${path}`)).status).toBe(200)
        expect((yield* request(port, "GET", path)).status).toBe(404)
      }
      expect((yield* request(port, "POST", "/upload", chunk, "a")).status).toBe(404)
    }))

  it.scopedLive("understands a target that is a whole URL, as proxies send it", () =>
    Effect.gen(function*() {
      const { port } = yield* served({})
      expect((yield* request(port, "POST", `http://127.0.0.1:${port}/upload?x=1`, chunk, "a")).status).toBe(200)
      expect((yield* request(port, "POST", `http://127.0.0.1:${port}`, chunk, "a")).status).toBe(404)
      expect((yield* request(port, "POST", `ftp://127.0.0.1/upload`, chunk, "a")).status).toBe(404)
    }))

  it.scopedLive("tells clients on every 200 what it takes", () =>
    Effect.gen(function*() {
      const { port } = yield* served({ maxChunkSize: 10, maxFileSize: 20, unfinishedLifetime: "1 minute" })
      const answer = yield* request(port, "POST", "/upload", chunk, "a")
      expect(answer.headers["upload-limit"]).toBe("max-size=20, max-append-size=10, max-age=60")
    }))

  it.scopedLive("is ready while its disk and its ledger answer and there is room", () =>
    Effect.gen(function*() {
      const good = yield* served({})
      expect(yield* request(good.port, "GET", "/ready")).toMatchObject({ status: 200, body: "{\"status\":\"ready\"}" })
      const full = yield* served({ minFreeSpace: Number.MAX_SAFE_INTEGER })
      expect((yield* request(full.port, "GET", "/ready")).status).toBe(507)
      const gone = yield* served({})
      Fs.rmSync(`${gone.folder}/.indexedcp/parts`, { recursive: true })
      const answer = yield* request(gone.port, "GET", "/ready")
      expect([answer.status, (yield* request(gone.port, "GET", "/health")).status]).toEqual([500, 200])
    }))
})

describe("HttpApp behind a proxy", () => {
  /** Sends chunk 0 and then another chunk 0: from one address they are versions of one upload, from two they are two. */
  const sendBoth = (port: number, first: string, second: string) =>
    Effect.gen(function*() {
      yield* request(port, "POST", "/upload", { ...chunk, "x-forwarded-for": first }, "a")
      yield* request(port, "POST", "/upload", { ...chunk, "x-forwarded-for": second }, "b")
      const answer = yield* request(
        port,
        "POST",
        "/upload",
        { ...chunk, "x-forwarded-for": first, "x-chunk-index": 1 },
        "c"
      )
      return (JSON.parse(answer.body) as { readonly actualFilename: string }).actualFilename
    })

  it.scopedLive("tells clients apart by the last address in X-Forwarded-For, when it may trust it", () =>
    Effect.gen(function*() {
      const trusting = yield* served({ trustProxy: true })
      expect(yield* sendBoth(trusting.port, "10.0.0.1", "10.0.0.2")).toBe("a.txt")
      expect(Fs.readFileSync(`${trusting.folder}/a.txt`, "utf8")).toBe("ac")
    }))

  it.scopedLive("believes no address that the client itself has written before it", () =>
    Effect.gen(function*() {
      const trusting = yield* served({ trustProxy: true })
      expect(yield* sendBoth(trusting.port, "10.0.0.1, 10.0.0.9", "10.0.0.2, 10.0.0.9")).toBe("a (1).txt")
    }))

  it.scopedLive("passes X-Forwarded-For over otherwise", () =>
    Effect.gen(function*() {
      const wary = yield* served({})
      expect(yield* sendBoth(wary.port, "10.0.0.1", "10.0.0.2")).toBe("a (1).txt")
    }))
})

describe("HttpApp and pages of other origins", () => {
  const origin = "https://files.example"
  const preflight = { origin, "access-control-request-method": "POST", "access-control-request-headers": "x-upload-id" }

  it.scopedLive("allows none unless they were named", () =>
    Effect.gen(function*() {
      const { port } = yield* served({})
      expect((yield* request(port, "OPTIONS", "/upload", preflight)).status).toBe(404)
      const answer = yield* request(port, "POST", "/upload", { ...chunk, origin }, "a")
      expect(answer.headers["access-control-allow-origin"]).toBeUndefined()
    }))

  it.scopedLive("lets the origins that were named send, ask and read its answers, refusals too", () =>
    Effect.gen(function*() {
      const { port } = yield* served({ corsOrigin: [origin, "https://other.example"] })
      const allowed = yield* request(port, "OPTIONS", "/upload", preflight)
      expect(allowed.status).toBe(204)
      expect(allowed.headers["access-control-allow-origin"]).toBe(origin)
      expect(allowed.headers["access-control-allow-methods"]).toBe("POST, GET, DELETE")
      for (
        const name of ["authorization", "x-upload-id", "x-chunk-offset", "content-digest", "repr-digest", "if-match"]
      ) {
        expect(allowed.headers["access-control-allow-headers"]!.split(",")).toContain(name)
      }
      for (const headers of [chunk, { ...chunk, authorization: "Bearer wrong" }]) {
        const answer = yield* request(port, "POST", "/upload", { ...headers, origin }, "a")
        expect(answer.headers["access-control-allow-origin"]).toBe(origin)
        expect(answer.headers["access-control-expose-headers"]).toContain("upload-limit")
      }
      const stranger = yield* request(port, "OPTIONS", "/upload", { ...preflight, origin: "https://evil.example" })
      expect(stranger.headers["access-control-allow-origin"]).toBeUndefined()
    }))
})

describe("HttpApp and bodies", () => {
  it.scopedLive("answers 408 to a body that stands still, and closes", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* served({ bodyTimeout: "100 millis" })
      const connection = yield* connect(port)
      yield* connection.write(head("POST", "/upload", { ...chunk, "content-length": 10 }), "abc")
      const answer = yield* connection.answer
      expect([answer.status, answer.headers["connection"]]).toEqual([408, "close"])
      expect(JSON.parse(answer.body)).toMatchObject({ error: "Too slow" })
      expect(Fs.readdirSync(folder)).toEqual([".indexedcp"])
    }))

  it.scopedLive("answers 413 to what is too long, said or not, and the client sees it", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* served({ maxChunkSize: 1000 })
      const declared = yield* request(port, "POST", "/upload", chunk, new Uint8Array(100_000))
      expect([declared.status, declared.headers["connection"]]).toEqual([413, "close"])
      const connection = yield* connect(port)
      const piece = `800\r\n${"x".repeat(0x800)}\r\n`
      yield* connection.write(head("POST", "/upload", { ...chunk, "transfer-encoding": "chunked" }), piece.repeat(50))
      expect((yield* connection.answer).status).toBe(413)
      expect(Fs.readdirSync(folder)).toEqual([".indexedcp"])
    }))

  it.scopedLive("never says a key, right or wrong", () =>
    Effect.gen(function*() {
      const { port } = yield* served({})
      for (const authorization of [`Bearer ${apiKey}`, "Bearer secret guess"]) {
        const answer = yield* request(port, "POST", "/upload", {
          authorization,
          "x-file-name": "..",
          "x-upload-id": "!"
        }, "a")
        expect(answer.status).toBeGreaterThanOrEqual(400)
        expect(JSON.stringify(answer)).not.toMatch(/key 1|secret guess/)
      }
    }))
})
