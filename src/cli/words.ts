/**
 * What the parser would let pass: it takes an option it does not know for an argument.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as CommandDescriptor from "@effect/cli/CommandDescriptor"
import type * as Usage from "@effect/cli/Usage"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Option from "effect/Option"
import { closest } from "fastest-levenshtein"
import * as ExitCode from "./ExitCode.ts"

interface Known {
  readonly name: string
  readonly takesValue: boolean
}

const builtIn: ReadonlyArray<Known> = [
  ...["--help", "-h", "--version", "--wizard"].map((name) => ({ name, takesValue: false })),
  ...["--completions", "--log-level"].map((name) => ({ name, takesValue: true }))
]

const options = (usage: Usage.Usage): ReadonlyArray<Known> => {
  switch (usage._tag) {
    case "Named":
      return usage.names.filter((name) => name.startsWith("-")).map((name) => ({
        name,
        takesValue: Option.isSome(usage.acceptedValues)
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

type AnyCommand = Command.Command<string, unknown, unknown, unknown>

/**
 * Checks the words after the program's name: one that begins with `-`, stands before `--` and is neither `-` alone nor an
 * option of the command is a usage error that names the nearest option.
 */
export const check = (command: AnyCommand, words: ReadonlyArray<string>): Effect.Effect<void, ExitCode.Exit> =>
  Effect.suspend(() => {
    const subcommands = Command.getSubcommands(command)
    const [first = ""] = words
    const usage = Option.match(HashMap.get(subcommands, first), {
      onNone: () => Command.getUsage(command),
      onSome: CommandDescriptor.getUsage
    })
    if (HashMap.size(subcommands) > 0 && first !== "" && !first.startsWith("-") && !HashMap.has(subcommands, first)) {
      const nearest = closest(first, [...HashMap.keys(subcommands)])
      return Effect.fail(
        new ExitCode.Exit({ code: ExitCode.usage, line: `Unknown command ${first}. Did you mean ${nearest}?` })
      )
    }
    const known = [...builtIn, ...options(usage)]
    for (let at = 0; at < words.length && words[at] !== "--"; at++) {
      const word = words[at]!
      if (!word.startsWith("-") || word === "-") continue
      const [name = word] = word.split("=", 1)
      const option = known.find((option) => option.name === name)
      if (option === undefined) {
        const nearest = closest(name, known.map((option) => option.name))
        return Effect.fail(
          new ExitCode.Exit({
            code: ExitCode.usage,
            line: `Unknown option ${name}. Did you mean ${nearest}? (A file of that name goes behind --)`
          })
        )
      }
      if (option.takesValue && name === word) at++
    }
    return Effect.void
  })

/** `help` as a command of its own: `help add` is `add --help`. */
export const withHelp = (words: ReadonlyArray<string>): ReadonlyArray<string> =>
  words[0] === "help" ? [...words.slice(1, 2), "--help"] : words.length === 0 ? ["--help"] : words
