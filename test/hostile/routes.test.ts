import { describe, expect, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { ApiKeys } from "../../src/server/ApiKeys.ts"
import * as ApiKeysSqlite from "../../src/server/ApiKeysSqlite.ts"
import type { Right } from "../../src/server/Authenticator.ts"
import { one, type Row, run, type World, world } from "../support/hostile.ts"
import { authorized, request } from "../support/rawHttp.ts"

const methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "MKCOL", "MOVE", "PURGE"]

const paths = [
  "/",
  "/upload",
  "/upload/",
  "//upload",
  "/Upload",
  "/upload//u1",
  "/upload/u1",
  "/upload/u1/",
  "/upload/..%2fu1",
  "/upload/../upload",
  "/./upload",
  "/upload%2fu1",
  "/%75pload",
  "/upload;x=1",
  "/upload/u1%00",
  "/upload/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
  "/../../etc/passwd",
  "/.indexedcp/ledger.db",
  "/.indexedcp/keys.db",
  "/there.txt",
  "/metrics",
  "/admin",
  "/health/",
  "/ready/x",
  "/openapi.json/..",
  "/" + "x".repeat(8000),
  "/upload?id=../x",
  "/upload/u1?check=content&check=x"
]

/** What a route answers whoever may do everything; `undefined` for what is none. */
const known = (method: string, path: string): { readonly right: Right; readonly status: number } | undefined => {
  const at = path.split("?")[0]
  if (method === "POST" && at === "/upload") return { right: "upload", status: 200 }
  if (method === "GET" && at === "/upload/u1") return { right: "read", status: 404 }
  if (method === "DELETE" && at === "/upload/u1") return { right: "abort", status: 404 }
  return undefined
}

/** The keys of a server, as its operator changes them. */
const withKeys = <A, E>({ folder }: World, use: Effect.Effect<A, E, ApiKeys>) =>
  Effect.orDie(Effect.provide(use, ApiKeysSqlite.layer({ file: ApiKeysSqlite.keysFile(folder) })))

const add = (world: World, name: string, can: ReadonlyArray<Right>) =>
  withKeys(world, Effect.flatMap(ApiKeys, ({ add }) => add({ name, can }))).pipe(
    Effect.map(({ key }) => `Bearer ${Redacted.value(key)}`)
  )

describe("Every route and method", () => {
  it.scopedLive("answers each kind of key as documented, and nobody without one", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const revoked = yield* add(hostile, "gone", ["upload", "read", "abort"])
      yield* withKeys(hostile, Effect.flatMap(ApiKeys, ({ revoke }) => revoke("gone")))
      const refused: Readonly<Record<string, string>> = {
        "no key": "",
        "an empty key": "Bearer ",
        "a wrong key": "Bearer wrong",
        "another scheme": authorized.authorization.replace("Bearer", "Basic"),
        "a key twice": `${authorized.authorization}, ${authorized.authorization}`,
        "a revoked key": revoked
      }
      const rows = methods.flatMap((method) =>
        paths.flatMap((path): ReadonlyArray<Row> => {
          const route = known(method, path)
          const row = (kind: string, authorization: string, status: number) =>
            one(`${method} ${path.slice(0, 40)} with ${kind}`, { authorization, "x-file-name": "r.txt" }, [status], {
              method,
              path,
              body: method === "POST" ? "abc" : "",
              appears: status === 200 ? ["r.txt"] : []
            })
          return route === undefined
            ? [row("the right key", authorized.authorization, 404)]
            : [
              ...Object.entries(refused).map(([kind, authorization]) => row(kind, authorization, 401)),
              row("the right key", authorized.authorization, route.status)
            ]
        })
      )
      yield* run(hostile, rows)
    }), 60_000)

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
