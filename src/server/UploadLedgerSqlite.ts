/**
 * The ledger in an embedded SQLite database.
 *
 * @module
 */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Migrator from "@effect/sql/Migrator"
import * as SqlClient from "@effect/sql/SqlClient"
import type * as SqlError from "@effect/sql/SqlError"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { ServerFailure, StorageFull } from "../protocol/ProtocolError.ts"
import { Sha256 } from "../protocol/Sha256.ts"
import type { Durability } from "./internal/disk.ts"
import * as rules from "./internal/ledgerRules.ts"
import { type LedgerError, Upload, UploadLedger } from "./UploadLedger.ts"

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
  })
})

const Amount = Schema.Struct({ amount: Schema.Number })

const ExtentRow = Schema.Struct({
  position: Schema.Number,
  offset: Schema.Number,
  length: Schema.Number,
  sha256: Sha256,
  locator: Schema.String
})

const decodeUploads = Schema.decodeUnknown(Schema.Array(Upload))
const encodeUpload = Schema.encodeSync(Upload)
const decodeAmounts = Schema.decodeUnknown(Schema.Array(Amount))
const decodeExtents = Schema.decodeUnknown(Schema.Array(ExtentRow))

const columns = Object.keys(Upload.fields) as ReadonlyArray<keyof Upload>

const putUpload = `INSERT INTO uploads (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})
  ON CONFLICT (key) DO UPDATE SET ${columns.slice(1).map((column) => `${column} = excluded.${column}`).join(", ")}`

const isOpen = "id IS NOT NULL AND state IN ('receiving', 'finishing', 'failed')"

const extentsOf = "SELECT * FROM extents WHERE key = ?"

const failure = (cause: unknown) =>
  (cause as { readonly cause?: { readonly code?: string } }).cause?.code === "SQLITE_FULL"
    ? new StorageFull({ message: "The server's ledger has no room left on its disk; try again later" })
    : new ServerFailure({ message: "The server's ledger could not be read or written", cause })

