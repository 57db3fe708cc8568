/**
 * One SQLite connection whose failures are `ChunkStoreError`s: exclusive use, immediate transactions, and patience with
 * other processes that never freezes the event loop.
 *
 * @module
 */
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as SqlConnection from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as ParseResult from "effect/ParseResult"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import { ChunkStoreError } from "../ChunkStore.ts"
import { refusals } from "./sqlitePlace.ts"

/** At most so many bytes of blobs are written, freed or moved in one transaction. */
export const stepBytes = 16 * 1024 * 1024

type Synchronous = "FULL" | "NORMAL"

type Stored<E> = Exclude<E, SqlError | ParseResult.ParseError> | ChunkStoreError

/**
 * Of the two kinds of writing, `write` waits until the disk has the changes, and `writeUnsynced` does not. In WAL mode the
 * first is `PRAGMA synchronous = FULL` and the second `NORMAL`: all writers append to one log, and a commit under `FULL`
 * syncs all of it, so that what survives a loss of power is everything up to some commit, at least up to the last synced
 * one. The death of a process takes nothing of either kind. So `writeUnsynced` is for what, when it is lost, is only done
 * once more, or was begun by a program that is dead then too. A transaction that changes nothing syncs nothing.
 * Source: https://sqlite.org/pragma.html#pragma_synchronous
 */
export interface Database {
  readonly file: string
  readonly sql: SqlClient.SqlClient
  /** Runs statements that see only what was committed; repeated while another process keeps the database locked. */
  readonly read: <A, E, R>(statements: Effect.Effect<A, E, R>) => Effect.Effect<A, Stored<E>, R>
  /** The same in one transaction that is durable when it returns. It holds the write lock from its beginning. */
  readonly write: <A, E, R>(statements: Effect.Effect<A, E, R>) => Effect.Effect<A, Stored<E>, R>
  /** A `write` that survives this process at once, and a loss of power with the next `write` of any program. */
  readonly writeUnsynced: <A, E, R>(statements: Effect.Effect<A, E, R>) => Effect.Effect<A, Stored<E>, R>
  /** A statement for a `write` that would change nothing, and so sync nothing of what was not synced before. */
  readonly someChange: Effect.Effect<unknown, SqlError>
  /** A `write` that keeps readers out too, so that nothing can refuse its commit. */
  readonly writeAlone: <A, E, R>(statements: Effect.Effect<A, E, R>) => Effect.Effect<A, Stored<E>, R>
}

