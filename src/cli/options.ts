/**
 * Options that both programs share, and the values they take.
 *
 * @module
 */
import * as Options from "@effect/cli/Options"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Schema from "effect/Schema"
import { tell } from "./main.ts"

/** A whole number, from 0 on unless `least` is given. */
export const count = (name: string, most: number = Number.MAX_SAFE_INTEGER, least = 0): Options.Options<number> =>
  Options.text(name).pipe(
    Options.withPseudoName("number"),
    Options.filterMap(
      (text) =>
        /^\d+$/.test(text) && Number(text) >= least && Number(text) <= most ? Option.some(Number(text)) : Option.none(),
      `--${name} is a whole number from ${least} to ${most}`
    )
  )

/** A value of a kind, like `--stall-timeout 30s`. */
export const value = <A>(name: string, kind: string, schema: Schema.Schema<A, string>): Options.Options<A> =>
  Options.text(name).pipe(Options.withPseudoName(kind), Options.withSchema(schema))

/** The key as an option: everybody on the machine can read it there. */
export const apiKey = Options.redacted("api-key").pipe(
  Options.withPseudoName("key"),
  Options.withDescription("The API key. Better: set INDEXCP_API_KEY, an option can be read by others on this machine"),
  Options.optional
)

const notEmpty = (key: Redacted.Redacted) => Redacted.value(key) !== ""

/** Warns of a key on the command line, and passes over an empty one. */
export const warnOfKey = (key: Option.Option<Redacted.Redacted>): Effect.Effect<Option.Option<Redacted.Redacted>> =>
  Effect.as(
    Option.exists(key, notEmpty)
      ? tell("Warning: a key on the command line can be read by others on this machine; set INDEXCP_API_KEY instead")
      : Effect.void,
    Option.filter(key, notEmpty)
  )

/** Where a server keeps what it received. */
export const outputDir = Options.text("output-dir").pipe(
  Options.withPseudoName("folder"),
  Options.withDescription(
    "The folder for received files, made if missing. Default: INDEXCP_OUTPUT_DIR, else the current one"
  ),
  Options.withFallbackConfig(Config.nonEmptyString("INDEXCP_OUTPUT_DIR")),
  Options.withDefault(".")
)
