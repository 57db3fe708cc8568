/**
 * What can be added to the buffer: named bytes that come as a stream.
 *
 * @module
 */
import type * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { sentName } from "./SentName.ts"

/** A source cannot be read. */
export class SourceError extends Schema.TaggedError<SourceError>("indexedcp/SourceError")("SourceError", {
  path: Schema.String,
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

/** A source is no longer what it was when its upload began. */
export class SourceChanged extends Schema.TaggedError<SourceChanged>("indexedcp/SourceChanged")("SourceChanged", {
  path: Schema.String,
  message: Schema.String
}) {}

/** Reads bytes `from` to `to` (not included), and makes sure that the source is still what it was. */
export type ReadSource = (from: number, to: number) => Effect.Effect<Uint8Array, SourceError | SourceChanged>

/** A source whose bytes can be read again, from anywhere in it. */
export interface External {
  /** Bytes. */
  readonly size: number
  /** Another one when the source has changed. */
  readonly version: string
  /** Fails with `SourceChanged` as soon as the version is another one. */
  readonly read: ReadSource
}

export interface Source {
  /** As the user typed it: what lists and results show. */
  readonly path: string
  /** What makes it the same source when it is added again. */
  readonly source: string
  /** What servers are told. */
  readonly name: string
  /** The bytes in pieces of any size; `chunkSize` is a hint that saves copies. */
  readonly bytes: (chunkSize: number) => Stream.Stream<Uint8Array, SourceError>
  /** The source as it is now, where its bytes need not be copied to be sent again. */
  readonly external?: Effect.Effect<External, SourceError>
}

const explain = (path: string) => (error: PlatformError.PlatformError) =>
  new SourceError({
    path,
    cause: error,
    message: error._tag === "SystemError" && error.reason === "NotFound"
      ? `File not found: ${path}`
      : error._tag === "SystemError" && error.reason === "PermissionDenied"
      ? `No permission to read ${path}`
      : `Cannot read ${path}: ${error.message}`
  })

/** Another one when a file was written to or replaced: its size, time of modification, and number on its disk. */
const versionOf = ({ dev, ino, mtime, size }: FileSystem.File.Info): string =>
  [size, Option.match(mtime, { onNone: () => "", onSome: (at) => at.getTime() }), dev, Option.getOrElse(ino, () => "")]
    .join(":")

const external = (
  fileSystem: FileSystem.FileSystem,
  path: string,
  absolute: string
): Effect.Effect<External, SourceError> =>
  Effect.gen(function*() {
    const info = yield* fileSystem.stat(absolute)
    const version = versionOf(info)
    const changed = new SourceChanged({ path, message: `${path} was changed while it was sent; nothing was published` })
    return {
      size: Number(info.size),
      version,
      read: (from: number, to: number) =>
        Effect.scoped(Effect.gen(function*() {
          const handle = yield* fileSystem.open(absolute)
          yield* handle.seek(FileSystem.Size(from), "start")
          const bytes = new Uint8Array(to - from)
          for (let filled = 0; filled < bytes.length;) {
            const read = Number(yield* handle.read(bytes.subarray(filled)))
            if (read === 0) return yield* changed
            filled += read
          }
          // behind the reading: what was read is of the version that was meant
          if (versionOf(yield* handle.stat) !== version || versionOf(yield* fileSystem.stat(absolute)) !== version) {
            return yield* changed
          }
          return bytes
        })).pipe(Effect.catchAll((error) => Effect.fail(error._tag === "SourceChanged" ? error : explain(path)(error))))
    }
  }).pipe(Effect.mapError((error) => explain(path)(error)))

/** A file on the disk. It is opened when its bytes are asked for; that it can be found and is a file is checked now. */
export const file = (path: string): Effect.Effect<Source, SourceError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function*() {
    const fileSystem = yield* FileSystem.FileSystem
    const absolute = (yield* Path.Path).resolve(path)
    const { type } = yield* Effect.mapError(fileSystem.stat(absolute), explain(path))
    if (type === "Directory") return yield* new SourceError({ path, message: `${path} is a folder, not a file` })
    return {
      path,
      source: absolute,
      name: sentName(path),
      external: external(fileSystem, path, absolute),
      bytes: (chunkSize) =>
        Stream.mapError(fileSystem.stream(absolute, { chunkSize: FileSystem.Size(chunkSize) }), explain(path))
    }
  })

const messageOf = (cause: unknown): string =>
  Predicate.hasProperty(cause, "message") ? String(cause.message) : String(cause)

/** Any stream of bytes under a name. */
export const stream = <E>(name: string, bytes: Stream.Stream<Uint8Array, E>): Source => ({
  path: name,
  source: `stream:${name}`,
  name: sentName(name),
  bytes: () =>
    Stream.mapError(
      bytes,
      (cause) => new SourceError({ path: name, message: `The stream for ${name} failed: ${messageOf(cause)}`, cause })
    )
})
