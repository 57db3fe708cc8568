/**
 * The ledger in an embedded SQLite database.
 *
 * @module
 */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Migrator from "@effect/sql/Migrator"
import * as SqlClient from "@effect/sql/SqlClient"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import { ServerFailure, StorageFull } from "../protocol/ProtocolError.ts"
import { Sha256 } from "../protocol/Sha256.ts"
import type { Durability } from "./internal/disk.ts"
import * as LedgerLog from "./internal/ledgerLog.ts"
import * as rules from "./internal/ledgerRules.ts"
import * as Sqlite from "./internal/sqlite.ts"
import { type LedgerError, Upload, UploadLedger } from "./UploadLedger.ts"
import { UploadKey } from "./UploadStore.ts"

const migrations = Migrator.fromRecord({
  "0001_ledger": Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE TABLE uploads (
      key TEXT PRIMARY KEY,
      principal TEXT NOT NULL,
      id TEXT,
      clientName TEXT NOT NULL,
      plannedName TEXT NOT NULL,
      name TEXT NOT NULL,
      size INTEGER,
      sha256 TEXT,
      state TEXT NOT NULL,
      received INTEGER NOT NULL,
      chunks INTEGER NOT NULL,
      replayCursor INTEGER NOT NULL,
      address TEXT NOT NULL,
      touchedAt INTEGER NOT NULL
    )`
    yield* sql`CREATE UNIQUE INDEX uploads_id ON uploads (principal, id) WHERE id IS NOT NULL`
    yield* sql`CREATE INDEX uploads_revision1 ON uploads (principal, clientName) WHERE id IS NULL`
    yield* sql`CREATE INDEX uploads_name ON uploads (name)`
    yield* sql`CREATE INDEX uploads_finishing ON uploads (key) WHERE state = 'finishing'`
    yield* sql`CREATE TABLE extents (
      key TEXT NOT NULL REFERENCES uploads (key) ON DELETE CASCADE,
      position INTEGER NOT NULL,
      "offset" INTEGER NOT NULL,
      length INTEGER NOT NULL,
      sha256 TEXT NOT NULL,
      locator TEXT NOT NULL,
      PRIMARY KEY (key, position)
    ) WITHOUT ROWID`
  }),
  "0002_open": Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE INDEX uploads_open ON uploads (principal)
      WHERE id IS NOT NULL AND state IN ('receiving', 'finishing', 'failed')`
    yield* sql`CREATE INDEX uploads_principal ON uploads (principal, received)`
  }),
  "0003_prefix": Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`ALTER TABLE extents ADD COLUMN isPrefix INTEGER NOT NULL DEFAULT 0`
  }),
  // for a list of values SQLite makes a table in memory in each statement that may change the index: 0.2 ms
  "0004_open_without_list": Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`DROP INDEX uploads_open`
    yield* sql`CREATE INDEX uploads_open ON uploads (principal)
      WHERE id IS NOT NULL AND (state = 'receiving' OR state = 'finishing' OR state = 'failed')`
  })
})

const ExtentRow = Schema.Struct({
  position: Schema.Number,
  offset: Schema.Number,
  length: Schema.Number,
  sha256: Sha256,
  isPrefix: Schema.transform(Schema.Number, Schema.Boolean, {
    strict: true,
    decode: (stored) => stored === 1,
    encode: Number
  }),
  locator: Schema.String
})

const decodeUpload = Schema.decodeUnknownSync(Upload)
const encodeUpload = Schema.encodeSync(Upload)
const decodeExtent = Schema.decodeUnknownSync(ExtentRow)
const decodeKey = Schema.decodeUnknownSync(Schema.Struct({ key: UploadKey }))

const columns = Object.keys(Upload.fields) as ReadonlyArray<keyof Upload>
const isOpen = "id IS NOT NULL AND (state = 'receiving' OR state = 'finishing' OR state = 'failed')"

