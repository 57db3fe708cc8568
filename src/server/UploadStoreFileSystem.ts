/**
 * Uploads in a folder: part files in `<output>/.indexedcp/parts`, final names as hard links to them.
 *
 * @module
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as RcMap from "effect/RcMap"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { ServerFailure, StorageFull } from "../protocol/ProtocolError.ts"
import * as Sha256 from "../protocol/Sha256.ts"
import * as Body from "./Body.ts"
import * as SafeName from "./SafeName.ts"
import { type Extent, NameTaken, type StoreError, type UploadKey, UploadStore } from "./UploadStore.ts"

const code = (cause: unknown): string | undefined => (cause as { readonly code?: string } | null)?.code

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

/** Nothing for the errors named, all others as they are. */
const unless = async (codes: ReadonlyArray<string>, run: () => Promise<unknown>): Promise<void> => {
  try {
    await run()
  } catch (cause) {
    if (!codes.includes(code(cause) ?? "")) throw cause
  }
}

/** Windows opens no folders: there the file system's own journal has to do. */
const syncFolder = async (folder: string): Promise<void> => {
  if (process.platform === "win32") return
  const handle = await Fs.open(folder, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

const writeAll = async (handle: Fs.FileHandle, pieces: ReadonlyArray<Uint8Array>, at: number): Promise<void> => {
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
const readAll = async (
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

const identity = async (path: string): Promise<string | undefined> => {
  let found: string | undefined
  await unless(["ENOENT"], async () => {
    const { dev, ino, mode } = await Fs.lstat(path, { bigint: true })
    found = `${dev}:${ino}:${mode}`
  })
  return found
}

const make = (outputDir: string): Effect.Effect<Context.Tag.Service<UploadStore>, StoreError, Scope.Scope> =>
  Effect.gen(function*() {
    const own = Path.join(outputDir, SafeName.reserved)
    const parts = Path.join(own, "parts")
    yield* io("making folders", async () => {
      await Fs.mkdir(parts, { recursive: true, mode: 0o750 })
      await syncFolder(own)
      await syncFolder(outputDir)
    })
    yield* prove(parts, outputDir)

    const part = (key: UploadKey) => Path.join(parts, key)
    const handles = yield* RcMap.make({
      lookup: (key: UploadKey) =>
        Effect.acquireRelease(
          io("opening a part file", () => Fs.open(part(key), "r+")),
          (handle) => Effect.promise(() => handle.close())
        ),
      idleTimeToLive: "5 seconds"
    })
    const withHandle = <A, E>(key: UploadKey, f: (handle: Fs.FileHandle) => Effect.Effect<A, E>) =>
      Effect.scoped(Effect.flatMap(RcMap.get(handles, key), f))

    /** Part files whose folder entry is not durable yet. */
    const fresh = new Set<UploadKey>()

    /** The folder of a final name, made if missing; none of its parts may be a link out of the output folder. */
    const folderOf = async (name: SafeName.SafeName): Promise<string> => {
      let folder = outputDir
      for (const step of name.split("/").slice(0, -1)) {
        const next = Path.join(folder, step)
        await unless(["EEXIST"], async () => {
          await Fs.mkdir(next, { mode: 0o750 })
          await syncFolder(folder)
        })
        if (!(await Fs.lstat(next)).isDirectory()) {
          throw Object.assign(new Error(`${next} is not a folder`), { code: "ENOTDIR" })
        }
        folder = next
      }
      return folder
    }

    return {
      limits: { minPiece: 1, maxPiece: Number.MAX_SAFE_INTEGER, append: true },
      reserve: (key) =>
        io("making a part file", async () => {
          const handle = await Fs.open(part(key), "wx", 0o640)
          fresh.add(key)
          await handle.close()
        }),
      write: (to, body) =>
        withHandle(to.key, (handle) =>
          Effect.map(
            Body.consume(body, {
              limit: to.limit,
              write: (pieces, at) => writeAll(handle, pieces, to.offset + at),
              onWriteError: failure("writing")
            }),
            (written): Extent => ({ offset: to.offset, locator: "", ...written })
          )),
      sync: (written) =>
        Effect.gen(function*() {
          const keys = [...new Set(written.map(({ key }) => key))]
          yield* Effect.forEach(keys, (key) =>
            withHandle(key, (handle) => io("syncing a part file", () => handle.datasync())), {
            concurrency: 8,
            discard: true
          })
          const made = keys.filter((key) =>
            fresh.has(key)
          )
          if (made.length > 0) yield* io("syncing a folder", () => syncFolder(parts))
          made.forEach((key) => fresh.delete(key))
        }),
      digest: (key, extents) =>
        Effect.flatMap(extents, (extents) =>
          withHandle(key, (handle) =>
            io("reading a part file", async () => {
              const hasher = Sha256.make()
              const last = extents.at(-1)
              await readAll(handle, [0, last === undefined ? 0 : last.offset + last.length], hasher.update)
              return hasher.digest()
            }))),
      publish: (key, _, name, mode) =>
        Effect.gen(function*() {
          const target = Path.join(outputDir, name)
          const taken = new NameTaken({ name, message: `There is a file ${name} on the server already` })
          yield* Effect.uninterruptible(Effect.tryPromise({
            try: async () => {
              const folder = await folderOf(name)
              const there = await identity(target)
              if (there !== undefined && there === (await identity(part(key)))) return syncFolder(folder)
              if (mode === "exclusive") {
                await Fs.link(part(key), target)
              } else {
                const beside = `${part(key)}.publish`
                await Fs.rm(beside, { force: true })
                await Fs.link(part(key), beside)
                await Fs.rename(beside, target)
              }
              return syncFolder(folder)
            },
            catch: (cause) =>
              ["EEXIST", "EISDIR", "ENOTEMPTY"].includes(code(cause) ?? "")
                ? taken
                : failure("publishing")(cause)
          }))
        }),
      holder: (key, name) =>
        io("looking at a file", async () => {
          const there = await identity(Path.join(outputDir, name))
          return there === undefined ? "nobody" : there === (await identity(part(key))) ? "upload" : "other"
        }),
      carry: (from, extents, to) =>
        withHandle(from, (source) =>
          withHandle(to, (target) =>
            io("copying a part file", async () => {
              for (const { length, offset } of extents) {
                await readAll(source, [offset, offset + length], (bytes, at) => writeAll(target, [bytes], at))
              }
              return extents
            }))),
      trim: (key, length) =>
        withHandle(key, (handle) =>
          io("trimming a part file", async () => {
            if ((await handle.stat()).size <= length) return
            await handle.truncate(length)
            await handle.datasync()
          })),
      drop: (key) =>
        Effect.andThen(
          RcMap.invalidate(handles, key),
          io("removing a part file", async () => {
            await Fs.rm(part(key), { force: true })
            await Fs.rm(`${part(key)}.publish`, { force: true })
          })
        )
    }
  })

/** Proves that the folder can do what the promises rest on: links, exclusive creation, folder sync. */
const prove = (parts: string, outputDir: string) =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const probe = Path.join(parts, `probe-${now}-${process.pid}`)
    const linked = Path.join(outputDir, `${SafeName.reserved}-probe-${now}-${process.pid}`)
    yield* io("proving links and exclusive creation", async () => {
      try {
        await (await Fs.open(probe, "wx")).close()
        await Fs.link(probe, linked)
        await unless(["EEXIST"], async () => {
          await Fs.link(probe, linked)
          throw new Error("a second link over a file was not refused")
        })
      } finally {
        await Fs.rm(linked, { force: true })
        await Fs.rm(probe, { force: true })
      }
    })
    const synced = yield* Effect.option(io("syncing a folder", () => syncFolder(outputDir)))
    if (Option.isNone(synced) || process.platform === "win32") {
      yield* Effect.logWarning("Folders cannot be synced here: after a power cut a new file may lack its name")
    }
  })

/**
 * Uploads in `outputDir`, which is made if missing. Its file system must have hard links; the layer proves that when it is
 * built.
 */
export const layer = (options: { readonly outputDir: string }): Layer.Layer<UploadStore, StoreError> =>
  Layer.scoped(
    UploadStore,
    Effect.suspend(() => {
      const outputDir = Path.resolve(options.outputDir)
      return Effect.andThen(
        io(`making ${outputDir}`, () => Fs.mkdir(outputDir, { recursive: true })),
        make(outputDir)
      )
    })
  )
