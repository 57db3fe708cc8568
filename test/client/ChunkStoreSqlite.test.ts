import { describe, expect, it } from "@effect/vitest"
import {
  Chunk,
  Context,
  Deferred,
  Effect,
  Either,
  Exit,
  Fiber,
  Layer,
  Option,
  Queue,
  Scope,
  Stream,
  TestClock
} from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import { add, listed, listen, newFile, opening, someBytes, suite, unsent } from "../contract/ChunkStore.ts"
import { isWindows } from "../support/platform.ts"
import * as SqliteFiles from "../support/sqliteFiles.ts"

suite("SQLite", SqliteFiles.layerTemporary)

const MiB = 1024 * 1024
/** So much may be free in the file while it is in use. */
const slack = 64 * MiB
const { raw, temporaryFile } = SqliteFiles

/** Runs with a buffer of its own on the file; another call is another user of it. */
const using = <A, E>(file: string, use: Effect.Effect<A, E, ChunkStore.ChunkStore>) =>
  Effect.provide(use, ChunkStoreSqlite.layer({ file }))

const refusal = (file: string) => Effect.flip(using(file, Effect.void))

const mode = (path: string) => Fs.statSync(path).mode & 0o777

/** A buffer that stays open while others open the same file. */
const opened = (file: string) =>
  Effect.map(
    Effect.flatMap(Effect.scope, (scope) => Layer.buildWithScope(ChunkStoreSqlite.layer({ file }), scope)),
    (context) => Context.get(context, ChunkStore.ChunkStore)
  )

describe("ChunkStoreSqlite, the file", () => {
  it("stands where the Python client has its own", () => {
    expect(ChunkStoreSqlite.defaultFile("indexcp")).toBe(Path.join(Os.homedir(), ".indexcp", "indexcp.db"))
  })

  it.scoped.skipIf(isWindows)("is its owner's only, with all that belongs to it", () =>
    Effect.gen(function*() {
      const folder = Path.join(yield* SqliteFiles.temporaryFolder, "new", "folder")
      const file = Path.join(folder, "buffer.db")
      yield* using(
        file,
        Effect.gen(function*() {
          yield* add("/a", someBytes(10))
          expect(Fs.readdirSync(folder).toSorted()).toEqual(["buffer.db", "buffer.db-shm", "buffer.db-wal"])
          expect(Fs.readdirSync(folder).map((name) => mode(Path.join(folder, name)))).toEqual([0o600, 0o600, 0o600])
        })
      )
      expect([mode(folder), mode(Path.dirname(folder))]).toEqual([0o700, 0o700])
    }))

  it.scoped.skipIf(isWindows)("leaves the mode of a folder that was there", () =>
    Effect.gen(function*() {
      const folder = yield* SqliteFiles.temporaryFolder
      Fs.chmodSync(folder, 0o755)
      yield* using(Path.join(folder, "buffer.db"), Effect.void)
      expect(mode(folder)).toBe(0o755)
    }))

  it.scoped("has large pages, shrinks, and is in WAL mode", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, Effect.void)
      const pragma = (name: string) => raw(file, (database) => database.pragma(name, { simple: true }))
      expect(["page_size", "auto_vacuum", "journal_mode", "user_version"].map(pragma)).toEqual([65536, 2, "wal", 4])
    }))

  it.scoped("keeps everything when it is opened again", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const { file: id } = yield* using(file, add("/a", someBytes(10)))
      const first = yield* using(file, listed)
      expect(yield* using(file, listed)).toStrictEqual(first)
      const piece = yield* using(file, Effect.flatMap(ChunkStore.ChunkStore, (store) => store.read(id, 0, 10)))
      expect(piece.bytes).toStrictEqual(someBytes(10))
    }))

  it.scoped("says what is wrong with a file that is not for it, and leaves it alone", () =>
    Effect.gen(function*() {
      const folder = yield* SqliteFiles.temporaryFolder
      const files = ["text", "short", "cut", "foreign", "foreignWal", "newer", "mixed"] as const
      const at = (name: typeof files[number]) => Path.join(folder, name)
      Fs.writeFileSync(
        at("text"),
        "this is a letter and no database, and it goes on for more than a hundred bytes".repeat(3)
      )
      Fs.writeFileSync(at("short"), "SQLite format 3\0")
      yield* using(at("cut"), add("/a", someBytes(200_000), 100_000))
      Fs.truncateSync(at("cut"), 100_000)
      raw(at("foreign"), (database) => database.exec("CREATE TABLE notes (text TEXT)"))
      raw(at("foreignWal"), (database) => database.exec("PRAGMA journal_mode = WAL; CREATE TABLE notes (text TEXT)"))
      yield* using(at("newer"), add("/a", someBytes(10)))
      raw(at("newer"), (database) => database.pragma("user_version = 5"))
      SqliteFiles.writeLegacy(at("mixed"), [])
      raw(at("mixed"), (database) => database.exec("CREATE TABLE notes (text TEXT)"))
      const before = files.map((name) => Sha256.of(Fs.readFileSync(at(name))))
      const messages: Array<string> = []
      for (const name of files) {
        const error = yield* refusal(at(name))
        expect(error._tag).toBe("ChunkStoreError")
        messages.push(error.message.replace(at(name), "X").replace(/[,;.].*$/, ""))
      }
      const damaged = "X is damaged or no SQLite database"
      const foreign = "X belongs to another program"
      expect(messages).toEqual([
        damaged,
        damaged,
        damaged,
        foreign,
        foreign,
        "X was written by a newer version of this program",
        foreign
      ])
      expect(files.map((name) => Sha256.of(Fs.readFileSync(at(name))))).toEqual(before)
      expect(Fs.readdirSync(folder).toSorted()).toEqual([...files].toSorted())
    }))

  it.scoped("fails, and does not die, where nothing can be opened", () =>
    Effect.gen(function*() {
      const folder = yield* SqliteFiles.temporaryFolder
      Fs.writeFileSync(Path.join(folder, "file"), "")
      expect((yield* refusal(folder))._tag).toBe("ChunkStoreError")
      expect((yield* refusal(Path.join(folder, "file", "buffer.db")))._tag).toBe("ChunkStoreError")
    }))

  it.scoped("never gives back bytes that have changed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const { file: id } = yield* using(file, add("/a", someBytes(10)))
      raw(file, (database) => database.exec("UPDATE pieces SET data = x'00000000' WHERE start = 4"))
      const read = (from: number, to: number) =>
        using(file, Effect.flatMap(ChunkStore.ChunkStore, (store) => store.read(id, from, to)))
      expect((yield* read(0, 4)).bytes).toStrictEqual(someBytes(10).slice(0, 4))
      expect(yield* Effect.flip(read(0, 10))).toMatchObject({ _tag: "PieceDamaged", offset: 4 })
      raw(file, (database) => database.exec("DELETE FROM pieces WHERE start = 4"))
      expect(yield* Effect.flip(read(2, 6))).toMatchObject({ _tag: "PieceDamaged", offset: 4 })
    }))
})

