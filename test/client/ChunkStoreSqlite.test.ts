import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Option, Scope, TestClock } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { add, listed, newFile, someBytes, suite } from "../contract/ChunkStore.ts"
import * as SqliteFiles from "../support/sqliteFiles.ts"

suite("SQLite", SqliteFiles.layerTemporary)

const MiB = 1024 * 1024
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

  it.scoped("is its owner's only, with all that belongs to it", () =>
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

  it.scoped("leaves the mode of a folder that was there", () =>
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
      expect(["page_size", "auto_vacuum", "journal_mode", "user_version"].map(pragma)).toEqual([65536, 2, "wal", 1])
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
      raw(at("newer"), (database) => database.pragma("user_version = 2"))
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
      const holder = yield* SqliteFiles.child("bufferChild.ts", file, "claim")
      yield* Effect.promise(() => holder.printed)
      const id = ChunkStore.FileId.make(1)
      expect((yield* Effect.flip(Effect.scoped(store.claim(id))))._tag).toBe("AlreadyClaimed")
      yield* Effect.promise(holder.kill)
      yield* Effect.scoped(store.claim(id))
    }))

  it.scopedLive("removes at start what a killed process was adding", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const adder = yield* SqliteFiles.child("bufferChild.ts", file, "add")
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
  it.scopedLive("keeps the log and the memory small while much is added, and gives all back", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
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
      expect(Fs.statSync(file).size).toBeLessThan(5 * MiB)
      expect(Fs.statSync(`${file}-wal`).size).toBeLessThan(64 * MiB)
      expect((yield* store.read(kept.file, 0, 3 * MiB)).sha256).toBe(Sha256.of(someBytes(3 * MiB)))
      yield* store.clear
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
      expect(lateness).toBeLessThan(1000)
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
          const common = { firstIndex: 0, settledBytes: 0, delivery: Option.none(), failure: Option.none() }
          expect(files.map(({ addedAt: _addedAt, ...rest }) => rest)).toStrictEqual([
            {
              ...common,
              id: 1,
              path: "/var/log/b.txt",
              source: "python:/var/log/b.txt",
              name: "b.txt",
              chunkSize: 5000,
              size: absolute.byteLength,
              sha256: Sha256.of(absolute),
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
              sha256: Sha256.of(relative),
              chunks: 1
            }
          ])
          expect((yield* store.read(files[0]!.id, 0, absolute.byteLength)).bytes).toStrictEqual(absolute)
          expect((yield* store.read(files[1]!.id, 0, 300)).bytes).toStrictEqual(relative)
        })
      )
      const pragma = (name: string) => raw(file, (database) => database.pragma(name, { simple: true }))
      expect(["page_size", "auto_vacuum", "journal_mode", "user_version"].map(pragma)).toEqual([65536, 2, "wal", 1])
      expect(mode(file)).toBe(0o600)
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
            sha256: Sha256.of(bytes.subarray(24)),
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
        const taker = yield* SqliteFiles.child("bufferChild.ts", file, "open")
        yield* Effect.promise(async () => {
          await taker.printed
          await new Promise((resolve) => setTimeout(resolve, delay))
          await taker.kill()
        })
      }
      const [one, other] = [
        yield* SqliteFiles.child("bufferChild.ts", file, "open"),
        yield* SqliteFiles.child("bufferChild.ts", file, "open")
      ]
      expect(yield* Effect.promise(() => Promise.all([one.exited, other.exited]))).toEqual([
        [0, "opening, 2 files"],
        [0, "opening, 2 files"]
      ])
      const [first] = yield* using(file, listed)
      expect(first).toMatchObject({ name: "one", size: 40 * MiB, sha256: Sha256.of(bytes), failure: Option.none() })
      expect(raw(file, (database) => database.pragma("page_size", { simple: true }))).toBe(65536)
      yield* using(file, Effect.flatMap(ChunkStore.ChunkStore, (store) => store.clear))
      expect(Fs.statSync(file).size).toBeLessThan(2 * MiB)
    }))
})
