/**
 * The tables of the buffer, and how a file becomes one: empty, ours, or left by the Python client.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import { ChunkStoreError } from "../ChunkStore.ts"
import * as LegacyBuffer from "./legacyBuffer.ts"
import type { Database } from "./sqliteDatabase.ts"
import { stepBytes } from "./sqliteDatabase.ts"
import * as Place from "./sqlitePlace.ts"

/** Large pages write blobs twice as fast as the 4 KiB default. */
const pageSize = 65536

/**
 * The tables as their first version had them; `upgrades` makes the newer ones of it. `owners` are the running programs that
 * add or send files, `files.owner` with `hold` is what they have in hand. `pieces.encoding` is 0 for plain bytes; `data`
 * stands last, so that reading the other columns never reads blobs.
 */
const firstTables = [
  `CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    beat_at INTEGER NOT NULL
  ) STRICT`,
  `CREATE TABLE files (
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
  ) STRICT`,
  `CREATE INDEX files_by_state ON files (state, id)`,
  `CREATE INDEX files_by_source ON files (source)`,
  `CREATE INDEX files_by_owner ON files (owner) WHERE owner IS NOT NULL`,
  `CREATE TABLE pieces (
    id INTEGER PRIMARY KEY,
    file INTEGER NOT NULL REFERENCES files (id),
    start INTEGER NOT NULL,
    length INTEGER NOT NULL CHECK (length > 0),
    sha256 TEXT NOT NULL,
    encoding INTEGER NOT NULL DEFAULT 0,
    data BLOB NOT NULL,
    UNIQUE (file, start)
  ) STRICT`,
  `CREATE TABLE receipts (
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
  ) STRICT`,
  `CREATE TABLE settled (
    file INTEGER NOT NULL REFERENCES files (id),
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,
    PRIMARY KEY (file, start)
  ) STRICT, WITHOUT ROWID`
]

/**
 * What makes version 1, 2 and so on of the version before. Version 2: `files.external` marks files that are sent from where
 * they lie, which `version` did before it was known of other files too. `files.freed`: pieces that its server has were
 * removed. Receipts know their `source` from version 2 on. Version 3: `pieces.encoding` is 1 for pieces in files of their own
 * (`pieceFiles.ts`). Version 4: `revision1_names` are those under which servers of revision 1 have acknowledged something,
 * whatever became of the file here.
 */
const upgrades = [
  firstTables,
  [
    `ALTER TABLE files ADD COLUMN destination TEXT`,
    `ALTER TABLE files ADD COLUMN external INTEGER NOT NULL DEFAULT 0`,
    `UPDATE files SET external = 1 WHERE version IS NOT NULL`,
    `ALTER TABLE files ADD COLUMN trouble TEXT`,
    `ALTER TABLE files ADD COLUMN next_try INTEGER`,
    `ALTER TABLE files ADD COLUMN freed INTEGER NOT NULL DEFAULT 0`,
    `ALTER TABLE receipts ADD COLUMN source TEXT`,
    `ALTER TABLE receipts ADD COLUMN version TEXT`,
    `CREATE INDEX receipts_by_source ON receipts (source, version)`
  ],
  [
    `CREATE TABLE loose (name TEXT PRIMARY KEY, owner INTEGER) STRICT, WITHOUT ROWID`,
    `CREATE TRIGGER pieces_removed AFTER DELETE ON pieces WHEN OLD.encoding = 1 BEGIN
      INSERT INTO loose (name, owner) VALUES (CAST(substr(OLD.data, 1, 32) AS TEXT), NULL);
    END`,
    `CREATE INDEX pieces_in_files ON pieces (length) WHERE encoding = 1`
  ],
  [
    `CREATE TABLE revision1_names (endpoint TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (endpoint, name))
      STRICT, WITHOUT ROWID`,
    `INSERT INTO revision1_names SELECT endpoint, name FROM receipts WHERE revision = 1
      UNION SELECT endpoint, coalesce(sent_name, name) FROM files WHERE revision = 1 AND endpoint IS NOT NULL`,
    `CREATE TRIGGER revision1_named AFTER UPDATE OF revision ON files WHEN NEW.revision = 1 BEGIN
      INSERT OR IGNORE INTO revision1_names (endpoint, name) VALUES (NEW.endpoint, coalesce(NEW.sent_name, NEW.name));
    END`
  ]
]