describe("ChunkStoreSqlite, shared by several users", () => {
  it.scoped("refuses what another user has claimed, and sees what it adds", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const [one, other] = [yield* opened(file), yield* opened(file)]
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(10)), ChunkStore.ChunkStore, one)
      expect((yield* other.read(id, 0, 10)).bytes).toStrictEqual(someBytes(10))
      yield* Effect.scoped(Effect.gen(function*() {
        yield* one.claim(id)
        expect((yield* Effect.flip(Effect.scoped(other.claim(id))))._tag).toBe("AlreadyClaimed")
        // A third one starts, and takes nothing from the living.
        const third = yield* opened(file)
        expect((yield* Effect.flip(Effect.scoped(third.claim(id))))._tag).toBe("AlreadyClaimed")
      }))
      yield* Effect.scoped(other.claim(id))
    }))

  it.scoped("leaves the living one's half-added file, and lets nobody else add to it", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const one = yield* opened(file)
      const id = yield* one.begin(newFile("/a"))
      yield* one.append(id, someBytes(4))
      const other = yield* opened(file)
      expect((yield* Effect.flip(other.append(id, someBytes(4))))._tag).toBe("ChunkStoreError")
      yield* one.append(id, someBytes(4))
      yield* one.seal(id, { size: 8, sha256: Sha256.empty })
      expect((yield* other.get(id)).size).toBe(8)
    }))

  it.scoped("keeps a claim alive by its heartbeat, and frees one that has none for a minute", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const [one, other] = [yield* opened(file), yield* opened(file)]
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(10)), ChunkStore.ChunkStore, one)
      yield* one.claim(id)
      yield* TestClock.adjust("10 minutes")
      expect((yield* Effect.flip(Effect.scoped(other.claim(id))))._tag).toBe("AlreadyClaimed")
      raw(file, (database) => database.exec("UPDATE owners SET beat_at = beat_at - 60001"))
      yield* Effect.scoped(other.claim(id))
    }))

  it.scopedLive("frees at once what a killed process had claimed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(10)))
      const store = yield* opened(file)
      const holder = yield* SqliteFiles.child(file, "claim")
      yield* Effect.promise(() => holder.printed)
      const id = ChunkStore.FileId.make(1)
      expect((yield* Effect.flip(Effect.scoped(store.claim(id))))._tag).toBe("AlreadyClaimed")
      yield* Effect.promise(holder.kill)
      yield* Effect.scoped(store.claim(id))
    }))

  it.scopedLive("removes at start what a killed process was adding", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const adder = yield* SqliteFiles.child(file, "add")
      yield* Effect.promise(() => adder.printed)
      const rows = (table: string) => raw(file, (database) => database.prepare(`SELECT * FROM ${table}`).all().length)
      yield* using(file, Effect.void)
      expect([rows("files"), rows("pieces")]).toEqual([1, 2])
      yield* Effect.promise(adder.kill)
      expect(yield* using(file, listed)).toEqual([])
      expect([rows("files"), rows("pieces"), rows("owners")]).toEqual([0, 0, 0])
    }))

  it.scopedLive("waits for a lock without stopping the clocks", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const locker = SqliteFiles.openRaw(file)
      locker.exec("BEGIN IMMEDIATE")
      const adding = yield* Effect.fork(Effect.provideService(add("/a", someBytes(10)), ChunkStore.ChunkStore, store))
      yield* Effect.sleep("400 millis")
      expect(Option.isNone(yield* Fiber.poll(adding))).toBe(true)
      locker.close()
      yield* Fiber.join(adding)
    }))

  it.scoped("gives up on a lock after half a minute, and says why", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(10)), ChunkStore.ChunkStore, store)
      const locker = yield* Effect.acquireRelease(
        Effect.sync(() => SqliteFiles.openRaw(file)),
        (locker) => Effect.sync(() => locker.close())
      )
      locker.exec("BEGIN IMMEDIATE")
      const settling = yield* Effect.fork(Effect.flip(store.settle(id, 0, 4)))
      yield* TestClock.adjust("20 seconds").pipe(
        Effect.repeat({ until: () => Effect.map(Fiber.poll(settling), Option.isSome) })
      )
      expect((yield* Fiber.join(settling)).message).toContain("locked by another program")
    }))
})

