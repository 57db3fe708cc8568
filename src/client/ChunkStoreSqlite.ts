/**
 * The buffer in a SQLite file, and long pieces in files beside it: it outlives the program and the machine, and several
 * programs may use it at once.
 *
 * @module
 */
import type * as Statement from "@effect/sql/Statement"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Sha256 from "../protocol/Sha256.ts"
import * as ChunkStore from "./ChunkStore.ts"
import * as Adopted from "./internal/adopted.ts"
import * as PieceFiles from "./internal/pieceFiles.ts"
import * as Arrivals from "./internal/sqliteArrivals.ts"
import type { Database } from "./internal/sqliteDatabase.ts"
import * as SqliteDatabase from "./internal/sqliteDatabase.ts"
import * as Owners from "./internal/sqliteOwners.ts"
import * as Place from "./internal/sqlitePlace.ts"
import * as Read from "./internal/sqliteRead.ts"
import * as Rows from "./internal/sqliteRows.ts"
import * as SqliteSchema from "./internal/sqliteSchema.ts"
import * as Settle from "./internal/sqliteSettle.ts"
import * as Space from "./internal/sqliteSpace.ts"
import type { External } from "./Source.ts"

const ownFolder = (): string => Path.join(Os.homedir(), ".indexcp")

/** Where the Python client keeps the buffer of this name, and so do we: `~/.indexcp/<dbName>.db`. */
export const defaultFile = (dbName: string): string => Path.join(ownFolder(), `${dbName}.db`)

const pageRows = 500

/** Shorter ones cost less in the database. */
const defaultLongPiece = 4 * 1024 * 1024

/** Many rows go in by one statement, as one text: a statement for each would cost ten times as much. */
const json = (values: ReadonlyArray<unknown>): string => JSON.stringify(values)

const sizeText = (bytes: number): string => {
  const [unit, name] = bytes < 1024 ** 3 ? [1024 ** 2, "MiB"] : [1024 ** 3, "GiB"]
  return `${(bytes / unit).toFixed(1)} ${name} (${bytes} bytes)`
}