const make = (durability: Durability) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* durability === "power" ? sql`PRAGMA synchronous = FULL` : sql`PRAGMA synchronous = NORMAL`
    yield* Migrator.make({})({ loader: migrations, table: "migrations" })

    // statements as texts, prepared once: those built from templates cost ten times as much to make as to run
    const connection = yield* Effect.scoped(sql.reserve)
    const query = (text: string, ...values: ReadonlyArray<unknown>) => connection.execute(text, values, undefined)
    type Found = Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>
    const change = (text: string, ...values: ReadonlyArray<unknown>): Effect.Effect<void, LedgerError> =>
      Effect.mapError(Effect.asVoid(query(text, ...values)), failure)
    const uploads = (rows: Found) => Effect.mapError(Effect.flatMap(rows, decodeUploads), failure)
    const firstUpload = (rows: Found) => Effect.map(uploads(rows), Arr.head)
    const amount = (rows: Found) =>
      Effect.mapBoth(Effect.flatMap(rows, decodeAmounts), {
        onSuccess: ([row]) => row?.amount ?? 0,
        onFailure: failure
      })
    const extents = (rows: Found) =>
      Effect.mapBoth(Effect.flatMap(rows, decodeExtents), {
        onSuccess: Arr.map(({ position, ...extent }) => ({ position, extent })),
        onFailure: failure
      })
    const firstExtent = (rows: Found) =>
      Effect.map(extents(rows), (found) => Option.map(Arr.head(found), ({ extent }) => extent))

    const begin = change("BEGIN")
    const commit = change("COMMIT")
    const rollback = change("ROLLBACK")
    const one = Effect.unsafeMakeSemaphore(1)

    return rules.make({
      transaction: (effect) =>
        Effect.andThen(begin, Effect.onError(Effect.zipLeft(effect, commit), () => Effect.ignore(rollback))).pipe(
          Effect.uninterruptible,
          one.withPermits(1)
        ),
      look: one.withPermits(1),
      byKey: (key) => firstUpload(query("SELECT * FROM uploads WHERE key = ?", key)),
      byId: (principal, id) =>
        firstUpload(query("SELECT * FROM uploads WHERE principal = ? AND id = ?", principal, id)),
      revision1: (principal, clientName) =>
        uploads(query(
          `SELECT * FROM uploads WHERE principal = ? AND clientName = ? AND id IS NULL ORDER BY touchedAt DESC, rowid DESC`,
          principal,
          clientName
        )),
      isPlanned: (name) =>
        Effect.map(
          uploads(query("SELECT * FROM uploads WHERE name = ? AND state IN ('receiving', 'finishing')", name)),
          Arr.some((upload) => rules.plans(upload, name))
        ),
      isEmpty: Effect.map(uploads(query("SELECT * FROM uploads LIMIT 1")), Arr.isEmptyReadonlyArray),
      open: (principal) =>
        amount(Option.match(principal, {
          onNone: () => query(`SELECT count(*) AS amount FROM uploads WHERE ${isOpen}`),
          onSome: (name) => query(`SELECT count(*) AS amount FROM uploads WHERE ${isOpen} AND principal = ?`, name)
        })),
      bytesOf: (principal) =>
        amount(query("SELECT coalesce(sum(received), 0) AS amount FROM uploads WHERE principal = ?", principal)),
      unfinished: uploads(query(`SELECT * FROM uploads WHERE ${isOpen} ORDER BY touchedAt`)),
      untouched: (before, most) =>
        uploads(query(
          `SELECT * FROM uploads WHERE
          (id IS NULL AND touchedAt < ?) OR
          (id IS NOT NULL AND state IN ('receiving', 'failed') AND touchedAt < ?) OR
          (id IS NOT NULL AND state IN ('complete', 'deleted') AND touchedAt < ?)
          LIMIT ?`,
          before.revision1,
          before.unfinished,
          before.ended,
          most
        )),
      unsettled: uploads(
        query("SELECT * FROM uploads WHERE state = 'finishing' UNION ALL SELECT * FROM uploads WHERE id IS NULL")
      ),
      put: (upload) => {
        const row = encodeUpload(upload)
        return change(putUpload, ...columns.map((column) => row[column]))
      },
      forget: (key) => change("DELETE FROM uploads WHERE key = ?", key),
      putExtent: (key, position, { length, locator, offset, sha256 }) =>
        change("INSERT INTO extents VALUES (?, ?, ?, ?, ?, ?)", key, position, offset, length, sha256, locator),
      removeExtents: (key, from) => change("DELETE FROM extents WHERE key = ? AND position >= ?", key, from),
      around: (key, position) =>
        Effect.zipWith(
          firstExtent(query(`${extentsOf} AND position <= ? ORDER BY position DESC LIMIT 1`, key, position)),
          firstExtent(query(`${extentsOf} AND position > ? ORDER BY position LIMIT 1`, key, position)),
          (before, after) => ({ before, after })
        ),
      last: (key) => firstExtent(query(`${extentsOf} ORDER BY position DESC LIMIT 1`, key)),
      page: (key, from, most) =>
        extents(query(`${extentsOf} AND position >= ? ORDER BY position LIMIT ?`, key, from, most))
    })
  })

/** A ledger over a connection at hand, which it has for itself and whose settings it changes. */
export const layerSql = (
  options: { readonly durability?: Durability } = {}
): Layer.Layer<UploadLedger, SqlError.SqlError | Migrator.MigrationError, SqlClient.SqlClient> =>
  Layer.effect(UploadLedger, make(options.durability ?? "power"))

/**
 * A ledger in the SQLite database at `file`, whose folder exists. A commit is on the disk before it returns
 * (`synchronous=FULL`), unless the durability is `process`. One server at a time.
 */
export const layer = (options: {
  readonly file: string
  /** Default `power`. */
  readonly durability?: Durability
}): Layer.Layer<UploadLedger, ServerFailure> =>
  layerSql(options).pipe(
    Layer.provide(SqliteClient.layer({ filename: options.file })),
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
