/**
 * The client of a command: which options make it, and its layers.
 *
 * @module
 */
import * as Options from "@effect/cli/Options"
import * as Prompt from "@effect/cli/Prompt"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Terminal from "@effect/platform/Terminal"
import * as Config from "effect/Config"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as ApiKey from "../client/ApiKey.ts"
import * as ChunkStoreSqlite from "../client/ChunkStoreSqlite.ts"
import type { HttpClientOptions } from "../client/HttpClientNode.ts"
import * as TransportHttp from "../client/TransportHttp.ts"
import * as Uploader from "../client/Uploader.ts"
import * as ExitCode from "./ExitCode.ts"
import { tell } from "./main.ts"
import * as Shared from "./options.ts"
import * as Values from "./values.ts"

/** Which buffer. */
export const buffer = {
  dbName: Options.text("db-name").pipe(
    Options.withPseudoName("name"),
    Options.withDescription("The buffer: ~/.indexcp/<name>.db. Default: indexcp"),
    Options.withDefault("indexcp")
  )
}

/** How files get into it. */
export const adding = {
  chunkSize: Shared.value("chunk-size", "size", Values.ByteSize).pipe(
    Options.withDescription("Bytes a chunk at first, like 64KiB or 5MB; at most 16MiB. Default: 1MiB"),
    Options.withDefault(Uploader.defaults.chunkSize)
  ),
  maxBuffer: Shared.value("max-buffer", "size", Values.ByteSize).pipe(
    Options.withDescription("Bytes the buffer may use, like 20GB. Default: INDEXCP_MAX_BUFFER, else no limit"),
    Options.optional
  )
}

/** How a server is reached. */
export const reaching = {
  apiKey: Shared.apiKey,
  stallTimeout: Shared.value("stall-timeout", "time", Values.Span).pipe(
    Options.withDescription("Cut a request that moves no byte for so long, and try again. Default: 30s"),
    Options.optional
  ),
  cacert: Options.text("cacert").pipe(
    Options.withPseudoName("file"),
    Options.withDescription("A PEM file of certificates to trust besides those that Node trusts"),
    Options.optional
  ),
  insecure: Options.boolean("insecure").pipe(
    Options.withDescription("Accept every certificate: then anybody on the way can read the key and the files")
  )
}

/** How files are sent. */
export const sending = {
  ...reaching,
  parallel: Shared.count("parallel", 1000, 1).pipe(
    Options.withDescription(`Requests in flight at most, and files at once. Default: ${Uploader.defaults.parallel}`),
    Options.withDefault(Uploader.defaults.parallel)
  ),
  limitRate: Shared.value("limit-rate", "rate", Values.ByteRate).pipe(
    Options.withDescription("Bytes a second at most, like 5MB/s. Default: no limit"),
    Options.optional
  ),
  maxRetries: Shared.count("max-retries").pipe(
    Options.withDescription("Give up waiting after so many retries in a row. Default: never"),
    Options.optional
  ),
  giveUpAfter: Shared.value("give-up-after", "time", Values.Span).pipe(
    Options.withDescription("Give up waiting after so long without success, like 10m, 2h or 7d. Default: never"),
    Options.optional
  ),
  freeEarly: Options.boolean("free-early").pipe(
    Options.withDescription("Free bytes in the buffer as the server acknowledges them, not when the file is complete")
  )
}

export interface Settings {
  readonly dbName: string
  readonly chunkSize?: number
  readonly maxBuffer?: Option.Option<number>
  readonly apiKey?: Option.Option<Redacted.Redacted>
  readonly stallTimeout?: Option.Option<Duration.Duration>
  readonly cacert?: Option.Option<string>
  readonly insecure?: boolean
  readonly parallel?: number
  readonly limitRate?: Option.Option<number>
  readonly maxRetries?: Option.Option<number>
  readonly giveUpAfter?: Option.Option<Duration.Duration>
  readonly freeEarly?: boolean
  /** Whether a person may be asked for the key. Default true. */
  readonly asks?: boolean
}

const usage = (line: string) => new ExitCode.Exit({ code: ExitCode.usage, line })