describe("ChunkStoreSqlite, space", () => {
  it.scopedLive("keeps the log and the memory small while much is added, and gives all back at the end", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const scope = yield* Scope.make()
      const store = yield* Scope.extend(opened(file), scope)
      const piece = someBytes(MiB)
      let [log, memory, lateness, tick] = [0, 0, 0, performance.now()]
      const timer = setInterval(() => {
        lateness = Math.max(lateness, performance.now() - tick)
        tick = performance.now()
      }, 1)
      yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(timer)))
      yield* Effect.scoped(Effect.gen(function*() {
        const id = yield* store.begin(newFile("/big", MiB))
        const before = process.memoryUsage().rss
        for (let count = 0; count < 200; count++) {
          yield* store.append(id, piece)
          log = Math.max(log, Fs.statSync(`${file}-wal`).size)
          memory = Math.max(memory, process.memoryUsage().rss - before)
        }
        yield* store.seal(id, { size: 200 * MiB, sha256: Sha256.empty })
      }))
      const kept = yield* Effect.provideService(add("/kept", someBytes(3 * MiB), MiB), ChunkStore.ChunkStore, store)
      expect(log).toBeLessThan(64 * MiB)
      expect(memory).toBeLessThan(96 * MiB)
      expect(Fs.statSync(file).size + log).toBeGreaterThan(200 * MiB)
      yield* store.drop(ChunkStore.FileId.make(1))
      expect(Fs.statSync(file).size).toBeLessThan(slack + 5 * MiB)
      expect(Fs.statSync(`${file}-wal`).size).toBeLessThan(64 * MiB)
      expect((yield* store.read(kept.file, 0, 3 * MiB)).sha256).toBe(Sha256.of(someBytes(3 * MiB)))
      yield* store.clear
      expect(lateness).toBeLessThan(1000)
      yield* Scope.close(scope, Exit.void)
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
      expect(Fs.existsSync(`${file}-wal`)).toBe(false)
    }))

  it.scopedLive("leaves what is free to those who go on, and the last one gives it back", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const scopes = [yield* Scope.make(), yield* Scope.make()] as const
      const [one, other] = [yield* Scope.extend(opened(file), scopes[0]), yield* Scope.extend(opened(file), scopes[1])]
      const { file: id } = yield* Effect.provideService(
        add("/a", someBytes(8 * MiB), MiB),
        ChunkStore.ChunkStore,
        one
      )
      yield* Scope.extend(other.begin(newFile("/b")), scopes[1])
      yield* one.drop(id)
      const pages = () => raw(file, (database) => Number(database.pragma("page_count", { simple: true })))
      yield* Scope.close(scopes[0], Exit.void)
      expect(pages() * 65536).toBeGreaterThan(8 * MiB)
      yield* Scope.close(scopes[1], Exit.void)
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
    }))

  it.scoped("gives back at the end what a killed process had freed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(8 * MiB), MiB))
      raw(file, (database) => database.exec("DELETE FROM pieces; DELETE FROM files"))
      expect(Fs.statSync(file).size).toBeGreaterThan(8 * MiB)
      expect(yield* using(file, listed)).toEqual([])
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
    }))

  it.scoped("carries on at start what was half freed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(3 * MiB), MiB))
      raw(file, (database) => database.exec("UPDATE files SET state = 'dropping'; DELETE FROM pieces WHERE start = 0"))
      expect(yield* using(file, listed)).toEqual([])
      expect(raw(file, (database) => database.prepare("SELECT id FROM pieces").all())).toEqual([])
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
    }))

  it.scoped("removes a file whose adder ends with the buffer", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const scope = yield* Scope.make()
      const store = yield* Scope.extend(opened(file), scope)
      const id = yield* Scope.extend(store.begin(newFile("/a")), scope)
      yield* store.append(id, someBytes(4))
      yield* Scope.close(scope, Exit.void)
      expect(raw(file, (database) => database.prepare("SELECT id FROM files").all())).toEqual([])
    }))
})

const delivery = { endpoint: "http://server/upload", name: "sent", uploadId: UploadId.make("u1") }

