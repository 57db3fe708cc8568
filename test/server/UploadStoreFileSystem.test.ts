import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Option } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as Body from "../../src/server/Body.ts"
import { type Extent, UploadStore } from "../../src/server/UploadStore.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import { digestOf, key, safe, stage, suite, text } from "../contract/UploadStore.ts"
import { isWindows } from "../support/platform.ts"
import * as RawFiles from "../support/rawFiles.ts"
import * as RawSlowDisk from "../support/rawSlowDisk.ts"

suite(
  "file system",
  Layer.unwrapScoped(
    Effect.map(
      RawFiles.temporaryFolder,
      (folder) => Layer.merge(UploadStoreFileSystem.layer({ outputDir: folder }), RawFiles.layer(folder))
    )
  )
)

/** Runs with a store of its own on the folder; another call is another start of the server. */
const using = <A, E>(folder: string, use: Effect.Effect<A, E, UploadStore>) =>
  Effect.provide(use, UploadStoreFileSystem.layer({ outputDir: folder }))

const read = (...path: ReadonlyArray<string>) => Fs.readFileSync(Path.join(...path), "utf8")

/** Stages `bytes` and publishes them. */
const publish = Effect.fnUntraced(
  function*(name: string, bytes: string, mode: "exclusive" | "overwrite" = "exclusive", as = 1) {
    const store = yield* UploadStore
    const extents = yield* stage(key(as), bytes)
    yield* store.publish(key(as), Effect.succeed(extents), safe(name), mode)
  }
)

