/**
 * What can be added to the buffer: named bytes that come as a stream.
 *
 * @module
 */
import type * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { sentName } from "./SentName.ts"

/** A source cannot be read. */
export class SourceError extends Schema.TaggedError<SourceError>("indexedcp/SourceError")("SourceError", {
  path: Schema.String,
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

export interface Source {
  /** As the user typed it: what lists and results show. */
  readonly path: string
  /** What makes it the same source when it is added again. */
  readonly source: string
  /** What servers are told. */
  readonly name: string
  /** The bytes in pieces of any size; `chunkSize` is a hint that saves copies. */
  readonly bytes: (chunkSize: number) => Stream.Stream<Uint8Array, SourceError>
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
      bytes: (chunkSize) =>
        Stream.mapError(fileSystem.stream(absolute, { chunkSize: FileSystem.Size(chunkSize) }), explain(path))
    }
  })

/** Any stream of bytes under a name. */
export const stream = <E>(name: string, bytes: Stream.Stream<Uint8Array, E>): Source => ({
  path: name,
  source: `stream:${name}`,
  name: sentName(name),
  bytes: () =>
    Stream.mapError(
      bytes,
      (cause) => new SourceError({ path: name, message: `The stream for ${name} failed: ${String(cause)}`, cause })
    )
})