describe("ChunkStoreSqlite, a loss of power", () => {
  /** `PRAGMA synchronous` of every commit from now on, as it is while it commits. */
  const commits = SqliteFiles.commits((setting) => setting("synchronous"))

  it.scoped("takes back nothing that cannot be done again, for which the disk is waited for, and only for that", () =>
    Effect.gen(function*() {
      const seen = yield* commits
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const adding = (source: string) => Effect.provideService(add(source, someBytes(8)), ChunkStore.ChunkStore, store)
      const { file: id } = yield* adding("/a")
      const { file: old } = yield* adding("/old")
      const { file: failed } = yield* adding("/failed")
      const synced = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.gen(function*() {
          seen.length = 0
          yield* effect
          return seen.map((level) => level === 2)
        })
      const [scope, claim] = [yield* Scope.make(), yield* Scope.make()]
      expect(yield* synced(Scope.extend(store.begin(newFile("/b")), scope))).toEqual([false])
      const begun = ChunkStore.FileId.make(failed + 1)
      expect(yield* synced(store.append(begun, someBytes(4)))).toEqual([false])
      expect(yield* synced(store.seal(begun, { size: 4, sha256: Sha256.empty }))).toEqual([true])
      yield* Scope.close(scope, Exit.void)
      expect(yield* synced(store.adopt({ ...newFile("/c"), size: 4 }, opening(someBytes(4))))).toEqual([true])
      expect(yield* synced(Scope.extend(store.claim(id), claim))).toEqual([false])
      expect(yield* synced(store.startDelivery(id, delivery))).toEqual([true])
      expect(yield* synced(store.remember(id, { sending: Option.some(0) }))).toEqual([true])
      expect(yield* synced(store.setTrouble(id, { reason: "busy", nextTry: Option.none() }))).toEqual([false])
      expect(yield* synced(store.settle(id, 0, 2))).toEqual([true])
      expect(yield* synced(store.settle(id, 2, 4, { known: { revision: Option.some(2) } }))).toEqual([true])
      expect(yield* synced(store.settle(id, 4, 8, { free: true }))).toEqual([false])
      expect(yield* synced(store.delivered(id, { serverName: "a", resent: false, sha256: Sha256.empty }))).toEqual([
        false
      ])
      expect(yield* synced(Scope.close(claim, Exit.void))).toEqual([false])
      yield* store.startDelivery(old, delivery)
      expect(yield* synced(store.remember(old, { revision: Option.some(1) }))).toEqual([true])
      expect(yield* synced(store.settle(old, 0, 4))).toEqual([true])
      expect(yield* synced(store.delivered(old, { serverName: "old", resent: true, sha256: Sha256.empty }))).toEqual([
        true
      ])
      expect(yield* synced(store.setFailure(failed, Option.some("refused")))).toEqual([true])
      expect(yield* synced(store.setFailure(failed, Option.none()))).toEqual([true])
      const logged = () => Fs.statSync(`${file}-wal`).size
      // what was delivered may come back, unless it was dropped after that: a commit without changes would not be synced
      for (const dropped of [store.drop(failed), store.drop(id), store.clear, store.clear]) {
        const before = logged()
        expect(yield* synced(dropped)).toEqual([true])
        expect(logged()).toBeGreaterThan(before)
      }
    }))
})

describe("ChunkStoreSqlite, a limit", () => {
  /** Runs with a buffer that may have 4 MiB in use. */
  const limited = <A, E>(file: string, use: Effect.Effect<A, E, ChunkStore.ChunkStore>) =>
    Effect.provide(use, ChunkStoreSqlite.layer({ file, maxBytes: 4 * MiB }))

  const inUse = (file: string) =>
    raw(file, (database) => {
      const [count, free, size] = ["page_count", "freelist_count", "page_size"].map((name) =>
        Number(database.pragma(name, { simple: true }))
      )
      return (count! - free!) * size!
    })

  it.scoped("refuses what would go beyond it, says what to do, and keeps what is there", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* limited(
        file,
        Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const { file: kept } = yield* add("/kept", someBytes(MiB), MiB)
          const error = yield* Effect.flip(add("/big", someBytes(4 * MiB), MiB))
          expect(error._tag).toBe("BufferFull")
          expect(error.message).toContain(`${file} may use 4.0 MiB (4194304 bytes) and uses`)
          expect(error.message).toContain("no room for 1.0 MiB (1048576 bytes) more")
          expect(error.message).toContain("Upload or remove files, or raise the limit")
          // with one more chunk it would be more
          expect(inUse(file)).toBeLessThan(3 * MiB)
          expect((yield* listed).map(({ id }) => id)).toEqual([kept])
          expect((yield* store.read(kept, 0, MiB)).sha256).toBe(Sha256.of(someBytes(MiB)))
          const { file: next } = yield* add("/next", someBytes(2 * MiB), MiB)
          expect((yield* Effect.flip(add("/more", someBytes(MiB), MiB)))._tag).toBe("BufferFull")
          // freed pieces make room at once
          yield* store.startDelivery(next, delivery)
          yield* store.settle(next, 0, MiB, { free: true })
          yield* add("/more", someBytes(MiB), MiB)
          yield* store.drop(kept)
          yield* add("/last", someBytes(MiB), MiB)
        })
      )
      expect(inUse(file)).toBeLessThanOrEqual(4 * MiB)
      yield* using(file, add("/big", someBytes(5 * MiB), MiB))
    }))
})

