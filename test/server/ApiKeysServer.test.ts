import { HttpServer } from "@effect/platform"
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Logger, LogLevel, Redacted } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { ApiKeys } from "../../src/server/ApiKeys.ts"
import * as ApiKeysSqlite from "../../src/server/ApiKeysSqlite.ts"
import * as Authenticator from "../../src/server/Authenticator.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as HttpApp from "../../src/server/HttpApp.ts"
import * as NodeServer from "../../src/server/NodeServer.ts"
import * as OutputFolder from "../../src/server/OutputFolder.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as Server from "../../src/server/Server.ts"
import * as UploadLedgerSqlite from "../../src/server/UploadLedgerSqlite.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import { add, revoke } from "../contract/ApiKeys.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { request } from "../support/rawHttp.ts"

const single = Redacted.make("the single key")

const serverLayer = <E>(outputDir: string, authenticator: Layer.Layer<Authenticator.Authenticator, E>) =>
  Layer.unwrapEffect(Effect.map(HttpApp.app(), (app) => HttpServer.serve(app))).pipe(
    Layer.provideMerge(NodeServer.layer({ port: 0 })),
    Layer.provide(Receiver.layer({})),
    Layer.provide(UploadLedgerSqlite.layer({ file: Server.ledgerFile(outputDir) })),
    Layer.provide(UploadStoreFileSystem.layer({ outputDir })),
    Layer.provide(OutputFolder.layer(outputDir)),
    Layer.provide(FilenameGenerator.layer),
    Layer.provide(authenticator)
  )

const authenticatorOf = (folder: string, options: Authenticator.KeysOptions = {}) =>
  Layer.provide(
    Authenticator.layerKeys({ single, ...options }),
    ApiKeysSqlite.layer({ file: ApiKeysSqlite.keysFile(folder) })
  )

/** A server on a free port that logs into `said`. */
const serve = (
  folder: string,
  options: Authenticator.KeysOptions = {},
  said: Array<string> = [],
  authenticator: Layer.Layer<Authenticator.Authenticator, unknown> = authenticatorOf(folder, options)
) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      serverLayer(folder, authenticator).pipe(
        Layer.provide(Logger.replace(Logger.defaultLogger, Logger.map(Logger.logfmtLogger, (line) => said.push(line)))),
        Layer.provide(Logger.minimumLogLevel(LogLevel.All))
      )
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    const port = address._tag === "TcpAddress" ? address.port : 0
    return {
      /** Sends a chunk of `abcdef` and returns the answer's status. */
      chunk: (key: Redacted.Redacted, offset: number, id = "u1") =>
        Effect.map(
          request(port, "POST", "/upload", {
            "authorization": `Bearer ${Redacted.value(key)}`,
            "x-file-name": `${id}.txt`,
            "x-upload-id": id,
            "x-chunk-offset": offset,
            "x-file-size": 6,
            ...(offset > 0 ? { "if-match": "*" } : {})
          }, "abcdef".slice(offset, offset + 2)),
          ({ status }) => status
        ),
      ask: (method: string, key: Redacted.Redacted | undefined, id = "u1") =>
        request(
          port,
          method,
          `/upload/${id}`,
          key === undefined ? {} : { authorization: `Bearer ${Redacted.value(key)}` }
        )
    }
  })

/** Does what the command line does: on a connection of its own. */
const elsewhere = <A, E>(folder: string, use: Effect.Effect<A, E, ApiKeys>) =>
  Effect.provide(use, ApiKeysSqlite.layer({ file: ApiKeysSqlite.keysFile(folder) }))

const parts = (folder: string) => Fs.readdirSync(Path.join(folder, ".indexedcp", "parts"))

const visible = (folder: string) => Fs.readdirSync(folder).filter((name) => name !== ".indexedcp")