const failure = (cause: unknown): LedgerError =>
  (cause as { readonly code?: string }).code === "SQLITE_FULL"
    ? new StorageFull({ message: "The server's ledger has no room left on its disk; try again later" })
    : new ServerFailure({ message: "The server's ledger could not be read or written", cause })

/** What a database throws becomes a `LedgerError`, which is thrown in its place. */
const guard = <A>(run: () => A): A => {
  try {
    return run()
  } catch (cause) {
    throw failure(cause)
  }
}

/** The rows in a database whose tables are there. */
const rowsOf = (database: Sqlite.Database, log: LedgerLog.LedgerLog): rules.Rows => {
  type Values = ReadonlyArray<Sqlite.Value>
  const run = (sql: string) => {
    const statement = database.prepare(sql)
    return (...values: Values): void => guard(() => void statement.run(...values))
  }
  const select = <A>(sql: string, decode: (row: unknown) => A) => {
    const statement = database.prepare(sql)
    return (...values: Values): ReadonlyArray<A> => guard(() => statement.all(...values).map(decode))
  }
  const uploads = (sql: string) => select(`SELECT * FROM uploads WHERE ${sql}`, (row) => decodeUpload(row))
  const extents = (sql: string) =>
    select(`SELECT * FROM extents WHERE key = ? AND position ${sql}`, (row) => {
      const { isPrefix, position, ...extent } = decodeExtent(row)
      return { position, extent: isPrefix ? { ...extent, isPrefix } : extent }
    })
  const amount = (sql: string) => {
    const found = select(`SELECT ${sql}`, (row) => (row as { readonly amount: number }).amount)
    return (...values: Values): number => found(...values)[0] ?? 0
  }

  const begin = run("BEGIN")
  const commit = run("COMMIT")
  const rollback = run("ROLLBACK")
  const byKey = uploads("key = ?")
  const byId = uploads("principal = ? AND id = ?")
  const openOf = amount(`count(*) AS amount FROM uploads WHERE ${isOpen} AND principal = ?`)
  const allOpen = amount(`count(*) AS amount FROM uploads WHERE ${isOpen}`)
  const planned = uploads("name = ? AND state IN ('receiving', 'finishing')")
  const first = uploads("true LIMIT 1")
  const untouched = uploads(`
    (id IS NULL AND touchedAt < ?) OR
    (id IS NOT NULL AND state IN ('receiving', 'failed') AND touchedAt < ?) OR
    (id IS NOT NULL AND state IN ('complete', 'deleted') AND touchedAt < ?)
    LIMIT ?`)
  const insert = `INSERT INTO uploads (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`
  const put = run(
    `${insert} ON CONFLICT (key) DO UPDATE SET ${
      columns.slice(1).map((column) => `${column} = excluded.${column}`).join(", ")
    }`
  )
  const putNew = select(`${insert} ON CONFLICT DO NOTHING RETURNING key`, (row) => decodeKey(row).key)
  const putExtent = run(
    `INSERT INTO extents (key, position, "offset", length, sha256, isPrefix, locator) VALUES (?, ?, ?, ?, ?, ?, ?)`
  )
  const complete = run("UPDATE uploads SET state = 'complete', touchedAt = ? WHERE key = ?")
  const valuesOf = (upload: Upload): Values => {
    const row = encodeUpload(upload)
    return columns.map((column) => row[column])
  }
  const addExtent: rules.Rows["putExtent"] = (key, position, { isPrefix = false, length, locator, offset, sha256 }) =>
    putExtent(key, position, offset, length, sha256, Number(isPrefix), locator)
  const before = extents("<= ? ORDER BY position DESC LIMIT 1")
  const after = extents("> ? ORDER BY position LIMIT 1")
  const extentOf = ([found]: ReturnType<typeof before>) =>
    Option.map(Option.fromNullable(found), ({ extent }) => extent)

  return {
    transaction: (run) => {
      begin()
      try {
        const outcome = run()
        if (Either.isLeft(outcome)) rollback()
        else {
          commit()
          log.wrote()
        }
        return outcome
      } catch (cause) {
        // some failures have rolled it back already
        if (database.inTransaction) rollback()
        throw cause
      }
    },
    durable: log.durable,
    byKey: (key) => Arr.head(byKey(key)),
    byId: (principal, id) => Arr.head(byId(principal, id)),
    revision1: uploads(
      `principal = ? AND clientName = ? AND id IS NULL ORDER BY touchedAt DESC, rowid DESC`
    ),
    isPlanned: (name) => planned(name).some((upload) => rules.plans(upload, name)),
    isEmpty: () => first().length === 0,
    open: Option.match({ onNone: () => allOpen(), onSome: (principal) => openOf(principal) }),
    bytesOf: amount("coalesce(sum(received), 0) AS amount FROM uploads WHERE principal = ?"),
    unfinished: uploads(`${isOpen} ORDER BY touchedAt`),
    untouched: (before, most) => untouched(before.revision1, before.unfinished, before.ended, most),
    unsettled: uploads("state = 'finishing' UNION ALL SELECT * FROM uploads WHERE id IS NULL"),
    put: (upload) => put(...valuesOf(upload)),
    putWhole: (many) =>
      many.flatMap(({ extent, upload }) => {
        const added = putNew(...valuesOf(upload))
        if (added.length > 0 && extent.length > 0) addExtent(upload.key, extent.offset, extent)
        return added
      }),
    completeAll: (keys, touchedAt) => keys.forEach((key) => complete(touchedAt, key)),
    forget: run("DELETE FROM uploads WHERE key = ?"),
    putExtent: addExtent,
    removeExtents: run("DELETE FROM extents WHERE key = ? AND position >= ?"),
    before: (key, position) => extentOf(before(key, position)),
    after: (key, position) => extentOf(after(key, position)),
    page: extents(">= ? ORDER BY position LIMIT ?")
  }
}

