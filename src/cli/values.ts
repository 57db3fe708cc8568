/**
 * The values that options take: sizes, rates, times.
 *
 * @module
 */
import * as Duration from "effect/Duration"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import xbytes from "xbytes"

/** A text that stands for a value; `undefined` is none. */
const written = <A>(is: Schema.Schema<A>, read: (text: string) => A | undefined, complaint: (text: string) => string) =>
  Schema.transformOrFail(Schema.String, is, {
    strict: true,
    decode: (text, _, ast) => {
      const value = read(text)
      return value === undefined
        ? ParseResult.fail(new ParseResult.Type(ast, text, complaint(text)))
        : ParseResult.succeed(value)
    },
    encode: (value) => ParseResult.succeed(String(value))
  }).annotations({ message: (issue) => complaint(String(issue.actual)) })

const bytesOf = (text: string): number | undefined => {
  const [, amount, unit = "B"] = /^(\d+(?:\.\d+)?) ?([kmgtp]?i?b)?$/i.exec(text) ?? []
  const bytes = amount === undefined
    ? Number.NaN
    // in capitals, because a small b would mean bits
    : Math.round(xbytes.parseSize(`${amount} ${unit.toUpperCase().replace("I", "i")}`))
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** `64KiB`, `5MB`, or a bare number of bytes. Units in any case; `K` is 1000 and `Ki` 1024. */
export const ByteSize: Schema.Schema<number, string> = written(
  Schema.Number,
  bytesOf,
  (text) => `Not a size: ${text}. Write 64KiB, 5MB or a number of bytes`
)

/** Bytes a second: `5MB/s` or `5MB`. Above 0. */
export const ByteRate: Schema.Schema<number, string> = written(
  Schema.Number,
  (text) => bytesOf(text.replace(/ ?\/ ?s(ec)?$/i, "")) || undefined,
  (text) => `Not a rate: ${text}. Write 5MB/s or 500KiB/s`
)

const units: Readonly<Record<string, (amount: number) => Duration.Duration>> = {
  ms: Duration.millis,
  s: Duration.seconds,
  m: Duration.minutes,
  h: Duration.hours,
  d: Duration.days
}

/** A time above 0: `30s`, `10m`, `2h`, `7d`. */
export const Span: Schema.Schema<Duration.Duration, string> = written(
  Schema.DurationFromSelf,
  (text) => {
    const [, amount, unit = ""] = /^(\d+(?:\.\d+)?) ?(ms|s|m|h|d)$/i.exec(text) ?? []
    return amount === undefined || Number(amount) === 0 ? undefined : units[unit.toLowerCase()]?.(Number(amount))
  },
  (text) => `Not a time: ${text}. Write 30s, 10m, 2h or 7d`
)
