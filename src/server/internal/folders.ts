/**
 * Folders below the output folder, opened step by step, so that no name leads through a symbolic link.
 *
 * On Linux a folder stays open while it is used, and what is in it is reached as `/proc/self/fd/<number>/<name>`: the
 * kernel starts at the open folder itself, whatever has become of its path meanwhile (proc(5), open(2)).
 *
 * Elsewhere, and where `/proc` is missing, Node has no such way: each folder is looked at before it is used and again
 * afterwards. So there is a limit: somebody who may write to the output folder by other means, and puts a link in the place
 * of a folder just between the two, can have one file appear where that link leads. The upload then gets another name,
 * and the file that appeared there stays.
 *
 * @internal
 */
import { constants } from "node:fs"
import type * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { code, type Disk, foundOf, unless } from "./disk.ts"

/** A folder in use. */
export interface Folder {
  /** The path of a name in it, and without a name its own; good until it is closed. */
  readonly at: (name?: string) => string
  /** The folder under a name in it; fails with `ENOTDIR` or `ELOOP` when something else is there, a link too. */
  readonly step: (name: string) => Promise<Folder>
  readonly sync: () => Promise<void>
  /** Gives a folder that was just made its mode whatever the umask, where that can be done without its path. */
  readonly settle: () => Promise<void>
  /** Fails with `ENOTDIR` when it is no longer what stands under its path, if that is how it is used. */
  readonly confirm: () => Promise<void>
  readonly close: () => Promise<void>
}

/** Something other than a folder stands under the beginning of a name. */
export class NotAFolder extends Error {
  readonly prefix: string
  constructor(prefix: string) {
    super(`${prefix} is not a folder`)
    this.prefix = prefix
  }
}

const mode = 0o750

const failed = (code: string, path: string) => Object.assign(new Error(`${code}: ${path}`), { code })

const throughHandle = (disk: Disk, handle: Fs.FileHandle): Folder => {
  const at = (name = ".") => `/proc/self/fd/${handle.fd}/${name}`
  return {
    at,
    step: async (name) =>
      throughHandle(
        disk,
        await disk.open(at(name), constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
      ),
    sync: () => disk.syncFolder(handle),
    // with the group that goes on to what is in it, where the folder above says so
    settle: async () => handle.chmod(((await handle.stat()).mode & 0o7000) | mode),
    confirm: () => Promise.resolve(),
    close: () => handle.close()
  }
}

const byPath = (disk: Disk, path: string, confirm: () => Promise<void> = () => Promise.resolve()): Folder => ({
  at: (name = ".") => Path.join(path, name),
  step: async (name) => {
    const below = Path.join(path, name)
    const before = await disk.look(below)
    if (before === undefined) throw failed("ENOENT", below)
    if (!before.isFolder) throw failed("ENOTDIR", below)
    return byPath(disk, below, async () => {
      if ((await disk.look(below))?.id !== before.id) throw failed("ENOTDIR", below)
    })
  },
  sync: () => disk.syncFolder(path),
  settle: () => Promise.resolve(),
  confirm,
  close: () => Promise.resolve()
})

/** The folder at the top, which may be reached by links: whoever runs the server has chosen it. */
export const open = async (disk: Disk, path: string, isReal: boolean): Promise<Folder> => {
  if (!isReal || process.platform !== "linux") return byPath(disk, path)
  const handle = await disk.open(path, constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    const folder = throughHandle(disk, handle)
    const there = await disk.look(folder.at()).catch(() => undefined)
    if (there?.id === foundOf(await handle.stat({ bigint: true })).id) return folder
  } catch (cause) {
    await handle.close()
    throw cause
  }
  await handle.close()
  return byPath(disk, path)
}

/** Makes a folder if it is missing, durably, and opens it. */
export const make = async (disk: Disk, above: Folder, name: string): Promise<Folder> => {
  let isNew = false
  await unless(["EEXIST"], async () => {
    await disk.mkdir(above.at(name), { mode })
    isNew = true
  })
  // also when it is there: whoever made it may not have come to this
  await above.sync()
  const made = await above.step(name)
  try {
    if (isNew) await made.settle()
    return made
  } catch (cause) {
    await made.close()
    throw cause
  }
}

const walk = async <A>(
  root: Folder,
  steps: ReadonlyArray<string>,
  next: (above: Folder, name: string) => Promise<Folder>,
  use: (folder: Folder) => Promise<A>
): Promise<A> => {
  const passed: Array<Folder> = []
  const at = async <B>(depth: number, run: () => Promise<B>): Promise<B> => {
    try {
      return await run()
    } catch (cause) {
      throw ["ENOTDIR", "ELOOP"].includes(code(cause) ?? "")
        ? new NotAFolder(steps.slice(0, depth + 1).join("/"))
        : cause
    }
  }
  let folder = root
  try {
    for (const [depth, step] of steps.entries()) {
      const above = folder
      folder = await at(depth, () => next(above, step))
      passed.push(folder)
      if (above !== root) await above.close()
    }
    try {
      return await use(folder)
    } finally {
      // whatever it came to says little when the folders have moved
      for (const [depth, there] of passed.entries()) await at(depth, there.confirm)
    }
  } finally {
    if (folder !== root) await folder.close()
  }
}

/** Uses the folder these steps lead to. Fails with `NotAFolder`, or with `ENOENT` where one is missing. */
export const within = <A>(
  root: Folder,
  steps: ReadonlyArray<string>,
  use: (folder: Folder) => Promise<A>
): Promise<A> => walk(root, steps, (above, name) => above.step(name), use)

/** How often a folder that somebody else takes away is made again. */
const tries = 10

/** {@link within}; folders that are missing are made. What is used must be repeatable. */
export const withinMade = async <A>(
  disk: Disk,
  root: Folder,
  steps: ReadonlyArray<string>,
  use: (folder: Folder) => Promise<A>
): Promise<A> => {
  for (let left = steps.length === 0 ? 0 : tries;; left--) {
    try {
      return await walk(root, steps, (above, name) => make(disk, above, name), use)
    } catch (cause) {
      if (left <= 0 || code(cause) !== "ENOENT") throw cause
    }
  }
}
