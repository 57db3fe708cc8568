/**
 * What can be added to the buffer: named bytes that come as a stream.
 *
 * @module
 */
import type * as PlatformError from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Arr from "effect/Array"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Walk from "./internal/walk.ts"
import { folderName, sentName } from "./SentName.ts"

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

/** Fills `into` with the bytes from `from` on, and makes sure that the source is still what it was. */
export type ReadSource = (into: Uint8Array, from: number) => Effect.Effect<void, SourceError | SourceChanged>

/** A source whose bytes can be read again, from anywhere in it. */
export interface External {
  /** Bytes. */
  readonly size: number
  /** Another one when the source has changed. */
  readonly version: string
  /** Opens it until the scope closes. This and the reading fail with `SourceChanged` as soon as the version is another one. */
  readonly open: Effect.Effect<ReadSource, SourceError | SourceChanged, Scope.Scope>
}

/**
 * Named bytes. {@link file}, {@link folder}, {@link stream} and {@link asyncIterable} make them; so can you.
 *
 * @example
 * ```ts
 * const report = yield* Source.file("report.pdf")
 * const dump = Source.asyncIterable("shop.sql", pgDump.stdout)
 * ```
 */
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
  /** The source as it was found, where somebody has looked at it already. */
  readonly found?: Found
}

/** A source as it was found. */
export interface Found extends External {
  /** All its bytes, if it still is what it was found to be; meant for small ones. */
  readonly bytes: Effect.Effect<Option.Option<Uint8Array>>
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

/** A file that was looked at. */
const foundAs = (
  fileSystem: FileSystem.FileSystem,
  path: string,
  absolute: string,
  info: FileSystem.File.Info
): Found => {
  const version = versionOf(info)
  const changed = () =>
    new SourceChanged({ path, message: `${path} was changed while it was sent; nothing was published` })
  const told = Effect.mapError((error: PlatformError.PlatformError | SourceChanged) =>
    error._tag === "SourceChanged" ? error : explain(path)(error)
  )
  const fill = Effect.fnUntraced(function*(handle: FileSystem.File, into: Uint8Array) {
    for (let filled = 0; filled < into.length;) {
      const read = Number(yield* handle.read(into.subarray(filled)))
      if (read === 0) return yield* changed()
      filled += read
    }
  })
  const read = (handle: FileSystem.File): ReadSource =>
    Effect.fnUntraced(function*(into, from) {
      yield* handle.seek(FileSystem.Size(from), "start")
      yield* fill(handle, into)
      // behind the reading, so that what was read is of the version that was meant. The path leads to the open file as long
      // as the number on the disk is the same: no other file gets it meanwhile
      if (versionOf(yield* fileSystem.stat(absolute)) !== version) return yield* changed()
    }, told)
  return {
    size: Number(info.size),
    version,
    bytes: Effect.zipWith(
      fileSystem.readFile(absolute),
      // behind the reading, as above
      fileSystem.stat(absolute),
      (bytes, now) => versionOf(now) === version ? Option.some(bytes) : Option.none()
    ).pipe(Effect.catchAll(() => Effect.succeedNone)),
    open: fileSystem.open(absolute).pipe(
      Effect.tap((handle) => Effect.filterOrFail(handle.stat, (now) => versionOf(now) === version, changed)),
      Effect.map(read),
      told
    )
  }
}

/** What cannot be sent, by what it is. */
const special: Readonly<Record<Exclude<FileSystem.File.Type, "File">, string>> = {
  Directory: "is a folder, not a file",
  SymbolicLink: "is a link to a folder, which is not followed",
  FIFO: "is a pipe, not a file; its bytes can be read from standard input",
  Socket: "is a socket, not a file",
  CharacterDevice: "is a device, not a file",
  BlockDevice: "is a device, not a file",
  Unknown: "is not a file"
}

const onDisk = (fileSystem: FileSystem.FileSystem, { absolute, info, name, path }: Walk.Found): Source => ({
  path,
  source: absolute,
  name,
  found: foundAs(fileSystem, path, absolute, info),
  external: Effect.map(
    Effect.mapError(fileSystem.stat(absolute), explain(path)),
    (now) => foundAs(fileSystem, path, absolute, now)
  ),
  bytes: (chunkSize) =>
    Stream.mapError(fileSystem.stream(absolute, { chunkSize: FileSystem.Size(chunkSize) }), explain(path))
})

/** How a source is called. */
export interface NameOptions {
  /** What servers are told instead of the name that follows from the path. */
  readonly name?: string
}

/** A file on the disk. It is opened when its bytes are asked for; that it can be found and is a file is checked now. */
export const file = (
  path: string,
  options: NameOptions = {}
): Effect.Effect<Source, SourceError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function*() {
    const fileSystem = yield* FileSystem.FileSystem
    const absolute = (yield* Path.Path).resolve(path)
    const info = yield* Effect.mapError(fileSystem.stat(absolute), explain(path))
    const { type } = info
    if (type !== "File") return yield* new SourceError({ path, message: `${path} ${special[type]}` })
    return onDisk(fileSystem, { info, path, absolute, name: options.name ?? sentName(path) })
  })

const explainPassed = ({ path, reason }: Walk.Passed): SourceError =>
  typeof reason === "string"
    ? new SourceError({ path, message: `${path} ${special[reason]}` })
    : explain(path)(reason)

