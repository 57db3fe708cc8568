/**
 * An upload as a command shows it: progress, results, and the exit code that they call for.
 *
 * @module
 */
import * as Options from "@effect/cli/Options"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { UploadEvent } from "../client/UploadEvent.ts"
import * as ExitCode from "./ExitCode.ts"
import * as Json from "./json.ts"
import { lineOf, print, printJson, tell } from "./main.ts"
import * as Progress from "./Progress.ts"
import type * as Tally from "./Tally.ts"
import * as Text from "./text.ts"

export const options = {
  json: Options.boolean("json").pipe(
    Options.withDescription("Print one JSON object an event on stdout, a summary last")
  ),
  quiet: Options.boolean("quiet").pipe(
    Options.withAlias("q"),
    Options.withDescription("Print nothing but errors; with --json only the summary")
  )
}

export interface Asked {
  readonly json: boolean
  readonly quiet: boolean
  readonly start: Tally.Start
  /** It goes on until somebody stops it. */
  readonly endless?: boolean
}

/** What a person is told of an event besides progress. */
const told = (event: UploadEvent, { json, quiet }: Asked): Effect.Effect<void> => {
  const toPeople = json || quiet ? () => Effect.void : tell
  switch (event._tag) {
    case "Notice":
      return toPeople(`${event.path}: ${event.message}`)
    case "Warning":
      return toPeople(`Warning: ${event.message}`)
    case "Skipped":
      return tell(event.message)
    case "Finished": {
      if (Option.isSome(event.error)) return tell(`${event.path}: ${event.error.value}`)
      return json || quiet ? Effect.void : print(`${event.path} -> ${Option.getOrElse(event.serverName, () => "?")}`)
    }
    default:
      return Effect.void
  }
}

/** What has come of it so far. */
const gather = ({ endless, json }: Asked) => {
  const counts = { ...Json.noCounts }
  // without an end there is no end of them either
  const files: Array<object> | undefined = json && endless !== true ? [] : undefined
  let bytes = 0
  return {
    add: (event: UploadEvent) => {
      if (event._tag === "Skipped") counts.skipped++
      if (event._tag === "Finished") {
        counts[event.state]++
        if (event.state === "delivered") bytes += event.size
      }
      const ended = files === undefined ? undefined : Json.ended(event)
      if (ended !== undefined) files?.push(ended)
    },
    ended: () => Object.values(counts).reduce((sum, count) => sum + count),
    states: () => (Object.keys(counts) as Array<ExitCode.EndState>).filter((state) => counts[state] > 0),
    summary: (error: string | undefined) => Json.summary(files, counts, error),
    sentence: (millis: number) =>
      `${Text.count(counts.delivered, "file")} sent, ${Text.size(bytes)} in ${Text.span(millis)}`
  }
}

/**
 * Shows events until they end, beside an effect that may print. Returns how many files (and sources) ended; fails with the
 * exit code when not all of them ended well.
 */
export const show = <E, R, E2 = never, R2 = never>(
  events: Stream.Stream<UploadEvent, E, R>,
  asked: Asked,
  beside: Effect.Effect<never, E2, R2> = Effect.never
): Effect.Effect<number, ExitCode.Exit, R | R2> =>
  Effect.scoped(Effect.gen(function*() {
    const gathered = gather(asked)
    const begun = yield* Clock.currentTimeMillis
    const progress = yield* Progress.make({
      start: asked.start,
      silent: asked.json || asked.quiet,
      endless: asked.endless ?? false
    })
    const one = (event: UploadEvent) =>
      Effect.gen(function*() {
        gathered.add(event)
        if (asked.json && !asked.quiet) yield* printJson(Json.event(event))
        yield* progress.on(event)
        yield* told(event, asked)
      })
    const last = (error?: string) => asked.json ? printJson(gathered.summary(error)) : Effect.void
    const endOf = (error: unknown): ExitCode.Exit =>
      error instanceof ExitCode.Exit
        ? error
        : new ExitCode.Exit({ code: ExitCode.ofError(error, gathered.states()), line: lineOf(error) })
    yield* Effect.raceFirst(Stream.runForEach(events, one), beside).pipe(
      progress.around,
      Effect.mapError(endOf),
      Effect.tapError(({ line }) => last(line)),
      Effect.onInterrupt(() => last("Interrupted"))
    )
    yield* last()
    if (progress.isLive && gathered.ended() > 1) {
      yield* tell(gathered.sentence((yield* Clock.currentTimeMillis) - begun)).pipe(progress.around)
    }
    const code = ExitCode.of(gathered.states())
    return code === ExitCode.success ? gathered.ended() : yield* new ExitCode.Exit({ code })
  }))
