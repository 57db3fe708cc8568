/**
 * Folders as somebody outside the server sees and changes them.
 *
 * @module
 */
import { Effect, Layer, Option } from "effect"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"
import { MemoryFiles } from "../../src/server/UploadStore.ts"

/** A folder that goes when the scope closes. */
export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => Fs.realpathSync.native(Fs.mkdtempSync(Path.join(Os.tmpdir(), "indexedcp-")))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
)

/** The visible files in a folder, the server's own aside. */
export const layer = (folder: string): Layer.Layer<MemoryFiles> =>
  Layer.succeed(MemoryFiles, {
    read: (name) =>
      Effect.sync(() => {
        const path = Path.join(folder, name)
        return Fs.existsSync(path) ? Option.some(Uint8Array.from(Fs.readFileSync(path))) : Option.none()
      }),
    names: Effect.sync(() =>
      Fs.readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => Path.relative(folder, Path.join(entry.parentPath, entry.name)))
        .filter((name) => !name.startsWith(".indexedcp"))
        .sort()
    ),
    // as most programs do: a new file takes the name
    write: (name, bytes) =>
      Effect.sync(() => {
        Fs.writeFileSync(Path.join(folder, `${name}.new`), bytes)
        Fs.renameSync(Path.join(folder, `${name}.new`), Path.join(folder, name))
      }),
    remove: (name) => Effect.sync(() => Fs.rmSync(Path.join(folder, name)))
  })

interface RawDatabase {
  readonly exec: (statements: string) => void
  readonly close: () => void
}

const Database = createRequire(import.meta.url)("better-sqlite3") as new(file: string) => RawDatabase

/** Runs statements on a database file past our code. */
export const execute = (file: string, statements: string): Effect.Effect<void> =>
  Effect.sync(() => {
    const database = new Database(file)
    database.exec(statements)
    database.close()
  })