/** Lets timers and I/O run: statements are synchronous, and fibers that only yield to each other starve those. */
export const breathe: Effect.Effect<void> = Effect.async((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

const codeOf = (error: unknown): string => {
  const cause = error instanceof SqlError ? error.cause : error
  return typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : ""
}

const isBusy = (error: unknown): boolean => /^SQLITE_(BUSY|LOCKED)/.test(codeOf(error))

/** Where install scripts are not run, or for another version of Node, the driver has no program to load. */
const isNotBuilt = (error: unknown): boolean =>
  codeOf(error) === "ERR_DLOPEN_FAILED" || /could not locate the bindings/i.test(String(error))

const explain = (file: string, error: unknown): string => {
  const code = codeOf(error)
  if (isNotBuilt(error)) {
    return `The buffer ${file} cannot be opened: SQLite is not built for Node ${process.version} here. ` +
      "Run npm rebuild better-sqlite3, or install again with the install scripts of better-sqlite3 allowed"
  }
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) {
    return `The buffer ${file} has been locked by another program for 30 seconds. Wait for it to end, then try again`
  }
  if (code.startsWith("SQLITE_FULL")) return `The disk that holds the buffer ${file} is full. Make room, then try again`
  if (/^SQLITE_(CORRUPT|NOTADB)/.test(code)) return refusals.damaged(file)
  if (/^SQLITE_(READONLY|CANTOPEN|PERM|AUTH)/.test(code)) {
    return `The buffer ${file} cannot be opened for writing. Check that the file and its folder are yours and writable`
  }
  if (code.startsWith("SQLITE_IOERR")) return `The disk failed while the buffer ${file} was in use`
  return `The buffer ${file} failed in a way that was not foreseen`
}

const storeError = (file: string, error: unknown): ChunkStoreError =>
  new ChunkStoreError({
    message: ParseResult.isParseError(error)
      ? `The buffer ${file} holds a record that makes no sense; it was damaged or changed by another program`
      : explain(file, error),
    cause: error
  })

/** About 30 seconds; each attempt waits 100 ms inside SQLite besides. */
const patience = Schedule.exponential("10 millis").pipe(
  Schedule.union(Schedule.spaced("1 second")),
  Schedule.jittered,
  Schedule.upTo("30 seconds")
)

/**
 * Loads the schema, past the driver's cache of prepared statements: that keeps failures too, so that a statement first
 * prepared while another process had locked the database would be "locked" for ever.
 */
const loadSchema = (connection: SqlConnection.Connection): Effect.Effect<unknown, SqlError> =>
  Effect.suspend(() => connection.executeUnprepared("SELECT 1 FROM sqlite_schema LIMIT 1", [], undefined)).pipe(
    Effect.catchAllDefect((cause) => new SqlError({ cause, message: "Failed to read the schema" }))
  )

const transaction = <A, E, R>(
  connection: SqlConnection.Connection,
  begin: string,
  statements: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError, R> => {
  const rollback = Effect.ignore(connection.execute("ROLLBACK", [], undefined))
  return Effect.uninterruptibleMask((restore) =>
    connection.execute(begin, [], undefined).pipe(
      Effect.zipRight(Effect.exit(restore(statements))),
      Effect.tap((exit) =>
        Exit.isSuccess(exit)
          ? Effect.tapError(connection.execute("COMMIT", [], undefined), () => rollback)
          : rollback
      ),
      Effect.flatten
    )
  )
}

/** Opens the file. What stands in it has to be checked and set up by the caller. */
export const open = Effect.fnUntraced(
  function*(file: string): Effect.fn.Return<Database, ChunkStoreError, Scope.Scope> {
    const sql = yield* SqliteClient.make({ filename: file, disableWAL: true }).pipe(
      Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
      // A file that cannot be opened is thrown by the driver inside the client.
      Effect.catchAllDefect((cause) => Effect.fail(storeError(file, cause)))
    )
    let level: Synchronous = "FULL"
    /** Between transactions only. SQLite obeys when it compiles this, so a prepared one would do nothing. */
    const setLevel = (connection: SqlConnection.Connection, wanted: Synchronous) =>
      level === wanted
        ? Effect.void
        : Effect.map(connection.executeUnprepared(`PRAGMA synchronous = ${wanted}`, [], undefined), () => {
          level = wanted
        })
    const use =
      (begin?: "BEGIN IMMEDIATE" | "BEGIN EXCLUSIVE", synchronous: Synchronous = "FULL") =>
      <A, E, R>(statements: Effect.Effect<A, E, R>): Effect.Effect<A, Stored<E>, R> =>
        Effect.flatMap(sql.reserve, (connection) => {
          const bound = Effect.provideService(statements, SqlClient.TransactionConnection, [connection, 0])
          const ready = Effect.zipRight(loadSchema(connection), bound)
          return begin === undefined
            ? ready
            : Effect.zipRight(setLevel(connection, synchronous), transaction(connection, begin, ready))
        }).pipe(
          Effect.scoped,
          Effect.retry({ schedule: patience, while: isBusy }),
          Effect.mapError((error) =>
            error instanceof SqlError || ParseResult.isParseError(error)
              ? storeError(file, error)
              : error as Exclude<E, SqlError | ParseResult.ParseError>
          ),
          Effect.withTracerEnabled(false)
        ) as Effect.Effect<A, Stored<E>, R>

    const read = use()
    yield* read(
      Effect.all([sql`PRAGMA busy_timeout = 100`, sql`PRAGMA foreign_keys = ON`, sql`PRAGMA synchronous = FULL`])
    )
    return {
      file,
      sql,
      someChange: sql`UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'owners'`,
      read,
      write: use("BEGIN IMMEDIATE"),
      writeUnsynced: use("BEGIN IMMEDIATE", "NORMAL"),
      writeAlone: use("BEGIN EXCLUSIVE")
    }
  }
)
