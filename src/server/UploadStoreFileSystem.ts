/**
 * Uploads in a folder: part files in `<output>/.indexedcp/parts`, final names as hard links to them.
 *
 * @module
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { constants } from "node:fs"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { ServerFailure, StorageFull } from "../protocol/ProtocolError.ts"
import * as Sha256 from "../protocol/Sha256.ts"
import * as Body from "./Body.ts"
import {
  code,
  type Disk,
  type Durability,
  type FileSystemCalls,
  make as makeDisk,
  readAll,
  unless,
  writeAll
} from "./internal/disk.ts"
import * as Syncs from "./internal/syncs.ts"
import * as SafeName from "./SafeName.ts"
import { type Extent, NameTaken, type StoreError, UploadKey, UploadStore } from "./UploadStore.ts"

/** Maps what the file system threw: no room is `StorageFull`, all else `ServerFailure`. */
const failure = (doing: string) => (cause: unknown): StoreError =>
  ["ENOSPC", "EDQUOT", "EFBIG"].includes(code(cause) ?? "")
    ? new StorageFull({ message: "The server has no room left for this file; it will be taken once there is" })
    : new ServerFailure({
      message: `The server's output folder failed (${doing}: ${code(cause) ?? String(cause)})`,
      cause
    })

const io = <A>(doing: string, run: () => Promise<A>): Effect.Effect<A, StoreError> =>
  Effect.uninterruptible(Effect.tryPromise({ try: run, catch: failure(doing) }))

const isKey = Schema.is(UploadKey)

/** The folders that lead to the output folder may have been made just now, by us or before a crash. */
const syncAbove = async (disk: Disk, outputDir: string): Promise<void> => {
  for (let folder = outputDir; folder !== Path.dirname(folder);) {
    folder = Path.dirname(folder)
    // one that cannot be opened or synced was there before us
    await unless(["EACCES", "EPERM", "EINVAL", "EROFS", "ENOTSUP"], () => disk.syncFolder(folder))
  }
}

/** Where the start tries out links; a crash may leave it. */
const probeOf = (outputDir: string): string => Path.join(outputDir, `${SafeName.reserved}-probe`)

