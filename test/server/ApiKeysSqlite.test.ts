import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Logger, LogLevel, Option, Redacted } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { ApiKeys } from "../../src/server/ApiKeys.ts"
import * as ApiKeysSqlite from "../../src/server/ApiKeysSqlite.ts"
import { add, find, list, nameOf, revoke, suite } from "../contract/ApiKeys.ts"
import { isWindows } from "../support/platform.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { openRaw } from "../support/sqliteFiles.ts"

const temporaryFile = Effect.map(RawFiles.temporaryFolder, (folder) => ApiKeysSqlite.keysFile(Path.join(folder, "out")))

suite(
  "SQLite",
  Layer.unwrapScoped(Effect.map(temporaryFile, (file) => ApiKeysSqlite.layer({ file })))
)

/** Runs with a connection of its own, as another program has. */
const using = <A, E, R>(file: string, use: Effect.Effect<A, E, ApiKeys | R>) =>
  Effect.provide(use, ApiKeysSqlite.layer({ file }))

const modeOf = (path: string) => Fs.statSync(path).mode & 0o777

/** A connection past our code, until the scope closes. */
const rawConnection = (file: string) =>
  Effect.acquireRelease(Effect.sync(() => openRaw(file)), (database) => Effect.sync(() => database.close()))

