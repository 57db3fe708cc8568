/**
 * Logs on stderr: one readable line a record, or one JSON object a line.
 *
 * @module
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"
import * as HashMap from "effect/HashMap"
import * as HashSet from "effect/HashSet"
import * as Inspectable from "effect/Inspectable"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as Redacted from "effect/Redacted"
import * as Text from "./text.ts"

export type Format = "human" | "json"

export type Level = "trace" | "debug" | "info" | "warning" | "error" | "fatal" | "none"

/** What a record says, taken apart. */
interface Said {
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
  /** What went wrong, with where. */
  readonly error: string | undefined
}

/** Anything as a text: an error with its stack, and what is redacted stays so. */
const textOf = (value: unknown): string =>
  typeof value === "string"
    ? value
    : value instanceof Error
    ? value.stack ?? String(value)
    : Redacted.isRedacted(value)
    ? String(value)
    : Cause.isCause(value)
    ? Cause.pretty(value, { renderErrorCause: true })
    : Inspectable.toStringUnknown(value, 0)

const take = ({ annotations, cause, message }: Logger.Logger.Options<unknown>): Said => {
  const [texts, errors] = Arr.partition(Arr.ensure(message), (part) => part instanceof Error || Cause.isCause(part))
  const all = Cause.isEmpty(cause) ? errors : [...errors, cause]
  return {
    message: texts.filter((part) => part !== undefined).map(textOf).join(" "),
    annotations: Object.fromEntries(HashMap.toEntries(annotations)),
    error: all.length === 0 ? undefined : all.map(textOf).join("\n")
  }
}

const oneLine = (text: string): string => Text.visible(text.replace(/\s*\n\s*/g, " "))

/** Quoted where it would not be seen where it ends. */
const shown = (value: unknown): string => {
  const text = oneLine(textOf(value))
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)
}

const human = (date: Date, level: LogLevel.LogLevel, { annotations, error, message }: Said): string =>
  [
    date.toISOString(),
    level.label.padEnd(5),
    ...(message === "" ? [] : [oneLine(message)]),
    ...Object.entries(annotations).map(([name, value]) => `${oneLine(name)}=${shown(value)}`),
    ...(error === undefined ? [] : [`error=${shown(error)}`])
  ].join(" ")

const plain = (value: unknown): unknown =>
  typeof value === "number" || typeof value === "boolean" || value === null ? value : textOf(value)

const json = (date: Date, level: LogLevel.LogLevel, { annotations, error, message }: Said): string => {
  const own = {
    timestamp: date.toISOString(),
    level: level.label,
    message,
    ...(error === undefined ? {} : { error })
  }
  // first for their place, last because no annotation may take it
  return Text.json({
    ...own,
    ...Object.fromEntries(Object.entries(annotations).map(([k, v]) => [k, plain(v)])),
    ...own
  })
}

const loggers: Readonly<Record<Format, Logger.Logger<unknown, void>>> = {
  human: Logger.withConsoleError(
    Logger.make<unknown, string>((options) => human(options.date, options.logLevel, take(options)))
  ),
  json: Logger.withConsoleError(
    Logger.make<unknown, string>((options) => json(options.date, options.logLevel, take(options)))
  )
}

const levels: Readonly<Record<Level, LogLevel.LogLevel>> = {
  trace: LogLevel.Trace,
  debug: LogLevel.Debug,
  info: LogLevel.Info,
  warning: LogLevel.Warning,
  error: LogLevel.Error,
  fatal: LogLevel.Fatal,
  none: LogLevel.None
}

const ours: ReadonlyArray<Logger.Logger<unknown, unknown>> = [Logger.defaultLogger, ...Object.values(loggers)]

/** Logs in a format, from a level on, in place of those before. */
export const layer = (format: Format, level: Level): Layer.Layer<never> =>
  Layer.scopedDiscard(Effect.all([
    Effect.locallyScopedWith(FiberRef.currentLoggers, (before) =>
      HashSet.add(HashSet.filter(before, (logger) => !ours.includes(logger)), loggers[format])),
    Effect.locallyScoped(FiberRef.currentMinimumLogLevel, levels[level])
  ]))

/** A line that the program tells whatever the log level is; among JSON records it is one, too. */
export const say = (format: Format, line: string, level: LogLevel.LogLevel = LogLevel.Info): Effect.Effect<void> =>
  format === "human"
    ? Console.error(Text.visible(line))
    : Effect.flatMap(
      Clock.currentTimeMillis,
      (now) => Console.error(json(new Date(now), level, { message: line, annotations: {}, error: undefined }))
    )
