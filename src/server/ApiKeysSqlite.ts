/**
 * Named keys in a SQLite database of their own, which the server and the command line have open at the same time.
 *
 * @module
 */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Migrator from "@effect/sql/Migrator"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as SqlConnection from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as ParseResult from "effect/ParseResult"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { ServerFailure } from "../protocol/ProtocolError.ts"
import { Sha256 } from "../protocol/Sha256.ts"
import { ApiKeys } from "./ApiKeys.ts"
import { makeFolders } from "./internal/disk.ts"
import * as rules from "./internal/keyRules.ts"
import * as Secrets from "./internal/secrets.ts"
import * as Sqlite from "./internal/sqlite.ts"
import { NamedKey } from "./NamedKey.ts"
import * as OutputFolder from "./OutputFolder.ts"

/** Where the keys of an output folder lie. */
export const keysFile = (outputDir: string): string => Path.join(OutputFolder.own(outputDir), "keys.db")

const migrations = Migrator.fromRecord({
  "0001_keys": Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE TABLE keys (
      position INTEGER PRIMARY KEY AUTOINCREMENT,
      id TEXT NOT NULL UNIQUE,
      name TEXT NOT NULL,
      sha256 TEXT NOT NULL UNIQUE,
      can TEXT NOT NULL,
      prefix TEXT,
      createdAt INTEGER NOT NULL,
      expiresAt INTEGER
    )`
  })
})

const Row = Schema.Struct({
  ...NamedKey.fields,
  can: Schema.compose(Schema.split(","), NamedKey.fields.can),
  sha256: Sha256
})

const decodeRows = Schema.decodeUnknown(Schema.Array(Row))
const encodeRow = Schema.encodeSync(Row)

const isBusy = (error: unknown): boolean => {
  if (typeof error !== "object" || error === null) return false
  const { cause, code } = error as { readonly code?: unknown; readonly cause?: unknown }
  return /^SQLITE_(BUSY|LOCKED)/.test(String(code)) || isBusy(cause)
}

/** Another process writes for a moment only. Each attempt waits 100 ms inside SQLite besides. */
const patience = Schedule.intersect(Schedule.spaced("50 millis"), Schedule.recurs(20))

/** The migrations in one transaction that holds the write lock from its beginning: two programs may start at once. */
const migrate = (connection: SqlConnection.Connection) => {
  const execute = (statement: string) => connection.executeUnprepared(statement, [], undefined)
  return Effect.zipRight(
    execute("BEGIN IMMEDIATE"),
    Migrator.make({})({ loader: migrations, table: "migrations" }).pipe(
      Effect.provideService(SqlClient.TransactionConnection, [connection, 0]),
      Effect.zipRight(execute("COMMIT")),
      Effect.onError(() => Effect.ignore(execute("ROLLBACK")))
    )
  )
}

const make = (file: string) =>
  Effect.gen(function*() {
    // for good: every request asks, and half of what that costs would be to get at the connection
    const connection = yield* (yield* SqlClient.SqlClient).reserve
    /** Past the driver's cache of prepared statements, which keeps failures too. */
    const execute = (statement: string, ...values: ReadonlyArray<unknown>) =>
      Effect.flatten(Effect.try({
        try: () => connection.executeUnprepared(statement, values, undefined),
        // what it refuses to prepare, it throws
        catch: (cause) => new SqlError({ cause, message: "Failed to prepare statement" })
      }))
    yield* execute("PRAGMA busy_timeout = 100")
    yield* execute("PRAGMA synchronous = FULL")
    yield* migrate(connection)

    const failure = (cause: unknown) =>
      new ServerFailure({
        message: `The keys in ${file} cannot be read or written; check that the disk has room and the file is in order`,
        cause
      })
    const run = <A>(statements: Effect.Effect<A, SqlError | ParseResult.ParseError>): Effect.Effect<A, ServerFailure> =>
      statements.pipe(
        Effect.catchIf(isBusy, () => Effect.retry(statements, { schedule: patience, while: isBusy })),
        Effect.mapError(failure)
      )

    let writes = 0
    const write = (statement: string, ...values: ReadonlyArray<unknown>) =>
      Effect.ensuring(
        run(execute(statement, ...values)),
        Effect.sync(() => {
          writes++
        })
      )

    /** The rows as they were at a version of the file, and after so many writes of our own, which the version leaves out. */
    let read = { version: undefined as unknown, writes, rows: [] as ReadonlyArray<rules.Row> }
    const all = run(Effect.gen(function*() {
      const version = (yield* execute("PRAGMA data_version"))[0]?.data_version
      if (read.version === version && read.writes === writes) return read.rows
      const before = writes
      const found = yield* decodeRows(yield* execute("SELECT * FROM keys ORDER BY position"))
      const rows = found.map(({ sha256, ...key }) => ({ key, digest: Secrets.digest(sha256) }))
      read = { version, writes: before, rows }
      return rows
    }))

    yield* all
    return yield* rules.make({
      all,
      put: (key, sha256) => {
        const row = encodeRow({ ...key, sha256 })
        return Effect.asVoid(write(
          "INSERT INTO keys (id, name, sha256, can, prefix, createdAt, expiresAt) VALUES (?, ?, ?, ?, ?, ?, ?)",
          row.id,
          row.name,
          row.sha256,
          row.can,
          row.prefix,
          row.createdAt,
          row.expiresAt
        ))
      },
      remove: (nameOrId) =>
        Effect.map(
          write("DELETE FROM keys WHERE id = ? OR name = ? RETURNING id", nameOrId, nameOrId),
          ({ length }) => length
        )
    })
  })

/** Makes the folder and an empty file for nobody else's eyes; what is there already stays what it is. */
const prepare = (file: string) =>
  Effect.tryPromise(async () => {
    await makeFolders(Fs, Path.resolve(Path.dirname(file)), 0o750)
    // never opened when it is there: closing it would drop the locks that SQLite holds on it in this process
    const created = await Fs.open(file, "wx", 0o600).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error
    })
    await created?.close()
  })

/**
 * Keys in the SQLite database at `file`, made if missing for its owner only. A change is on the disk before it returns, and
 * counts at once for every program that has the file open.
 */
export const layer = (options: { readonly file: string }): Layer.Layer<ApiKeys, ServerFailure> =>
  Layer.scoped(ApiKeys, make(options.file)).pipe(
    Layer.provide(SqliteClient.layer({ filename: options.file })),
    Layer.provide(Layer.effectDiscard(prepare(options.file))),
    Layer.catchAllCause((cause) => Layer.fail(Cause.squash(cause))),
    Layer.retry(Schedule.whileInput(patience, isBusy)),
    Layer.catchAll((cause) =>
      Layer.fail(
        new ServerFailure({
          message: Sqlite.unbuilt(cause) ??
            `The keys file ${options.file} cannot be opened; it was left as it is. Is it another user's, damaged, or of a newer version?`,
          cause
        })
      )
    )
  )
