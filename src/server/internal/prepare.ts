/**
 * What a start does in the output folder: makes the server's own folders, clears up, and proves what the promises rest on.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Path from "node:path"
import { ServerFailure } from "../../protocol/ProtocolError.ts"
import * as SafeName from "../SafeName.ts"
import { type StoreError, UploadKey } from "../UploadStore.ts"
import { code, type Disk, unless } from "./disk.ts"
import * as Folders from "./folders.ts"
import { io } from "./io.ts"

export const isKey = Schema.is(UploadKey)

/** The output folder as it was found. */
export interface Prepared {
  readonly root: Folders.Folder
  /** Where the part files are. */
  readonly parts: Folders.Folder
  /** Whether two names that differ in case or normal form are one here. */
  readonly folds: boolean
}

/** Where the start tries out links; a crash may leave it. */
const probe = `${SafeName.reserved}-probe-\u00e9`

/** As a file system sees it that does not tell cases, or normal forms, apart. */
const folded = [probe.toUpperCase(), probe.normalize("NFD")]

/** The folders that lead to the output folder may have been made just now, by us or before a crash. */
const syncAbove = async (disk: Disk, outputDir: string): Promise<void> => {
  for (let folder = outputDir; folder !== Path.dirname(folder);) {
    folder = Path.dirname(folder)
    // one that cannot be opened or synced was there before us
    await unless(["EACCES", "EPERM", "EINVAL", "EROFS", "ENOTSUP"], () => disk.syncFolder(folder))
  }
}

const opened = <E>(open: Effect.Effect<Folders.Folder, E>) =>
  Effect.acquireRelease(open, (folder) => Effect.promise(() => folder.close()))

/** One of the server's own folders, which somebody may have put something else in the place of. */
const own = (disk: Disk, above: Folders.Folder, name: string, shown: string) =>
  opened(
    io("making folders", async () => {
      try {
        return Option.some(await Folders.make(disk, above, name))
      } catch (cause) {
        if (["ENOTDIR", "ELOOP"].includes(code(cause) ?? "")) return Option.none()
        throw cause
      }
    }).pipe(
      Effect.flatMap(Option.match({
        onNone: () =>
          new ServerFailure({
            message: `${shown} must be a folder, not a link or a file; move it away, or choose another output folder`
          }),
        onSome: Effect.succeed
      }))
    )
  )

/** Proves that the folder can do what the promises rest on: links, exclusive creation, folder sync. */
const prove = (disk: Disk, root: Folders.Folder, parts: Folders.Folder) =>
  Effect.gen(function*() {
    const tried = parts.at("probe")
    const linked = root.at(probe)
    const folds = yield* io("proving links and exclusive creation", async () => {
      try {
        await (await disk.open(tried, "wx")).close()
        await disk.link(tried, linked)
        await unless(["EEXIST"], async () => {
          await disk.link(tried, linked)
          throw new Error("a second link over a file was not refused")
        })
        const seen = await Promise.all(folded.map((name) => disk.look(root.at(name))))
        const there = await disk.look(linked)
        return seen.some((found) => found !== undefined && found.id === there?.id)
      } finally {
        await disk.rm(linked, { force: true })
        await disk.rm(tried, { force: true })
      }
    })
    const synced = yield* Effect.option(io("syncing a folder", root.sync))
    if (Option.isNone(synced) || process.platform === "win32") {
      yield* Effect.logWarning("Folders cannot be synced here: after a power cut a new file may lack its name")
    }
    return folds
  })

/** Prepares an output folder that is there. With `isReal` the disk is the machine's own. */
export const prepare = (
  disk: Disk,
  outputDir: string,
  isReal: boolean
): Effect.Effect<Prepared, StoreError, Scope.Scope> =>
  Effect.gen(function*() {
    const root = yield* opened(io("opening folders", () => Folders.open(disk, outputDir, isReal)))
    const shown = Path.join(outputDir, SafeName.reserved)
    const above = yield* own(disk, root, SafeName.reserved, shown)
    const parts = yield* own(disk, above, "parts", Path.join(shown, "parts"))
    yield* io("syncing folders", async () => {
      // with the part files that a process before this one made and did not sync
      await parts.sync()
      await syncAbove(disk, outputDir)
    })
    yield* io("clearing up", async () => {
      for (const name of await disk.readdir(parts.at())) {
        // a folder there is not ours
        if (!isKey(name)) await unless(["ERR_FS_EISDIR"], () => disk.rm(parts.at(name), { force: true }))
      }
      await disk.rm(root.at(probe), { force: true })
    })
    return { root, parts, folds: yield* prove(disk, root, parts) }
  })