describe("UploadStoreFileSystem", () => {
  it.scoped.skipIf(isWindows)(
    "makes the output folder, and keeps its own files in one folder there, for the owner",
    () =>
      Effect.gen(function*() {
        const folder = Path.join(yield* RawFiles.temporaryFolder, "new", "output")
        yield* using(folder, stage(key(1), "abc"))
        expect(Fs.readdirSync(folder)).toEqual([".indexedcp"])
        expect(Fs.statSync(Path.join(folder, ".indexedcp")).mode & 0o007).toBe(0)
        expect(Fs.readdirSync(Path.join(folder, ".indexedcp", "parts"))).toEqual([key(1)])
      })
  )

  it.scoped("leaves a file that has the name as it was, to the inode", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const path = Path.join(folder, "a")
      Fs.writeFileSync(path, "theirs, longer")
      const before = Fs.statSync(path)
      expect(yield* Effect.flip(using(folder, publish("a", "ours")))).toMatchObject({ _tag: "NameTaken" })
      expect(read(path)).toBe("theirs, longer")
      expect(Fs.statSync(path)).toMatchObject({ ino: before.ino, mtimeMs: before.mtimeMs })
    }))

  it.scoped("overwrites by putting another file under the name: who reads the old one goes on reading it", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const path = Path.join(folder, "a")
      Fs.writeFileSync(path, "theirs")
      const reader = Fs.openSync(path, "r")
      yield* using(folder, publish("a", "ours", "overwrite"))
      expect(Fs.readFileSync(reader, "utf8")).toBe("theirs")
      Fs.closeSync(reader)
      expect(read(path)).toBe("ours")
    }))

  it.scoped("goes on after a restart with what it had", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const [first] = yield* using(folder, stage(key(1), "abc"))
      yield* using(
        folder,
        Effect.gen(function*() {
          const store = yield* UploadStore
          expect((yield* Effect.flip(store.reserve(key(1), { size: Option.none() })))._tag).toBe("ServerFailure")
          const second = yield* store.write({ key: key(1), offset: 3, limit: 3 }, Body.of(text("def")))
          const extents = Effect.succeed([first, second])
          expect(yield* digestOf(key(1), 6)).toBe(Sha256.of(text("abcdef")))
          yield* store.publish(key(1), extents, safe("a"), "exclusive")
        })
      )
      yield* using(
        folder,
        Effect.gen(function*() {
          const store = yield* UploadStore
          expect(yield* store.holder(key(1), safe("a"))).toBe("upload")
          yield* store.publish(key(1), Effect.succeed([first]), safe("a"), "exclusive")
        })
      )
      expect(read(folder, "a")).toBe("abcdef")
    }))

  it.scoped("says of a part file that was shortened behind its back that it is", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      yield* using(folder, stage(key(1), "abc"))
      Fs.truncateSync(Path.join(folder, ".indexedcp", "parts", key(1)), 2)
      const digest = digestOf(key(1), 3)
      expect((yield* Effect.flip(using(folder, digest)))._tag).toBe("ServerFailure")
    }))

  describe("after a sync that failed", () => {
    /** A store whose disk can be told to fail, with an upload in it. */
    const make = Effect.gen(function*() {
      const disk = RawSlowDisk.make()
      const outputDir = yield* RawFiles.temporaryFolder
      const context = yield* Layer.build(UploadStoreFileSystem.layer({ outputDir, calls: disk.calls }))
      const store = Context.get(context, UploadStore)
      yield* store.reserve(key(1), { size: Option.none() })
      const write = (offset: number, bytes: string) =>
        store.write({ key: key(1), offset, limit: bytes.length }, Body.of(text(bytes)))
      const sync = (...extents: ReadonlyArray<Extent>) => store.sync(extents.map((extent) => ({ key: key(1), extent })))
      return { disk, store, write, sync }
    })
    const refused = expect.objectContaining({ _tag: "ServerFailure" })

    it.scopedLive("makes good of nothing that was written before, by whichever request", () =>
      Effect.gen(function*() {
        const { disk, sync, write } = yield* make
        const before = yield* write(0, "ab")
        yield* sync(before)
        const [first, second] = [yield* write(2, "cd"), yield* write(4, "ef")]
        disk.fail("datasync", "EIO")
        expect(yield* Effect.flip(sync(first))).toEqual(refused)
        for (const extents of [[first], [second], [before, second]]) {
          expect(yield* Effect.flip(sync(...extents))).toEqual(refused)
        }
        // written again they are as good as any
        yield* sync(yield* write(2, "cd"), yield* write(4, "ef"), yield* write(6, "gh"))
      }))

    it.scopedLive("nor of a body that had begun before", () =>
      Effect.gen(function*() {
        const { disk, sync, write } = yield* make
        const first = yield* write(0, "ab")
        const held = disk.hold("writev")
        const late = yield* Effect.fork(write(2, "cd"))
        yield* held.reached
        disk.fail("datasync", "ENOSPC")
        expect((yield* Effect.flip(sync(first)))._tag).toBe("StorageFull")
        yield* held.go
        // as that sync failed, so does this one
        expect((yield* Effect.flip(sync(yield* Fiber.join(late))))._tag).toBe("StorageFull")
      }))

    it.scopedLive("nor of what is written while the sync is on its way", () =>
      Effect.gen(function*() {
        const { disk, sync, write } = yield* make
        const first = yield* write(0, "ab")
        const held = disk.hold("datasync")
        const syncing = yield* Effect.fork(Effect.flip(sync(first)))
        yield* held.reached
        const meanwhile = yield* write(2, "cd")
        disk.pause = () => Promise.reject(Object.assign(new Error("EIO"), { code: "EIO" }))
        yield* held.go
        expect(yield* Fiber.join(syncing)).toEqual(refused)
        disk.pause = () => Promise.resolve()
        expect(yield* Effect.flip(sync(meanwhile))).toEqual(refused)
      }))

    it.scopedLive("nor of bytes that were carried over, or when it was the sync of a trim", () =>
      Effect.gen(function*() {
        const { disk, store, sync, write } = yield* make
        const first = yield* write(0, "abcd")
        disk.fail("datasync", "EIO")
        expect(yield* Effect.flip(store.trim(key(1), 2))).toEqual(refused)
        expect(yield* Effect.flip(sync(first))).toEqual(refused)
        yield* sync(yield* write(0, "abcd"))
        yield* store.reserve(key(2), { size: Option.none() })
        const [carried] = yield* store.carry(key(1), [first], key(2))
        disk.fail("datasync", "EIO")
        expect(yield* Effect.flip(store.sync([{ key: key(2), extent: carried! }]))).toEqual(refused)
        expect(yield* Effect.flip(store.sync([{ key: key(2), extent: carried! }]))).toEqual(refused)
      }))
  })

  it.scopedLive("trims durably, though a process before it trimmed and did not come to the sync", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      yield* using(folder, stage(key(1), "abcdef"))
      Fs.truncateSync(Path.join(folder, ".indexedcp", "parts", key(1)), 3)
      const disk = RawSlowDisk.make()
      const context = yield* Layer.build(UploadStoreFileSystem.layer({ outputDir: folder, calls: disk.calls }))
      const store = Context.get(context, UploadStore)
      yield* store.trim(key(1), 3)
      expect(disk.made).toEqual(["datasync"])
      // what this process has synced it need not sync again
      yield* store.trim(key(1), 3)
      expect(disk.made).toEqual(["datasync"])
    }))

  it.scoped("says why a folder cannot be used", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      Fs.writeFileSync(Path.join(folder, "file"), "")
      const error = yield* Effect.flip(using(Path.join(folder, "file"), Effect.void))
      expect(error).toMatchObject({ _tag: "ServerFailure", message: expect.stringContaining("EEXIST") })
    }))

  it.scoped.skipIf(isWindows)(
    "makes files of exactly the mode it was given and folders for owner and group, whatever the umask",
    () =>
      Effect.gen(function*() {
        const mode = (path: string) => Fs.statSync(path).mode & 0o7777
        const umask = process.umask()
        yield* Effect.addFinalizer(() => Effect.sync(() => process.umask(umask)))
        for (
          const [mask, fileMode, made] of [[0, undefined, 0o640], [0o077, undefined, 0o640], [0o077, 0o664, 0o664]]
        ) {
          const folder = yield* RawFiles.temporaryFolder
          process.umask(mask!)
          yield* Effect.provide(
            Effect.andThen(publish("x/y/a", "ours"), publish("x/y/b", "ours", "overwrite", 2)),
            UploadStoreFileSystem.layer({ outputDir: folder, ...(fileMode === undefined ? {} : { fileMode }) })
          )
          const at = (...path: ReadonlyArray<string>) => mode(Path.join(folder, ...path))
          expect([at("x", "y", "a"), at("x", "y", "b")]).toEqual([made, made])
          expect([at("x"), at("x", "y"), at(".indexedcp"), at(".indexedcp", "parts")]).toEqual([
            0o750,
            0o750,
            0o750,
            0o750
          ])
        }
      })
  )

  it.scoped.each([0o750, 0o641, 0o650, 0o4640, 0o440, -1, 0.5])(
    "refuses a mode with which files could be executed or not gone on with: %d",
    (fileMode) =>
      Effect.gen(function*() {
        const outputDir = Path.join(yield* RawFiles.temporaryFolder, "output")
        const error = yield* Effect.flip(Layer.build(UploadStoreFileSystem.layer({ outputDir, fileMode })))
        expect(error).toMatchObject({ _tag: "ServerFailure", message: expect.stringContaining("choose one like 0640") })
        expect(Fs.existsSync(outputDir)).toBe(false)
      })
  )

  it.scoped("leaves no traces of its proofs", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      yield* using(folder, Effect.void)
      expect(Fs.readdirSync(folder, { recursive: true })).toEqual([".indexedcp", Path.join(".indexedcp", "parts")])
    }))
})
