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
import { inject } from "vitest"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"

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

const Database = createRequire(import.meta.url)("better-sqlite3") as {
  new(file: string): RawDatabase
  readonly prototype: RawDatabase
}

export const openRaw = (file: string): RawDatabase => new Database(file)

/** What settings of each connection are while it commits, from now on until the scope closes. */
export const commits = <A>(look: (setting: (name: string) => unknown) => A) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const { prototype } = Database
        const { prepare } = prototype
        const seen: Array<A> = []
        const watched = function(this: RawDatabase, sql: string): Statement {
          const statement: { run: Statement["run"] } & Statement = prepare.call(this, sql)
          if (sql !== "COMMIT") return statement
          const run = statement.run
          statement.run = (...values) => {
            seen.push(look((name) => this.pragma(name, { simple: true })))
            return run.apply(statement, [...values])
          }
          return statement
        }
        Object.assign(prototype, { prepare: watched })
        return { seen, restore: () => Object.assign(prototype, { prepare }) }
      }),
      ({ restore }) => Effect.sync(restore)
    ),
    ({ seen }) => seen
  )

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
  Effect.sync(() => Fs.realpathSync.native(Fs.mkdtempSync(Path.join(Os.tmpdir(), "indexedcp-")))),
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

/** The tables as the first version of this program made them. */
const version1 = `
  CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    beat_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state TEXT NOT NULL CHECK (state IN ('adding', 'sealed', 'dropping')),
    owner INTEGER,
    hold INTEGER,
    path TEXT NOT NULL,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    chunk_size INTEGER NOT NULL,
    size INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    chunks INTEGER NOT NULL DEFAULT 0,
    first_index INTEGER NOT NULL DEFAULT 0,
    added_at INTEGER NOT NULL,
    settled_bytes INTEGER NOT NULL DEFAULT 0,
    endpoint TEXT,
    sent_name TEXT,
    upload_id TEXT,
    revision INTEGER,
    server_name TEXT,
    sending INTEGER,
    failure TEXT,
    version TEXT
  ) STRICT;
  CREATE INDEX files_by_state ON files (state, id);
  CREATE INDEX files_by_source ON files (source);
  CREATE INDEX files_by_owner ON files (owner) WHERE owner IS NOT NULL;
  CREATE TABLE pieces (
    id INTEGER PRIMARY KEY,
    file INTEGER NOT NULL REFERENCES files (id),
    start INTEGER NOT NULL,
    length INTEGER NOT NULL CHECK (length > 0),
    sha256 TEXT NOT NULL,
    encoding INTEGER NOT NULL DEFAULT 0,
    data BLOB NOT NULL,
    UNIQUE (file, start)
  ) STRICT;
  CREATE TABLE receipts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    server_name TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    upload_id TEXT NOT NULL,
    revision INTEGER NOT NULL,
    resent INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE settled (
    file INTEGER NOT NULL REFERENCES files (id),
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    PRIMARY KEY (file, start)
  ) STRICT, WITHOUT ROWID;
`

/**
 * A buffer of version 1: the bytes `data` as file 1 at `/a` in pieces of 4, half sent; file 2, external, at `/big` in version
 * `v1`; one receipt; then `more` buffered files that are empty.
 */
export const writeVersion1 = (file: string, data: Uint8Array, more = 0): void =>
  raw(file, (database) => {
    database.exec("PRAGMA page_size = 65536; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; BEGIN")
    database.exec(version1)
    const added =
      "INSERT INTO files (state, path, source, name, chunk_size, size, sha256, chunks, added_at, settled_bytes, endpoint, " +
      "sent_name, upload_id, revision, failure, version) VALUES " +
      "('sealed', ?, ?, ?, 4, ?, ?, ?, 1700000000000, ?, ?, 'sent', 'u1', 2, ?, ?)"
    const insert = database.prepare(added)
    const chunks = Math.ceil(data.byteLength / 4)
    insert.run("a", "/a", "a", data.byteLength, Sha256.of(data), chunks, 4, "http://server/upload", "refused", null)
    insert.run("big", "/big", "big", 1000, Sha256.empty, 250, 0, "http://server/upload", null, "v1")
    const piece = database.prepare("INSERT INTO pieces (file, start, length, sha256, data) VALUES (1, ?, ?, ?, ?)")
    for (let at = 0; at < data.byteLength; at += 4) {
      const bytes = data.subarray(at, at + 4)
      piece.run(at, bytes.byteLength, Sha256.of(bytes), bytes)
    }
    database.exec("INSERT INTO settled VALUES (1, 0, 4)")
    database.prepare(
      "INSERT INTO receipts (path, name, server_name, size, sha256, endpoint, upload_id, revision, resent, delivered_at) " +
        "VALUES ('old', 'old', 'old (1)', 0, ?, 'http://server/upload', 'u0', 1, 1, 1600000000000)"
    ).run(Sha256.empty)
    for (let count = 0; count < more; count++) {
      insert.run(`${count}`, `/${count}`, `${count}`, 0, Sha256.empty, 0, 0, null, null, null)
    }
    database.exec("PRAGMA application_id = 1229148209; PRAGMA user_version = 1; COMMIT")
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

/** Uses a buffer in a process of its own, see `bufferChild.ts`; it is killed when the scope closes. */
export const child = (file: string, what: "add" | "claim" | "open", ...more: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync((): Child => {
      const running = spawn(process.execPath, [Path.join(inject("programs"), "bufferChild.js"), file, what, ...more], {
        stdio: ["ignore", "pipe", "inherit"]
      })
      let text = ""
      running.stdout.on("data", (more) => (text += String(more)))
      const exited = new Promise<readonly [number | null, string]>((resolve) =>
        running.once("close", (code) => resolve([code, text]))
      )
      const printed = new Promise<string>((resolve, reject) => {
        running.stdout.once("data", (text) => resolve(String(text)))
        running.once("exit", () => reject(new Error("The child ended early")))
      })
      printed.catch(() => {})
      return { pid: running.pid!, printed, exited, kill: () => (running.kill("SIGKILL"), exited) }
    }),
    ({ kill }) => Effect.promise(kill)
  )
