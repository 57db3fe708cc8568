/**
 * SQLite files as other programs leave them, and child processes that use ours and are killed.
 *
 * @module
 */
import { Effect, Layer } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import { createRequire } from "node:module"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"

interface Statement {
  readonly run: (...values: ReadonlyArray<unknown>) => unknown
  readonly all: (...values: ReadonlyArray<unknown>) => ReadonlyArray<Record<string, unknown>>
}

/** A plain connection, past our code. */
export interface RawDatabase {
  readonly pragma: (pragma: string, options?: { readonly simple: boolean }) => unknown
  readonly exec: (statements: string) => void
  readonly prepare: (statement: string) => Statement
  readonly close: () => void
}

const Database = createRequire(import.meta.url)("better-sqlite3") as new(file: string) => RawDatabase

export const openRaw = (file: string): RawDatabase => new Database(file)

/** Runs statements on a connection of their own. */
export const raw = <A>(file: string, use: (database: RawDatabase) => A): A => {
  const database = openRaw(file)
  try {
    return use(database)
  } finally {
    database.close()
  }
}

export const temporaryFolder = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "indexedcp-"))),
  (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
)

/** The file of a buffer that is not there yet, in a folder that goes when the scope closes. */
export const temporaryFile = Effect.map(temporaryFolder, (folder) => Path.join(folder, "buffer.db"))

export const layerTemporary = Layer.unwrapScoped(
  Effect.map(temporaryFile, (file) => ChunkStoreSqlite.layer({ file }))
)

/** The table that the Python client makes, and rows of it: file name, chunk index, bytes. */
export const writeLegacy = (file: string, rows: Iterable<readonly [string, number, Uint8Array]>): void =>
  raw(file, (database) => {
    database.exec(
      "CREATE TABLE IF NOT EXISTS chunks (id TEXT PRIMARY KEY, file_name TEXT NOT NULL, chunk_index INTEGER NOT NULL, " +
        "data BLOB NOT NULL); BEGIN"
    )
    const insert = database.prepare(
      "INSERT OR REPLACE INTO chunks (id, file_name, chunk_index, data) VALUES (?, ?, ?, ?)"
    )
    for (const [name, index, data] of rows) insert.run(`${name}-${index}`, name, index, data)
    database.exec("COMMIT")
  })

export interface Child {
  readonly pid: number
  /** Ends when it has printed something; fails if it ends before. */
  readonly printed: Promise<string>
  /** Its exit code and all it has printed. */
  readonly exited: Promise<readonly [code: number | null, text: string]>
  /** kill -9; ends when the process has. */
  readonly kill: () => Promise<unknown>
}

/** Runs a script of this folder in a process of its own; it is killed when the scope closes. */
export const child = (script: string, ...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync((): Child => {
      const path = fileURLToPath(new URL(`./${script}`, import.meta.url))
      const running = spawn(process.execPath, ["--import", "tsx", path, ...args], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      let text = ""
      running.stdout.on("data", (more) => (text += String(more)))
      const exited = new Promise<readonly [number | null, string]>((resolve) =>
        running.once("close", (code) => resolve([code, text]))
      )
      const printed = new Promise<string>((resolve, reject) => {
        running.stdout.once("data", (text) => resolve(String(text)))
        running.once("exit", () => reject(new Error(`${script} ended early`)))
      })
      printed.catch(() => {})
      return { pid: running.pid!, printed, exited, kill: () => (running.kill("SIGKILL"), exited) }
    }),
    ({ kill }) => Effect.promise(kill)
  )