const make = Effect.fnUntraced(function*(database: Database, maxBytes = Infinity, longPiece = defaultLongPiece) {
  const { read, someChange, sql, write, writeUnsynced } = database
  const owners = yield* Owners.make(database)
  const pieceFiles = PieceFiles.make(database)
  const space = Space.make(database, pieceFiles)
  // Runs after all that drops files at the end, and leaves it to the last program: others need the free space again.
  yield* Effect.addFinalizer(() =>
    Effect.whenEffect(space.shorten, owners.isAlone).pipe(Effect.interruptible, Effect.ignoreLogged)
  )
  const { arrivals, signal } = yield* Arrivals.make(database, owners)
  const stored = Read.make(database, pieceFiles)
  const columns = sql.literal(Rows.columns)

  yield* owners.sweep
  yield* space.reclaimIfNeeded

  const notBuffered = (file: ChunkStore.FileId) =>
    new ChunkStore.NotBuffered({ file, message: `File ${file} is not in the buffer (any more)` })

  const gone = (file: ChunkStore.FileId) =>
    new ChunkStore.ChunkStoreError({
      message: `File ${file} is not being added any more: it was sealed or dropped, or its adder had stood still for ` +
        "over a minute and was taken for dead. Add it again"
    })

  /** The row of a sealed file, from within a `read` or `write`. */
  const sealed = Effect.fnUntraced(function*(file: ChunkStore.FileId) {
    const [row] = yield* Effect.flatMap(
      sql`SELECT ${columns} FROM files WHERE id = ${file} AND state = 'sealed'`.values,
      Rows.decodeFiles
    )
    return row ?? (yield* notBuffered(file))
  })

  /** That it is there, without its row. */
  const isSealed = (file: ChunkStore.FileId) =>
    Effect.filterOrFail(
      sql`SELECT 1 FROM files WHERE id = ${file} AND state = 'sealed'`,
      (rows) => rows.length > 0,
      () => notBuffered(file)
    )

  /** Rows as files, from within a `read` or `write`. */
  const toFiles = (rows: ReadonlyArray<Rows.FileRow>) =>
    Effect.map(
      // Mostly nobody has any of them in hand: then there is nothing to ask.
      rows.some(({ owner }) => owner !== null) ? owners.living : Effect.succeed(new Set<number>()),
      (living) => rows.map(Rows.toFile(living))
    )

  const update = (file: ChunkStore.FileId, changes: Record<string, string | number | null>) =>
    sql`UPDATE files SET ${sql.update(changes)} WHERE id = ${file}`

  /** Changes what is known of the server, from within a `write`. */
  const know = Effect.fnUntraced(function*(file: ChunkStore.FileId, known: Partial<ChunkStore.Delivery>) {
    const { endpoint } = yield* sealed(file)
    if (endpoint === null) return yield* Effect.dieMessage("remember before startDelivery")
    const changes = {
      ...known.revision && { revision: Option.getOrNull(known.revision) },
      ...known.serverName && { server_name: Option.getOrNull(known.serverName) },
      ...known.sending && { sending: Option.getOrNull(known.sending) }
    }
    if (Object.keys(changes).length > 0) yield* update(file, changes)
  })

  const { settle, settled, writeFor } = Settle.make(database, space, sealed, know)

  const begin = Effect.fn("ChunkStore.begin")(function*(file: ChunkStore.NewFile) {
    const me = yield* owners.me
    const hold = yield* owners.hold
    const mine = sql`owner = ${me} AND hold = ${hold} AND state = 'adding'`
    yield* Effect.addFinalizer(() =>
      writeUnsynced(
        Effect.flatMap(sql`UPDATE files SET state = 'dropping' WHERE ${mine} RETURNING id`, Rows.decodeIds)
      ).pipe(
        Effect.flatMap((abandoned) => abandoned.length > 0 ? space.reclaim : Effect.void),
        Effect.ignoreLogged
      )
    )
    const now = yield* Clock.currentTimeMillis
    const [row] = yield* writeUnsynced(Effect.zipRight(
      owners.beat(me),
      Effect.flatMap(
        sql`INSERT INTO files (state, owner, hold, path, source, name, chunk_size, destination, version, added_at) VALUES
          ('adding', ${me}, ${hold}, ${file.path}, ${file.source}, ${file.name}, ${file.chunkSize},
          ${Option.getOrNull(file.destination)}, ${Option.getOrNull(file.version)}, ${now}) RETURNING id`,
        Rows.decodeIds
      )
    ))
    if (row === undefined) return yield* Effect.dieMessage("INSERT … RETURNING returned nothing")
    yield* Effect.addFinalizer(() => pieceFiles.ended(row.id))
    return row.id
  })

  const ensureRoom = Effect.fnUntraced(function*(more: number) {
    const used = yield* space.used
    if (used + more <= maxBytes) return
    return yield* new ChunkStore.BufferFull({
      message:
        `The buffer ${database.file} may use ${sizeText(maxBytes)} and uses ${sizeText(used)}: there is no room ` +
        `for ${sizeText(more)} more. Upload or remove files, or raise the limit`
    })
  })

  const append = Effect.fnUntraced(function*(
    file: ChunkStore.FileId,
    bytes: Uint8Array,
    hashes?: ChunkStore.PieceHashes
  ) {
    yield* Place.leaveRoom(database.file, bytes.byteLength)
    const me = yield* owners.me
    const { prefix, sha256 } = hashes ?? { prefix: undefined, sha256: Sha256.of(bytes) }
    const record = (encoding: number, data: Uint8Array) =>
      Effect.gen(function*() {
        // Looked at first: the transaction holds the write lock already.
        const [row] = yield* Effect.flatMap(
          sql`SELECT size AS start, chunk_size AS stop FROM files WHERE id = ${file} AND owner = ${me} AND state = 'adding'`,
          Rows.decodeRanges
        )
        if (row === undefined) return yield* gone(file)
        const { start, stop: chunkSize } = row
        if (bytes.byteLength === 0 || start % chunkSize !== 0) {
          return yield* Effect.dieMessage(`a piece of ${bytes.byteLength} bytes at ${start}, of chunks of ${chunkSize}`)
        }
        if (maxBytes < Infinity) yield* ensureRoom(bytes.byteLength)
        yield* sql`INSERT INTO pieces (file, start, length, sha256, encoding, data)
        VALUES (${file}, ${start}, ${bytes.byteLength}, ${sha256}, ${encoding}, ${data})`
        yield* sql`UPDATE files SET size = size + ${bytes.byteLength},
        chunks = chunks + ${Math.ceil(bytes.byteLength / chunkSize)} WHERE id = ${file}`
      })
    yield* bytes.byteLength < longPiece
      ? writeUnsynced(record(0, bytes))
      : pieceFiles.write(
        file,
        me,
        bytes,
        (name, keep) =>
          writeUnsynced(Effect.zipRight(record(PieceFiles.encoding, PieceFiles.toData({ name, prefix })), keep))
      )
    yield* SqliteDatabase.breathe
  })

  const replace = Effect.fnUntraced(function*(file: ChunkStore.FileId, source: string) {
    const same = yield* Effect.flatMap(
      sql`SELECT ${columns} FROM files WHERE source = ${source} AND state = 'sealed' AND external = 0
        AND id <> ${file} ORDER BY id DESC`.values,
      Rows.decodeFiles
    )
    const free = yield* Effect.filter(same, ({ owner }) => Effect.negate(owners.isHeld(owner)))
    yield* Effect.forEach(free, ({ id }) => update(id, { state: "dropping", owner: null, hold: null }), {
      discard: true
    })
    return Option.map(Option.fromNullable(free[0]), Rows.toFile(new Set()))
  })

  const seal = Effect.fn("ChunkStore.seal")(function*(
    file: ChunkStore.FileId,
    whole: { readonly size: number; readonly sha256: Sha256.Sha256 }
  ) {
    const me = yield* owners.me
    yield* pieceFiles.sync(file)
    const replaced = yield* write(Effect.gen(function*() {
      const added = yield* sql`SELECT size FROM files WHERE id = ${file} AND owner = ${me} AND state = 'adding'`
      if (added.length === 0) return yield* gone(file)
      if (added[0]?.["size"] !== whole.size) {
        return yield* Effect.dieMessage(
          `sealed as ${whole.size} bytes, but ${String(added[0]?.["size"])} were appended`
        )
      }
      yield* update(file, { state: "sealed", owner: null, hold: null, sha256: whole.sha256 })
      return yield* replace(file, (yield* sealed(file)).source)
    })).pipe(Effect.catchTag("NotBuffered", Effect.die), Effect.ensuring(signal))
    // The file is safe: whatever hinders the clearing away of the old one is left to the next start.
    if (Option.isSome(replaced)) yield* Effect.ignoreLogged(space.reclaim)
    return replaced
  })

  const adoptedFiles = Adopted.make()

  const externals = (source: string) =>
    Effect.flatMap(
      sql`SELECT ${columns} FROM files WHERE source = ${source} AND state = 'sealed' AND external = 1`.values,
      Rows.decodeFiles
    )

  const adopt = Effect.fn("ChunkStore.adopt")(function*(file: ChunkStore.ExternalFile, open: External["open"]) {
    const now = yield* Clock.currentTimeMillis
    const version = Option.getOrNull(file.version)
    const id = yield* write(Effect.gen(function*() {
      const before = yield* externals(file.source)
      const same = before.find((row) => row.version === version && row.chunk_size === file.chunkSize)
      const stale = before.filter((row) => row !== same)
      yield* Effect.forEach(stale, ({ id }) => update(id, { state: "dropping", owner: null, hold: null }), {
        discard: true
      })
      stale.forEach(({ id }) => adoptedFiles.forget(id))
      if (same !== undefined) return same.id
      const [row] = yield* Effect.flatMap(
        sql`INSERT INTO files
          (state, external, path, source, name, chunk_size, size, chunks, destination, version, added_at) VALUES
          ('sealed', 1, ${file.path}, ${file.source}, ${file.name}, ${file.chunkSize}, ${file.size}, ${
          Math.ceil(file.size / file.chunkSize)
        }, ${Option.getOrNull(file.destination)}, ${version}, ${now}) RETURNING id`,
        Rows.decodeIds
      )
      return row === undefined ? yield* Effect.dieMessage("INSERT … RETURNING returned nothing") : row.id
    }))
    adoptedFiles.set(id, file.size, open)
    return id
  })

  const adoptAll = Effect.fn("ChunkStore.adoptAll")(function*(
    all: Parameters<ChunkStore.ChunkStore["Type"]["adoptAll"]>[0]
  ) {
    const addedAt = yield* Clock.currentTimeMillis
    const ids = yield* writeUnsynced(Effect.gen(function*() {
      const known = yield* Effect.flatMap(
        sql`SELECT source FROM files WHERE source IN (SELECT value FROM json_each(${
          json(all.map(({ file }) => file.source))
        })) AND state = 'sealed' AND external = 1`,
        Rows.decodeSources
      )
      const taken = new Set(known.map(({ source }) => source))
      const fresh = all.flatMap(({ file }) => {
        if (taken.has(file.source)) return []
        taken.add(file.source)
        return [{
          ...file,
          destination: Option.getOrNull(file.destination),
          version: Option.getOrNull(file.version),
          chunks: Math.ceil(file.size / file.chunkSize)
        }]
      })
      const added = yield* Effect.flatMap(
        sql`INSERT INTO files
          (state, external, path, source, name, chunk_size, size, chunks, destination, version, added_at)
          SELECT 'sealed', 1, value ->> 'path', value ->> 'source', value ->> 'name', value ->> 'chunkSize',
          value ->> 'size', value ->> 'chunks', value ->> 'destination', value ->> 'version',
          ${addedAt} FROM json_each(${json(fresh)}) RETURNING id, source`,
        Rows.decodeAdopted
      )
      return new Map(added.map(({ id, source }) => [source, id]))
    }))
    return all.map(({ file, open }) => {
      const id = ids.get(file.source)
      if (id === undefined) return Option.none()
      ids.delete(file.source)
      adoptedFiles.set(id, file.size, open)
      return Option.some(Rows.unsent({ ...file, id, addedAt }))
    })
  })

  const adopted = (source: string) =>
    Effect.map(read(Effect.flatMap(externals(source), toFiles)), ([file]) => Option.fromNullable(file))

  const knows = (source: string, version: string) =>
    Effect.map(
      read(sql`SELECT 1 FROM files WHERE source = ${source} AND version = ${version} AND state = 'sealed'
        UNION ALL SELECT 1 FROM receipts WHERE source = ${source} AND version = ${version} LIMIT 1`),
      (known) => known.length > 0
    )

  const readBytes = (file: ChunkStore.FileId, from: number, to: number, options?: ChunkStore.ReadOptions) =>
    adoptedFiles.has(file)
      ? Effect.zipRight(read(isSealed(file)), adoptedFiles.read(file, from, to, options))
      : stored.range(read(sealed(file)), file, from, to, options)

  const readAll = Effect.fnUntraced(function*(files: ReadonlyArray<ChunkStore.BufferedFile>) {
    const rows = yield* read(Effect.flatMap(
      sql`SELECT file, length, encoding, data FROM pieces WHERE file IN (SELECT value FROM json_each(${
        json(files.map(({ id }) => id))
      })) ORDER BY file, start`,
      Rows.decodeData
    ))
    const pieces = new Map<ChunkStore.FileId, Array<Uint8Array>>()
    for (const row of rows) {
      const data = yield* pieceFiles.dataOf(row)
      if (Option.isSome(data)) pieces.set(row.file, [...(pieces.get(row.file) ?? []), data.value])
    }
    return new Map(files.flatMap(({ id, sha256, size }) => {
      const found = pieces.get(id) ?? []
      const bytes = found.length === 1 ? found[0]! : Buffer.concat(found)
      return bytes.length === size && Option.contains(sha256, Sha256.of(bytes)) ? [[id, bytes] as const] : []
    }))
  })

  const get = (file: ChunkStore.FileId) =>
    Effect.map(
      read(Effect.flatMap(sealed(file), (row) => toFiles([row]))),
      ([found]) => found!
    )

  /** Rows in pages of the order of their ids, as a stream. */
  const pages = <Row extends { readonly id: number }, A, E1, E2>(
    page: (after: number) => Effect.Effect<ReadonlyArray<Row>, E1>,
    toValues: (rows: ReadonlyArray<Row>) => Effect.Effect<ReadonlyArray<A>, E2>
  ) =>
    Stream.paginateChunkEffect(
      -1,
      (after) =>
        read(Effect.flatMap(page(after), (rows) =>
          Effect.map(toValues(rows), (values) =>
            [
              Chunk.unsafeFromArray(values),
              Option.map(Option.liftPredicate(rows, ({ length }) => length === pageRows), () => rows.at(-1)!.id)
            ] as const)))
    )

  const list = pages(
    (after) =>
      Effect.flatMap(
        sql`SELECT ${columns} FROM files WHERE state = 'sealed' AND external = 0 AND id > ${after}
          ORDER BY id LIMIT ${pageRows}`.values,
        Rows.decodeFiles
      ),
    toFiles
  )

  const totals = Effect.map(
    read(Effect.flatMap(
      sql`SELECT destination, endpoint, failure IS NOT NULL AS failed, count(*) AS files, sum(size) AS size,
        sum(settled_bytes) AS settled_bytes, max(id) AS newest
        FROM files WHERE state = 'sealed' AND external = 0 GROUP BY 1, 2, 3`,
      Rows.decodeTotals
    )),
    (rows) => rows.map(Rows.toTotals)
  )

  const revision1Names = (endpoint: string) =>
    Effect.map(
      read(Effect.flatMap(
        sql`SELECT name FROM revision1_names WHERE endpoint = ${endpoint}`,
        Rows.decodeNames
      )),
      (rows) => rows.map(({ name }) => name)
    )

  const receipts = pages(
    (after) =>
      Effect.flatMap(
        sql`SELECT * FROM receipts WHERE id > ${after} ORDER BY id LIMIT ${pageRows}`,
        Rows.decodeReceipts
      ),
    (rows) => Effect.succeed(rows.map(Rows.toReceipt))
  )

  const forget = (file?: ChunkStore.FileId) =>
    Effect.zipRight(
      stored.forget(file),
      Effect.sync(() => adoptedFiles.forget(file))
    )

  const delivered = (
    file: ChunkStore.FileId,
    { resent, serverName, sha256 }: Parameters<ChunkStore.ChunkStore["Type"]["delivered"]>[1]
  ) =>
    Effect.gen(function*() {
      const known = yield* read(sealed(file))
      const isDone = yield* writeFor(known.revision)(Effect.gen(function*() {
        const { endpoint, revision } = yield* sealed(file)
        if (endpoint === null || revision === null) return yield* Effect.dieMessage("delivered before it was sent")
        const now = yield* Clock.currentTimeMillis
        yield* sql`INSERT INTO receipts
          (source, version, path, name, server_name, size, sha256, endpoint, upload_id, revision, resent, delivered_at)
          SELECT source, version, path, coalesce(sent_name, name), ${serverName}, size, ${sha256}, endpoint, upload_id, revision, ${
          resent ? 1 : 0
        }, ${now}
          FROM files WHERE id = ${file}`
        yield* update(file, { state: "dropping", owner: null, hold: null })
        return yield* space.remove
      }))
      yield* forget(file)
      yield* isDone ? space.trim : space.reclaim
    })

  const deliveredAll = (done: Parameters<ChunkStore.ChunkStore["Type"]["deliveredAll"]>[0]) =>
    Effect.gen(function*() {
      const now = yield* Clock.currentTimeMillis
      const these = json(done)
      const ids = sql`(SELECT value ->> 'file' FROM json_each(${these}))`
      const gone = yield* writeUnsynced(Effect.gen(function*() {
        yield* sql`INSERT INTO receipts
          (source, version, path, name, server_name, size, sha256, endpoint, upload_id, revision, resent, delivered_at)
          SELECT source, version, files.path, coalesce(sent_name, name), value ->> 'serverName', size, value ->> 'sha256', endpoint, upload_id,
          2, 0, ${now} FROM json_each(${these}) CROSS JOIN files ON files.id = value ->> 'file' AND state = 'sealed'`
        yield* sql`DELETE FROM pieces WHERE file IN (SELECT id FROM files WHERE id IN ${ids} AND state = 'sealed')`
        yield* sql`DELETE FROM settled WHERE file IN ${ids}`
        return yield* Effect.flatMap(
          sql`DELETE FROM files WHERE id IN ${ids} AND state = 'sealed' RETURNING id`,
          Rows.decodeIds
        )
      }))
      for (const { id } of gone) adoptedFiles.forget(id)
      yield* space.trim
      return new Set(gone.map(({ id }) => id))
    })

  const claim = Effect.fn("ChunkStore.claim")(function*(file: ChunkStore.FileId) {
    const me = yield* owners.me
    const hold = yield* owners.hold
    yield* Effect.addFinalizer(() =>
      writeUnsynced(
        sql`UPDATE files SET owner = NULL, hold = NULL, next_try = NULL
          WHERE id = ${file} AND owner = ${me} AND hold = ${hold} RETURNING id`
      ).pipe(
        Effect.tap((ended) => ended.length > 0 ? signal : Effect.void),
        Effect.ignoreLogged
      )
    )
    yield* writeUnsynced(Effect.gen(function*() {
      const { owner, path } = yield* sealed(file)
      yield* owners.beat(me)
      if (yield* owners.isHeld(owner)) {
        const who = owner === me ? "This program" : "Another program"
        return yield* new ChunkStore.AlreadyClaimed({ file, message: `${who} is sending ${path} already` })
      }
      // Whoever died in possession of it waits for nothing any more.
      yield* update(file, { owner: me, hold, ...owner !== null && { next_try: null } })
    }))
    yield* Effect.acquireRelease(stored.keepFor(file), () => stored.forget(file))
    yield* adoptedFiles.keepOpen(file)
  })

  const startAll = Effect.fn("ChunkStore.startAll")(function*(
    files: ReadonlyArray<{
      readonly file: ChunkStore.FileId
      readonly to: Pick<ChunkStore.Delivery, "endpoint" | "name" | "uploadId">
    }>
  ) {
    const me = yield* owners.me
    const hold = yield* owners.hold
    yield* Effect.addFinalizer(() =>
      writeUnsynced(
        sql`UPDATE files SET owner = NULL, hold = NULL WHERE owner = ${me} AND hold = ${hold} RETURNING id`
      ).pipe(
        Effect.tap((ended) => ended.length > 0 ? signal : Effect.void),
        Effect.ignoreLogged
      )
    )
    const started = yield* write(Effect.zipRight(
      owners.beat(me),
      Effect.flatMap(
        sql`UPDATE files SET owner = ${me}, hold = ${hold}, sending = 0, trouble = NULL, next_try = NULL,
          endpoint = value ->> 'endpoint', sent_name = value ->> 'name', upload_id = value ->> 'uploadId'
          FROM json_each(${json(files.map(({ file, to }) => ({ file, ...to })))})
          WHERE files.id = value ->> 'file' AND state = 'sealed' AND owner IS NULL AND endpoint IS NULL
          AND failure IS NULL AND first_index = 0 RETURNING files.id`,
        Rows.decodeIds
      )
    ))
    return new Set(started.map(({ id }) => id))
  })

  const startDelivery = (
    file: ChunkStore.FileId,
    to: Pick<ChunkStore.Delivery, "endpoint" | "name" | "uploadId">
  ) =>
    write(Effect.gen(function*() {
      yield* sealed(file)
      yield* sql`DELETE FROM settled WHERE file = ${file}`
      yield* update(file, {
        endpoint: to.endpoint,
        sent_name: to.name,
        upload_id: to.uploadId,
        revision: null,
        server_name: null,
        sending: null,
        failure: null,
        trouble: null,
        next_try: null,
        settled_bytes: 0
      })
    }))

  const remember = (
    file: ChunkStore.FileId,
    known: Partial<Pick<ChunkStore.Delivery, "revision" | "serverName" | "sending">>
  ) => write(know(file, known))

  const dropSealed = (which: Statement.Fragment, file?: ChunkStore.FileId) =>
    Effect.gen(function*() {
      const isDone = yield* write(Effect.gen(function*() {
        const dropped =
          yield* sql`UPDATE files SET state = 'dropping', owner = NULL, hold = NULL WHERE state = 'sealed' AND ${which}
          RETURNING id`
        // What was just delivered is gone, but perhaps not synced: only a transaction that changes something makes it so.
        if (dropped.length === 0) yield* someChange
        return yield* space.remove
      }))
      yield* forget(file)
      yield* isDone ? space.trim : space.reclaim
    })

  return ChunkStore.ChunkStore.of({
    begin,
    append,
    seal,
    list,
    totals,
    revision1Names,
    get,
    adopt,
    adoptAll,
    adopted,
    knows,
    read: readBytes,
    readAll,
    settle,
    settled,
    claim,
    startAll,
    startDelivery,
    remember,
    setFailure: (file, reason) =>
      Effect.ensuring(
        write(Effect.zipRight(sealed(file), update(file, { failure: Option.getOrNull(reason) }))),
        Option.isNone(reason) ? signal : Effect.void
      ),
    setTrouble: (file, { nextTry, reason }) =>
      writeUnsynced(
        Effect.zipRight(
          sealed(file),
          update(file, { trouble: reason, next_try: Option.getOrNull(Option.map(nextTry, Math.ceil)) })
        )
      ),
    delivered,
    deliveredAll,
    receipts,
    arrivals,
    drop: (file) => dropSealed(sql`id = ${file}`, file),
    clear: dropSealed(sql`1`)
  })
})

