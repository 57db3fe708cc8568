import { describe, expect, it, vi } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, type Scope } from "effect"
import NodeFs, * as Fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import * as Path from "node:path"
import { UploadLedger } from "../../src/server/UploadLedger.ts"
import * as UploadLedgerSqlite from "../../src/server/UploadLedgerSqlite.ts"
import { extent, fresh, suite, write } from "../contract/UploadLedger.ts"
import { key } from "../contract/UploadStore.ts"
import * as RawFiles from "../support/rawFiles.ts"

/** A ledger's file that is not there yet, in a folder that goes when the scope closes. */
const temporaryFile = Effect.map(RawFiles.temporaryFolder, (folder) => Path.join(folder, "ledger.db"))

suite("SQLite", Layer.unwrapScoped(Effect.map(temporaryFile, (file) => UploadLedgerSqlite.layer({ file }))))

/** The syncs of logs that are asked for from now on, until the scope closes: one at a time, each ends when it is told to. */
const logSyncs = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const waiting: Array<(failed: Error | null) => void> = []
      const asked = Effect.unsafeMakeSemaphore(0)
      let count = 0
      const spy = vi.spyOn(NodeFs, "fdatasync").mockImplementation((_, done) => {
        count++
        waiting.push(done)
        Effect.runSync(asked.release(1))
      })
      syncBuiltinESMExports()
      return {
        begun: asked.take(1),
        end: (failed: Error | null) => waiting.shift()?.(failed),
        count: () => count,
        restore: () => {
          spy.mockRestore()
          syncBuiltinESMExports()
          waiting.forEach((done) => done(null))
        }
      }
    }),
    ({ restore }) => Effect.sync(restore)
  ),
  ({ begun, count, end }) => ({ begun, count, end })
)

/** Runs with a ledger of its own on the file; another call is another start of the server. */
const using = <A, E>(file: string, use: Effect.Effect<A, E, UploadLedger | Scope.Scope>) =>
  Effect.provide(Effect.scoped(use), UploadLedgerSqlite.layer({ file }))

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

  it.scopedLive("tells nothing before the disk has it: neither who wrote it nor anybody else", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const ledger = yield* UploadLedger
          yield* ledger.create(fresh(key(1)))
          const syncs = yield* logSyncs
          const told: Array<string> = []
          const tell = (what: string) => Effect.sync(() => void told.push(what))
          const written = yield* Effect.fork(Effect.zipRight(write(key(1), 0, 5), tell("written")))
          yield* syncs.begun
          const seen = yield* Effect.fork(Effect.tap(ledger.extents(key(1)), () => tell("seen")))
          const repeated = yield* Effect.fork(
            Effect.tap(ledger.claim(key(1), { from: 0, to: Option.some(5) }), () => tell("repeated"))
          )
          // a claim is told to nobody, and who has one must get it
          expect(yield* ledger.claim(key(1), { from: 10, to: Option.some(20) })).toMatchObject({ _tag: "Claimed" })
          yield* Effect.yieldNow()
          expect(told).toEqual([])
          syncs.end(null)
          yield* Fiber.join(written)
          // they came after the sync had begun, so it is not for them
          yield* syncs.begun
          syncs.end(null)
          expect(yield* Fiber.join(seen)).toStrictEqual([extent(0, 5)])
          expect(yield* Fiber.join(repeated)).toMatchObject({ _tag: "Repeat" })
        })
      )
    }))

  it.scopedLive("trusts no sync after one that failed, until it is started anew", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          const ledger = yield* UploadLedger
          const syncs = yield* logSyncs
          const creating = yield* Effect.fork(Effect.flip(ledger.create(fresh(key(1)))))
          yield* syncs.begun
          syncs.end(new Error("EIO"))
          const failed = { _tag: "ServerFailure", message: expect.stringContaining("could not be synced") }
          expect(yield* Fiber.join(creating)).toMatchObject(failed)
          expect(yield* Effect.flip(ledger.get(key(1)))).toMatchObject(failed)
          expect(yield* Effect.flip(ledger.create(fresh(key(2))))).toMatchObject(failed)
        })
      )
      // it is carried over from the log to the database, which is synced, before anybody is told of it
      yield* using(
        file,
        Effect.gen(function*() {
          expect(Option.isSome(yield* Effect.flatMap(UploadLedger, (ledger) => ledger.get(key(1))))).toBe(true)
          expect(Fs.statSync(`${file}-wal`).size).toBe(0)
        })
      )
    }))

  it.scopedLive("syncs nothing where only the death of the process is to be survived", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const syncs = yield* logSyncs
      yield* Effect.provide(
        Effect.flatMap(UploadLedger, (ledger) => ledger.create(fresh(key(1)))),
        UploadLedgerSqlite.layer({ file, durability: "process" })
      )
      expect(syncs.count()).toBe(0)
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