/** The options that were given, under their names in the library. */
const given = <Name extends string, A>(
  name: Name,
  option: Option.Option<A> | undefined
): { readonly [N in Name]?: A } =>
  option !== undefined && Option.isSome(option) ? { [name]: option.value } as { readonly [N in Name]: A } : {}

const maxBytes = (asked: Option.Option<number> | undefined) =>
  Effect.gen(function*() {
    if (asked !== undefined && Option.isSome(asked)) return asked
    const variable = yield* Effect.option(Config.nonEmptyString("INDEXCP_MAX_BUFFER"))
    if (Option.isNone(variable)) return Option.none()
    const bytes = Schema.decodeEither(Values.ByteSize)(variable.value)
    return Either.isRight(bytes)
      ? Option.some(bytes.right)
      : yield* usage(`INDEXCP_MAX_BUFFER is no size: ${variable.value}. Write 500MB or 20GiB`)
  })

const certificates = (file: Option.Option<string> | undefined) =>
  file === undefined || Option.isNone(file) ? Effect.succeedNone : Effect.flatMap(
    FileSystem.FileSystem,
    (fileSystem) =>
      Effect.asSome(fileSystem.readFileString(file.value)).pipe(
        Effect.mapError((error) =>
          usage(`--cacert ${file.value} cannot be read: ${error._tag === "SystemError" ? error.reason : error.message}`)
        )
      )
  )

const keyPrompt = Effect.gen(function*() {
  const terminal = yield* Terminal.Terminal
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined
  return Prompt.hidden({ message: "API key" }).pipe(
    Effect.provideService(Terminal.Terminal, onStderr(terminal)),
    // Ctrl-C, which is no signal here
    Effect.catchTag("QuitException", () => Effect.andThen(tell(""), Effect.interrupt))
  )
})

/** Results are for stdout, a question is not. */
export const onStderr = (terminal: Terminal.Terminal): Terminal.Terminal => ({
  ...terminal,
  display: (text) => Effect.sync(() => void process.stderr.write(text))
})

/** Slow to load, so not before it is needed. */
const httpClient = (options: Partial<HttpClientOptions>) =>
  Layer.unwrapEffect(Effect.map(
    Effect.promise(() => import("../client/HttpClientNode.ts")),
    (HttpClientNode) => HttpClientNode.layer(options)
  ))

/** The whole client over the buffer of that name. */
export const layer = (settings: Settings) =>
  Layer.unwrapEffect(Effect.gen(function*() {
    const key = yield* Shared.warnOfKey(settings.apiKey ?? Option.none())
    const prompt = settings.asks === false ? undefined : yield* keyPrompt
    if (!/^[^/\\]+$/.test(settings.dbName)) {
      return yield* usage(`--db-name is a name, not a path: ${settings.dbName}`)
    }
    const caCertificates = yield* certificates(settings.cacert)
    if (settings.insecure) {
      yield* tell("Warning: --insecure accepts every certificate; anybody on the way can read the key and the files")
    }
    const { chunkSize, freeEarly, parallel } = { ...Uploader.defaults, ...settings }
    const stallTimeout = given("stallTimeout", settings.stallTimeout)
    return Uploader.layer({
      chunkSize,
      parallel,
      freeEarly,
      retry: { ...given("maxRetries", settings.maxRetries), ...given("giveUpAfter", settings.giveUpAfter) }
    }).pipe(
      Layer.provide(TransportHttp.layerStreamed({ ...stallTimeout, ...given("limitRate", settings.limitRate) })),
      Layer.provide(ChunkStoreSqlite.layer({
        file: ChunkStoreSqlite.defaultFile(settings.dbName),
        ...given("maxBytes", yield* maxBytes(settings.maxBuffer))
      })),
      Layer.provide(httpClient({
        ...given("caCertificates", caCertificates),
        ...given("connectTimeout", settings.stallTimeout),
        insecure: settings.insecure ?? false
      })),
      Layer.provideMerge(ApiKey.layerFromEnv({ given: key, ...(prompt === undefined ? {} : { prompt }) }))
    )
  }))

/** Finds the key, before lines would change where a person is asked for it. Having none is for the uploader to find out. */
export const findKey = Effect.flatMap(ApiKey.ApiKey, ({ get }) => Effect.ignore(get))