describe("ChunkStoreSqlite, freeing while a file is sent", () => {
  it.scopedLive("gives the space back on the way, and all of it at the end", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const scope = yield* Scope.make()
      const store = yield* Scope.extend(opened(file), scope)
      const count = 240
      const { file: id } = yield* Effect.scoped(Effect.gen(function*() {
        const id = yield* store.begin(newFile("/big", MiB))
        for (let index = 0; index < count; index++) yield* store.append(id, someBytes(MiB, index))
        yield* store.seal(id, { size: count * MiB, sha256: Sha256.empty })
        return { file: id }
      }))
      yield* store.startDelivery(id, delivery)
      const sizes: Array<number> = []
      for (let index = 0; index < count - 1; index++) {
        yield* store.settle(id, index * MiB, (index + 1) * MiB, { free: true })
        // what is moved within the file must not suffer
        if (index % 16 === 0) {
          for (const at of [index + 1, count - 1]) {
            expect((yield* store.read(id, at * MiB, (at + 1) * MiB)).sha256).toBe(Sha256.of(someBytes(MiB, at)))
          }
        }
        if (index === count / 2) sizes.push(Fs.statSync(file).size)
      }
      sizes.push(Fs.statSync(file).size)
      expect(sizes[0]).toBeLessThan(220 * MiB)
      expect(sizes[1]).toBeLessThan(100 * MiB)
      yield* store.remember(id, { revision: Option.some(2) })
      yield* store.delivered(id, { serverName: "big", resent: false, sha256: Sha256.empty })
      expect(Fs.statSync(file).size).toBeLessThan(slack + 16 * MiB)
      yield* Scope.close(scope, Exit.void)
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
    }))

  it.scoped("knows after a restart what it has freed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const { file: id } = yield* using(file, add("/a", someBytes(10)))
      const during = <A, E>(use: (store: ChunkStore.ChunkStore["Type"]) => Effect.Effect<A, E>) =>
        using(file, Effect.flatMap(ChunkStore.ChunkStore, use))
      yield* during((store) =>
        Effect.zipRight(store.startDelivery(id, delivery), store.settle(id, 0, 8, { free: true }))
      )
      expect(yield* during((store) => store.get(id))).toMatchObject({ freed: true, settledBytes: 8 })
      expect((yield* Effect.flip(during((store) => store.read(id, 4, 10)))).message).toContain("freed after the server")
      expect((yield* during((store) => store.read(id, 8, 10))).bytes).toStrictEqual(someBytes(10).slice(8))
      expect((yield* Effect.flip(during((store) => store.read(id, 8, 12)))).message).toContain("missing")
    }))
})

describe("ChunkStoreSqlite, reading in parts", () => {
  it.scoped("checks a piece once for all its parts while the file is claimed, and lets it go with the claim", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const bytes = someBytes(1000)
      const { file: id } = yield* Effect.provideService(add("/a", bytes, 400), ChunkStore.ChunkStore, store)
      const damage = (start: number) =>
        raw(
          file,
          (database) => database.prepare("UPDATE pieces SET data = zeroblob(length) WHERE start = ?").run(start)
        )
      yield* Effect.scoped(Effect.gen(function*() {
        yield* store.claim(id)
        const first = yield* store.read(id, 0, 100)
        damage(0)
        first.bytes.fill(0)
        // what its caller does with bytes that it was given changes nothing
        for (const [from, to] of [[0, 100], [50, 150], [300, 350]] as const) {
          const part = yield* store.read(id, from, to)
          expect(part.bytes).toStrictEqual(bytes.slice(from, to))
          expect(part.sha256).toBe(Sha256.of(bytes.subarray(from, to)))
        }
        // from one piece into the next, of which the rest is read after that
        expect((yield* store.read(id, 350, 500)).bytes).toStrictEqual(bytes.slice(350, 500))
        damage(400)
        expect((yield* store.read(id, 500, 700)).bytes).toStrictEqual(bytes.slice(500, 700))
      }))
      expect(yield* Effect.flip(store.read(id, 500, 700))).toMatchObject({ _tag: "PieceDamaged", offset: 400 })
      yield* store.read(id, 800, 850)
      damage(800)
      expect(yield* Effect.flip(store.read(id, 850, 900))).toMatchObject({ _tag: "PieceDamaged", offset: 800 })
    }))

  it.scoped("reads no part of a piece that another user has freed or dropped since", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const [one, other] = [yield* opened(file), yield* opened(file)]
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(8), 4), ChunkStore.ChunkStore, one)
      yield* one.claim(id)
      yield* one.startDelivery(id, delivery)
      yield* one.read(id, 0, 1)
      yield* other.settle(id, 0, 4, { free: true })
      expect((yield* Effect.flip(one.read(id, 1, 2))).message).toContain("freed after the server")
      yield* one.read(id, 4, 5)
      yield* other.drop(id)
      expect(yield* Effect.flip(one.read(id, 5, 6))).toMatchObject({ _tag: "NotBuffered" })
    }))
})

