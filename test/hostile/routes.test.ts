import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { ApiKeys } from "../../src/server/ApiKeys.ts"
import * as ApiKeysSqlite from "../../src/server/ApiKeysSqlite.ts"
import type { Right } from "../../src/server/Authenticator.ts"
import { all, type Headers, one, raw, type Row, run, together, type World, world } from "../support/hostile.ts"
import { apiKey, authorized, connect, head, request } from "../support/rawHttp.ts"

/** HEAD, whose answers have no bodies, aside. */
const methods = [
  "GET",
  "POST",
  "PUT",
  "PATCH",
  "DELETE",
  "OPTIONS",
  "TRACE",
  "PROPFIND",
  "MKCOL",
  "COPY",
  "MOVE",
  "PURGE"
]

const open = ["/health", "/ready", "/openapi.json", "/health?x=/../upload", "http://evil.example/health"]

/** Where a method may mean something. */
const routes = [
  ...open,
  "/upload",
  "/upload?id=../x",
  "/upload/u1",
  "http://evil.example/upload",
  "/upload/u1?check=../x"
]

/** What is no route, whatever it looks like. */
const none = [
  "/",
  "*",
  "//",
  "//upload",
  "/upload/",
  "/Upload",
  "/UPLOAD",
  "/upload.json",
  "/uploads",
  "/upload//u1",
  "/upload/u1/",
  "/upload/u1/x",
  "/upload/u.1",
  "/upload/..",
  "/upload/../upload",
  "/upload/../health",
  "/./upload",
  "/x/../upload",
  "/x/..;/upload",
  "/..\\upload",
  "/upload%2fu1",
  "/upload%00",
  "/upload%20",
  "/upload%0d%0ax",
  "/upload/u1%00",
  "/upload/..%2fu1",
  "/upload/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
  "/upload/%252e%252e",
  "/%75pload",
  "/upload;x=1",
  "/upload;/u1",
  "/upload#x",
  "/upload&x",
  "/../../etc/passwd",
  "/%2e%2e/%2e%2e/etc/passwd",
  "/.indexedcp/ledger.db",
  "/.indexedcp/keys.db",
  "/there.txt",
  "/link/file",
  "/metrics",
  "/admin",
  "/keys",
  "/server-status",
  "/.git/config",
  "/.env",
  "/health/",
  "/health/../upload",
  "/ready/x",
  "/openapi.json/..",
  "/__proto__",
  "/constructor",
  "/upload/" + "x".repeat(129),
  "/" + "x".repeat(8000),
  "/" + "../".repeat(2000) + "etc/passwd",
  "/" + "%2e%2e%2f".repeat(1000) + "etc/passwd",
  "http://evil.example",
  "http://evil.example/",
  "http://evil.example/../upload",
  "http://evil.example//upload",
  "http://evil.example?/upload",
  "https://evil.example/there.txt",
  "ftp://evil.example/upload",
  "file:///etc/passwd"
]

/** Every method, with the right key and without one, on one connection. */
const nowhere = (path: string, asked: ReadonlyArray<string>): Row => ({
  name: path.slice(0, 60),
  statuses: [404],
  send: ({ port }) =>
    Effect.gen(function*() {
      const connection = yield* connect(port)
      return yield* Effect.forEach(asked.flatMap((method) => [[method, authorized], [method, {}]] as const), (
        [method, key]
      ) =>
        connection.write(head(method, path, { ...key, "x-file-name": "n.txt", "content-length": 0 })).pipe(
          Effect.andThen(connection.answer),
          Effect.tap(({ body }) => Effect.sync(() => expect([method, body]).toEqual([method, "Not Found"])))
        ))
    })
})

/** Which right a route asks for, and what it answers who has it. */
const known: Readonly<Record<string, { readonly right: Right; readonly status: number }>> = {
  "POST /upload": { right: "upload", status: 200 },
  "POST /upload?id=../x": { right: "upload", status: 200 },
  "POST http://evil.example/upload": { right: "upload", status: 200 },
  "GET /upload/u1": { right: "read", status: 404 },
  "GET /upload/u1?check=../x": { right: "read", status: 404 },
  "DELETE /upload/u1": { right: "abort", status: 404 },
  "DELETE /upload/u1?check=../x": { right: "abort", status: 404 }
}

/** The keys of a server, as its operator changes them. */
const withKeys = <A, E>({ folder }: World, use: Effect.Effect<A, E, ApiKeys>) =>
  Effect.orDie(Effect.provide(use, ApiKeysSqlite.layer({ file: ApiKeysSqlite.keysFile(folder) })))

const add = (world: World, name: string, can: ReadonlyArray<Right>) =>
  withKeys(world, Effect.flatMap(ApiKeys, ({ add }) => add({ name, can }))).pipe(
    Effect.map(({ key }) => `Bearer ${Redacted.value(key)}`)
  )

