/**
 * The ledger in an embedded SQLite database.
 *
 * @module
 */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Migrator from "@effect/sql/Migrator"
import * as SqlClient from "@effect/sql/SqlClient"
import * as SqlError from "@effect/sql/SqlError"
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
const decodeKeys = Schema.decodeUnknown(Schema.Array(Schema.Struct({ key: UploadKey })))
const decodeAmounts = Schema.decodeUnknown(Schema.Array(Amount))
const decodeExtents = Schema.decodeUnknown(Schema.Array(ExtentRow))

/** Many rows go in by one statement, as one text: a statement for each would cost ten times as much. */
const json = (values: ReadonlyArray<unknown>): string => JSON.stringify(values)

const quoted = (names: ReadonlyArray<string>): string => names.map((name) => `"${name}"`).join(", ")

/** The columns of a table, and the same as members of objects that `json_each` gives. */
const table = (name: string, columns: ReadonlyArray<string>): string =>
  `${name} (${quoted(columns)}) SELECT ${columns.map((column) => `value ->> '${column}'`).join(", ")} FROM json_each`

const intoUploads = table("uploads", Object.keys(Upload.fields))
const intoExtents = table("extents", ["key", "position", "offset", "length", "sha256", "locator"])

const failure = (cause: unknown) =>
  (cause as { readonly cause?: { readonly code?: string } }).cause?.code === "SQLITE_FULL"
    ? new StorageFull({ message: "The server's ledger has no room left on its disk; try again later" })
    : new ServerFailure({ message: "The server's ledger could not be read or written", cause })

/** Maps what SQL fails with; a failing COMMIT arrives as a defect. */
const guard = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, Exclude<E, SqlError.SqlError> | LedgerError> =>
  effect.pipe(
    Effect.mapError((error) =>
      error instanceof SqlError.SqlError ? failure(error) : error as Exclude<E, SqlError.SqlError>
    ),
    Effect.catchSomeDefect((defect) =>
      defect instanceof SqlError.SqlError ? Option.some(Effect.fail(failure(defect))) : Option.none()
    )
  )

