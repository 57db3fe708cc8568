import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { UploadLedger } from "../../src/server/UploadLedger.ts"
import * as UploadLedgerSqlite from "../../src/server/UploadLedgerSqlite.ts"
import { extent, fresh, suite, write } from "../contract/UploadLedger.ts"
import { key } from "../contract/UploadStore.ts"
import * as RawFiles from "../support/rawFiles.ts"
import * as SqliteFiles from "../support/sqliteFiles.ts"

/** A ledger's file that is not there yet, in a folder that goes when the scope closes. */
const temporaryFile = Effect.map(RawFiles.temporaryFolder, (folder) => Path.join(folder, "ledger.db"))

suite("SQLite", Layer.unwrapScoped(Effect.map(temporaryFile, (file) => UploadLedgerSqlite.layer({ file }))))

/** `synchronous` and `journal_mode` of every commit from now on, as they are while it commits. */
const commits = SqliteFiles.commits((setting) => ["synchronous", "journal_mode"].map(setting))

/** Runs with a ledger of its own on the file; another call is another start of the server. */
const using = <A, E>(file: string, use: Effect.Effect<A, E, UploadLedger>) =>
  Effect.provide(use, UploadLedgerSqlite.layer({ file }))

describe("UploadLedgerSqlite", () => {
  it.scoped("has after a restart what was committed, and no claims", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const before = yield* using(
        file,
        Effect.gen(function*() {
          const ledger = yield* UploadLedger
          yield* ledger.create(fresh(key(1)))
          yield* ledger.claim(key(1), { from: 10, to: Option.some(20) })
          return (yield* write(key(1), 0, 5, { size: Option.some(30) })).upload
        })
      )
      yield* using(
        file,
        Effect.gen(function*() {
          const ledger = yield* UploadLedger
          expect(yield* ledger.get(key(1))).toStrictEqual(Option.some(before))
          expect(yield* ledger.extents(key(1))).toStrictEqual([extent(0, 5)])
          expect(yield* ledger.claim(key(1), { from: 12, to: Option.some(15) })).toMatchObject({
            _tag: "Claimed",
            supersedes: Option.none()
          })
        })
      )
    }))

  it.scoped("has committed what another reader of the file sees at once", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const ledger = yield* UploadLedger
          yield* ledger.create(fresh(key(1)))
          yield* write(key(1), 0, 5)
          // the log is copied as a power cut would leave it
          const copy = `${file}.copy`
          for (const suffix of ["", "-wal"]) Fs.copyFileSync(file + suffix, copy + suffix)
          const found = Effect.flatMap(UploadLedger, (ledger) => ledger.extents(key(1)))
          expect(yield* using(copy, found)).toStrictEqual([extent(0, 5)])
        })
      )
    }))

  it.scoped("lets SQLite sync each commit, unless only the death of the process is to be survived", () =>
    Effect.gen(function*() {
      for (const [durability, synchronous] of [[undefined, 2], ["power", 2], ["process", 1]] as const) {
        const file = yield* temporaryFile
        const seen = yield* commits
        yield* Effect.provide(
          Effect.flatMap(UploadLedger, (ledger) => ledger.create(fresh(key(1)))),
          UploadLedgerSqlite.layer(durability === undefined ? { file } : { file, durability })
        )
        expect(seen.at(-1)).toEqual([synchronous, "wal"])
      }
    }))

  it.scoped("migrates once, however often it is opened", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, Effect.void)
      yield* using(file, Effect.flatMap(UploadLedger, (ledger) => ledger.create(fresh(key(1)))))
      const found = yield* using(file, Effect.flatMap(UploadLedger, (ledger) => ledger.get(key(1))))
      expect(Option.isSome(found)).toBe(true)
    }))

  it.scoped("fails in a typed way on a file that is no ledger, and leaves it as it was", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const damaged = "this is no database ".repeat(1000)
      Fs.writeFileSync(file, damaged)
      const error = yield* Effect.flip(using(file, Effect.void))
      expect(error).toMatchObject({ _tag: "ServerFailure", message: expect.stringContaining(file) })
      expect(Fs.readFileSync(file, "utf8")).toBe(damaged)
    }))

  it.scoped("fails in a typed way when its folder is missing", () =>
    Effect.gen(function*() {
      const file = Path.join(yield* RawFiles.temporaryFolder, "missing", "ledger.db")
      expect((yield* Effect.flip(using(file, Effect.void)))._tag).toBe("ServerFailure")
    }))

  it.scoped("fails in a typed way when its rows were damaged while it ran", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const ledger = yield* UploadLedger
          yield* ledger.create(fresh(key(1)))
          yield* RawFiles.execute(file, "UPDATE uploads SET state = 'nonsense'")
          expect((yield* Effect.flip(ledger.get(key(1))))._tag).toBe("ServerFailure")
          yield* RawFiles.execute(file, "DROP TABLE extents; DROP TABLE uploads")
          expect((yield* Effect.flip(ledger.get(key(1))))._tag).toBe("ServerFailure")
        })
      )
    }))
})