const decodeTables = Schema.decodeUnknown(Schema.Array(Schema.Struct({ name: Schema.String, columns: Schema.String })))
const decodeMarks = Schema.decodeUnknown(
  Schema.Tuple(
    Schema.Struct({ owner: Schema.Number, version: Schema.Number, page: Schema.Number, vacuum: Schema.Number })
  )
)

const marks = ({ sql }: Database) =>
  Effect.map(
    Effect.flatMap(
      sql`SELECT application_id AS owner, user_version AS version, page_size AS page, auto_vacuum AS vacuum
        FROM pragma_application_id, pragma_user_version, pragma_page_size, pragma_auto_vacuum`,
      decodeMarks
    ),
    ([row]) => row
  )

/** What the database is, from within a `read` or `write`; of version 0 when there are no tables of ours in it. */
const survey = Effect.fnUntraced(function*(database: Database) {
  const { owner, version } = yield* marks(database)
  const found = yield* Effect.flatMap(
    database.sql`SELECT name, (SELECT group_concat(name) FROM pragma_table_info(sqlite_schema.name)) AS columns
      FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'`,
    decodeTables
  )
  const hasLegacy = found.some(({ columns, name }) => name === "chunks" && columns === LegacyBuffer.columns)
  const refuse = (reason: keyof typeof Place.refusals) =>
    Effect.fail(new ChunkStoreError({ message: Place.refusals[reason](database.file) }))
  if (owner === Place.applicationId) {
    return version > Place.version ? yield* refuse("newer") : { version, hasLegacy }
  }
  const isEmpty = owner === 0 && version === 0 && found.length === (hasLegacy ? 1 : 0)
  return isEmpty ? { version, hasLegacy } : yield* refuse("foreign")
})

/** Brings the tables up to date, from nothing too, from within a `write`. */
const upgrade = Effect.fnUntraced(function*({ sql }: Database, version: number) {
  yield* Effect.forEach(upgrades.slice(version).flat(), (statement) => sql.unsafe(statement), { discard: true })
  yield* sql.unsafe(`PRAGMA application_id = ${Place.applicationId}`)
  yield* sql.unsafe(`PRAGMA user_version = ${Place.version}`)
})

/** Both take effect in an empty database, or at the next VACUUM outside WAL. */
const layout = ({ sql }: Database) =>
  Effect.all([sql.unsafe(`PRAGMA page_size = ${pageSize}`), sql.unsafe("PRAGMA auto_vacuum = INCREMENTAL")])

/**
 * Rewrites what the Python client left in small pages. SQLite does that atomically; cut off, it is done at the next start.
 * Without room for it the buffer works all the same, but its file does not shrink.
 */
const repack = Effect.fnUntraced(function*(database: Database) {
  const { read, sql } = database
  const isPacked = Effect.map(marks(database), ({ page, vacuum }) => page === pageSize && vacuum === 2)
  if (yield* read(isPacked)) return
  yield* Effect.logInfo("Repacking the buffer")
  yield* read(
    Effect.gen(function*() {
      if (yield* isPacked) return
      yield* sql`PRAGMA journal_mode = DELETE`
      yield* layout(database)
      yield* sql`VACUUM`
    })
  ).pipe(Effect.catchAll((error) => Effect.logWarning("The buffer could not be repacked", error.message)))
})

/** Makes the opened file a buffer of this version, or fails and leaves it as it was. */
export const setUp = Effect.fnUntraced(function*(database: Database) {
  const { read, sql, writeAlone } = database
  const first = yield* read(survey(database))
  if (first.version < Place.version || first.hasLegacy) {
    if (first.hasLegacy) yield* Place.closeToOthers(database.file)
    else if (first.version === 0) yield* read(layout(database))
    yield* writeAlone(
      Effect.gen(function*() {
        // Another process may have done it since.
        const now = yield* survey(database)
        if (now.version < Place.version) yield* upgrade(database, now.version)
        if (now.hasLegacy) yield* LegacyBuffer.takeOver(database)
      })
    )
  }
  yield* repack(database)
  yield* read(sql`PRAGMA journal_mode = WAL`)
  const { page } = yield* read(marks(database))
  yield* read(sql.unsafe(`PRAGMA wal_autocheckpoint = ${Math.ceil(stepBytes / page)}`))
  yield* read(sql.unsafe(`PRAGMA journal_size_limit = ${stepBytes}`))
  // Said again now that the pages are large: the default was counted in pages of 4 KiB, which makes it 250 MiB.
  yield* read(sql.unsafe(`PRAGMA cache_size = ${-stepBytes / 1024}`))
})