const make = (durability: Durability) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* durability === "power" ? sql`PRAGMA synchronous = FULL` : sql`PRAGMA synchronous = NORMAL`
    yield* Migrator.make({})({ loader: migrations, table: "migrations" })

    const run = <A, E>(effect: Effect.Effect<A, E | SqlError.SqlError>) =>
      Effect.withTracerEnabled(guard(effect), false)
    const execute = (statement: Effect.Effect<unknown, SqlError.SqlError>) => Effect.asVoid(run(statement))
    const uploads = (rows: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
      run(Effect.flatMap(rows, (found) => Effect.mapError(decodeUploads(found), failure)))
    const extents = (rows: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
      run(Effect.flatMap(rows, (found) => Effect.mapError(decodeExtents(found), failure))).pipe(
        Effect.map(Arr.map(({ position, ...extent }) => ({ position, extent })))
      )
    const amount = (rows: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
      run(Effect.flatMap(rows, (found) => Effect.mapError(decodeAmounts(found), failure))).pipe(
        Effect.map(([row]) => row?.amount ?? 0)
      )
    const keys = (rows: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
      run(Effect.flatMap(rows, (found) => Effect.mapError(decodeKeys(found), failure))).pipe(
        Effect.map(Arr.map(({ key }) => key))
      )
    const firstExtent = (rows: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
      Effect.map(extents(rows), (found) => Option.map(Arr.head(found), ({ extent }) => extent))

    return rules.make({
      transaction: (effect) => run(sql.withTransaction(effect)),
      byKey: (key) => Effect.map(uploads(sql`SELECT * FROM uploads WHERE key = ${key}`), Arr.head),
      byId: (principal, id) =>
        Effect.map(uploads(sql`SELECT * FROM uploads WHERE principal = ${principal} AND id = ${id}`), Arr.head),
      revision1: (principal, clientName) =>
        uploads(sql`SELECT * FROM uploads WHERE principal = ${principal} AND clientName = ${clientName} AND id IS NULL
        ORDER BY touchedAt DESC, rowid DESC`),
      isPlanned: (name) =>
        Effect.map(
          uploads(sql`SELECT * FROM uploads WHERE name = ${name} AND state IN ('receiving', 'finishing')`),
          Arr.some((upload) => rules.plans(upload, name))
        ),
      isEmpty: Effect.map(uploads(sql`SELECT * FROM uploads LIMIT 1`), Arr.isEmptyReadonlyArray),
      open: (principal) =>
        amount(sql`SELECT count(*) AS amount FROM uploads
        WHERE id IS NOT NULL AND state IN ('receiving', 'finishing', 'failed') AND ${
          Option.match(principal, { onNone: () => sql`true`, onSome: (name) => sql`principal = ${name}` })
        }`),
      bytesOf: (principal) =>
        amount(sql`SELECT coalesce(sum(received), 0) AS amount FROM uploads WHERE principal = ${principal}`),
      unfinished: uploads(
        sql`SELECT * FROM uploads WHERE id IS NOT NULL AND state IN ('receiving', 'finishing', 'failed') ORDER BY touchedAt`
      ),
      untouched: (before, most) =>
        uploads(sql`SELECT * FROM uploads WHERE
        (id IS NULL AND touchedAt < ${before.revision1}) OR
        (id IS NOT NULL AND state IN ('receiving', 'failed') AND touchedAt < ${before.unfinished}) OR
        (id IS NOT NULL AND state IN ('complete', 'deleted') AND touchedAt < ${before.ended})
        LIMIT ${most}`),
      unsettled: uploads(
        sql`SELECT * FROM uploads WHERE state = 'finishing' UNION ALL SELECT * FROM uploads WHERE id IS NULL`
      ),
      put: (upload) => {
        const { key, ...rest } = encodeUpload(upload)
        return execute(
          sql`INSERT INTO uploads ${sql.insert({ key, ...rest })} ON CONFLICT (key) DO UPDATE SET ${sql.update(rest)}`
        )
      },
      putWhole: (many) =>
        Effect.gen(function*() {
          const put = yield* keys(
            sql`INSERT INTO ${sql.literal(intoUploads)}(${json(many.map(({ upload }) => encodeUpload(upload)))})
              WHERE true ON CONFLICT DO NOTHING RETURNING key`
          )
          const isPut = new Set(put)
          const written = many.flatMap(({ extent, upload: { key } }) =>
            extent.length > 0 && isPut.has(key) ? [{ key, position: extent.offset, ...extent }] : []
          )
          if (written.length > 0) yield* execute(sql`INSERT INTO ${sql.literal(intoExtents)}(${json(written)})`)
          return put
        }),
      completeAll: (keys, touchedAt) =>
        execute(sql`UPDATE uploads SET state = 'complete', touchedAt = ${touchedAt}
          WHERE key IN (SELECT value FROM json_each(${json(keys)}))`),
      forget: (key) => execute(sql`DELETE FROM uploads WHERE key = ${key}`),
      putExtent: (key, position, extent) =>
        execute(sql`INSERT INTO extents ${sql.insert({ key, position, ...extent })}`),
      removeExtents: (key, from) => execute(sql`DELETE FROM extents WHERE key = ${key} AND position >= ${from}`),
      around: (key, position) =>
        Effect.all({
          before: firstExtent(
            sql`SELECT * FROM extents WHERE key = ${key} AND position <= ${position} ORDER BY position DESC LIMIT 1`
          ),
          after: firstExtent(
            sql`SELECT * FROM extents WHERE key = ${key} AND position > ${position} ORDER BY position LIMIT 1`
          )
        }),
      last: (key) => firstExtent(sql`SELECT * FROM extents WHERE key = ${key} ORDER BY position DESC LIMIT 1`),
      page: (key, from, most) =>
        extents(sql`SELECT * FROM extents WHERE key = ${key} AND position >= ${from} ORDER BY position LIMIT ${most}`)
    })
  })

/** A ledger over a connection at hand, whose settings it changes. */
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