const make = (
  disk: Disk,
  outputDir: string
): Effect.Effect<Context.Tag.Service<UploadStore>, StoreError, Scope.Scope> =>
  Effect.gen(function*() {
    const own = Path.join(outputDir, SafeName.reserved)
    const parts = Path.join(own, "parts")
    yield* io("making folders", async () => {
      await disk.mkdir(parts, { recursive: true, mode: 0o750 })
      // with the part files that a process before this one made and did not sync
      await disk.syncFolder(parts)
      await disk.syncFolder(own)
      await disk.syncFolder(outputDir)
      await syncAbove(disk, outputDir)
    })
    yield* io("clearing up", async () => {
      for (const name of await disk.readdir(parts)) {
        // a folder there is not ours
        if (!isKey(name)) await unless(["ERR_FS_EISDIR"], () => disk.rm(Path.join(parts, name), { force: true }))
      }
      await disk.rm(probeOf(outputDir), { force: true })
    })
    yield* prove(disk, parts, outputDir)

    const part = (key: UploadKey) => Path.join(parts, key)
    const handles = yield* RcMap.make({
      lookup: (key: UploadKey) =>
        Effect.acquireRelease(
          io("opening a part file", () => disk.open(part(key), "r+")),
          (handle) => Effect.promise(() => handle.close())
        ),
      idleTimeToLive: "5 seconds"
    })
    const withHandle = <A, E>(key: UploadKey, f: (handle: Fs.FileHandle) => Effect.Effect<A, E>) =>
      Effect.scoped(Effect.flatMap(RcMap.get(handles, key), f))

    /** Part files whose folder entry is not durable yet. */
    const fresh = new Set<UploadKey>()

    const syncs = Syncs.make(disk)
    const syncPart = (key: UploadKey) =>
      withHandle(key, (handle) => io("syncing a part file", () => syncs.sync(key, handle)))

    /** Fails as the sync did that may have lost bytes of these extents. */
    const refuseDoubtful = (written: ReadonlyArray<{ readonly key: UploadKey; readonly extent?: Extent }>) =>
      Effect.forEach(written, ({ extent, key }) => {
        const failed = extent === undefined ? undefined : syncs.failureSince(key, extent)
        return failed === undefined ? Effect.void : Effect.fail(failure("syncing a part file")(failed.cause))
      }, { discard: true })

    /** The folder of a final name, made if missing; none of its parts may be a link out of the output folder. */
    const folderOf = async (name: SafeName.SafeName): Promise<string> => {
      let folder = outputDir
      for (const step of name.split("/").slice(0, -1)) {
        const next = Path.join(folder, step)
        await unless(["EEXIST"], () => disk.mkdir(next, { mode: 0o750 }))
        // also when it is there: whoever made it may not have come to this
        await disk.syncFolder(folder)
        if (!(await disk.lstat(next)).isDirectory()) {
          throw Object.assign(new Error(`${next} is not a folder`), { code: "ENOTDIR" })
        }
        folder = next
      }
      return folder
    }

    return {
      limits: { minPiece: 1, maxPiece: Number.MAX_SAFE_INTEGER, append: true },
      free: disk.statfs === undefined
        ? Effect.succeedNone
        : io("asking for free space", () => disk.statfs!(parts)).pipe(
          Effect.map(({ bavail, bsize }) => Option.some(bavail * bsize))
        ),
      probe: io("trying out the disk", async () => {
        const handle = await disk.open(Path.join(parts, "ready"), "w", 0o600)
        await handle.close()
        await disk.rm(Path.join(parts, "ready"), { force: true })
      }),
      reserve: (key) =>
        io("making a part file", async () => {
          const handle = await disk.open(part(key), "wx", 0o640)
          fresh.add(key)
          await handle.close()
        }),
      write: (to, body) =>
        withHandle(to.key, (handle) =>
          Effect.suspend(() => {
            const wrote = syncs.begin(to.key)
            return Effect.map(
              Body.consume(body, {
                limit: to.limit,
                write: (pieces, at) => writeAll(handle, pieces, to.offset + at),
                onWriteError: failure("writing")
              }),
              (written) => wrote({ offset: to.offset, locator: "", ...written })
            )
          })),
      sync: (written) =>
        Effect.gen(function*() {
          const keys = [...new Set(written.map(({ key }) => key))]
          yield* refuseDoubtful(written)
          yield* Effect.forEach(keys, syncPart, { concurrency: 8, discard: true })
          yield* refuseDoubtful(written)
          const made = keys.filter((key) => fresh.has(key))
          if (made.length > 0) yield* io("syncing a folder", () => disk.syncFolder(parts))
          made.forEach((key) => fresh.delete(key))
        }),
      read: (key, _, range, take) =>
        withHandle(key, (handle) => io("reading a part file", () => readAll(handle, range, take))),
      contentOf: (name) =>
        io("reading a file", async () => {
          let found = Option.none<Sha256.Sha256>()
          await unless(["ENOENT", "ENOTDIR", "ELOOP", "EISDIR"], async () => {
            const handle = await disk.open(Path.join(outputDir, name), constants.O_RDONLY | constants.O_NOFOLLOW)
            try {
              const hasher = Sha256.make()
              await readAll(handle, [0, (await handle.stat()).size], hasher.update)
              found = Option.some(hasher.digest())
            } finally {
              await handle.close()
            }
          })
          return found
        }),
      length: (key) =>
        io("looking at a part file", async () => {
          let found = Option.none<number>()
          await unless(["ENOENT"], async () => {
            found = Option.some((await disk.lstat(part(key))).size)
          })
          return found
        }),
      keys: io("listing part files", async () => (await disk.readdir(parts)).filter(isKey)),
      publish: (key, _, name, mode) =>
        Effect.gen(function*() {
          const target = Path.join(outputDir, name)
          const taken = new NameTaken({ name, message: `There is a file ${name} on the server already` })
          yield* Effect.uninterruptible(Effect.tryPromise({
            try: async () => {
              const folder = await folderOf(name)
              const there = await disk.identity(target)
              if (there !== undefined && there === (await disk.identity(part(key)))) return disk.syncFolder(folder)
              if (mode === "exclusive") {
                await disk.link(part(key), target)
              } else {
                const beside = `${part(key)}.publish`
                await disk.rm(beside, { force: true })
                await disk.link(part(key), beside)
                await disk.rename(beside, target)
              }
              return disk.syncFolder(folder)
            },
            catch: (cause) =>
              ["EEXIST", "EISDIR", "ENOTEMPTY"].includes(code(cause) ?? "")
                ? taken
                : failure("publishing")(cause)
          }))
        }),
      holder: (key, name) =>
        io("looking at a file", async () => {
          const there = await disk.identity(Path.join(outputDir, name))
          return there === undefined ? "nobody" : there === (await disk.identity(part(key))) ? "upload" : "other"
        }),
      carry: (from, extents, to) =>
        withHandle(from, (source) =>
          withHandle(to, (target) =>
            io("copying a part file", async () => {
              const wrote = syncs.begin(to)
              for (const { length, offset } of extents) {
                await readAll(source, [offset, offset + length], (bytes, at) => writeAll(target, [bytes], at))
              }
              return extents.map((extent) => wrote({ ...extent }))
            }))),
      trim: (key, length) =>
        withHandle(key, (handle) =>
          io("trimming a part file", async () => {
            const isLonger = (await handle.stat()).size > length
            // a process before this one may have died between the two
            if (!isLonger && syncs.isSynced(key)) return
            if (isLonger) await handle.truncate(length)
            await syncs.sync(key, handle)
          })),
      drop: (key) =>
        Effect.andThen(
          RcMap.invalidate(handles, key),
          io("removing a part file", async () => {
            await disk.rm(part(key), { force: true })
            await disk.rm(`${part(key)}.publish`, { force: true })
            syncs.forget(key)
          })
        )
    }
  })

