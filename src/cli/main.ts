/**
 * How both programs run: words checked, one readable line for a failure, exit codes.
 *
 * @module
 */
import type * as CliApp from "@effect/cli/CliApp"
import * as CliConfig from "@effect/cli/CliConfig"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as ValidationError from "@effect/cli/ValidationError"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { readFileSync } from "node:fs"
import { stripVTControlCharacters } from "node:util"
import * as ExitCode from "./ExitCode.ts"
import * as Logs from "./logs.ts"
import * as Text from "./text.ts"
import * as Words from "./words.ts"

/** From package.json, the same distance away in `src/cli`, `dist/cli` and `dist/bin`. */
const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  readonly version: string
}

/** A line on stderr. Names in it may have any characters. */
export const tell = (line: string): Effect.Effect<void> => Console.error(Text.visible(line))

/** A line on stdout: a result. Names in it may have any characters. */
export const print = (line: string): Effect.Effect<void> => Console.log(Text.visible(line))

/** A value on stdout, as a line of JSON that no terminal takes for a command. */
export const printJson = (value: unknown): Effect.Effect<void> => Console.log(Text.json(value))

/** A failure as a line. */
export const lineOf = (error: unknown): string =>
  (error instanceof Error && error.message !== "" ? error.message : String(error)).replace(/\s*\n\s*/g, " ")

const unexpected = (error: unknown): string => `Unexpected failure: ${lineOf(error)}`

/** The exit code of a failure, after its line was told. */
const report = (cause: Cause.Cause<unknown>): Effect.Effect<number> => {
  const failure = Cause.failureOption(cause)
  if (Option.isNone(failure)) {
    return Cause.isInterruptedOnly(cause)
      ? Effect.interrupt
      : Effect.as(
        Effect.andThen(Effect.logDebug(cause), tell(unexpected(Cause.squash(cause)))),
        ExitCode.unexpected
      )
  }
  const error = failure.value
  if (error instanceof ExitCode.Exit) {
    return Effect.as(error.line === undefined ? Effect.void : tell(error.line), error.code)
  }
  // the parser has told its errors already
  if (ValidationError.isValidationError(error)) return Effect.succeed(ExitCode.usage)
  return Effect.as(tell(lineOf(error)), ExitCode.ofError(error))
}

/** What the parser says of every value of a kind; the descriptions say more. */
const noise =
  /^ *(A user-defined piece of text.*|A true or false value\.|One of the following: .*|This setting is optional\.|This option can be set from environment variables\.|This argument may be repeated zero or more times\.)\n\n/gm

/** The options of a command, in a list of commands. */
const optionsOfCommand = /( \[\(?-[^\]]*\])+/

/**
 * The parser's own texts, known by the empty line at their end: without it, in plain letters where no colours are, each
 * command of a list in short and on a line of its own, and the last of several arguments once.
 */
const tidy = (text: unknown, hasColours: boolean, arrange: (help: string) => string): unknown => {
  if (typeof text !== "string" || !text.endsWith("\n")) return text
  const tidied = `${text.trimEnd()}\n\n`.replace(noise, "").trimEnd().replaceAll("<url>...", "<url>").replace(
    /^( +- .*?\S) {2,}(.*)\n/gm,
    (_, command: string, about: string) => `${command.replace(optionsOfCommand, " [options]")}\n      ${about}\n`
  )
  const arranged = arrange(tidied)
  return hasColours ? arranged : stripVTControlCharacters(arranged)
}

const withTidyTexts = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  arrange: (help: string) => string
): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Effect.option(Config.nonEmptyString("NO_COLOR")),
    (noColour) =>
      Console.consoleWith((console) =>
        Effect.withConsole(effect, {
          ...console,
          log: (text) => console.log(tidy(text, process.stdout.isTTY === true && Option.isNone(noColour), arrange)),
          error: (text) => console.error(tidy(text, process.stderr.isTTY === true && Option.isNone(noColour), arrange))
        })
      )
  )

export interface About {
  readonly name: string
  readonly description: string
  readonly footer: HelpDoc.HelpDoc
  /** Makes a long help readable. */
  readonly arrange?: (help: string) => string
  /** Whether an interrupted one says so, which is the default. */
  readonly tellsInterrupt?: boolean
}

/** Runs a command with the words behind the program's name, to its exit code. */
export const run = <Name extends string, E, A>(
  command: Command.Command<Name, CliApp.CliApp.Environment, E, A>,
  about: About,
  words: ReadonlyArray<string>
): Effect.Effect<number, never, CliApp.CliApp.Environment> => {
  const parse = Command.run(command, {
    name: about.name,
    version,
    summary: HelpDoc.getSpan(HelpDoc.p(about.description)),
    footer: about.footer
  })
  return Words.read(command as never, words).pipe(
    Effect.flatMap((asked) => withTidyTexts(parse(["node", about.name, ...asked]), about.arrange ?? identity)),
    Effect.as(ExitCode.success),
    Effect.catchAllCause(report),
    Effect.onInterrupt(() => about.tellsInterrupt === false ? Effect.void : tell("Interrupted")),
    Effect.provide(CliConfig.layer({ showBuiltIns: false }))
  )
}

const environment = Layer.mergeAll(NodeContext.layer, Logs.layer("human", "info"))

/** Runs a program on this process: its words, its signals and the codes they end it with, its exit code. */
export const start = (
  program: (words: ReadonlyArray<string>) => Effect.Effect<number, never, CliApp.CliApp.Environment>,
  codesOf: (words: ReadonlyArray<string>) => ExitCode.BySignal = () => ExitCode.interrupted
): void => {
  const words = process.argv.slice(2)
  let signal: keyof typeof ExitCode.interrupted = "SIGINT"
  process.once("SIGTERM", () => {
    signal = "SIGTERM"
  })
  // whoever read the output went away (`| head`): the work is done all the same
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {})
  process.once("uncaughtException", (error) => {
    process.stderr.write(`${unexpected(error)}\n`)
    process.exit(ExitCode.unexpected)
  })
  NodeRuntime.runMain(Effect.provide(program(words), environment), {
    disableErrorReporting: true,
    disablePrettyLogger: true,
    teardown: (exit, onExit) =>
      onExit(
        Exit.isSuccess(exit)
          ? exit.value as number
          : Cause.isInterruptedOnly(exit.cause)
          ? codesOf(words)[signal]
          : ExitCode.unexpected
      )
  })
}
