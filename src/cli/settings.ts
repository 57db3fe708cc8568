/**
 * Settings from four places: the command line, the environment, a JSON file, the defaults, in this order. One table says
 * what there is: `fooBar` in the file is `--foo-bar` and `INDEXCP_FOO_BAR`.
 *
 * @module
 */
import * as Options from "@effect/cli/Options"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { closest } from "fastest-levenshtein"
import { readFileSync } from "node:fs"
import * as ExitCode from "./ExitCode.ts"
import { type Kind, textOfJson } from "./settingKinds.ts"

/** One setting. Without a default it may be absent. */
export interface Setting<out A> {
  readonly kind: Kind<A>
  readonly about: string
  readonly standard: string | undefined
}

/** Settings by their names in the file. */
export type Table = Readonly<Record<string, Setting<unknown>>>

export type Values<T extends Table> = { readonly [Name in keyof T]: T[Name] extends Setting<infer A> ? A : never }

export type Source = "flag" | "environment" | "file" | "default"

export interface Resolved<T extends Table> {
  readonly values: Values<T>
  /** Where each of them comes from. */
  readonly from: Readonly<Record<keyof T, Source>>
}

/** The words of the command line by the names of the settings. */
export type Given = Readonly<Record<string, Option.Option<string>>>

/** A setting with a default, written as the command line would have it. */
export const setting = <A>(kind: Kind<A>, standard: string, about: string): Setting<A> => ({ kind, standard, about })

/** A setting that may be absent. */
export const optional = <A>(kind: Kind<A>, about: string): Setting<A | undefined> => ({
  kind,
  standard: undefined,
  about
})

/** `foo-bar` for `fooBar`. */
const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)

/** `--foo-bar` for `fooBar`. */
export const flagOf = (name: string): string => `--${kebab(name)}`

/** `INDEXCP_FOO_BAR` for `fooBar`. */
export const variableOf = (name: string): string => `INDEXCP_${kebab(name).replaceAll("-", "_").toUpperCase()}`

const optionOf = (
  name: string,
  { about, kind, standard }: Setting<unknown>
): Options.Options<Option.Option<string>> => {
  const option = kebab(name)
  const described = standard === undefined || standard === "" || kind.form === "flag"
    ? about
    : `${about}. Default: ${standard}`
  switch (kind.form) {
    case "flag":
      return Options.all([
        Options.boolean(option).pipe(Options.withDescription(described)),
        Options.boolean(`no-${option}`).pipe(Options.withDescription(`Not --${option}, whatever else says so`))
      ]).pipe(
        Options.filterMap(
          ([on, off]) =>
            on && off
              ? Option.none()
              : Option.some(on ? Option.some("true") : Option.liftPredicate(off, Boolean).pipe(Option.as("false"))),
          `--${option} and --no-${option} exclude each other`
        )
      )
    case "choice":
      return Options.choice(option, kind.choices).pipe(Options.withDescription(described), Options.optional)
    case "secret":
      return Options.redacted(option).pipe(
        Options.withPseudoName(kind.placeholder),
        Options.withDescription(`${described}. Better: ${variableOf(name)}, others on this machine can read an option`),
        Options.map(Redacted.value),
        Options.optional,
        // as an empty variable: a script may pass on what it does not have
        Options.map(Option.filter((text) => text !== ""))
      )
    case "text":
      return Options.text(option).pipe(
        Options.withPseudoName(kind.placeholder),
        Options.withDescription(described),
        Options.optional
      )
  }
}

/** The options of all settings, each of which may be absent. */
export const options = (table: Table): Record<string, Options.Options<Option.Option<string>>> =>
  Object.fromEntries(Object.entries(table).map(([name, setting]) => [name, optionOf(name, setting)]))

/** The file with settings. */
export const file = Options.text("config").pipe(
  Options.withPseudoName("file"),
  Options.withDescription("A JSON file with settings, like {\"port\": 8080}. Default: none"),
  Options.optional
)

const usage = (line: string) => new ExitCode.Exit({ code: ExitCode.usage, line })