/** Proves that the folder can do what the promises rest on: links, exclusive creation, folder sync. */
const prove = (disk: Disk, parts: string, outputDir: string) =>
  Effect.gen(function*() {
    const probe = Path.join(parts, "probe")
    const linked = probeOf(outputDir)
    yield* io("proving links and exclusive creation", async () => {
      try {
        await (await disk.open(probe, "wx")).close()
        await disk.link(probe, linked)
        await unless(["EEXIST"], async () => {
          await disk.link(probe, linked)
          throw new Error("a second link over a file was not refused")
        })
      } finally {
        await disk.rm(linked, { force: true })
        await disk.rm(probe, { force: true })
      }
    })
    const synced = yield* Effect.option(io("syncing a folder", () => disk.syncFolder(outputDir)))
    if (Option.isNone(synced) || process.platform === "win32") {
      yield* Effect.logWarning("Folders cannot be synced here: after a power cut a new file may lack its name")
    }
  })

export interface FolderOptions {
  readonly outputDir: string
  /** Default `power`. */
  readonly durability?: Durability
  /** Default: `node:fs/promises`. */
  readonly calls?: FileSystemCalls
}

/**
 * Uploads in `outputDir`, which is made if missing. Its file system must have hard links; the layer proves that when it is
 * built.
 */
export const layer = (options: FolderOptions): Layer.Layer<UploadStore, StoreError> =>
  Layer.scoped(
    UploadStore,
    Effect.suspend(() => {
      const outputDir = Path.resolve(options.outputDir)
      const disk = makeDisk(options.calls ?? Fs, options.durability ?? "power")
      return Effect.andThen(
        io(`making ${outputDir}`, () => disk.mkdir(outputDir, { recursive: true })),
        make(disk, outputDir)
      )
    })
  )
