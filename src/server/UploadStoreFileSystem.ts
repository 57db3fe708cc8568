/**
 * Uploads in a folder: part files in `<output>/.indexedcp/parts`, final names as hard links to them.
 *
 * @module
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { constants } from "node:fs"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { ServerFailure } from "../protocol/ProtocolError.ts"
import * as Sha256 from "../protocol/Sha256.ts"
import * as Body from "./Body.ts"
import {
  code,
  concurrently,
  type Disk,
  type Durability,
  type FileSystemCalls,
  make as makeDisk,
  makeFolders,
  readAll,
  unless,
  writeAll
} from "./internal/disk.ts"
import * as Folders from "./internal/folders.ts"
import * as Handles from "./internal/handles.ts"
import { failure, io } from "./internal/io.ts"
import { isKey, prepare, type Prepared } from "./internal/prepare.ts"
import * as Syncs from "./internal/syncs.ts"
import type * as SafeName from "./SafeName.ts"
import { type Extent, NameTaken, type StoreError, type UploadKey, UploadStore } from "./UploadStore.ts"

/** How long a part file stays open that nobody uses. */
const idle = "5 seconds"
/** Files of one request that are in hand at once: their syncs share what the file system commits. */
const atOnce = 8

/** The folders of a final name, and the name in the last of them. */
const placeOf = (name: SafeName.SafeName) => {
  const parts = name.split("/")
  return { steps: parts.slice(0, -1), last: parts.at(-1)! }
}

/** What the file system threw where a name was to be taken. */
const takenOr = (name: SafeName.SafeName) => (cause: unknown): NameTaken | StoreError => {
  const taken = cause instanceof Folders.NotAFolder
    ? cause.prefix
    : ["EEXIST", "EISDIR", "ENOTEMPTY"].includes(code(cause) ?? "")
    ? name
    : undefined
  return taken === undefined
    ? failure("publishing")(cause)
    : new NameTaken({ name: taken, message: `There is a file ${taken} on the server already` })
}

/** Runs for a name that is there; `otherwise` when it is not, or lies below something that is no folder. */
const whereItIs = async <A>(
  run: () => Promise<A>,
  otherwise: { readonly missing: A; readonly below: A }
): Promise<A> => {
  try {
    return await run()
  } catch (cause) {
    if (cause instanceof Folders.NotAFolder) return otherwise.below
    if (code(cause) === "ENOENT") return otherwise.missing
    throw cause
  }
}

