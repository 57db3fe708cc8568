/**
 * Options that both programs share, and the values they take.
 *
 * @module
 */
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as ParseResult from "effect/ParseResult"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import xbytes from "xbytes"
import { tell } from "./main.ts"

/** `64KiB`, `5MB`, or a bare number of bytes. Units in any case; `K` is 1000 and `Ki` 1024. */
export const ByteSize: Schema.Schema<number, string> = Schema.transformOrFail(Schema.String, Schema.Number, {
  strict: true,
  decode: (text, _, ast) => {
    const [, amount, unit = "B"] = /^(\d+(?:\.\d+)?) ?([kmgtp]?i?b)?$/i.exec(text) ?? []
    const bytes = amount === undefined
      ? Number.NaN
      // in capitals, because a small b would mean bits
      : Math.round(xbytes.parseSize(`${amount} ${unit.toUpperCase().replace("I", "i")}`))
    return Number.isSafeInteger(bytes)
      ? ParseResult.succeed(bytes)
      : ParseResult.fail(new ParseResult.Type(ast, text, `not a size: ${text}. Write 64KiB, 5MB or a number of bytes`))
  },
  encode: (bytes) => ParseResult.succeed(String(bytes))
}).annotations({ message: (issue) => `Not a size: ${String(issue.actual)}. Write 64KiB, 5MB or a number of bytes` })

/** A whole number from 0 on. */
export const count = (name: string, most: number = Number.MAX_SAFE_INTEGER): Options.Options<number> =>
  Options.text(name).pipe(
    Options.withPseudoName("number"),
    Options.filterMap(
      (text) => /^\d+$/.test(text) && Number(text) <= most ? Option.some(Number(text)) : Option.none(),
      `--${name} is a whole number from 0 to ${most}`
    )
  )

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
  Options.withDescription("The folder for received files, made if missing. Default: the current one"),
  Options.withDefault(".")
)
