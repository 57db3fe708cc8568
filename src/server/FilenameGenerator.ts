/**
 * The name an uploaded file gets on the server.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as FileName from "../protocol/FileName.ts"

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

export class FilenameGenerator extends Context.Tag("indexedcp/FilenameGenerator")<FilenameGenerator, {
  /**
   * A name for the file, relative to the output folder, which may have `/` in it. Asked once an upload; the answer is
   * checked and goes through the conflict policy like any name.
   */
  readonly generate: (
    clientName: string,
    chunkIndex: number,
    request: GeneratorRequest
  ) => Effect.Effect<string, GeneratorFailed>
}>() {}

/** The base name of the client's name. */
export const layer: Layer.Layer<FilenameGenerator> = Layer.succeed(FilenameGenerator, {
  generate: (clientName) => Effect.succeed(FileName.base(clientName))
})

/** {@link layer}: it keeps nothing, so tests use the same. */
export const layerMemory: Layer.Layer<FilenameGenerator> = layer

/** A function of one's own, synchronous or not. */
export const layerFunction = (
  generate: (clientName: string, chunkIndex: number, request: GeneratorRequest) => string | Promise<string>
): Layer.Layer<FilenameGenerator> =>
  Layer.succeed(FilenameGenerator, {
    generate: (...asked) =>
      Effect.tryPromise({
        // oxlint-disable-next-line require-await -- what the function throws at once is a rejection too
        try: async () => generate(...asked),
        catch: (cause) => new GeneratorFailed({ message: "The filename generator failed", cause })
      })
  })
