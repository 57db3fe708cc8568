/**
 * Buffers whose long pieces lie in files beside the database.
 *
 * @module
 */
import type { SqlError } from "@effect/sql/SqlError"
import { describe, expect, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Scope, Stream } from "effect"
import * as Fs from "node:fs"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as PieceFiles from "../../src/client/internal/pieceFiles.ts"
import * as SqliteDatabase from "../../src/client/internal/sqliteDatabase.ts"
import type * as Source from "../../src/client/Source.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import { add, listed, newFile, someBytes, suite } from "../contract/ChunkStore.ts"
import * as World from "../support/clientWorld.ts"
import { isWindows } from "../support/platform.ts"
import * as SqliteFiles from "../support/sqliteFiles.ts"

const { raw, temporaryFile } = SqliteFiles

const layer = (file: string, options: { readonly maxBytes?: number; readonly longPiece?: number } = {}) =>
  ChunkStoreSqlite.layer({ file, longPiece: 1, ...options })

suite("SQLite, each piece in a file of its own", Layer.unwrapScoped(Effect.map(temporaryFile, (file) => layer(file))))

const folderOf = (file: string) => `${file}.pieces`
const pieces = (file: string): ReadonlyArray<string> =>
  Fs.existsSync(folderOf(file)) ? Fs.readdirSync(folderOf(file)) : []
const loose = (file: string) => raw(file, (database) => database.prepare("SELECT * FROM loose").all().length)

/** Runs with a buffer of its own on the file. */
const using = <A, E>(
  file: string,
  use: Effect.Effect<A, E, ChunkStore.ChunkStore>,
  options?: Parameters<typeof layer>[1]
) => Effect.provide(use, layer(file, options))

const opened = (file: string) =>
  Effect.map(
    Effect.flatMap(Effect.scope, (scope) => Layer.buildWithScope(layer(file), scope)),
    (context) => Context.get(context, ChunkStore.ChunkStore)
  )

/** Puts something in place of a method of all open files, until the scope closes. */
const replaced = (
  file: string,
  method: "sync" | "datasync",
  by: (original: () => Promise<void>) => () => Promise<void>
) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const handle = await Fs.promises.open(file)
      await handle.close()
      const prototype = Object.getPrototypeOf(handle) as typeof handle
      const original = prototype[method]
      prototype[method] = function() {
        return by(() => original.call(this))()
      }
      return () => void (prototype[method] = original)
    }),
    (restore) => Effect.sync(restore)
  )

const delivery = { endpoint: World.endpoint, name: "sent", uploadId: UploadId.make("u1") }
const done = { serverName: "a", resent: false, sha256: Sha256.empty }

