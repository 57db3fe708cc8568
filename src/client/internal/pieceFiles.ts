/**
 * Long pieces, each in a file of its own in the folder `<database>.pieces`: in the database they would be written twice, and
 * read and freed page by page.
 *
 * Which files there are is in the database. `loose` names those that no piece has: a file is there before its first byte is
 * written, with its owner, and from the transaction on that removes its piece. So what is loose without a living owner can go.
 *
 * @internal
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Crypto from "node:crypto"
import { realpathSync } from "node:fs"
import type { FileHandle } from "node:fs/promises"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { Sha256 } from "../../protocol/Sha256.ts"
import { ChunkStoreError, type FileId } from "../ChunkStore.ts"
import type { Database } from "./sqliteDatabase.ts"

/** How the `pieces` rows of such pieces are marked. */
export const encoding = 1

/** Characters of a name. */
const nameLength = 32

/** What such a row says: the file's name, and the hash of all bytes up to the piece's end where that is known. */
export interface Reference {
  readonly name: string
  readonly prefix: Sha256 | undefined
}

/** A reference as the `data` of a row. */
export const toData = ({ name, prefix = "" as Sha256 }: Reference): Uint8Array => Buffer.from(name + prefix, "latin1")

export const fromData = (data: Uint8Array): Reference => {
  const text = Buffer.from(data).toString("latin1")
  const prefix = text.slice(nameLength)
  return { name: text.slice(0, nameLength), prefix: isSha256(prefix) ? prefix : undefined }
}

/** Files that are removed in one go. */
const atOnce = 256

/** Pieces of a file that the disk is still to have while the next one is written. */
const mostUnsynced = 2

const isSha256 = Schema.is(Sha256)

const decodeNames = Schema.decodeUnknown(Schema.Array(Schema.Struct({ name: Schema.String })))

/** Reads a file from its beginning; whether it is as long. */
const fill = async (handle: FileHandle, into: Uint8Array): Promise<boolean> => {
  for (let filled = 0; filled < into.length;) {
    const { bytesRead } = await handle.read(into, filled, into.length - filled, filled)
    if (bytesRead === 0) return false
    filled += bytesRead
  }
  return true
}

const isMissing = (cause: unknown) => (cause as { readonly code?: string }).code === "ENOENT"

export type PieceFiles = ReturnType<typeof make>

