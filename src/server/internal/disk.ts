/**
 * The calls that the storage in a folder makes on its disk, and what it builds from them.
 *
 * @internal
 */
import type * as Fs from "node:fs/promises"

/** The part of `node:fs/promises` that is used. Tests put a disk in its place that loses what was not synced. */
export type FileSystemCalls =
  & Pick<typeof Fs, "link" | "lstat" | "mkdir" | "open" | "readdir" | "rename" | "rm">
  & { readonly statfs?: (path: string) => Promise<{ readonly bavail: number; readonly bsize: number }> }

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

/** Reads `[from, to)` in pieces of at most 1 MiB, which are valid only until the next one. */
export const readAll = async (
  handle: Fs.FileHandle,
  [from, to]: readonly [number, number],
  f: (bytes: Uint8Array, at: number) => void | Promise<void>
): Promise<void> => {
  const buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(1024 * 1024, to - from)))
  for (let at = from; at < to;) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, to - at), at)
    if (bytesRead === 0) throw Object.assign(new Error(`the part file ends at ${at}`), { code: "SHORT" })
    await f(buffer.subarray(0, bytesRead), at)
    at += bytesRead
  }
}

export const make = (calls: FileSystemCalls, durability: Durability) => ({
  ...calls,

  syncFile: async (handle: Fs.FileHandle): Promise<void> => {
    if (durability === "power") await handle.datasync()
  },

  /** Windows opens no folders: there the file system's own journal has to do. */
  syncFolder: async (folder: string): Promise<void> => {
    if (durability === "process" || process.platform === "win32") return
    const handle = await calls.open(folder, "r")
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  },

  /** The same for two names of one file; nothing when there is no such name. Links are not followed. */
  identity: async (path: string): Promise<string | undefined> => {
    let found: string | undefined
    await unless(["ENOENT"], async () => {
      const { dev, ino, mode } = await calls.lstat(path, { bigint: true })
      found = `${dev}:${ino}:${mode}`
    })
    return found
  }
})

export type Disk = ReturnType<typeof make>