const make = (
  disk: Disk,
  { folds, parts, root }: Prepared,
  fileMode: number
): Effect.Effect<Context.Tag.Service<UploadStore>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const part = (key: UploadKey) => parts.at(key)
    const handles = yield* Effect.acquireRelease(
      Effect.sync(() =>
        Handles.make(
          (key: UploadKey) => disk.open(part(key), constants.O_RDWR | constants.O_NOFOLLOW),
          Duration.toMillis(idle)
        )
      ),
      ({ closeAll }) => Effect.promise(closeAll)
    )
    const withPart = async <A>(key: UploadKey, run: (handle: Fs.FileHandle) => Promise<A>): Promise<A> => {
      const { handle, release } = await handles.acquire(key)
      try {
        return await run(handle)
      } finally {
        await release()
      }
    }
    /** One call on a part file. */
    const onPart = <A>(doing: string, key: UploadKey, run: (handle: Fs.FileHandle) => Promise<A>) =>
      io(doing, () => withPart(key, run))

    /** Part files whose folder entry is not durable yet. */
    const fresh = new Set<UploadKey>()

    const syncs = Syncs.make(disk)
    /** Throws what the sync failed with that may have lost bytes of these extents. */
    const refuseDoubtful = (written: ReadonlyArray<{ readonly key: UploadKey; readonly extent?: Extent }>): void => {
      for (const { extent, key } of written) {
        const failed = extent === undefined ? undefined : syncs.failureSince(key, extent)
        if (failed !== undefined) throw failed.cause
      }
    }

    /** Whether a name that leads to a file is the very name of that file, and those of its folders are. */
    const isExact = async (name: SafeName.SafeName): Promise<boolean> => {
      const all = name.split("/")
      for (const [depth, part] of all.entries()) {
        const there = await Folders.within(root, all.slice(0, depth), (folder) => disk.readdir(folder.at()))
        if (!there.includes(part)) return false
      }
      return true
    }

    const lookAtPart = async (key: UploadKey) => {
      const ours = await disk.look(part(key))
      if (ours?.isFile === true) return ours
      throw Object.assign(new Error("there is no part file"), { code: "ENOENT" })
    }

    /** Links a part file under a name in an open folder, which is still to be synced. */
    const link = async (
      key: UploadKey,
      folder: Folders.Folder,
      name: SafeName.SafeName,
      mode: "exclusive" | "overwrite"
    ): Promise<void> => {
      const target = folder.at(placeOf(name).last)
      if (mode === "exclusive") {
        try {
          return await disk.link(part(key), target)
        } catch (cause) {
          if (code(cause) === "EEXIST" && (await disk.look(target))?.id === (await lookAtPart(key)).id) return
          throw cause
        }
      }
      const there = await disk.look(target)
      if (there?.id === (await lookAtPart(key)).id) return
      // a file is overwritten, and only by its own name
      if (there !== undefined && (!there.isFile || (folds && !(await isExact(name))))) {
        throw Object.assign(new Error(`${name} is not the name of a file`), { code: "EEXIST" })
      }
      const beside = `${part(key)}.publish`
      await disk.rm(beside, { force: true })
      await disk.link(part(key), beside)
      await disk.rename(beside, target)
    }

    const publish = async (key: UploadKey, name: SafeName.SafeName, mode: "exclusive" | "overwrite"): Promise<void> => {
      await lookAtPart(key)
      await Folders.withinMade(disk, root, placeOf(name).steps, async (folder) => {
        await link(key, folder, name, mode)
        await folder.sync()
      })
    }

    type Published = Either.Either<void, NameTaken | StoreError>

    /** Links part files under names in one folder, which is synced once. */
    const publishInto = async (
      steps: ReadonlyArray<string>,
      uploads: ReadonlyArray<{ readonly key: UploadKey; readonly name: SafeName.SafeName }>,
      mode: "exclusive" | "overwrite"
    ): Promise<ReadonlyArray<Published>> => {
      const most = folds && mode === "overwrite" ? 1 : atOnce
      try {
        return await Folders.withinMade(disk, root, steps, async (folder) => {
          const outcomes = await concurrently(uploads, most, async ({ key, name }): Promise<Published> => {
            try {
              return Either.right(await link(key, folder, name, mode))
            } catch (cause) {
              // a folder that was taken away is made again
              if (code(cause) === "ENOENT") throw cause
              return Either.left(takenOr(name)(cause))
            }
          })
          await folder.sync()
          return outcomes
        })
      } catch (cause) {
        return uploads.map(({ name }) => Either.left(takenOr(name)(cause)))
      }
    }

    const remove = async (key: UploadKey): Promise<void> => {
      await handles.forget(key)
      await disk.rm(part(key), { force: true })
      syncs.forget(key)
    }

    const putWhole = async (
      uploads: ReadonlyArray<{ readonly key: UploadKey; readonly bytes: Uint8Array }>
    ): Promise<void> => {
      const made: Array<UploadKey> = []
      try {
        await concurrently(uploads, atOnce, async ({ bytes, key }) => {
          const handle = await disk.open(part(key), "wx", fileMode)
          made.push(key)
          try {
            await handle.chmod(fileMode)
            if (bytes.length > 0) await writeAll(handle, [bytes], 0)
            await syncs.sync(key, handle)
          } finally {
            await handle.close()
          }
        })
        await parts.sync()
      } catch (cause) {
        await concurrently(made, atOnce, remove)
        throw cause
      }
    }

    /** Where two names are one, no other is published between the look at a name and its use. */
    const alone = Effect.unsafeMakeSemaphore(1)

    return {
      limits: { minPiece: 1, maxPiece: Number.MAX_SAFE_INTEGER, append: true },
      free: disk.statfs === undefined
        ? Effect.succeedNone
        : io("asking for free space", () => disk.statfs!(parts.at())).pipe(
          Effect.map(({ bavail, bsize }) => Option.some(bavail * bsize))
        ),
      probe: io("trying out the disk", async () => {
        await (await disk.open(parts.at("ready"), "w", 0o600)).close()
        await disk.rm(parts.at("ready"), { force: true })
      }),
      reserve: (key) =>
        io("making a part file", async () => {
          const handle = await disk.open(part(key), "wx", fileMode)
          fresh.add(key)
          try {
            await handle.chmod(fileMode)
          } finally {
            await handle.close()
          }
        }),
      write: (to, body) =>
        Effect.acquireUseRelease(
          io("opening a part file", () => handles.acquire(to.key)),
          ({ handle }) => {
            const wrote = syncs.begin(to.key)
            return Effect.map(
              Body.consume(body, {
                limit: to.limit,
                write: (pieces, at) => writeAll(handle, pieces, to.offset + at),
                onWriteError: failure("writing")
              }),
              (written) => wrote({ offset: to.offset, locator: "", ...written })
            )
          },
          ({ release }) => Effect.promise(release)
        ),
      sync: (written) =>
        Effect.suspend(() => {
          const keys = [...new Set(written.map(({ key }) => key))]
          const synced = io("syncing a part file", async () => {
            refuseDoubtful(written)
            await concurrently(keys, atOnce, (key) => withPart(key, (handle) => syncs.sync(key, handle)))
            refuseDoubtful(written)
          })
          const made = keys.filter((key) => fresh.has(key))
          return made.length === 0 ? synced : Effect.andThen(
            synced,
            io("syncing a folder", async () => {
              await parts.sync()
              made.forEach((key) => fresh.delete(key))
            })
          )
        }),
      putWhole: (uploads) =>
        Effect.as(
          io("writing part files", () => putWhole(uploads)),
          uploads.map(({ bytes, sha256 }) => ({ offset: 0, length: bytes.length, sha256, locator: "" }))
        ),
      read: (key, _, range, take) => onPart("reading a part file", key, (handle) => readAll(handle, range, take)),
      contentOf: (name) =>
        io("reading a file", () => {
          const { last, steps } = placeOf(name)
          const none = Option.none<Sha256.Sha256>()
          return whereItIs(() =>
            Folders.within(root, steps, async (folder) => {
              // a device may act when it is opened
              if ((await disk.look(folder.at(last)))?.isFile !== true) return none
              let found = none
              await unless(["ENOENT", "ELOOP", "ENXIO"], async () => {
                const handle = await disk.open(
                  folder.at(last),
                  constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
                )
                try {
                  const stats = await handle.stat()
                  if (!stats.isFile()) return
                  const hasher = Sha256.make()
                  await readAll(handle, [0, stats.size], hasher.update)
                  found = Option.some(hasher.digest())
                } finally {
                  await handle.close()
                }
              })
              return found
            }), { missing: none, below: none })
        }),
      length: (key) =>
        io("looking at a part file", async () => {
          let found = Option.none<number>()
          await unless(["ENOENT"], async () => {
            found = Option.some((await disk.lstat(part(key))).size)
          })
          return found
        }),
      keys: io("listing part files", async () => (await disk.readdir(parts.at())).filter(isKey)),
      publish: (key, _, name, mode) =>
        Effect.uninterruptible(
          Effect.tryPromise({ try: () => publish(key, name, mode), catch: takenOr(name) })
        ).pipe((publishing) => folds && mode === "overwrite" ? alone.withPermits(1)(publishing) : publishing),
      publishWhole: (uploads, mode) =>
        Effect.uninterruptible(Effect.promise(async () => {
          const places = new Map<string, Array<number>>()
          for (const [at, { name }] of uploads.entries()) {
            const folder = placeOf(name).steps.join("/")
            const there = places.get(folder)
            if (there === undefined) places.set(folder, [at])
            else there.push(at)
          }
          const outcomes: Array<Published> = []
          for (const those of places.values()) {
            const { steps } = placeOf(uploads[those[0]!]!.name)
            const came = await publishInto(steps, those.map((at) => uploads[at]!), mode)
            those.forEach((at, index) => outcomes[at] = came[index]!)
          }
          return outcomes
        })).pipe((publishing) => folds && mode === "overwrite" ? alone.withPermits(1)(publishing) : publishing),
      holder: (key, name) =>
        io("looking at a file", () => {
          const { last, steps } = placeOf(name)
          return whereItIs(() =>
            Folders.within(root, steps, async (folder) => {
              const there = await disk.look(folder.at(last))
              return there === undefined ? "nobody" : there.id === (await disk.look(part(key)))?.id ? "upload" : "other"
            }), { missing: "nobody", below: "other" })
        }),
      carry: (from, extents, to) =>
        onPart("copying a part file", from, async (source) => {
          const target = await handles.acquire(to)
          try {
            const wrote = syncs.begin(to)
            for (const { length, offset } of extents) {
              await readAll(source, [offset, offset + length], (bytes, at) => writeAll(target.handle, [bytes], at))
            }
            return extents.map((extent) => wrote({ ...extent }))
          } finally {
            await target.release()
          }
        }),
      trim: (key, length) =>
        onPart("trimming a part file", key, async (handle) => {
          const isLonger = (await handle.stat()).size > length
          // a process before this one may have died between the two
          if (!isLonger && syncs.isSynced(key)) return
          if (isLonger) await handle.truncate(length)
          await syncs.sync(key, handle)
        }),
      drop: (key) =>
        io("removing a part file", async () => {
          await disk.rm(`${part(key)}.publish`, { force: true })
          await remove(key)
        }),
      dropAll: (keys) => io("removing part files", () => concurrently(keys, atOnce, remove))
    }
  })