describe("ChunkStoreSqlite, what other users do", () => {
  const heard = (signals: Queue.Queue<void>) => Effect.timeout(Queue.take(signals), "5 seconds")

  it.scopedLive("signals to each listener what another user has added, let go or freed of its failure", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const [one, other] = [yield* opened(file), yield* opened(file)]
      const listeners = [
        yield* Effect.provideService(listen, ChunkStore.ChunkStore, one),
        yield* Effect.provideService(listen, ChunkStore.ChunkStore, one)
      ]
      const allHear = Effect.forEach(listeners, heard, { discard: true })
      yield* allHear
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(10)), ChunkStore.ChunkStore, other)
      yield* allHear
      yield* other.setFailure(id, Option.some("refused"))
      yield* allHear
      yield* other.setFailure(id, Option.none())
      yield* allHear
      const holder = yield* Scope.make()
      yield* Scope.extend(other.claim(id), holder)
      yield* allHear
      yield* Scope.close(holder, Exit.void)
      yield* allHear
    }))

  it.scoped("looks for it every half second", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const [one, other] = [yield* opened(file), yield* opened(file)]
      const signals = yield* Effect.provideService(listen, ChunkStore.ChunkStore, one)
      yield* Queue.take(signals)
      yield* Effect.provideService(add("/a", someBytes(10)), ChunkStore.ChunkStore, other)
      const waiting = yield* Effect.fork(Queue.take(signals))
      yield* TestClock.adjust("500 millis").pipe(
        Effect.repeat({ until: () => Effect.map(Fiber.poll(waiting), Option.isSome) })
      )
    }))

  it.scopedLive("sees who holds a file, and signals when a killed process lets go of it", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(10)))
      const store = yield* opened(file)
      const id = ChunkStore.FileId.make(1)
      const held = Effect.map(Effect.provideService(listed, ChunkStore.ChunkStore, store), ([found]) => found!.held)
      const holder = yield* SqliteFiles.child(file, "claim")
      yield* Effect.promise(() => holder.printed)
      yield* store.setTrouble(id, { reason: "no answer", nextTry: Option.some(5000) })
      expect([yield* held, (yield* store.get(id)).held]).toEqual([true, true])
      const refused = yield* Deferred.make<void>()
      const claiming = yield* store.arrivals.pipe(
        Stream.mapEffect(() => Effect.either(store.claim(id))),
        Stream.tap((claimed) => Either.isLeft(claimed) ? Deferred.succeed(refused, undefined) : Effect.void),
        Stream.takeUntil(Either.isRight),
        Stream.runDrain,
        Effect.fork
      )
      yield* Deferred.await(refused)
      yield* Effect.promise(holder.kill)
      const unwaited = { reason: "no answer", nextTry: Option.none() }
      yield* Effect.timeout(Fiber.join(claiming), "5 seconds")
      expect(yield* store.get(id)).toMatchObject({ held: true, trouble: Option.some(unwaited) })
    }))

  it.scopedLive("shows what a dead holder left as held by nobody, before and after it is swept", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(10)))
      const [store, id] = [yield* opened(file), ChunkStore.FileId.make(1)]
      const holder = yield* SqliteFiles.child(file, "claim")
      yield* Effect.promise(() => holder.printed)
      yield* store.setTrouble(id, { reason: "no answer", nextTry: Option.some(5000) })
      yield* Effect.promise(holder.kill)
      const left = { held: false, trouble: Option.some({ reason: "no answer", nextTry: Option.none() }) }
      expect(yield* store.get(id)).toMatchObject(left)
      expect(yield* Effect.provideService(listed, ChunkStore.ChunkStore, store)).toMatchObject([left])
      const row = () => raw(file, (database) => database.prepare("SELECT owner, next_try FROM files").all())
      expect(row()).toMatchObject([{ next_try: 5000 }])
      expect(yield* using(file, listed)).toMatchObject([left])
      expect(row()).toEqual([{ owner: null, next_try: null }])
    }))

  it.scoped("lists many files with who holds them, in pages", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(1)), ChunkStore.ChunkStore, store)
      yield* store.claim(id)
      raw(file, (database) =>
        database.exec(
          `WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
          INSERT INTO files (state, path, source, name, chunk_size, sha256, added_at, owner)
          SELECT 'sealed', i, i, i, 4, sha256, i, CASE i % 3 WHEN 0 THEN files.owner WHEN 1 THEN 999 END FROM n, files`
        ))
      const files = yield* Effect.provideService(listed, ChunkStore.ChunkStore, store)
      expect(files.map(({ held, id }) => [id, held])).toEqual(
        Array.from({ length: 20000 }, (_, at) => [at + 1, at === 0 || (at + 1) % 3 === 0])
      )
    }))
})

