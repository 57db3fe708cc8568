/**
 * The output folder, and the server's own folder in it, held by one server at a time.
 *
 * @module
 */
import * as SqliteClient from "@effect/sql-sqlite-node/SqliteClient"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { ServerFailure } from "../protocol/ProtocolError.ts"
import { code, makeFolders, unless } from "./internal/disk.ts"
import * as Sqlite from "./internal/sqlite.ts"
import * as SafeName from "./SafeName.ts"

/** Another server has the folder. */
export class FolderInUse extends Schema.TaggedError<FolderInUse>("indexedcp/FolderInUse")("FolderInUse", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

/** The server's own folder: part files, ledger, lock. On one file system with the output, because of the links. */
export const own = (outputDir: string): string => Path.join(outputDir, SafeName.reserved)

/** An exclusive transaction that is never ended: the operating system lets go of it however the process ends. */
const lock = Effect.gen(function*() {
  const sql = yield* SqliteClient.SqliteClient
  yield* sql`PRAGMA busy_timeout = 0`
  yield* sql`BEGIN EXCLUSIVE`
})

const isBusy = (cause: Cause.Cause<unknown>): boolean =>
  (Cause.squash(cause) as { readonly cause?: { readonly code?: string } }).cause?.code === "SQLITE_BUSY"

const io = <A>(outputDir: string, run: () => Promise<A>): Effect.Effect<A, ServerFailure> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) =>
      new ServerFailure({
        message: `The output folder ${outputDir} cannot be made or written: ${code(cause) ?? String(cause)}`,
        cause
      })
  })

/** Makes the output folder where it is missing, with those above it. */
export const make = (outputDir: string): Effect.Effect<void, ServerFailure> =>
  io(outputDir, () => makeFolders(Fs, Path.resolve(outputDir), 0o750))

const makeOwn = (outputDir: string) =>
  io(outputDir, async () => {
    // not recursive, which would be content with a link to a folder
    await unless(["EEXIST"], () => Fs.mkdir(own(outputDir), { mode: 0o750 }))
    return (await Fs.lstat(own(outputDir))).isDirectory()
  }).pipe(
    Effect.filterOrFail(
      (isFolder) => isFolder,
      () =>
        new ServerFailure({
          message: `${
            own(outputDir)
          } must be a folder, not a link or a file; move it away, or choose another output folder`
        })
    )
  )

/** Makes the folders and holds them until the scope closes. */
export const layer = (outputDir: string): Layer.Layer<never, FolderInUse | ServerFailure> =>
  Layer.scopedDiscard(lock).pipe(
    Layer.provide(SqliteClient.layer({ filename: Path.join(own(outputDir), "lock"), disableWAL: true })),
    Layer.catchAllCause((cause) =>
      Layer.fail(
        isBusy(cause)
          ? new FolderInUse({ message: `Another server is running on ${outputDir}, stop it first`, cause })
          : new ServerFailure({
            message: Sqlite.unbuilt(Cause.squash(cause)) ??
              `The lock in the output folder ${outputDir} cannot be taken`,
            cause
          })
      )
    ),
    Layer.provide(Layer.effectDiscard(Effect.andThen(make(outputDir), makeOwn(outputDir))))
  )