/** Makes the tables, or brings them to what this version needs. */
const migrate = (file: string) =>
  Effect.scoped(
    Effect.provide(
      Migrator.make({})({ loader: migrations, table: "migrations" }),
      SqliteClient.layer({ filename: file })
    )
  )

/** The log of an open database. It stays the same file as long as the database is open. */
const openLog = (file: string) =>
  Effect.gen(function*() {
    const opened = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.openSync(`${file}-wal`, "r+")),
      (opened) => Effect.sync(() => Fs.closeSync(opened))
    )
    return yield* Effect.acquireRelease(
      Effect.sync(() => LedgerLog.make((done) => Fs.fdatasync(opened, done))),
      ({ close }) => close
    )
  })

/**
 * A ledger in the SQLite database at `file`, whose folder exists. What was committed is on the disk before anybody is told of
 * it, unless the durability is `process`. One server at a time.
 */
export const layer = (options: {
  readonly file: string
  /** Default `power`. */
  readonly durability?: Durability
}): Layer.Layer<UploadLedger, ServerFailure> =>
  Layer.scoped(
    UploadLedger,
    Effect.gen(function*() {
      yield* migrate(options.file)
      const database = yield* Effect.acquireRelease(
        Effect.sync(() => Sqlite.open(options.file)),
        (database) => Effect.sync(() => database.close())
      )
      database.pragma("synchronous = NORMAL")
      // what a process before this one could not sync is in the database then; and the log is there
      database.pragma("wal_checkpoint(TRUNCATE)")
      const log = options.durability === "process" ? LedgerLog.unsynced : yield* openLog(options.file)
      return rules.make(rowsOf(database, log))
    })
  ).pipe(
    Layer.catchAllCause((cause) =>
      Layer.fail(
        new ServerFailure({
          message:
            `The ledger ${options.file} cannot be opened; it was left as it is. Is it damaged, or of a newer version?`,
          cause
        })
      )
    )
  )
