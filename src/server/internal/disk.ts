/**
 * The calls that the storage in a folder makes on its disk, and what it builds from them.
 *
 * @internal
 */
import type { BigIntStats } from "node:fs"
import type * as Fs from "node:fs/promises"
import * as Path from "node:path"

/** The part of `node:fs/promises` that is used. Tests put a disk in its place that loses what was not synced. */
export type FileSystemCalls =
  & Pick<typeof Fs, "link" | "lstat" | "mkdir" | "open" | "readdir" | "rename" | "rm">
  & {
    /** Without it the free space is not known, and not heeded. */
    readonly statfs?: (path: string) => Promise<{ readonly bavail: number; readonly bsize: number }>
  }

/**
 * What a 200 is to survive: `power` loss, by syncing files and folders, or only the death of the server's `process`, which
 * leaves that to the operating system.
 */
export type Durability = "power" | "process"

export const code = (cause: unknown): string | undefined => (cause as { readonly code?: string } | null)?.code

/** Nothing for the errors named, all others as they are. */
export const unless = async (codes: ReadonlyArray<string>, run: () => Promise<unknown>): Promise<void> => {
  try {
    await run()
  } catch (cause) {
    if (!codes.includes(code(cause) ?? "")) throw cause
  }
}

/** Runs for each, so many at once. All have ended when it returns, or throws what the first that failed threw. */
export const concurrently = async <A, B>(
  all: ReadonlyArray<A>,
  most: number,
  run: (one: A) => Promise<B>
): Promise<ReadonlyArray<B>> => {
  const outcomes: Array<B> = []
  let next = 0
  let failed: { readonly cause: unknown } | undefined
  const work = async () => {
    while (next < all.length && failed === undefined) {
      const at = next++
      try {
        outcomes[at] = await run(all[at]!)
      } catch (cause) {
        failed ??= { cause }
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(most, all.length) }, work))
  if (failed !== undefined) throw failed.cause
  return outcomes
}

/**
 * Makes a folder and those above it where they are missing. (A recursive `mkdir` of Node 20 never returns where the file
 * system makes no folders, as below `/proc`.)
 */
export const makeFolders = async (
  calls: Pick<typeof Fs, "lstat" | "mkdir">,
  path: string,
  mode: number
): Promise<void> => {
  try {
    await calls.mkdir(path, { mode })
  } catch (cause) {
    const above = Path.dirname(path)
    if (code(cause) === "ENOENT" && above !== path) {
      await makeFolders(calls, above, mode)
      return unless(["EEXIST"], () => calls.mkdir(path, { mode }))
    }
    // by its dot, so that a link to a folder is one
    const there = await calls.lstat(`${path}/.`).catch(() => undefined)
    if (code(cause) !== "EEXIST" || there?.isDirectory() !== true) throw cause
  }
}

export const writeAll = async (handle: Fs.FileHandle, pieces: ReadonlyArray<Uint8Array>, at: number): Promise<void> => {
  let { bytesWritten } = await handle.writev(pieces, at)
  for (const piece of pieces) {
    // writev may stop early; what is left of its pieces goes out one by one
    while (bytesWritten < piece.length) {
      const rest = await handle.write(piece, bytesWritten, piece.length - bytesWritten, at + bytesWritten)
      bytesWritten += rest.bytesWritten
    }
    bytesWritten -= piece.length
    at += piece.length
  }
}

const readAtOnce = 1024 * 1024

/** What was read into lately, to be read into again. */
const spare: Array<Buffer> = []
const mostSpare = 4

/** Reads `[from, to)` in pieces of at most 1 MiB, which are valid only until the next one. */
export const readAll = async (
  handle: Fs.FileHandle,
  [from, to]: readonly [number, number],
  f: (bytes: Uint8Array, at: number) => void | Promise<void>
): Promise<void> => {
  const buffer = spare.pop() ?? Buffer.allocUnsafeSlow(readAtOnce)
  try {
    for (let at = from; at < to;) {
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, to - at), at)
      if (bytesRead === 0) throw Object.assign(new Error(`the part file ends at ${at}`), { code: "SHORT" })
      await f(buffer.subarray(0, bytesRead), at)
      at += bytesRead
    }
  } finally {
    if (spare.length < mostSpare) spare.push(buffer)
  }
}

export const make = (calls: FileSystemCalls, durability: Durability) => ({
  ...calls,

  syncFile: async (handle: Fs.FileHandle): Promise<void> => {
    if (durability === "power") await handle.datasync()
  },

  /** Windows opens no folders: there the file system's own journal has to do. */
  syncFolder: async (folder: string | Fs.FileHandle): Promise<void> => {
    if (durability === "process" || process.platform === "win32") return
    if (typeof folder !== "string") return folder.sync()
    const handle = await calls.open(folder, "r")
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  },

  /** What stands under a path; nothing when there is nothing. Links are not followed. */
  look: async (path: string): Promise<Found | undefined> => {
    let found: Found | undefined
    await unless(["ENOENT"], async () => {
      found = foundOf(await calls.lstat(path, { bigint: true }))
    })
    return found
  }
})

/** What stands under a path. */
export interface Found {
  /** The same for two names of one file. */
  readonly id: string
  /** A plain file: no link, device, FIFO, socket or folder. */
  readonly isFile: boolean
  readonly isFolder: boolean
}

export const foundOf = (stats: BigIntStats): Found => ({
  id: `${stats.dev}:${stats.ino}:${stats.mode}`,
  isFile: stats.isFile(),
  isFolder: stats.isDirectory()
})

export type Disk = ReturnType<typeof make>