/**
 * The buffer in `file` and the folder `<file>.pieces`, made when they are not there, for the user's eyes only. What the
 * Python client left in that file is taken over. A damaged, newer or foreign file fails with `ChunkStoreError` and stays as it is.
 *
 * @example
 * program.pipe(Effect.provide(ChunkStoreSqlite.layer({ file: ChunkStoreSqlite.defaultFile("indexcp") })))
 */
export const layer = (
  options: {
    readonly file: string
    /**
     * How many bytes the buffer may have in use: no limit unless it is given. A piece that would go beyond it is refused with
     * `BufferFull`. SQLite's log of some 16 MiB comes on top.
     */
    readonly maxBytes?: number
    /** Bytes from which on a stored piece is kept in a file of its own, in the folder `<file>.pieces`. Default 4 MiB. */
    readonly longPiece?: number
  }
): Layer.Layer<ChunkStore.ChunkStore, ChunkStore.ChunkStoreError> =>
  Layer.scoped(
    ChunkStore.ChunkStore,
    Effect.gen(function*() {
      yield* Place.prepare(options.file, ownFolder())
      yield* Place.inspect(options.file)
      const database = yield* SqliteDatabase.open(options.file)
      yield* SqliteSchema.setUp(database)
      return yield* make(database, options.maxBytes, options.longPiece)
    })
  )