describe("ChunkStoreSqlite, a damaged buffer", () => {
  it.scoped("is not read as if it were whole", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(4)))
      raw(file, (database) => database.exec("UPDATE files SET sha256 = 'x'"))
      const error = yield* Effect.flip(using(file, listed))
      expect(error.message).toContain("holds a record that makes no sense")
      expect(String(error.cause)).toContain("A row of the table files has a value")
    }))
})

describe("ChunkStoreSqlite, a buffer of version 1", () => {
  it.scopedLive("is brought up to date with everything in it, by one of two that open it at once", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const bytes = someBytes(10)
      SqliteFiles.writeVersion1(file, bytes)
      const [store] = yield* Effect.all([opened(file), opened(file)], { concurrency: 2 })
      const files = yield* Effect.provideService(listed, ChunkStore.ChunkStore, store)
      const sent = { ...delivery, revision: Option.some(2), serverName: Option.none(), sending: Option.none() }
      expect(files).toStrictEqual([{
        ...newFile("/a"),
        id: 1,
        size: 10,
        sha256: Option.some(Sha256.of(bytes)),
        chunks: 3,
        firstIndex: 0,
        addedAt: 1700000000000,
        settledBytes: 4,
        delivery: Option.some(sent),
        failure: Option.some("refused"),
        trouble: Option.none(),
        held: false,
        freed: false
      }])
      const id = files[0]!.id
      expect((yield* store.read(id, 0, 10)).bytes).toStrictEqual(bytes)
      expect(yield* store.settled(id)).toEqual([[0, 4]])
      expect(Option.getOrThrow(yield* store.adopted("/big"))).toMatchObject({
        id: 2,
        version: Option.some("v1"),
        size: 1000,
        delivery: Option.some(sent)
      })
      expect(yield* store.knows("/big", "v1")).toBe(true)
      expect(Chunk.toReadonlyArray(yield* Stream.runCollect(store.receipts))).toMatchObject([
        { serverName: "old (1)", uploadId: "u0", revision: 1, resent: true, deliveredAt: 1600000000000 }
      ])
      yield* store.remember(id, { revision: Option.some(2) })
      yield* store.delivered(id, { serverName: "a", resent: false, sha256: Sha256.empty })
      expect(Chunk.size(yield* Stream.runCollect(store.receipts))).toBe(2)
      expect(raw(file, (database) => database.pragma("user_version", { simple: true }))).toBe(4)
    }))

  it.scoped("knows under which names servers of revision 1 have got something from it", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      SqliteFiles.writeVersion1(file, someBytes(10))
      raw(file, (database) => {
        database.exec("UPDATE files SET revision = 1 WHERE id = 2")
        database.exec(
          `INSERT INTO receipts (path, name, server_name, size, sha256, endpoint, upload_id, revision, resent, delivered_at)
            SELECT path, 'newer', server_name, size, sha256, endpoint, upload_id, 2, resent, delivered_at FROM receipts`
        )
      })
      const store = yield* opened(file)
      expect(yield* store.revision1Names("http://server/upload")).toEqual(["old", "sent"])
    }))

  it.scoped("has the same tables afterwards as a new one", () =>
    Effect.gen(function*() {
      const [old, fresh] = [yield* temporaryFile, yield* temporaryFile]
      SqliteFiles.writeVersion1(old, someBytes(10))
      yield* using(old, Effect.void)
      yield* using(fresh, Effect.void)
      const columns = (file: string) =>
        raw(file, (database) =>
          database.prepare(
            `SELECT entry.name AS entry, info.* FROM sqlite_schema AS entry, pragma_table_info(entry.name) AS info
            WHERE entry.name NOT LIKE 'sqlite%' ORDER BY entry.name, info.cid`
          ).all())
      expect(columns(old)).toEqual(columns(fresh))
      expect(columns(old).length).toBeGreaterThan(40)
    }))

  it.scopedLive("loses nothing when it is killed at any point of being brought up to date", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      SqliteFiles.writeVersion1(file, someBytes(10), 20_000)
      for (const delay of [0, 15, 40]) {
        const opener = yield* SqliteFiles.child(file, "open")
        yield* Effect.promise(async () => {
          await opener.printed
          await new Promise((resolve) => setTimeout(resolve, delay))
          await opener.kill()
        })
      }
      const files = yield* using(file, listed)
      expect(files.length).toBe(20_001)
      expect(yield* using(file, Effect.flatMap(ChunkStore.ChunkStore, (store) => store.adopted("/big")))).toMatchObject(
        Option.some({ id: 2 })
      )
    }))
})

/** Chunks of one file as the Python client cuts them. */
const chunksOf = (name: string, bytes: Uint8Array, chunkSize: number) =>
  Array.from(
    { length: Math.ceil(bytes.byteLength / chunkSize) },
    (_, index) => [name, index, bytes.subarray(index * chunkSize, (index + 1) * chunkSize)] as const
  )