export const make = ({ file: database, read, someChange, sql, write, writeUnsynced }: Database) => {
  // as SQLite does with its log: every name of the database, and every working folder, leads to the same one
  const folder = `${realpathSync(database)}.pieces`
  const pathOf = (name: string) => `${folder}/${name}`
  /** Files were added to the folder that it may not have after a loss of power. */
  let isFresh = false
  const syncing = Effect.unsafeMakeSemaphore(1)
  /** The syncs of pieces, by the file that they belong to, that nobody has waited for yet. */
  const unsynced = new Map<FileId, Array<Promise<void>>>()

  const attempt = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, ChunkStoreError> =>
    Effect.uninterruptible(Effect.tryPromise({
      try: run,
      catch: (cause) =>
        new ChunkStoreError({
          message: `The folder ${folder}, which belongs to the buffer, cannot be ${what}: ${
            cause instanceof Error ? cause.message : String(cause)
          }`,
          cause
        })
    }))

  const syncFolder = async (path: string) => {
    // Windows opens no folders
    if (process.platform === "win32") return
    const handle = await Fs.open(path, "r")
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  const create = async (name: string): Promise<FileHandle> => {
    try {
      return await Fs.open(pathOf(name), "wx", 0o600)
    } catch (cause) {
      if (!isMissing(cause)) throw cause
      await Fs.mkdir(folder, { recursive: true, mode: 0o700 })
      return await Fs.open(pathOf(name), "wx", 0o600)
    }
  }

  const put = async (file: FileId, name: string, bytes: Uint8Array) => {
    const syncs = unsynced.get(file) ?? []
    unsynced.set(file, syncs)
    if (syncs.length >= mostUnsynced) {
      // one that failed stays, so that the file is not sealed
      await syncs[0]
      syncs.shift()
    }
    const handle = await create(name)
    try {
      for (let at = 0; at < bytes.length;) at += (await handle.write(bytes, at, bytes.length - at, at)).bytesWritten
    } catch (cause) {
      await handle.close()
      throw cause
    }
    isFresh = true
    const synced = handle.datasync().finally(() => handle.close())
    // it fails for who waits for it
    synced.catch(() => {})
    syncs.push(synced)
  }

  /** Fills `into`, which is as long as the piece; whether there was as much. */
  const readInto = (name: string, into: Uint8Array): Effect.Effect<boolean, ChunkStoreError> =>
    attempt("read", async () => {
      let handle: FileHandle
      try {
        handle = await Fs.open(pathOf(name), "r")
      } catch (cause) {
        if (isMissing(cause)) return false
        throw cause
      }
      try {
        return await fill(handle, into)
      } finally {
        await handle.close()
      }
    })

  const looseNames = Effect.map(
    Effect.flatMap(sql`SELECT name FROM loose WHERE owner IS NULL LIMIT ${atOnce}`, decodeNames),
    (rows) => rows.map(({ name }) => name)
  )

  /** Removes what is loose, as it is durable that it is. */
  const clear: Effect.Effect<void, ChunkStoreError> = Effect.gen(function*() {
    for (;;) {
      const found = yield* read(looseNames)
      if (found.length === 0) return
      yield* write(someChange)
      const removals = yield* Effect.promise(() =>
        Promise.allSettled(found.map((name) => Fs.rm(pathOf(name), { force: true })))
      )
      const removed = found.filter((_, at) => removals[at]!.status === "fulfilled")
      yield* writeUnsynced(
        sql`DELETE FROM loose WHERE name IN (SELECT value FROM json_each(${JSON.stringify(removed)}))`
      )
      // what cannot be removed now, because somebody has it open perhaps, is tried again by whoever clears next
      if (removed.length < found.length) return
    }
  })

  const syncFolders = syncing.withPermits(1)(Effect.suspend(() => {
    if (!isFresh) return Effect.void
    isFresh = false
    return Effect.tapError(
      attempt("synced", async () => {
        await syncFolder(folder)
        await syncFolder(Path.dirname(folder))
      }),
      () => Effect.sync(() => void (isFresh = true))
    )
  }))

  return {
    /**
     * Writes a piece of a file, and has it recorded by `record`, in whose transaction `keep` says that its own file is needed.
     * Until then that is loose. The disk has the piece once the file was synced.
     */
    write: <A, E>(
      file: FileId,
      owner: number,
      bytes: Uint8Array,
      record: (name: string, keep: Effect.Effect<unknown, SqlError>) => Effect.Effect<A, E>
    ) =>
      Effect.suspend(() => {
        const name = Crypto.randomBytes(nameLength / 2).toString("hex")
        // durable: after a loss of power nobody would know of the file
        return write(sql`INSERT INTO loose (name, owner) VALUES (${name}, ${owner})`).pipe(
          Effect.zipRight(attempt("written", () => put(file, name, bytes))),
          Effect.zipRight(record(name, sql`DELETE FROM loose WHERE name = ${name}`)),
          Effect.onError(() =>
            // whoever took its owner for dead may have cleared it before it was written
            writeUnsynced(
              sql`INSERT INTO loose (name, owner) SELECT ${name}, NULL WHERE NOT EXISTS
                (SELECT 1 FROM pieces WHERE encoding = 1 AND CAST(substr(data, 1, ${nameLength}) AS TEXT) = ${name})
                ON CONFLICT (name) DO UPDATE SET owner = NULL`
            ).pipe(
              Effect.zipRight(clear),
              Effect.ignoreLogged
            )
          )
        )
      }),

    /** Makes the pieces of a file durable, that they are there, and their folder. */
    sync: (file: FileId) =>
      Effect.zipRight(
        attempt("synced", async () => void (await Promise.all(unsynced.get(file) ?? []))),
        syncFolders
      ),

    /** Nobody adds pieces to a file any more: waits until none is being synced, as a file in use may not be removed. */
    ended: (file: FileId): Effect.Effect<void> =>
      Effect.promise(async () => {
        await Promise.allSettled(unsynced.get(file) ?? [])
        unsynced.delete(file)
      }),

    read: readInto,

    /** The bytes of a piece by its row; `None` of what is not there as a whole. */
    dataOf: (row: { readonly encoding: number; readonly length: number; readonly data: Uint8Array }) => {
      if (row.encoding === 0) return Effect.succeedSome(row.data)
      if (row.encoding !== encoding) return Effect.succeedNone
      const bytes = new Uint8Array(row.length)
      return Effect.map(
        readInto(fromData(row.data).name, bytes),
        (isThere) => isThere ? Option.some(bytes) : Option.none()
      )
    },

    clear
  }
}