/**
 * The files of a folder and of those in it, sorted by name. Servers are told their paths from the named folder on:
 * `photos/2020/a.jpg` for `photos`, `../photos` and `/data/photos`; for `.` what is below it. An entry that cannot be
 * read, and all that is no file (links to folders too), comes as a `Left`, and the others go on. Lazy: a file is looked at
 * when it, or one just before it, is asked for, and only the names of the folders on the way down are held.
 */
export const folder = (
  path: string,
  options: NameOptions = {}
): Stream.Stream<Either.Either<Source, SourceError>, SourceError, FileSystem.FileSystem | Path.Path> =>
  Stream.unwrap(Effect.gen(function*() {
    const fileSystem = yield* FileSystem.FileSystem
    const paths = yield* Path.Path
    const absolute = paths.resolve(path)
    const name = options.name ?? folderName(path, absolute)
    const walker = yield* Effect.mapError(
      Walk.make(fileSystem, paths, { path, absolute, name }),
      explain(path)
    )
    return Stream.repeatEffectChunkOption(Effect.map(walker.next, Chunk.unsafeFromArray)).pipe(
      Stream.map(Either.mapBoth({ onLeft: explainPassed, onRight: (found) => onDisk(fileSystem, found) }))
    )
  }))

/** When a file that appears is taken. */
export interface ArrivingOptions {
  /** How long a file must have stayed as it is. Default 2 seconds. */
  readonly settle?: Duration.DurationInput
}

/** How long a file that appears must have stayed as it is. */
export const defaultSettle: Duration.DurationInput = "2 seconds"

/** What downloaders and editors call a file that they have not finished, or a copy that nobody asked for. */
const unfinished = /^\.|(~|\.(part|partial|tmp|crdownload))$/i

/** Between two looks at the tree: of a large one fewer, so that looking takes a small part of the time. Milliseconds. */
const pauseAfter = (files: number): number => Math.max(1000, files / 5)

/**
 * The files of a folder, and of those in it, as they appear: each once it has had the same size, time of modification and
 * file id for `settle`, and again when it has become another one and that has settled. It never ends. Names, and folders,
 * that begin with `.` or end in `~`, `.part`, `.partial`, `.tmp` or `.crdownload` are left out. Servers are told the paths
 * below the folder.
 *
 * It looks each second, of a tree with many files less often, and needs no help of the file system: it works on network
 * drives too. What cannot be read is tried at the next look. Fails only if the folder cannot be read at the start.
 */
export const arriving = (
  path: string,
  options: ArrivingOptions = {}
): Stream.Stream<Source, SourceError, FileSystem.FileSystem | Path.Path> =>
  Stream.unwrap(Effect.gen(function*() {
    const fileSystem = yield* FileSystem.FileSystem
    const paths = yield* Path.Path
    const absolute = paths.resolve(path)
    const settle = Duration.toMillis(options.settle ?? defaultSettle)
    const look = Walk.make(fileSystem, paths, { path, absolute, name: "" }, (name) => !unfinished.test(name))

    /** By name: the version, and since when it is that; `undefined` once it was emitted. */
    type Seen = Map<string, readonly [version: string, since: number | undefined]>
    let before: Seen = new Map()
    let now: Seen = new Map()
    let walker: Walk.Walker = yield* Effect.mapError(look, explain(path))

    /** A look in which something could not be read says nothing of what it has not seen. */
    let isWhole = true
    const isGone = ({ reason }: Walk.Passed) =>
      typeof reason === "string" || reason._tag === "SystemError" && reason.reason === "NotFound"

    const lookAgain: Effect.Effect<void> = Effect.gen(function*() {
      before = isWhole ? now : new Map([...before, ...now])
      now = new Map()
      isWhole = true
      while (true) {
        yield* Effect.sleep(pauseAfter(before.size))
        const again = yield* Effect.option(look)
        if (Option.isSome(again)) {
          walker = again.value
          return
        }
        isWhole = false
      }
    })

    /** The source, if it has settled and was not emitted as it is. */
    const settled = (found: Walk.Found) =>
      Effect.gen(function*() {
        const time = yield* Clock.currentTimeMillis
        const version = versionOf(found.info)
        const seen = before.get(found.name)
        const since = seen === undefined || seen[0] !== version ? time : seen[1]
        now.set(found.name, [version, since])
        if (since === undefined || time - since < settle) return Option.none()
        if (!(yield* Effect.isSuccess(fileSystem.access(found.absolute, { readable: true })))) return Option.none()
        now.set(found.name, [version, undefined])
        return Option.some(onDisk(fileSystem, found))
      })

    const next = Effect.gen(function*() {
      while (true) {
        const found = yield* Effect.option(walker.next)
        if (Option.isNone(found)) {
          yield* lookAgain
          continue
        }
        const [passed, files] = Arr.separate(found.value)
        if (!passed.every(isGone)) isWhole = false
        const sources = Arr.getSomes(yield* Effect.forEach(files, settled))
        if (sources.length > 0) return Chunk.unsafeFromArray(sources)
      }
    })

    return Stream.repeatEffectChunk(next)
  }))

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

/** Any iterable of bytes under a name. It is gone through once. */
export const asyncIterable = (name: string, bytes: AsyncIterable<Uint8Array>): Source =>
  stream(name, Stream.fromAsyncIterable(bytes, (cause) => cause))