const revoke = (world: World, name: string) => withKeys(world, Effect.flatMap(ApiKeys, ({ revoke }) => revoke(name)))

/** What is no key, or none in its place. */
const keyless: Readonly<Record<string, Headers>> = {
  "no key": {},
  "an empty header": { authorization: "" },
  "an empty key": { authorization: "Bearer " },
  "a wrong key": { authorization: "Bearer wrong" },
  "the key in other letters": { authorization: `Bearer ${apiKey.toUpperCase()}` },
  "the key and more": { authorization: `Bearer ${apiKey}x` },
  "a part of the key": { authorization: `Bearer ${apiKey.slice(0, -1)}` },
  "the key in quotes": { authorization: `Bearer "${apiKey}"` },
  "the key alone": { authorization: apiKey },
  "another scheme": { authorization: `Basic ${apiKey}` },
  "a user with the key": { authorization: `Basic ${Buffer.from(`key:${apiKey}`).toString("base64")}` },
  "a scheme of as many letters": { authorization: `Bearex ${apiKey}` },
  "no space": { authorization: `Bearer${apiKey}` },
  "the key twice": { authorization: `${authorized.authorization}, ${authorized.authorization}` },
  "the key in other headers": {
    "x-api-key": apiKey,
    "proxy-authorization": authorized.authorization,
    cookie: `authorization=${authorized.authorization}; key=${apiKey}`
  },
  "names of objects": { authorization: "Bearer __proto__" },
  "a statement": { authorization: "Bearer ' OR 1=1 --" },
  "undefined": { authorization: "Bearer undefined" },
  "a proxy's word": { "x-forwarded-user": "default", "x-real-ip": "127.0.0.1", "x-forwarded-for": "127.0.0.1" }
}