describe("Pieces in files", () => {
  it.scoped("are those that are long, and their owner's only", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(
        file,
        Effect.gen(function*() {
          yield* add("/short", someBytes(999), 1000)
          expect(pieces(file)).toEqual([])
          const { file: id } = yield* add("/long", someBytes(2500), 1000)
          expect(pieces(file)).toHaveLength(2)
          const store = yield* ChunkStore.ChunkStore
          expect((yield* store.read(id, 0, 2500)).bytes).toStrictEqual(someBytes(2500))
        }),
        { longPiece: 1000 }
      )
      if (isWindows) return
      const modes = [folderOf(file), ...pieces(file).map((name) => `${folderOf(file)}/${name}`)]
        .map((path) => Fs.statSync(path).mode & 0o777)
      expect(modes).toEqual([0o700, 0o600, 0o600])
    }))

  it.scoped("are there after a restart, and go when their file is delivered, dropped, replaced or freed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(10)))
      expect(pieces(file)).toHaveLength(3)
      yield* using(
        file,
        Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const [a] = yield* listed
          expect((yield* store.read(a!.id, 0, 10)).bytes).toStrictEqual(someBytes(10))
          // the same source again takes its place
          const { file: again } = yield* add("/a", someBytes(12))
          expect(pieces(file)).toHaveLength(3)
          yield* store.startDelivery(again, delivery)
          yield* store.settle(again, 0, 8, { free: true, known: { revision: Option.some(2) } })
          expect(pieces(file)).toHaveLength(1)
          yield* store.delivered(again, done)
          expect(pieces(file)).toEqual([])
          const { file: dropped } = yield* add("/b", someBytes(10))
          yield* store.drop(dropped)
          expect(pieces(file)).toEqual([])
          yield* add("/c", someBytes(10))
          yield* store.clear
          expect(pieces(file)).toEqual([])
          expect(loose(file)).toBe(0)
        })
      )
    }))

  it.scoped("go when nobody seals their file", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const scope = yield* Scope.make()
      const begun = yield* Scope.extend(store.begin(newFile("/a")), scope)
      yield* store.append(begun, someBytes(4))
      expect(pieces(file)).toHaveLength(1)
      yield* Scope.close(scope, Exit.void)
      expect(pieces(file)).toEqual([])
    }))

  it.scopedLive("go at the next start when their program was killed, also where it had not recorded them", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const adder = yield* SqliteFiles.child(file, "add", "1")
      yield* Effect.promise(() => adder.printed)
      expect(pieces(file)).toHaveLength(2)
      // as if it was killed between the writing of a third one and its record
      const owner = raw(file, (database) => database.prepare("SELECT id FROM owners").all()[0]!["id"])
      Fs.writeFileSync(`${folderOf(file)}/half`, "half")
      raw(file, (database) => database.prepare("INSERT INTO loose (name, owner) VALUES ('half', ?)").run(owner))
      yield* using(file, Effect.void)
      expect(pieces(file)).toHaveLength(3)
      yield* Effect.promise(adder.kill)
      yield* using(file, Effect.void)
      expect(pieces(file)).toEqual([])
      expect(loose(file)).toBe(0)
    }))

  it.scoped("stay when the removal of their records is not recorded yet, and go then", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(10)))
      // as another program leaves it that was killed after the removal
      raw(file, (database) => database.exec("DELETE FROM pieces; DELETE FROM files"))
      expect(pieces(file)).toHaveLength(3)
      yield* using(file, Effect.void)
      expect(pieces(file)).toEqual([])
    }))

  it.scoped("are written when the disk has it that they may have to go", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const commits = yield* SqliteFiles.commits((setting) => [setting("synchronous") === 2, pieces(file).length])
      const store = yield* opened(file)
      const id = yield* store.begin(newFile("/a"))
      commits.length = 0
      yield* store.append(id, someBytes(4))
      expect(commits).toEqual([[true, 0], [false, 1]])
    }))

  it.scoped("are removed when the disk has it that their records are", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const commits = yield* SqliteFiles.commits((setting) => ({
        isSynced: setting("synchronous") === 2,
        log: Fs.existsSync(`${file}-wal`) ? Fs.statSync(`${file}-wal`).size : 0,
        left: pieces(file).length
      }))
      const store = yield* opened(file)
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(8)), ChunkStore.ChunkStore, store)
      yield* store.startDelivery(id, delivery)
      yield* store.remember(id, { revision: Option.some(2) })
      raw(file, (database) => database.pragma("wal_checkpoint(TRUNCATE)"))
      commits.length = 0
      yield* store.settle(id, 0, 4, { free: true })
      expect(commits.map(({ isSynced, left }) => [isSynced, left])).toEqual([[false, 2], [true, 2], [false, 1]])
      // what changes nothing is not synced
      expect(commits[2]!.log).toBeGreaterThan(commits[1]!.log)
    }))

  it.scoped("go when their owner was taken for dead before it wrote them", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, Effect.void)
      const database = yield* SqliteDatabase.open(file)
      // as another program does, that sweeps as soon as it can
      const clear = yield* Effect.once(Effect.sync(() => raw(file, (database) => database.exec("DELETE FROM loose"))))
      const files = PieceFiles.make({
        ...database,
        write: (statements) => Effect.zipLeft(database.write(statements), clear)
      })
      expect(
        yield* Effect.flip(files.write(1 as ChunkStore.FileId, 1, someBytes(4), () => Effect.fail("gone")))
      ).toBe("gone")
      expect(pieces(file)).toEqual([])
    }))

  it.scoped("stay when it is not told that their record was made", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const id = yield* store.begin(newFile("/a"))
      const database = yield* SqliteDatabase.open(file)
      const files = PieceFiles.make(database)
      const record = (name: string, keep: Effect.Effect<unknown, SqlError>) =>
        database.write(
          Effect.zipRight(
            database.sql`INSERT INTO pieces (file, start, length, sha256, encoding, data)
              VALUES (${id}, 0, 4, ${Sha256.empty}, 1, ${PieceFiles.toData({ name, prefix: Sha256.empty })})`,
            keep
          )
        )
      yield* Effect.flip(
        files.write(
          id,
          1,
          someBytes(4),
          (name, keep) => Effect.zipRight(record(name, keep), Effect.fail("interrupted"))
        )
      )
      expect(pieces(file)).toHaveLength(1)
      expect(loose(file)).toBe(0)
    }))

  it.scopedLive.skipIf(isWindows)(
    "are on the disk before any of their files is sealed, also while another one is",
    () =>
      Effect.gen(function*() {
        const file = yield* temporaryFile
        const store = yield* opened(file)
        const [a, b] = [yield* store.begin(newFile("/a")), yield* store.begin(newFile("/b"))]
        yield* store.append(a, someBytes(4))
        yield* store.append(b, someBytes(4))
        const [asked, gate] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
        yield* replaced(file, "sync", (sync) => async () => {
          await Effect.runPromise(Effect.zipRight(Deferred.succeed(asked, undefined), Deferred.await(gate)))
          return sync()
        })
        yield* Effect.addFinalizer(() => Deferred.succeed(gate, undefined))
        const seal = (id: ChunkStore.FileId) => Effect.fork(store.seal(id, { size: 4, sha256: Sha256.empty }))
        const first = yield* seal(a)
        yield* Deferred.await(asked)
        const second = yield* seal(b)
        yield* Effect.sleep("100 millis")
        const sealed = Effect.provideService(listed, ChunkStore.ChunkStore, store)
        expect(yield* sealed).toEqual([])
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(first)
        yield* Fiber.join(second)
        expect(yield* sealed).toHaveLength(2)
      })
  )

  it.scopedLive("are synced while the next ones come, and all of them before their file is sealed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const syncs: Array<() => void> = []
      yield* replaced(file, "datasync", (datasync) => () => new Promise((end) => syncs.push(() => end(datasync()))))
      const id = yield* store.begin(newFile("/a"))
      yield* store.append(id, someBytes(4))
      yield* store.append(id, someBytes(4))
      // not more than that is left to be synced
      const third = yield* Effect.fork(store.append(id, someBytes(4)))
      yield* Effect.sleep("50 millis")
      expect(third.unsafePoll()).toBe(null)
      syncs[0]!()
      yield* Fiber.join(third)
      const sealed = yield* Effect.fork(store.seal(id, { size: 12, sha256: Sha256.empty }))
      syncs[1]!()
      yield* Effect.sleep("50 millis")
      expect(sealed.unsafePoll()).toBe(null)
      syncs[2]!()
      yield* Fiber.join(sealed)
      expect(yield* Effect.provideService(listed, ChunkStore.ChunkStore, store)).toHaveLength(1)
    }))

  it.scopedLive("whose sync fails are not sealed", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      yield* Effect.scoped(Effect.gen(function*() {
        yield* replaced(file, "datasync", () => () => Promise.reject(new Error("EIO: i/o error, fdatasync")))
        const id = yield* store.begin(newFile("/a"))
        yield* store.append(id, someBytes(4))
        expect(yield* Effect.flip(store.seal(id, { size: 4, sha256: Sha256.empty }))).toMatchObject({
          _tag: "ChunkStoreError",
          message: expect.stringContaining("cannot be synced: EIO")
        })
      }))
      expect(yield* Effect.provideService(listed, ChunkStore.ChunkStore, store)).toEqual([])
      expect(pieces(file)).toEqual([])
    }))

  it.scoped.skipIf(isWindows)("are the same under every name of the database", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      yield* using(file, add("/a", someBytes(4)))
      const link = `${file}.link`
      Fs.symlinkSync(file, link)
      yield* using(
        link,
        Effect.gen(function*() {
          const store = yield* ChunkStore.ChunkStore
          const [a] = yield* listed
          expect((yield* store.read(a!.id, 0, 4)).bytes).toStrictEqual(someBytes(4))
          yield* store.drop(a!.id)
        })
      )
      expect(pieces(file)).toEqual([])
      expect(Fs.existsSync(folderOf(link))).toBe(false)
    }))

  it.scoped("count for the limit of the buffer", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const MiB = 1024 * 1024
      yield* using(
        file,
        Effect.gen(function*() {
          yield* add("/a", someBytes(2 * MiB), MiB)
          expect(yield* Effect.flip(add("/b", someBytes(2 * MiB), MiB))).toMatchObject({ _tag: "BufferFull" })
          expect(pieces(file)).toHaveLength(2)
          const store = yield* ChunkStore.ChunkStore
          yield* store.clear
          yield* add("/b", someBytes(2 * MiB), MiB)
        }),
        { maxBytes: 4 * MiB }
      )
    }))

  it.scoped("are damaged when they are changed, cut or gone", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const { file: id } = yield* Effect.provideService(add("/a", someBytes(4)), ChunkStore.ChunkStore, store)
      const path = `${folderOf(file)}/${pieces(file)[0]}`
      for (
        const damage of [
          () => Fs.writeFileSync(path, someBytes(4, 2)),
          () => Fs.truncateSync(path, 3),
          () => Fs.rmSync(path)
        ]
      ) {
        damage()
        for (const [from, to] of [[0, 4], [1, 2]] as const) {
          expect(yield* Effect.flip(store.read(id, from, to))).toMatchObject({ _tag: "PieceDamaged", offset: 0 })
        }
      }
    }))

  // on the true clock: on the test clock any request may be a long one, and bodies are shorter then
  it.scopedLive("come with the hash of all bytes up to their end, which tells the server when they are damaged", () =>
    Effect.gen(function*() {
      const file = yield* temporaryFile
      const store = yield* opened(file)
      const { files, transport } = yield* World.server
      const chunkSize = 2 * 1024 * 1024
      const client = yield* World.client(transport, {}, { store, chunkSize, largestBody: chunkSize })
      const upload = Effect.map(
        Stream.runCollect(client.uploader.upload({ endpoint: World.endpoint })),
        (events) => Array.from(events).filter((event) => event._tag === "Finished")
      )
      const bytes = World.bytesOf(5 * chunkSize)
      yield* client.add("a.bin", bytes)
      expect(yield* upload).toMatchObject([{ state: "delivered" }])
      expect(Sha256.of((yield* World.content(files, "a.bin"))!)).toBe(Sha256.of(bytes))
      expect(client.sends().map(({ headers }) => headers["prefix-digest"])).toEqual([
        undefined,
        ...[2, 3, 4, 5].map((chunks) => Sha256.toHeader(Sha256.of(bytes.subarray(0, chunks * chunkSize))))
      ])

      const damaged = yield* client.add("b.bin", bytes)
      const row = raw(
        file,
        (database) =>
          database.prepare("SELECT data FROM pieces WHERE file = ? AND start = ?").all(damaged.id, 2 * chunkSize)[0]!
      )
      const name = Buffer.from(row["data"] as Uint8Array).toString().slice(0, 32)
      Fs.writeFileSync(`${folderOf(file)}/${name}`, World.bytesOf(chunkSize, 9))
      expect(yield* upload).toMatchObject([{
        state: "failed",
        error: Option.some(expect.stringContaining("are not those that were added"))
      }])
      expect(yield* files.names).toEqual(["a.bin"])
    }))
})

/** What a source gives in pieces that the buffer does not ask for, and as a file. */
describe("Storing", () => {
  it.scoped("reads a file into two memories in turn, and stores what it read", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const store = yield* opened(yield* temporaryFile)
      const client = yield* World.client(transport, {}, { store })
      for (const size of [0, 1, 3, 4, 5, 8, 11, 40]) {
        const bytes = World.bytesOf(size)
        const external: Source.External = {
          size,
          version: "1",
          open: Effect.succeed((into, from) => Effect.sync(() => into.set(bytes.subarray(from, from + into.length))))
        }
        const { file } = yield* client.uploader.add({
          path: `${size}`,
          source: `/${size}`,
          name: `${size}`,
          bytes: () => {
            throw new Error("not asked")
          },
          external: Effect.succeed(external)
        })
        expect(file.sha256).toEqual(Option.some(Sha256.of(bytes)))
        expect((yield* store.read(file.id, 0, size)).bytes).toStrictEqual(new Uint8Array(bytes))
      }
    }))
})