describe("ChunkStoreSqlite, a buffer of the Python client", () => {
  it.scoped("takes every file over, in order, with its bytes", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      // Twelve chunks: by text, chunk 10 would come before chunk 2.
      const [absolute, relative] = [someBytes(12 * 5000 - 7, 1), someBytes(300, 2)]
      const chunks = chunksOf("/var/log/b.txt", absolute, 5000)
      SqliteFiles.writeLegacy(file, [...chunks.slice(6), ...chunksOf("./a.txt", relative, 1000), ...chunks.slice(0, 6)])
      Fs.chmodSync(file, 0o644)
      yield* using(
        file,
        Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const files = yield* listed
          const common = {
            ...unsent,
            destination: Option.none(),
            version: Option.none()
          }
          expect(files.map(({ addedAt: _addedAt, ...rest }) => rest)).toStrictEqual([
            {
              ...common,
              id: 1,
              path: "/var/log/b.txt",
              source: "python:/var/log/b.txt",
              name: "b.txt",
              chunkSize: 5000,
              size: absolute.byteLength,
              sha256: Option.some(Sha256.of(absolute)),
              chunks: 12
            },
            {
              ...common,
              id: 2,
              path: "./a.txt",
              source: "python:./a.txt",
              name: "a.txt",
              chunkSize: MiB,
              size: 300,
              sha256: Option.some(Sha256.of(relative)),
              chunks: 1
            }
          ])
          expect((yield* store.read(files[0]!.id, 0, absolute.byteLength)).bytes).toStrictEqual(absolute)
          expect((yield* store.read(files[1]!.id, 0, 300)).bytes).toStrictEqual(relative)
        })
      )
      const pragma = (name: string) => raw(file, (database) => database.pragma(name, { simple: true }))
      expect(["page_size", "auto_vacuum", "journal_mode", "user_version"].map(pragma)).toEqual([65536, 2, "wal", 4])
      if (!isWindows) expect(mode(file)).toBe(0o600)
      expect(yield* using(file, Effect.map(listed, (files) => files.length))).toBe(2)
    }))

  it.scoped("goes on with a half-sent file where the Python client stopped", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const bytes = someBytes(50)
      SqliteFiles.writeLegacy(file, chunksOf("/logs/../a.txt", bytes, 8).slice(3))
      yield* using(
        file,
        Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const [half] = yield* listed
          expect(half).toMatchObject({
            path: "/logs/../a.txt",
            name: "/logs/../a.txt",
            firstIndex: 3,
            size: 26,
            chunks: 4,
            chunkSize: 8,
            sha256: Option.some(Sha256.of(bytes.subarray(24))),
            failure: Option.none()
          })
          expect((yield* store.read(half!.id, 0, 26)).bytes).toStrictEqual(bytes.slice(24))
        })
      )
    }))

  it.scoped("keeps what cannot be sent as it is, and says why", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const [gap, mixed] = [chunksOf("gap", someBytes(50), 8), chunksOf("mixed", someBytes(50), 8)]
      SqliteFiles.writeLegacy(file, [
        ...gap.filter(([, index]) => index !== 2),
        ...mixed,
        ...chunksOf("mixed", someBytes(20, 2), 8)
      ])
      const files = yield* using(file, listed)
      expect(files.map(({ chunks, name, size }) => ({ chunks, name, size }))).toEqual([
        { name: "gap", size: 42, chunks: 6 },
        { name: "mixed", size: 46, chunks: 7 }
      ])
      expect(files.map(({ failure }) => Option.getOrThrow(failure).split(/[:.] /)[0])).toEqual([
        "Chunk 2 is missing from what the Python client had buffered",
        "Chunk 2 is shorter than those around it"
      ])
    }))

  it.scoped("takes an empty one over, and one that the Python client began anew in ours", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      SqliteFiles.writeLegacy(file, [])
      expect(yield* using(file, listed)).toEqual([])
      yield* using(file, add("/a", someBytes(10)))
      SqliteFiles.writeLegacy(file, chunksOf("late", someBytes(20), 8))
      expect((yield* using(file, listed)).map(({ name }) => name)).toEqual(["a", "late"])
      expect(raw(file, (database) => database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'chunks'").all()))
        .toEqual([])
    }))

  it.scopedLive("loses nothing when it is killed at any point of taking over, nor when two start at once", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const bytes = someBytes(40 * MiB)
      SqliteFiles.writeLegacy(file, [...chunksOf("one", bytes, 256 * 1024), ...chunksOf("two", someBytes(1000), 100)])
      for (const delay of [5, 60, 180]) {
        const taker = yield* SqliteFiles.child(file, "open")
        yield* Effect.promise(async () => {
          await taker.printed
          await new Promise((resolve) => setTimeout(resolve, delay))
          await taker.kill()
        })
      }
      const [one, other] = [
        yield* SqliteFiles.child(file, "open"),
        yield* SqliteFiles.child(file, "open")
      ]
      expect(yield* Effect.promise(() => Promise.all([one.exited, other.exited]))).toEqual([
        [0, "opening, 2 files"],
        [0, "opening, 2 files"]
      ])
      const [first] = yield* using(file, listed)
      expect(first).toMatchObject({
        name: "one",
        size: 40 * MiB,
        sha256: Option.some(Sha256.of(bytes)),
        failure: Option.none()
      })
      expect(raw(file, (database) => database.pragma("page_size", { simple: true }))).toBe(65536)
      yield* using(file, Effect.flatMap(ChunkStore.ChunkStore, (store) => store.clear))
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
    }))
})