describe("Every route and method", () => {
  it.scopedLive("is not found, with a key and without one, where there is none", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      yield* run(hostile, [
        ...none.map((path) => nowhere(path, methods)),
        ...routes.map((path) =>
          nowhere(
            path,
            methods.filter((method) =>
              known[`${method} ${path}`] === undefined && !(method === "GET" && open.includes(path))
            )
          )
        ),
        ...[...routes, ...none.slice(0, 8)].map((path) =>
          all(`HEAD ${path}`, [head("HEAD", path, authorized), head("HEAD", path)], [404, 404, 200])
        ),
        raw("a path that is none", ["GET upload HTTP/1.1\r\nhost: x\r\n\r\n"], [400]),
        raw("an empty path", ["GET  HTTP/1.1\r\nhost: x\r\n\r\n"], [400]),
        raw("a path with a line in it", ["GET /health\r\nx: y HTTP/1.1\r\nhost: x\r\n\r\n"], [400]),
        raw("a path with a NUL in it", ["GET /health\0 HTTP/1.1\r\nhost: x\r\n\r\n"], [400]),
        raw("a path beyond the limit", [head("GET", "/" + "x".repeat(20_000))], [431])
      ])
    }), 60_000)

  it.scopedLive(
    "answers who has no key, or a revoked one, that it needs a key, and nothing else",
    () =>
      Effect.gen(function*() {
        const hostile = yield* world()
        const revoked = yield* add(hostile, "gone", ["upload", "read", "abort"])
        yield* revoke(hostile, "gone")
        const refused = { ...keyless, "a revoked key": { authorization: revoked } }
        yield* run(hostile, [
          ...Object.entries(known).flatMap(([route, { status }]) => {
            const [method = "", path = ""] = route.split(" ")
            const row = (kind: string, headers: Headers, status: number): Row => ({
              ...one(`${route} with ${kind}`, {}, [status]),
              send: ({ port }) =>
                Effect.map(
                  request(port, method, path, { "x-file-name": "n.txt", ...headers }, method === "POST" ? "abc" : ""),
                  (answer) => [answer]
                )
            })
            return [
              together(route, [401], Object.entries(refused).map(([kind, headers]) => row(kind, headers, 401))),
              { ...row("the right key", authorized, status), appears: status === 200 ? ["n.txt"] : [] },
              {
                ...row("the right key in another case of its scheme", {
                  authorization: `BEARER ${apiKey}`
                }, status),
                appears: status === 200 ? ["n.txt"] : []
              }
            ]
          }),
          together(
            "keys in addresses",
            [401],
            ["key", "api_key", "access_token", "token", "authorization"].map((name) => ({
              ...one(name, {}, [401]),
              send: ({ port }) =>
                Effect.map(
                  request(port, "GET", `/upload/u1?${name}=${encodeURIComponent(apiKey)}`),
                  (answer) => [answer]
                )
            }))
          )
        ])
        for (const path of open) {
          for (const headers of Object.values(keyless)) {
            expect((yield* request(hostile.port, "GET", path, headers)).status).toBe(200)
          }
        }
      }),
    60_000
  )

  it.scopedLive("shows metrics to their own key alone", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ metricsKey: Redacted.make("metrics key") })
      const ask = (method: string, authorization: string, path = "/metrics") =>
        request(hostile.port, method, path, { authorization })
      const right = "Bearer metrics key"
      expect((yield* ask("GET", right)).body).not.toContain(apiKey)
      expect((yield* ask("GET", right)).status).toBe(200)
      expect((yield* ask("GET", authorized.authorization)).status).toBe(401)
      expect((yield* ask("GET", "")).status).toBe(401)
      for (const method of methods.filter((method) => method !== "GET")) {
        expect([method, (yield* ask(method, right)).status]).toEqual([method, 404])
      }
      for (const path of ["/metrics/", "//metrics", "/metrics/../metrics", "/%6detrics", "/Metrics"]) {
        expect([path, (yield* ask("GET", right, path)).status]).toEqual([path, 404])
      }
      // and no key to anything else
      expect((yield* ask("GET", right, "/upload/u1")).status).toBe(401)
      expect((yield* ask("DELETE", right, "/upload/u1")).status).toBe(401)
      expect((yield* request(hostile.port, "POST", "/upload", { authorization: right }, "abc")).status).toBe(401)
      yield* hostile.check([], { statuses: [] })
    }))

  it.scopedLive("lets a key do only what it may, and see only what is its own", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const { port } = hostile
      const chunk = { "x-file-name": "o.txt", "x-upload-id": "u1", "x-chunk-offset": 0, "x-file-size": 6 }
      const ask = (authorization: string, method: string) =>
        method === "POST"
          ? request(port, "POST", "/upload", { ...chunk, authorization }, "abc")
          : request(port, method, "/upload/u1", { authorization })
      expect((yield* ask(authorized.authorization, "POST")).status).toBe(200)
      for (const right of ["upload", "read", "abort"] as const) {
        const key = yield* add(hostile, "default", [right])
        for (const [method, needed] of [["POST", "upload"], ["GET", "read"]] as const) {
          const answer = yield* ask(key, method)
          expect([right, method, answer.status]).toEqual([right, method, needed === right ? 200 : 403])
        }
        if (right !== "abort") expect((yield* ask(key, "DELETE")).status).toBe(403)
      }
      const stranger = yield* add(hostile, "somebody", ["upload", "read", "abort"])
      expect((yield* ask(stranger, "GET")).status).toBe(404)
      expect((yield* ask(stranger, "DELETE")).status).toBe(404)
      expect(JSON.parse((yield* ask(authorized.authorization, "GET")).body)).toMatchObject({ bytesReceived: 3 })
      // the same id is an upload of its own, and its file another
      expect((yield* ask(stranger, "POST")).status).toBe(200)
      expect(JSON.parse((yield* ask(authorized.authorization, "GET")).body)).toMatchObject({ bytesReceived: 3 })
    }))

  it.scopedLive("takes no more of an upload whose key is revoked, and goes on with a new key of its name", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const send = (authorization: string, offset: number) =>
        request(hostile.port, "POST", "/upload", {
          authorization,
          "x-file-name": "r.txt",
          "x-upload-id": "r1",
          "x-chunk-offset": offset,
          "x-file-size": 6
        }, "abc")
      const old = yield* add(hostile, "r", ["upload", "read", "abort"])
      const first = yield* send(old, 0)
      expect(first.status).toBe(200)
      yield* hostile.check([first], { statuses: [200] })
      yield* revoke(hostile, "r")
      const after = [
        yield* send(old, 3),
        yield* send(old, 0),
        yield* request(hostile.port, "GET", "/upload/r1", { authorization: old }),
        yield* request(hostile.port, "DELETE", "/upload/r1", { authorization: old })
      ]
      yield* hostile.check(after, { statuses: [401] })
      const fresh = yield* add(hostile, "r", ["upload"])
      const last = yield* send(fresh, 3)
      expect(JSON.parse(last.body)).toMatchObject({ complete: true, size: 6 })
      yield* hostile.check([last], { statuses: [200], appears: ["r.txt"] })
    }))

  it.scopedLive("slows down who fails again and again, but neither a right key from there nor other routes", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ maxAuthFailures: 5 })
      const { port } = hostile
      const statuses: Array<number> = []
      for (let guess = 0; guess < 12; guess++) {
        const answer = yield* request(port, "GET", "/upload/u1", { authorization: `Bearer guess ${guess}` })
        statuses.push(answer.status)
        if (answer.status === 429) expect(Number(answer.headers["retry-after"])).toBeGreaterThan(0)
        else expect(answer.headers["www-authenticate"]).toBe("Bearer")
      }
      expect(statuses.slice(0, 5)).toEqual([401, 401, 401, 401, 401])
      expect(statuses.filter((status) => status === 429).length).toBeGreaterThan(0)
      expect((yield* request(port, "GET", "/health")).status).toBe(200)
      yield* hostile.check([], { statuses: [] })
    }))
})
