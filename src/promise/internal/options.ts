/**
 * Whether what callers give can be meant. TypeScript tells them as they write; JavaScript takes anything, and a limit that
 * is no number would be none.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import { types } from "node:util"
import { IndexCPError } from "../Errors.ts"

/** What a value has to be. */
export interface Kind {
  readonly what: string
  readonly has: (value: unknown) => boolean
}

const kind = (what: string, has: Kind["has"]): Kind => ({ what, has })

export const text: Kind = kind("a text", Predicate.isString)

export const filled: Kind = kind("a text that is not empty", (value) => Predicate.isString(value) && value !== "")

export const bytes: Kind = kind("bytes, or a text", (value) => types.isUint8Array(value) || Predicate.isString(value))

export const flag: Kind = kind("true or false", Predicate.isBoolean)

export const callback: Kind = kind("a function", Predicate.isFunction)

export const whole = (least: number, most: number = Number.MAX_SAFE_INTEGER): Kind =>
  kind(
    `a whole number from ${least} ${most === Number.MAX_SAFE_INTEGER ? "on" : `to ${most}`}`,
    (value) => Number.isSafeInteger(value) && least <= (value as number) && (value as number) <= most
  )

/** Digits are one too, as Node takes them from the environment. */
export const port: Kind = kind(
  "a whole number from 0 to 65535",
  (value) => /^\d{1,5}$/.test(`${value}`) && Number(value) <= 65535
)

export const count: Kind = kind(
  "a whole number from 0 on, or Infinity",
  (value) => value === Number.POSITIVE_INFINITY || whole(0).has(value)
)

export const number = (least: number): Kind =>
  kind(`a number from ${least} on`, (value) => Number.isFinite(value) && least <= (value as number))

export const oneOf = (...names: ReadonlyArray<string>): Kind =>
  kind(`one of ${names.join(", ")}`, (value) => names.some((name) => name === value))

export const listOf = ({ has }: Kind, what: string): Kind =>
  kind(what, (value) => Array.isArray(value) && value.every(has))

export const recordOf = ({ has }: Kind, what: string): Kind =>
  kind(what, (value) => Predicate.isRecord(value) && Object.values(value).every(has))

export const either = (one: Kind, other: Kind): Kind =>
  kind(`${one.what}, or ${other.what}`, (value) => one.has(value) || other.has(value))

/** The time that a value says, 0 or more. */
const timeOf = (value: unknown): Option.Option<Duration.Duration> =>
  Option.filter(Duration.decodeUnknown(value), () => !Predicate.isNumber(value) || value >= 0)

export const time: Kind = kind(
  `milliseconds, or a text like "10 seconds"`,
  (value) => Option.isSome(timeOf(value))
)

/** Timers of Node's that are set for longer end at once. */
export const timer: Kind = kind(
  `${time.what}, 24 days at most`,
  (value) => Option.exists(timeOf(value), Duration.lessThanOrEqualTo(Duration.days(24)))
)

const invalid = (message: string) => new IndexCPError({ code: "INVALID_ARGUMENT", message })

/** Fails when a value is none of its kind. */
export const need = (name: string, { has, what }: Kind, value: unknown): Effect.Effect<void, IndexCPError> =>
  Effect.suspend(() => has(value) ? Effect.void : Effect.fail(invalid(`${name} has to be ${what}`)))

/**
 * The options that are given: what is `undefined` or `null` is not. Throws when one is none of its kind. Those that there are
 * not may be left from an existing library, so they are only warned of: but not the one for encryption, which somebody
 * relies on.
 */
export const checked = <A extends object>(of: string, kinds: Readonly<Record<keyof A, Kind>>, options: A): A => {
  if (!Predicate.isRecord(options)) throw invalid(`What ${of} is made with has to be an object of options`)
  const isKnown = (name: string): name is keyof A & string => Object.hasOwn(kinds, name)
  const given: Array<[string, unknown]> = []
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null) continue
    if (!isKnown(name)) {
      if (name === "encryption" && value !== false) {
        throw invalid(`${of} does not encrypt; leave out the option encryption where files may lie as they are`)
      }
      process.emitWarning(`${of} has no option ${name}; it is passed over`)
      continue
    }
    if (!kinds[name].has(value)) throw invalid(`The option ${name} has to be ${kinds[name].what}`)
    given.push([name, value])
  }
  return Object.fromEntries(given) as A
}
