import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option, Redacted } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Api from "../../src/protocol/Api.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as Authenticator from "../../src/server/Authenticator.ts"
import * as HttpApp from "../../src/server/HttpApp.ts"
import { text } from "../contract/UploadStore.ts"
import { apiKey, authorized, type RawAnswer, request, running } from "../support/rawHttp.ts"
import * as RawReceiver from "../support/rawReceiver.ts"

const json = (answer: RawAnswer) => JSON.parse(answer.body) as Record<string, unknown>

const chunk = (id: string, offset: number, more: Record<string, string | number | ReadonlyArray<string>> = {}) => ({
  ...authorized,
  "x-file-name": "a.txt",
  "x-upload-id": id,
  "x-chunk-offset": offset,
  ...more
})

const visible = (folder: string) => Fs.readdirSync(folder).filter((name) => name !== ".indexedcp").sort()

const refusedKeys: Record<string, string> = {
  none: "",
  wrong: "Bearer wrong",
  longer: `Bearer ${apiKey}x`,
  shorter: `Bearer ${apiKey.slice(0, -1)}`,
  "of another scheme": `Basic ${apiKey}`,
  bare: apiKey,
  empty: "Bearer "
}

describe("HttpApp, who may ask", () => {
  it.scopedLive("answers 401 to every route but health and the description without a right key", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      for (const [kind, authorization] of Object.entries(refusedKeys)) {
        const headers = kind === "none" ? {} : { authorization }
        for (const [method, path] of [["POST", "/upload"], ["GET", "/upload/u1"], ["DELETE", "/upload/u1"]] as const) {
          const answer = yield* request(port, method, path, headers, method === "POST" ? "abc" : "")
          expect([kind, method, answer.status, json(answer).error]).toEqual([
            kind,
            method,
            401,
            "Invalid or missing API key"
          ])
          expect(answer.headers["content-type"]).toContain("application/json")
          expect(answer.body).not.toContain(apiKey)
        }
      }
      expect(visible(folder)).toEqual([])
    }))

  it.scopedLive("takes the scheme in any case", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      expect((yield* request(port, "POST", "/upload", { authorization: `bearer ${apiKey}` }, "a")).status).toBe(200)
    }))

  it.scopedLive("answers 404 to every other route and method before it looks at the key", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      const routes = [
        ["GET", "/upload"],
        ["HEAD", "/upload"],
        ["OPTIONS", "/upload"],
        ["PUT", "/upload"],
        ["PATCH", "/upload"],
        ["DELETE", "/upload"],
        ["POST", "/upload/"],
        ["POST", "/upload/u1"],
        ["PUT", "/upload/u1"],
        ["HEAD", "/upload/u1"],
        ["OPTIONS", "/upload/u1"],
        ["GET", "/upload/"],
        ["GET", "/upload/no.id"],
        ["DELETE", `/upload/${"x".repeat(129)}`],
        ["GET", "/upload/u1/x"],
        ["GET", "/uploads"],
        ["POST", "/"],
        ["GET", "/"],
        ["POST", "/health"],
        ["HEAD", "/health"],
        ["GET", "/.indexedcp/ledger.db"]
      ] as const
      for (const [method, path] of routes) {
        for (const headers of [{}, { authorization: "Bearer wrong" }, authorized]) {
          const answer = method === "HEAD"
            ? undefined
            : yield* request(port, method, path, headers)
          const status = answer?.status ??
            (yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}${path}`, { method, headers }))).status
          expect([method, path, status, answer?.body ?? "Not Found"]).toEqual([method, path, 404, "Not Found"])
          if (answer !== undefined) expect(answer.headers["content-type"]).toContain("text/plain")
        }
      }
    }))

  it.scopedLive("answers health and its description without a key", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      const health = yield* request(port, "GET", "/health")
      expect([health.status, json(health)]).toEqual([200, { status: "ok" }])
      const description = json(yield* request(port, "GET", "/openapi.json")) as unknown as ReturnType<
        typeof Api.openApi
      >
      expect(description.openapi).toBe("3.1.0")
      expect(description.info.version).toBe("2")
      expect(Object.keys(description.paths)).toEqual([
        "/upload",
        "/upload/batch",
        "/upload/{uploadId}",
        "/health",
        "/ready"
      ])
      expect(Object.keys(description.paths["/upload"]!.post!.responses).sort()).toEqual(
        ["200", "400", "401", "403", "408", "409", "412", "413", "415", "422", "429", "500", "503", "507"]
      )
      const required = description.paths["/upload"]!.post!.parameters.filter((parameter) => parameter.required)
      expect(required).toEqual([])
    }))
})

describe("HttpApp, revision 1", () => {
  it.scopedLive("answers as the old servers do", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const headers = { ...authorized, "X-Chunk-Index": 0, "X-File-Name": "/data/a.txt" }
      const answer = yield* request(port, "POST", "/upload", headers, "abc")
      expect([answer.status, json(answer)]).toEqual([200, {
        message: "Chunk received",
        actualFilename: "a.txt",
        chunkIndex: 0,
        clientFilename: "/data/a.txt"
      }])
      expect((yield* request(port, "POST", "/upload?x=1", { ...headers, "X-Chunk-Index": 1 }, "def")).status).toBe(200)
      expect(Fs.readFileSync(Path.join(folder, "a.txt"), "utf8")).toBe("abcdef")
    }))

  it.scopedLive("fills in what is not sent, and takes a request without any body", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const empty = yield* request(port, "POST", "/upload", authorized)
      expect([empty.status, json(empty)]).toMatchObject([200, {
        actualFilename: "uploaded_file.txt",
        chunkIndex: 0,
        clientFilename: "uploaded_file.txt"
      }])
      expect(Fs.readFileSync(Path.join(folder, "uploaded_file.txt"), "utf8")).toBe("")
    }))

  it.scopedLive("reads names that are not ASCII as UTF-8 where they are, else as Latin-1", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      for (const name of [Buffer.from("ü8.txt", "utf8"), Buffer.from("ü1.txt", "latin1")]) {
        const raw = Buffer.concat([Buffer.from("POST /upload HTTP/1.1\r\nhost: x\r\nx-file-name: "), name])
        const answer = yield* Effect.scoped(Effect.gen(function*() {
          const { connect } = yield* Effect.promise(() => import("../support/rawHttp.ts"))
          const connection = yield* connect(port)
          yield* connection.write(raw, `\r\nauthorization: Bearer ${apiKey}\r\ncontent-length: 1\r\n\r\na`)
          return yield* connection.answer
        }))
        expect(answer.status).toBe(200)
        expect(json(answer).clientFilename).toMatch(/^ü[18]\.txt$/)
      }
      expect(visible(folder)).toEqual(["ü1.txt", "ü8.txt"])
    }))

  it.effect("takes nothing from a connection that is gone, whose address nobody knows any more", () =>
    Effect.gen(function*() {
      const app = yield* HttpApp.app()
      const headers = { ...authorized, "x-file-name": "a.txt", "content-length": "3" }
      const sent = HttpServerRequest.fromWeb(new Request("http://x/upload", { method: "POST", headers, body: "abc" }))
      const gone = new Proxy(sent, {
        get: (request, name) => name === "source" ? { socket: {} } : Reflect.get(request, name, request) as unknown
      })
      const post = (request: HttpServerRequest.HttpServerRequest) =>
        Effect.map(Effect.provideService(app, HttpServerRequest.HttpServerRequest, request), ({ status }) => status)
      expect([yield* post(gone), yield* RawReceiver.names]).toEqual([400, []])
      // where there are no sockets there are no addresses
      expect([yield* post(sent), yield* RawReceiver.names]).toEqual([200, ["a.txt"]])
    }).pipe(
      Effect.scoped,
      Effect.provide(Layer.merge(RawReceiver.layer(), Authenticator.layer(Redacted.make(apiKey))))
    ))

  it.scopedLive("takes chunked bodies", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const headers = { ...authorized, "transfer-encoding": "chunked", "x-file-name": "a.txt", "content-length": [] }
      expect((yield* request(port, "POST", "/upload", headers, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).status).toBe(200)
      expect(Fs.readFileSync(Path.join(folder, "a.txt"), "utf8")).toBe("abcde")
    }))

  it.scopedLive("takes the body of a request that offers an upgrade", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const headers = {
        ...authorized,
        "x-file-name": "a.txt",
        "connection": "Upgrade, HTTP2-Settings",
        "upgrade": "h2c",
        "transfer-encoding": "chunked",
        "content-length": []
      }
      expect((yield* request(port, "POST", "/upload", headers, "3\r\nabc\r\n0\r\n\r\n")).status).toBe(200)
      expect(Fs.readFileSync(Path.join(folder, "a.txt"), "utf8")).toBe("abc")
    }))
})

describe("HttpApp, statuses", () => {
  it.scopedLive("answers 400 to a header that is malformed, empty or sent twice, and keeps nothing", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const cases: ReadonlyArray<Record<string, string | number | ReadonlyArray<string>>> = [
        { "x-chunk-index": "-1" },
        { "x-chunk-index": "01" },
        { "x-chunk-index": ["0", "0"] },
        { "x-file-name": ["a.txt", "a.txt"] },
        { "x-file-name": "" },
        { "x-file-name": ".." },
        { "x-upload-id": "no id" },
        { "x-upload-id": ["u1", "u2"] },
        { "x-chunk-offset": [] },
        { "x-chunk-offset": "1e3" },
        { "x-file-size": "9007199254740992" },
        { "x-file-name-encoding": "base64" },
        { "x-file-name": "%FF", "x-file-name-encoding": "percent" },
        { "if-match": "\"v1\"" },
        { "if-match": ["*", "*"] },
        { "content-digest": "sha-256=:AAAA:" },
        { "repr-digest": "sha-256" },
        { "repr-digest": [Sha256.toHeader(Sha256.empty), Sha256.toHeader(Sha256.empty)] }
      ]
      for (const headers of cases) {
        const answer = yield* request(port, "POST", "/upload", chunk("u1", 0, headers), "abc")
        expect([headers, answer.status]).toEqual([headers, 400])
        expect(json(answer)).toEqual({ error: "Malformed request", message: expect.any(String) })
      }
      expect(visible(folder)).toEqual([])
      expect((yield* request(port, "GET", "/upload/u1", authorized)).status).toBe(404)
    }))

  it.scopedLive("answers 409, 412, 415 and 422 with an error and what to do", () =>
    Effect.gen(function*() {
      const { port } = yield* running
      yield* request(port, "POST", "/upload", chunk("u1", 0), "abc")
      const digest = { "content-digest": Sha256.toHeader(Sha256.of(text("abc"))) }
      const cases = [
        [409, "Conflict", chunk("u1", 0), "xyz"],
        [412, "Upload is not known", chunk("u2", 0, { "if-match": "*" }), "abc"],
        [415, "Unsupported content encoding", chunk("u2", 0, { "content-encoding": "gzip" }), "abc"],
        [422, "Digest mismatch", chunk("u3", 0, digest), "xyz"]
      ] as const
      for (const [status, error, headers, body] of cases) {
        const answer = yield* request(port, "POST", "/upload", headers, body)
        expect([answer.status, json(answer)]).toEqual([status, { error, message: expect.any(String) }])
      }
      const same = chunk("u3", 0, { ...digest, "content-encoding": "identity" })
      expect((yield* request(port, "POST", "/upload", same, "abc")).status).toBe(200)
    }))

  it.scopedLive("reads a published file again when asked to, and says when it is gone", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const check = (id: string) => request(port, "GET", `/upload/${id}?check=content`, authorized)
      yield* request(port, "POST", "/upload", chunk("u1", 0), "ab")
      expect(json(yield* check("u1"))).not.toHaveProperty("contentSha256")
      yield* request(port, "POST", "/upload", chunk("u1", 2, { "x-file-size": 4 }), "cd")
      const sha256 = Sha256.of(text("abcd"))
      expect(json(yield* check("u1"))).toMatchObject({ complete: true, sha256, contentSha256: sha256 })
      expect(json(yield* request(port, "GET", "/upload/u1", authorized))).not.toHaveProperty("contentSha256")
      Fs.writeFileSync(Path.join(folder, "a.txt"), "abcX")
      expect(json(yield* check("u1"))).toMatchObject({ sha256, contentSha256: Sha256.of(text("abcX")) })
      Fs.rmSync(Path.join(folder, "a.txt"))
      const gone = yield* check("u1")
      expect([gone.status, json(gone)]).toMatchObject([410, { error: "File is gone" }])
      expect((yield* check("u2")).status).toBe(404)
    }))

  it.scopedLive("tells of an upload, and deletes it", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const unknown = yield* request(port, "GET", "/upload/u1", authorized)
      expect([unknown.status, json(unknown)]).toMatchObject([404, { error: "Unknown upload" }])
      const first = yield* request(port, "POST", "/upload", chunk("u1", 2, { "x-file-size": 6 }), "cd")
      expect([first.status, json(first)]).toEqual([200, {
        message: "Chunk received",
        actualFilename: "a.txt",
        chunkIndex: 0,
        clientFilename: "a.txt",
        uploadId: "u1",
        duplicate: false,
        bytesReceived: 2,
        complete: false,
        expiresAt: expect.any(String)
      }])
      const state = yield* request(port, "GET", "/upload/u1?x=1", authorized)
      expect([state.status, json(state)]).toEqual([200, {
        uploadId: "u1",
        clientFilename: "a.txt",
        actualFilename: "a.txt",
        size: 6,
        bytesReceived: 2,
        missing: [[0, 2], [4, 6]],
        state: "receiving",
        complete: false,
        expiresAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT/)
      }])
      const deleted = yield* request(port, "DELETE", "/upload/u1", authorized)
      expect([deleted.status, deleted.body]).toEqual([204, ""])
      for (const method of ["GET", "DELETE"]) {
        const answer = yield* request(port, method, "/upload/u1", authorized)
        expect([answer.status, json(answer)]).toMatchObject([404, { error: "Unknown upload" }])
      }
      expect((yield* request(port, "POST", "/upload", chunk("u1", 0), "ab")).status).toBe(412)
      yield* request(port, "POST", "/upload", chunk("u2", 0, { "x-file-size": 3 }), "abc")
      expect((yield* request(port, "DELETE", "/upload/u2", authorized)).status).toBe(409)
      expect(visible(folder)).toEqual(["a.txt"])
      expect(Fs.readdirSync(Path.join(folder, ".indexedcp", "parts"))).toEqual([])
    }))
})

describe("HttpApp and its description", () => {
  const file = { "x-file-name": "a.txt", "x-chunk-index": 0 } as const
  const none = { "content-digest": Option.none(), "repr-digest": Option.none(), "prefix-digest": Option.none() }

  it.scopedLive("the description and the routes agree", () =>
    Effect.gen(function*() {
      const { folder, port } = yield* running
      const make = (key: string) =>
        HttpApiClient.make(Api.Api, {
          baseUrl: `http://127.0.0.1:${port}`,
          transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken(key))
        })
      const client = yield* make(apiKey)
      const id = UploadId.make("u1")
      const upload = { ...file, ...none, "x-upload-id": id, "x-file-size": Option.none<number>() }
      expect(yield* client.health({})).toEqual({ status: "ok" })
      const first = yield* client.uploads.chunk({ headers: { ...upload, "x-chunk-offset": 0 }, payload: text("abc") })
      expect(first).toMatchObject({ uploadId: id, bytesReceived: 3, complete: false })
      expect(yield* client.uploads.state({ path: { uploadId: id }, urlParams: {} })).toMatchObject({
        state: "receiving"
      })
      const gone = UploadId.make("u2")
      yield* client.uploads.chunk({
        headers: { ...upload, "x-upload-id": gone, "x-chunk-offset": 0 },
        payload: text("abc")
      })
      yield* client.uploads.abort({ path: { uploadId: gone } })
      expect(yield* Effect.flip(client.uploads.state({ path: { uploadId: gone }, urlParams: {} }))).toMatchObject({
        error: "Unknown upload"
      })
      expect(
        yield* client.uploads.chunk({
          headers: {
            ...upload,
            "x-chunk-offset": 3,
            "x-file-size": Option.some(6),
            "content-digest": Option.some(Sha256.of(text("def"))),
            "repr-digest": Option.some(Sha256.of(text("abcdef"))),
            "if-match": "*"
          },
          payload: text("def")
        })
      ).toMatchObject({ complete: true, sha256: Sha256.of(text("abcdef")) })
      expect(Fs.readFileSync(Path.join(folder, "a.txt"), "utf8")).toBe("abcdef")
      expect(yield* Effect.flip(client.uploads.abort({ path: { uploadId: id } }))).toMatchObject({ error: "Conflict" })
      const revision1 = yield* client.uploads.chunk({
        headers: { ...none, "x-chunk-index": 0, "x-file-name": "b.txt", "x-file-size": Option.none() },
        payload: text("old")
      })
      expect(revision1).toEqual({
        message: "Chunk received",
        actualFilename: "b.txt",
        chunkIndex: 0,
        clientFilename: "b.txt"
      })
      const stranger = yield* make("wrong")
      expect(yield* Effect.flip(stranger.uploads.state({ path: { uploadId: id }, urlParams: {} }))).toMatchObject({
        error: "Invalid or missing API key"
      })
    }).pipe(Effect.provide(NodeHttpClient.layerUndici)))
})
