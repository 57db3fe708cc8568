/**
 * A connection to SQLite without a layer above it, for what is asked thousands of times a second: its statements are
 * prepared once and run at once.
 *
 * @internal
 */
// @ts-expect-error -- it comes without types
import Sqlite from "better-sqlite3"

export type Value = string | number | null

/** A prepared statement. What it throws has a `code` like `SQLITE_FULL`. */
export interface Statement {
  readonly run: (...values: ReadonlyArray<Value>) => unknown
  readonly get: (...values: ReadonlyArray<Value>) => unknown
  readonly all: (...values: ReadonlyArray<Value>) => ReadonlyArray<unknown>
}

export interface Database {
  readonly prepare: (sql: string) => Statement
  readonly pragma: (sql: string) => unknown
  readonly inTransaction: boolean
  readonly close: () => void
}

/** Opens a database, which is made if missing. */
export const open = (file: string): Database => new (Sqlite as new(file: string) => Database)(file)

/**
 * What to do when the driver has no program to load: install scripts were not run, or for another version of Node. Anything
 * else that is thrown has none.
 */
export const unbuilt = (thrown: unknown): string | undefined =>
  /could not locate the bindings|ERR_DLOPEN_FAILED/i.test(`${thrown} ${(thrown as { code?: string } | null)?.code}`)
    ? `SQLite is not built for Node ${process.version} here. ` +
      "Run npm rebuild better-sqlite3, or install again with the install scripts of better-sqlite3 allowed"
    : undefined
