/**
 * The kinds of values that settings have. Each is written as a text, wherever it is given.
 *
 * @module
 */
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { ByteRate, ByteSize, Span } from "./values.ts"

export interface Kind<out A> {
  /** How the command line takes it. */
  readonly form: "text" | "flag" | "choice" | "secret"
  /** What stands for a value in the help. */
  readonly placeholder: string
  /** The only values there are. */
  readonly choices: ReadonlyArray<string>
  /** The value, or a line that names `where` it stands. The line of a secret does not show it. */
  readonly read: (text: string, where: string) => Either.Either<A, string>
  /** What a JSON file may have for it besides a text. */
  readonly json: "text" | "number" | "boolean" | "list"
}

const kind = <A>(
  placeholder: string,
  read: Kind<A>["read"],
  { choices = [], form = "text", json = "text" }: Partial<Pick<Kind<A>, "choices" | "form" | "json">> = {}
): Kind<A> => ({ form, placeholder, choices, read, json })

/** A text that is what it should be. */
const checked = (placeholder: string, is: (text: string) => boolean, what: string): Kind<string> =>
  kind(placeholder, (text, where) => is(text) ? Either.right(text) : Either.left(`${where} is ${what}`))

/** A value of one of the schemas in `values.ts`, from `least` to `most`. */
const measured = <A>(
  placeholder: string,
  schema: Schema.Schema<A, string>,
  json: Kind<A>["json"],
  range: { readonly isIn: (value: A) => boolean; readonly what: string } = { isIn: () => true, what: "" }
): Kind<A> => {
  const decode = Schema.decodeEither(schema)
  return kind(placeholder, (text, where) =>
    decode(text).pipe(
      Either.mapLeft(({ message }) => `${where}: ${message}`),
      Either.filterOrLeft(range.isIn, () => `${where} is ${range.what}`)
    ), { json })
}

/** Any text but an empty one. */
export const text = (placeholder: string, what: string = "empty; give it a value or leave it out"): Kind<string> =>
  checked(placeholder, (text) => text !== "", what)

/** `/a/b`, or empty. */
export const urlPath: Kind<string> = checked(
  "path",
  (text) => /^(\/[\w.~-]+)*$/.test(text),
  "a path like /files, without / at its end, or empty"
)

/** `127.0.0.1:9100`, `[::1]:9100`. */
export const address: Kind<string> = checked(
  "address:port",
  (text) => Number(/^(?:\[[\da-f:.]+\]|[^\s:[\]]+):(\d{1,5})$/i.exec(text)?.[1] ?? Number.NaN) <= 65535,
  "an address and a port, like 127.0.0.1:9100"
)

/** On or off. */
export const flag: Kind<boolean> = kind(
  "",
  (text, where) =>
    /^(true|1)$/i.test(text)
      ? Either.right(true)
      : /^(false|0)$/i.test(text)
      ? Either.right(false)
      : Either.left(`${where} is true or false`),
  { form: "flag", json: "boolean" }
)

/** One of several words. */
export const choice = <const A extends string>(...choices: ReadonlyArray<A>): Kind<A> =>
  kind(
    choices.join(" | "),
    (text, where) =>
      Either.fromNullable(
        choices.find((choice) => choice === text),
        () => `${where} is one of ${choices.join(", ")}`
      ),
    { form: "choice", choices }
  )

/** A whole number. */
export const count = (least: number, most: number = Number.MAX_SAFE_INTEGER): Kind<number> =>
  kind(
    "number",
    (text, where) =>
      /^\d+$/.test(text) && Number(text) >= least && Number(text) <= most
        ? Either.right(Number(text))
        : Either.left(`${where} is a whole number from ${least} to ${most}`),
    { json: "number" }
  )

/** A number of bytes. */
export const bytes = (least: number): Kind<number> =>
  measured("size", ByteSize, "number", { isIn: (bytes) => bytes >= least, what: `${least} bytes or more` })

/** Bytes a second, above 0. */
export const rate: Kind<number> = measured("rate", ByteRate, "number")

/** A time above 0. */
export const duration: Kind<Duration.Duration> = measured("time", Span, "text")

/** A time above 0 for which Node can set a timer: those beyond 2^31 milliseconds end at once. */
export const timer: Kind<Duration.Duration> = measured("time", Span, "text", {
  isIn: Duration.lessThanOrEqualTo(Duration.days(24)),
  what: "24d or less"
})

/** The mode of a file, like `0640`. */
export const mode: Kind<number> = kind(
  "mode",
  (text, where) => {
    const mode = /^0?[0-7]{3}$/.test(text) ? Number.parseInt(text, 8) : 0
    return (mode & 0o711) === 0o600
      ? Either.right(mode)
      : Either.left(`${where} is a mode like 0640: its owner reads and writes, nobody executes`)
  },
  { json: "number" }
)

const originOf = (text: string): string | undefined =>
  URL.canParse(text) && /^https?:/.test(text) ? new URL(text).origin : undefined

/** Origins of web pages, with commas between them, or `*`. */
export const origins: Kind<ReadonlyArray<string>> = kind(
  "origins",
  (text, where) => {
    const origins = text.split(",").map((origin) => origin.trim())
    return origins.every((origin) => origin === "*" || originOf(origin) === origin)
      ? Either.right(origins)
      : Either.left(`${where} is origins like https://app.example, with commas between them, or *`)
  },
  { json: "list" }
)

/** What nobody may read. */
export const secret = (placeholder: string): Kind<Redacted.Redacted> =>
  kind(
    placeholder,
    (text, where) =>
      text.trim() === ""
        ? Either.left(`${where} is empty; give it a value or leave it out`)
        // a header has none around its value
        : Either.right(Redacted.make(text.trim())),
    { form: "secret" }
  )

/** The text of a value from a JSON file; none where it has the wrong type. */
export const textOfJson = ({ json }: Kind<unknown>, value: unknown): Option.Option<string> => {
  if (typeof value === "string") return Option.some(value)
  if (json === "list" && Array.isArray(value)) {
    return value.every((item) => typeof item === "string") ? Option.some(value.join(",")) : Option.none()
  }
  return json !== "text" && typeof value === json ? Option.some(String(value)) : Option.none()
}
