/**
 * The name an uploaded file gets on the server.
 *
 * @module
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as FileName from "../protocol/FileName.ts"
import type { Malformed } from "../protocol/ProtocolError.ts"
import { Identifiers } from "../protocol/UploadId.ts"
import * as SafeName from "./SafeName.ts"

/** The request of an upload's first chunk, as a generator sees it. */
export interface GeneratorRequest {
  /** Lower-case names, without `authorization`. */
  readonly headers: Readonly<Record<string, string>>
  readonly method: string
  readonly url: string
  readonly remoteAddress: string
  /** The name of the client's key. */
  readonly keyName: string
}

/** The generator threw. The client gets 500, nothing is kept. */
export class GeneratorFailed extends Schema.TaggedError<GeneratorFailed>("indexedcp/GeneratorFailed")(
  "GeneratorFailed",
  { message: Schema.String, cause: Schema.optional(Schema.Defect) }
) {}

/**
 * Names files on the server. Layers: {@link layerPathMode}, {@link layerFunction}, and `layer`, which is `sanitize`.
 *
 * @example
 * ```ts
 * const byDay = FilenameGenerator.layerFunction((clientName, _, { keyName }) =>
 *   `${keyName}/${new Date().toISOString().slice(0, 10)} ${clientName.split("/").at(-1)}`
 * )
 * ```
 */
export class FilenameGenerator extends Context.Tag("indexedcp/FilenameGenerator")<FilenameGenerator, {
  /**
   * A name for the file, relative to the output folder, which may have `/` in it. Asked once an upload; the answer is
   * checked and goes through the conflict policy like any name. `Malformed` when the client's name cannot be made safe.
   */
  readonly generate: (
    clientName: string,
    chunkIndex: number,
    request: GeneratorRequest
  ) => Effect.Effect<string, GeneratorFailed | Malformed>
}>() {}

/**
 * What becomes of the client's path `/data/scans/a.txt`:
 *
 * - `sanitize`: its base name, made safe: `a.txt`
 * - `ignore`: a name that no other has, `<milliseconds>_<8 hex digits>_<path with _ for its separators>`
 * - `allow-paths`: its folders are kept, each made safe: `data/scans/a.txt`
 * - `timestamp`: its base name with the seconds since 1970: `a_1767225600.txt`
 */
export type PathMode = "sanitize" | "ignore" | "allow-paths" | "timestamp"

type Naming = (clientName: string) => Effect.Effect<Either.Either<SafeName.SafeName, Malformed>>

const sanitize: Naming = (clientName) => Effect.sync(() => SafeName.sanitize(FileName.base(clientName)))

const ignore = (identifiers: Context.Tag.Service<Identifiers>): Naming => (clientName) =>
  Effect.zipWith(
    Clock.currentTimeMillis,
    identifiers.next,
    (now, id) => SafeName.sanitize(`${now}_${id.slice(0, 8)}_${clientName}`)
  )

const allowPaths: Naming = (clientName) =>
  Effect.sync(() => SafeName.sanitize(...clientName.split(/[/\\]/).filter((part) => part !== "" && part !== ".")))

const timestamp: Naming = (clientName) =>
  Effect.zipWith(
    Clock.currentTimeMillis,
    sanitize(clientName),
    (now, name) => Either.map(name, (name) => SafeName.withSuffix(name, `_${Math.floor(now / 1000)}`))
  )

/** Names by a {@link PathMode}. */
export const layerPathMode = (mode: PathMode): Layer.Layer<FilenameGenerator> =>
  Layer.effect(
    FilenameGenerator,
    Effect.map(Identifiers, (identifiers) => {
      const naming = { sanitize, ignore: ignore(identifiers), "allow-paths": allowPaths, timestamp }[mode]
      return { generate: (clientName) => Effect.flatten(naming(clientName)) }
    })
  )

/** The base name of the client's name, made safe. */
export const layer: Layer.Layer<FilenameGenerator> = layerPathMode("sanitize")

/** {@link layer}: it keeps nothing, so tests use the same. */
export const layerMemory: Layer.Layer<FilenameGenerator> = layer

/** A function of one's own, synchronous or not. */
export const layerFunction = (
  generate: (clientName: string, chunkIndex: number, request: GeneratorRequest) => string | Promise<string>
): Layer.Layer<FilenameGenerator> =>
  Layer.succeed(FilenameGenerator, {
    generate: (...asked) =>
      Effect.tryPromise({
        try: async () => {
          const name: unknown = await generate(...asked)
          // what forgets to return one would name its files "undefined"
          if (typeof name !== "string") throw new TypeError(`It returned no text but ${typeof name}`)
          return name
        },
        catch: (cause) => new GeneratorFailed({ message: "The filename generator failed", cause })
      })
  })