/** Where files go, and how safely. */
export interface FolderOptions {
  /** Made if missing. */
  readonly outputDir: string
  /** Default `power`. */
  readonly durability?: Durability
  /** The mode of published files whatever the umask, without any right to execute. Default `0o640`. */
  readonly fileMode?: number | undefined
  /** Default: `node:fs/promises`. */
  readonly calls?: FileSystemCalls
}

/** A mode with which nobody may execute a file, and the server may go on with it after a restart. */
const isFileMode = (mode: number): boolean =>
  Number.isInteger(mode) && mode >= 0 && (mode & ~0o666) === 0 && (mode & 0o600) === 0o600

const wrongMode = (mode: number) =>
  new ServerFailure({
    message: `Files cannot have the mode 0${mode.toString(8)}: their owner must be able to read and write them, ` +
      "and nobody may execute them; choose one like 0640"
  })

/**
 * Uploads in `outputDir`, which is made if missing. Its file system must have hard links; the layer proves that when it is
 * built. `outputDir` itself may be a link: it is followed once. No name below it leads through one: see
 * `internal/folders.ts`, also for what can be promised where the system is not Linux.
 */
export const layer = (options: FolderOptions): Layer.Layer<UploadStore, StoreError> =>
  Layer.scoped(
    UploadStore,
    Effect.gen(function*() {
      const { calls, durability = "power", fileMode = 0o640 } = options
      if (!isFileMode(fileMode)) return yield* wrongMode(fileMode)
      const asked = Path.resolve(options.outputDir)
      const disk = makeDisk(calls ?? Fs, durability)
      const outputDir = yield* io(`making ${asked}`, async () => {
        await makeFolders(disk, asked, 0o777)
        return calls === undefined ? Fs.realpath(asked) : asked
      })
      return yield* make(disk, yield* prepare(disk, outputDir, calls === undefined), fileMode)
    })
  )