describe("ApiKeysSqlite", () => {
  it.scoped.skipIf(isWindows)(
    "makes a file for its owner alone in the server's own folder",
    () =>
      Effect.gen(function*() {
        const folder = yield* RawFiles.temporaryFolder
        const file = ApiKeysSqlite.keysFile(Path.join(folder, "out"))
        expect(file).toBe(Path.join(folder, "out", ".indexedcp", "keys.db"))
        yield* using(
          file,
          Effect.gen(function*() {
            yield* add({ name: "alice" })
            expect(
              Fs.readdirSync(Path.dirname(file)).map((name) => [name, modeOf(Path.join(Path.dirname(file), name))])
            )
              .toEqual([["keys.db", 0o600], ["keys.db-shm", 0o600], ["keys.db-wal", 0o600]])
            expect(modeOf(Path.dirname(file))).toBe(0o750)
          })
        )
      })
  )

  it.scoped("has only the hash of a key on the disk", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const bytes = () =>
        Fs.readdirSync(Path.dirname(file)).map((name) => Fs.readFileSync(Path.join(Path.dirname(file), name), "latin1"))
          .join("")
      yield* using(
        file,
        Effect.gen(function*() {
          const { key } = yield* add({ name: "alice" })
          expect(bytes()).toContain("alice")
          expect(bytes()).not.toContain(Redacted.value(key))
          expect(bytes()).not.toContain(Buffer.from(Redacted.value(key), "hex").toString("latin1"))
        })
      )
    }))

  it.scoped("sees at once what another program adds and revokes, and has it after a restart", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const kept = yield* using(
        file,
        Effect.gen(function*() {
          const own = yield* add({ name: "own" })
          expect(yield* nameOf(own.key)).toBe("own")
          const other = yield* using(file, add({ name: "other", prefix: "o/" }))
          expect(yield* find(other.key)).toMatchObject(Option.some({ name: "other", prefix: "o/" }))
          yield* using(file, revoke("own"))
          expect([yield* nameOf(own.key), yield* nameOf(other.key)]).toEqual(["none", "other"])
          // its own changes too, which no other connection made
          const again = yield* add({ name: "again" })
          expect(yield* nameOf(again.key)).toBe("again")
          yield* revoke("again")
          expect(yield* nameOf(again.key)).toBe("none")
          return other
        })
      )
      expect(yield* using(file, nameOf(kept.key))).toBe("other")
    }))

  it.scoped("reads the keys again only after somebody has written", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const { key } = yield* add({ name: "alice" })
          expect(yield* nameOf(key)).toBe("alice")
          const found = yield* list
          expect((yield* list)[0]).toBe(found[0])
          yield* using(file, add({ name: "bob" }))
          expect((yield* list)[0]).not.toBe(found[0])
        })
      )
    }))

  it.scoped("has committed a key when its addition returns", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const { key } = yield* add({ name: "alice" })
          // the log is copied as a power cut would leave it
          const copy = `${file}.copy`
          for (const suffix of ["", "-wal"]) Fs.copyFileSync(file + suffix, copy + suffix)
          expect(yield* using(copy, nameOf(key))).toBe("alice")
        })
      )
    }))

  it.live("can be opened by many at once when it is not there yet", () =>
    Effect.scoped(Effect.gen(function*() {
      const file = yield* temporaryFile
      const names = Array.from({ length: 8 }, (_, at) => `name${at}`)
      yield* Effect.forEach(names, (name) => using(file, add({ name })), { concurrency: "unbounded" })
      expect((yield* using(file, list)).map(({ name }) => name).sort()).toEqual(names)
    })))

  it.live("goes on finding keys while another program writes, and waits for it before it writes itself", () =>
    Effect.scoped(Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const { key } = yield* add({ name: "alice" })
          const other = yield* rawConnection(file)
          other.exec("BEGIN IMMEDIATE; DELETE FROM keys")
          expect(yield* nameOf(key)).toBe("alice")
          const adding = yield* Effect.fork(add({ name: "bob" }))
          yield* Effect.sleep("20 millis")
          other.exec("COMMIT")
          yield* adding
          expect(yield* nameOf(key)).toBe("none")
          expect(yield* list).toMatchObject([{ name: "bob" }])
        })
      )
    })))

  it.live("waits at the start for another program that writes", () =>
    Effect.scoped(Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add({ name: "alice" }))
      const other = yield* rawConnection(file)
      other.exec("BEGIN IMMEDIATE")
      const opening = yield* Effect.fork(using(file, list))
      yield* Effect.sleep("20 millis")
      other.exec("COMMIT")
      expect(yield* opening).toMatchObject([{ name: "alice" }])
    })))

  it.scoped("fails in a typed way on a file that is no database of keys, and leaves it as it was", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const damaged = "this is no database ".repeat(1000)
      Fs.mkdirSync(Path.dirname(file), { recursive: true })
      Fs.writeFileSync(file, damaged)
      expect(yield* Effect.flip(using(file, list))).toMatchObject({
        _tag: "ServerFailure",
        message: expect.stringContaining(file)
      })
      expect(Fs.readFileSync(file, "utf8")).toBe(damaged)
    }))

  it.scoped("fails in a typed way when its folder cannot be made", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      Fs.writeFileSync(Path.join(folder, "out"), "a file")
      const file = ApiKeysSqlite.keysFile(Path.join(folder, "out"))
      expect((yield* Effect.flip(using(file, list)))._tag).toBe("ServerFailure")
    }))

  it.scoped("fails in a typed way when its rows were damaged while it ran, rather than refuse a right key", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const { key } = yield* add({ name: "alice" })
          yield* RawFiles.execute(file, "UPDATE keys SET can = 'fly'")
          expect(yield* Effect.flip(find(key))).toMatchObject({ _tag: "ServerFailure" })
          yield* RawFiles.execute(file, "UPDATE keys SET can = 'read'")
          expect(yield* find(key)).toMatchObject(Option.some({ can: ["read"] }))
          yield* RawFiles.execute(file, "DROP TABLE keys")
          expect(yield* Effect.flip(find(key))).toMatchObject({ _tag: "ServerFailure" })
        })
      )
    }))

  it.scoped("says neither key nor hash in a log or an error", () =>
    Effect.gen(function*() {
      const said: Array<unknown> = []
      const logger = Logger.replace(Logger.defaultLogger, Logger.map(Logger.logfmtLogger, (line) => said.push(line)))
      const file = yield* temporaryFile
      const key = yield* using(
        file,
        Effect.gen(function*() {
          const { key } = yield* add({ name: "alice" })
          yield* nameOf(key)
          yield* RawFiles.execute(file, "DROP TABLE keys")
          for (const failing of [find(key), Effect.asVoid(add({ name: "bob" })), revoke("alice")]) {
            const error = yield* Effect.flip(failing)
            yield* Effect.logError("failed", error)
            said.push(JSON.stringify(error), String(error))
          }
          return key
        })
      ).pipe(Effect.provide(logger), Logger.withMinimumLogLevel(LogLevel.All))
      expect(said.length).toBeGreaterThan(6)
      expect(said.join("\n")).not.toContain(Redacted.value(key))
      expect(said.join("\n")).not.toMatch(/[0-9a-f]{64}/)
    }))
})
