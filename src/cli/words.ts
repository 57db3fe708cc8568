/**
 * What the parser would misread: it takes an option that it does not know, or that lacks its value, for an argument, and
 * an argument like `yes` for the value of a flag.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as CommandDescriptor from "@effect/cli/CommandDescriptor"
import type * as Usage from "@effect/cli/Usage"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import { closest } from "fastest-levenshtein"
import * as ExitCode from "./ExitCode.ts"

interface Known {
  readonly name: string
  readonly takesValue: boolean
  readonly values?: ReadonlyArray<string>
}

interface Given {
  readonly name: string
  readonly value: string | undefined
}

// not --wizard: it waits for ever where there is no terminal
const builtIn: ReadonlyArray<Known> = [
  { name: "--help", takesValue: false },
  { name: "-h", takesValue: false },
  { name: "--version", takesValue: false },
  { name: "--completions", takesValue: true, values: ["bash", "zsh", "fish", "sh"] },
  { name: "--log-level", takesValue: true, values: LogLevel.allLevels.map(({ _tag }) => _tag.toLowerCase()) }
]

/** The values of a choice, which is shown as `one | another`. */
const choicesIn = (shown: string) => shown.includes(" | ") ? { values: shown.split(" | ") } : {}

const options = (usage: Usage.Usage): ReadonlyArray<Known> => {
  switch (usage._tag) {
    case "Named":
      return usage.names.filter((name) => name.startsWith("-")).map((name) => ({
        name,
        takesValue: Option.isSome(usage.acceptedValues),
        ...choicesIn(Option.getOrElse(usage.acceptedValues, () => ""))
      }))
    case "Optional":
    case "Repeated":
      return options(usage.usage)
    case "Alternation":
    case "Concat":
      return [...options(usage.left), ...options(usage.right)]
    default:
      return []
  }
}

/** A command may say for itself what a built-in option takes. */
const withBuiltIn = (own: ReadonlyArray<Known>): ReadonlyArray<Known> => [
  ...builtIn.filter(({ name }) => !own.some((option) => option.name === name)),
  ...own
]

/** Options and arguments apart, wherever they stand. */
const split = (words: ReadonlyArray<string>, known: ReadonlyArray<Known>) => {
  const end = words.includes("--") ? words.indexOf("--") : words.length
  const args: Array<string> = []
  const given: Array<Given> = []
  const takesValue = (name: string) => known.some((option) => option.name === name && option.takesValue)
  for (let at = 0; at < end; at++) {
    const word = words[at]!
    if (!word.startsWith("-") || word === "-") {
      args.push(word)
      continue
    }
    const equals = word.indexOf("=")
    if (equals >= 0) {
      given.push({ name: word.slice(0, equals), value: word.slice(equals + 1) })
      continue
    }
    const next = at + 1 < end ? words[at + 1] : undefined
    const value = takesValue(word) && !known.some(({ name }) => name === next) ? next : undefined
    given.push({ name: word, value })
    if (value !== undefined) at++
  }
  return { given, args: [...args, ...words.slice(end + 1)] }
}

const problem = (
  { name, value }: Given,
  known: ReadonlyArray<Known>,
  given: ReadonlyArray<Given>
): string | undefined => {
  const option = known.find((option) => option.name === name)
  if (option === undefined) {
    const nearest = closest(name, known.map(({ name }) => name))
    return `Unknown option ${name}. Did you mean ${nearest}? (An argument that begins with - goes behind --)`
  }
  if (given.filter((other) => other.name === name).length > 1) return `${name} is given more than once`
  if (!option.takesValue) return value === undefined ? undefined : `${name} takes no value`
  if (value === undefined) return `${name} needs a value, like ${name}=${option.values?.[0] ?? "…"}`
  return option.values?.includes(value) === false ? `${name} is one of ${option.values.join(", ")}` : undefined
}

/** The value of an option in words that {@link read} has taken. */
export const valueOf = (words: ReadonlyArray<string>, option: string): Option.Option<string> => {
  const at = words.findIndex((word) => word === option || word.startsWith(`${option}=`))
  const end = words.indexOf("--")
  return at < 0 || end >= 0 && end < at
    ? Option.none()
    : Option.fromNullable(words[at] === option ? words[at + 1] : words[at]!.slice(option.length + 1))
}

type AnyCommand = Command.Command<string, unknown, unknown, unknown>

/**
 * The words after the program's name in the order in which the parser understands them: command, options, `--`,
 * arguments. An option that the command does not know is a usage error that names the nearest one. `help add` is
 * `add --help`, and no words at all are `--help` where a command has to be chosen.
 */
export const read = (
  command: AnyCommand,
  words: ReadonlyArray<string>
): Effect.Effect<ReadonlyArray<string>, ExitCode.Exit> =>
  Effect.suspend(() => {
    const refuse = (line: string) => Effect.fail(new ExitCode.Exit({ code: ExitCode.usage, line }))
    const usages = new Map(HashMap.map(Command.getSubcommands(command), CommandDescriptor.getUsage))
    // a command without subcommands is said to be its own
    const [own] = [...Command.getNames(command)]
    const isAlone = usages.has(own!)
    const all = withBuiltIn([...usages.values()].flatMap(options))

    const { args, given } = split(words, all)
    const asksHelp = args[0] === "help" || (words.length === 0 && !isAlone) ||
      given.some(({ name }) => /^(--help|-h)$/.test(name))
    const [name, ...rest] = isAlone ? [own!, ...args] : args[0] === "help" ? args.slice(1) : args
    const usage = usages.get(name ?? "")
    if (name !== undefined && usage === undefined) {
      // the Node.js program has the server as a command
      if (name === "server") {
        return refuse("Unknown command server. The server is a program of its own: indexcp-server --help")
      }
      return refuse(`Unknown command ${name}. Did you mean ${closest(name, [...usages.keys()])}?`)
    }
    const known = usage === undefined ? all : withBuiltIn(options(usage))
    for (const option of given) {
      const line = problem(option, known, given)
      if (line !== undefined) return refuse(line)
    }
    const valueOf = (option: string) => given.find(({ name }) => name === option)
    // twice around the command: so the parser's help shows its full name
    const prefix = isAlone || name === undefined ? [] : [name]
    if (asksHelp) return Effect.succeed(prefix.length === 0 ? ["--help"] : ["--help", ...prefix, "--help"])
    if (valueOf("--version") !== undefined) return Effect.succeed(["--version"])
    const completions = valueOf("--completions")?.value
    if (completions !== undefined) return Effect.succeed(["--completions", completions])
    if (name === undefined) return refuse(`A command is missing: one of ${[...usages.keys()].join(", ")}`)
    return Effect.succeed([
      ...prefix,
      ...given.flatMap(({ name, value }) => value === undefined ? [name] : [name, value]),
      "--",
      ...rest
    ])
  })