/** A variable of the environment; an empty one is none. */
export const variable = (name: string): Effect.Effect<Option.Option<string>> =>
  Effect.map(Effect.option(Config.string(name)), Option.filter((text) => text !== ""))

/** The parser's own words may show what stands in the file, a key too. */
const lineIn = (text: string, cause: unknown): string => {
  const position = /position (\d+)/.exec(String(cause))?.[1]
  return position === undefined ? "" : `, see line ${text.slice(0, Number(position)).split("\n").length}`
}

const parse = (path: string): Effect.Effect<object, ExitCode.Exit> =>
  Effect.gen(function*() {
    const text = yield* Effect.try({
      try: () => readFileSync(path, "utf8").replace(/^\uFEFF/, ""),
      catch: (cause) => usage(`The settings in ${path} cannot be read: ${(cause as { readonly code?: string }).code}`)
    })
    const parsed: unknown = yield* Effect.try({
      try: () => JSON.parse(text),
      catch: (cause) => usage(`The settings in ${path} are not JSON${lineIn(text, cause)}`)
    })
    return typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)
      ? parsed
      : yield* usage(`The settings in ${path} are not a JSON object, like {"port": 8080}`)
  })

const wanted: Readonly<Record<Kind<unknown>["json"], string>> = {
  text: "a text in quotes",
  number: "a number or a text",
  boolean: "true or false",
  list: "a list of texts, or one text"
}

/** A line for each secret that stands on the command line. */
export const shownSecrets = <T extends Table>(table: T, { from }: Resolved<T>): ReadonlyArray<string> =>
  Object.keys(table).filter((name) => table[name]?.kind.form === "secret" && from[name] === "flag").map((name) =>
    `Warning: a key on the command line can be read by others on this machine; set ${variableOf(name)} instead`
  )

/** Every key of a file is checked, also those that the command line or the environment overrule. */
const readFile = (table: Table, path: string): Effect.Effect<Map<string, string>, ExitCode.Exit> =>
  Effect.gen(function*() {
    const texts = new Map<string, string>()
    for (const [name, value] of Object.entries(yield* parse(path))) {
      const setting = Object.hasOwn(table, name) ? table[name] : undefined
      if (setting === undefined) {
        return yield* usage(`Unknown key ${name} in ${path}. Did you mean ${closest(name, Object.keys(table))}?`)
      }
      const text = textOfJson(setting.kind, value)
      if (Option.isNone(text)) return yield* usage(`${name} in ${path} is ${wanted[setting.kind.json]}`)
      yield* Either.mapLeft(setting.kind.read(text.value, `${name} in ${path}`), usage)
      texts.set(name, text.value)
    }
    return texts
  })

/** The settings: from the command line, else from the environment, else from the file, else the defaults. */
export const resolve = <T extends Table>(
  table: T,
  given: Given,
  config: Option.Option<string>
): Effect.Effect<Resolved<T>, ExitCode.Exit> =>
  Effect.gen(function*() {
    const path = Option.isSome(config) ? config : yield* variable(variableOf("config"))
    const inFile = Option.isSome(path) ? yield* readFile(table, path.value) : new Map<string, string>()
    const values: Record<string, unknown> = {}
    const from: Record<string, Source> = {}
    for (const [name, { kind, standard }] of Object.entries<Setting<unknown>>(table)) {
      const places: ReadonlyArray<readonly [Source, Option.Option<string>, where: string]> = [
        ["flag", given[name] ?? Option.none(), flagOf(name)],
        ["environment", yield* variable(variableOf(name)), variableOf(name)],
        ["file", Option.fromNullable(inFile.get(name)), name],
        ["default", Option.fromNullable(standard), name]
      ]
      const place = places.find(([, text]) => Option.isSome(text))
      from[name] = place?.[0] ?? "default"
      values[name] = place === undefined || Option.isNone(place[1])
        ? undefined
        : yield* Either.mapLeft(kind.read(place[1].value, place[2]), usage)
    }
    // each was read by the kind that its type comes from
    return { values: values as Values<T>, from: from as Record<keyof T, Source> }
  })
