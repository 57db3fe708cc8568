/**
 * The key that a client shows to servers: a given value, else `INDEXCP_API_KEY`, else `INDEXEDCP_API_KEY`, else what a
 * prompt answers.
 *
 * @module
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"

/** There is no key. */
export class ApiKeyMissing extends Schema.TaggedError<ApiKeyMissing>("indexedcp/ApiKeyMissing")("ApiKeyMissing", {
  message: Schema.String
}) {}

/**
 * The key that a `Transport` shows to every server.
 *
 * @example
 * ```ts
 * const fixed = ApiKey.layer(Redacted.make("the server's key"))
 * const fromEnvironment = ApiKey.layerFromEnv() // INDEXCP_API_KEY, else INDEXEDCP_API_KEY
 * ```
 */
export class ApiKey extends Context.Tag("indexedcp/ApiKey")<ApiKey, {
  /** The key. Looked for at the first use, then kept. Never empty. */
  readonly get: Effect.Effect<Redacted.Redacted, ApiKeyMissing>
}>() {}

/** A key at hand. */
export const layer = (key: Redacted.Redacted): Layer.Layer<ApiKey> =>
  Layer.succeed(ApiKey, { get: Effect.succeed(key) })

/** The key `test`. */
export const layerMemory: Layer.Layer<ApiKey> = layer(Redacted.make("test"))

const missing = new ApiKeyMissing({
  message: "No API key: set INDEXCP_API_KEY to the key that the server printed or was given"
})

const trimmed = (key: Redacted.Redacted): Redacted.Redacted => Redacted.make(Redacted.value(key).trim())

/** An empty variable counts as none. */
const variable = (name: string) =>
  Effect.map(
    Effect.option(Config.redacted(name)),
    Option.filter((key) => Redacted.value(trimmed(key)) !== "")
  )

const fromEnv = Effect.flatMap(
  variable("INDEXCP_API_KEY"),
  Option.match({ onNone: () => variable("INDEXEDCP_API_KEY"), onSome: Effect.succeedSome })
)

/**
 * Looks for the key in the order above, through the `ConfigProvider` at hand; white space around it is left out. Without
 * a prompt, having none is an error.
 */
export const layerFromEnv = (options: {
  readonly given?: Option.Option<Redacted.Redacted>
  readonly prompt?: Effect.Effect<Redacted.Redacted, ApiKeyMissing>
} = {}): Layer.Layer<ApiKey> =>
  Layer.effect(
    ApiKey,
    Effect.map(
      Effect.cached(
        Effect.gen(function*() {
          const given = options.given ?? Option.none()
          const found = Option.isSome(given) ? given : yield* fromEnv
          const key = trimmed(Option.isSome(found) ? found.value : yield* options.prompt ?? Effect.fail(missing))
          return Redacted.value(key) === "" ? yield* missing : key
        })
      ),
      (get) => ({ get })
    )
  )
