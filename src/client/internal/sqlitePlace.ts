/**
 * The database's place on the disk: made for its owner only, and looked at before SQLite may touch it.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { BufferFull, ChunkStoreError } from "../ChunkStore.ts"

/** "ICP1", where SQLite keeps the number of the program that a file belongs to. */
export const applicationId = 0x49435031

/** The version of the tables in this program. */
export const version = 4

/** What to say of a file that is not for this program; every way out leaves the file alone. */
export const refusals = {
  foreign: (file: string) =>
    `${file} belongs to another program; nothing in it was changed. Name another file for the buffer`,
  newer: (file: string) =>
    `${file} was written by a newer version of this program; nothing in it was changed. Update this program, or name another file for the buffer`,
  damaged: (file: string) =>
    `${file} is damaged or no SQLite database; nothing in it was changed. Move it away to start with an empty buffer, or bring it back from a backup`
}

const attempt = <A>(file: string, what: string, run: () => A) =>
  Effect.try({
    try: run,
    catch: (cause) =>
      new ChunkStoreError({
        message: `The buffer ${file} cannot be ${what}: ${cause instanceof Error ? cause.message : String(cause)}`,
        cause
      })
  })

/**
 * Makes a folder and those above it. (A recursive `mkdir` of Node 20 never returns where the file system makes no folders, as
 * below `/proc`.)
 */
const makeFolders = (folder: string): void => {
  try {
    Fs.mkdirSync(folder, { mode: 0o700 })
  } catch (cause) {
    const above = Path.dirname(folder)
    if ((cause as NodeJS.ErrnoException).code === "ENOENT" && above !== folder && !Fs.existsSync(above)) {
      makeFolders(above)
      makeFolders(folder)
    } else if (!Fs.existsSync(Path.join(folder, "."))) throw cause
  }
}

/**
 * Makes the folder (0700) and an empty file (0600) where there are none. SQLite gives the files beside it the same mode.
 * `ownFolder` is the folder that is ours whoever made it: it is closed to others too.
 */
export const prepare = (file: string, ownFolder: string): Effect.Effect<void, ChunkStoreError> =>
  attempt(file, "created", () => {
    const folder = Path.dirname(Path.resolve(file))
    makeFolders(folder)
    if (folder === Path.resolve(ownFolder)) Fs.chmodSync(folder, 0o700)
    if (!Fs.existsSync(file)) Fs.closeSync(Fs.openSync(file, "a", 0o600))
  })

/** Closes a file that another program made to everyone but its owner. */
export const closeToOthers = (file: string): Effect.Effect<void, ChunkStoreError> =>
  attempt(file, "protected", () => Fs.chmodSync(file, 0o600))

/**
 * Bytes of the disk that adding leaves free. On a full disk nothing could be sent or removed any more: each change needs room
 * in SQLite's log first, and what the log holds needs as much again in the database file.
 */
const leftFree = 48 * 1024 * 1024

/** Fails when so many more bytes would not leave enough of the disk free. */
export const leaveRoom = (file: string, bytes: number): Effect.Effect<void, BufferFull | ChunkStoreError> =>
  Effect.flatMap(
    attempt(file, "measured", () => {
      const { bavail, bsize } = Fs.statfsSync(Path.dirname(Path.resolve(file)))
      return bavail * bsize
    }),
    (free) =>
      free >= bytes + leftFree ? Effect.void : new BufferFull({
        message:
          `The disk that holds the buffer ${file} has ${Math.floor(free / 2 ** 20)} MiB left, and ${
            leftFree / 2 ** 20
          } MiB are left ` +
          "free so that files can still be sent and removed. Make room, then try again"
      })
  )

const isFilled = (file: string) => Fs.existsSync(file) && Fs.statSync(file).size > 0

const readHeader = (file: string) => {
  const handle = Fs.openSync(file, "r")
  try {
    const header = Buffer.alloc(100)
    return { header, read: Fs.readSync(handle, header, 0, 100, 0), size: Fs.fstatSync(handle).size }
  } finally {
    Fs.closeSync(handle)
  }
}

/**
 * Refuses, by the first 100 bytes alone (https://sqlite.org/fileformat.html), files that are no database, cut off,
 * another program's, or of a newer version. What it lets pass may still be someone else's: see `sqliteSchema`.
 */
export const inspect = (file: string): Effect.Effect<void, ChunkStoreError> =>
  Effect.flatMap(
    attempt(
      file,
      "read",
      () => ({ ...readHeader(file), pending: isFilled(`${file}-wal`) || isFilled(`${file}-journal`) })
    ),
    ({ header, pending, read, size }) => {
      const refuse = (reason: keyof typeof refusals) =>
        Effect.fail(new ChunkStoreError({ message: refusals[reason](file) }))
      if (size === 0) return Effect.void
      if (read < 100 || header.toString("latin1", 0, 16) !== "SQLite format 3\0") return refuse("damaged")
      const isWal = header[18] === 2
      const userVersion = header.readUInt32BE(60)
      const owner = header.readUInt32BE(68)
      if (owner !== applicationId && (owner !== 0 || userVersion !== 0 || isWal)) return refuse("foreign")
      if (userVersion > version) return refuse("newer")
      const pageSize = header.readUInt16BE(16) === 1 ? 65536 : header.readUInt16BE(16)
      const countIsValid = header.readUInt32BE(24) === header.readUInt32BE(92)
      const cutOff = !pending && countIsValid && header.readUInt32BE(28) * pageSize > size
      return cutOff ? refuse("damaged") : Effect.void
    }
  )