describe("a server with named keys", () => {
  it.scopedLive("answers 401 at the next chunk to a key that was revoked, and goes on with a new one of its name", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const old = yield* elsewhere(folder, add({ name: "alice" }))
      const server = yield* serve(folder)
      expect(yield* server.chunk(old.key, 0)).toBe(200)
      const next = yield* elsewhere(folder, add({ name: "alice" }))
      expect(yield* server.chunk(old.key, 2)).toBe(200)
      expect(yield* elsewhere(folder, revoke(old.id))).toBe(1)
      expect(yield* server.chunk(old.key, 4)).toBe(401)
      expect(JSON.parse((yield* server.ask("GET", next.key)).body)).toMatchObject({ missing: [[4, 6]] })
      expect(yield* server.chunk(next.key, 4)).toBe(200)
      expect(Fs.readFileSync(Path.join(folder, "u1.txt"), "utf8")).toBe("abcdef")
    }))

  it.scopedLive("answers 401 at the next chunk to a key that has expired", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const server = yield* serve(folder)
      const { key } = yield* elsewhere(folder, add({ name: "alice", expiresAt: Date.now() + 3_600_000 }))
      expect(yield* server.chunk(key, 0)).toBe(200)
      yield* RawFiles.execute(ApiKeysSqlite.keysFile(folder), `UPDATE keys SET expiresAt = ${Date.now()}`)
      expect(yield* server.chunk(key, 2)).toBe(401)
    }))

  it.scopedLive("does not know the uploads of another name, whoever asks", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const server = yield* serve(folder)
      const alice = yield* elsewhere(folder, add({ name: "alice" }))
      const bob = yield* elsewhere(folder, add({ name: "bob" }))
      expect(yield* server.chunk(alice.key, 0)).toBe(200)
      for (const other of [bob.key, single]) {
        const state = yield* server.ask("GET", other)
        expect([state.status, JSON.parse(state.body)]).toMatchObject([404, { error: "Unknown upload" }])
        expect((yield* server.ask("DELETE", other)).status).toBe(404)
        expect(yield* server.chunk(other, 2)).toBe(412)
      }
      // under the same id it has one of its own
      expect(yield* server.chunk(bob.key, 0)).toBe(200)
      expect(parts(folder)).toHaveLength(2)
      expect((yield* server.ask("GET", alice.key)).status).toBe(200)
    }))

  it.scopedLive("keeps the uploads of the single key for a named key that is called default", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const server = yield* serve(folder)
      expect(yield* server.chunk(single, 0)).toBe(200)
      const { key } = yield* elsewhere(folder, add({ name: "default" }))
      expect([yield* server.chunk(key, 2), yield* server.chunk(key, 4)]).toEqual([200, 200])
      expect(visible(folder)).toEqual(["u1.txt"])
    }))

  it.scopedLive("says what it wants in a 401, slows repeated failures, and takes a right key meanwhile", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const server = yield* serve(folder, { maxFailures: 2 })
      const { key } = yield* elsewhere(folder, add({ name: "alice" }))
      const refused = yield* server.ask("GET", undefined)
      expect(refused).toMatchObject({ status: 401, headers: { "www-authenticate": "Bearer" } })
      expect(JSON.parse(refused.body)).toMatchObject({ error: "Invalid or missing API key" })
      const wrong = Redacted.make("wrong")
      const answers = yield* Effect.replicateEffect(server.ask("GET", wrong), 3)
      const slowed = answers.filter(({ status }) => status === 429)
      expect(slowed.length).toBeGreaterThan(0)
      expect(slowed[0]!.headers["retry-after"]).toBe("1")
      expect([yield* server.chunk(key, 0), yield* server.chunk(single, 0)]).toEqual([200, 200])
    }))

  it.scopedLive("keeps nothing of a refused request, and says no key in a log", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const said: Array<string> = []
      const server = yield* serve(folder, { maxFailures: 1 }, said)
      const { key } = yield* elsewhere(folder, add({ name: "alice" }))
      yield* elsewhere(folder, revoke("alice"))
      const answers = [yield* server.chunk(key, 0), yield* server.chunk(Redacted.make("tried secret"), 0)]
      expect(answers).toEqual([401, 429])
      expect([parts(folder), visible(folder)]).toEqual([[], []])
      expect(yield* server.chunk(single, 0)).toBe(200)
      // what cannot be read is a failure of the server's, and logged
      yield* RawFiles.execute(ApiKeysSqlite.keysFile(folder), "DROP TABLE keys")
      expect([yield* server.chunk(key, 0), yield* server.chunk(single, 2)]).toEqual([500, 200])
      expect(said.length).toBeGreaterThan(0)
      for (const secret of [Redacted.value(key), Redacted.value(single), "tried secret"]) {
        expect(said.join("\n")).not.toContain(secret)
      }
    }))

  it.scopedLive("takes a host app's own authenticator instead", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const own = Layer.succeed(Authenticator.Authenticator, {
        authenticate: () => Effect.succeed({ name: "anybody" })
      })
      const server = yield* serve(folder, {}, [], own)
      expect((yield* server.ask("GET", undefined)).status).toBe(404)
      expect(yield* server.chunk(Redacted.make("whatever"), 0)).toBe(200)
      expect(Fs.existsSync(ApiKeysSqlite.keysFile(folder))).toBe(false)
    }))
})
