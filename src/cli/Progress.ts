/**
 * What a person sees of an upload while it works, on stderr: lines that change on a terminal, sparse plain ones elsewhere.
 *
 * @module
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type { UploadEvent } from "../client/UploadEvent.ts"
import * as Bars from "./Bars.ts"
import { tell } from "./main.ts"
import * as Screen from "./Screen.ts"
import * as Tally from "./Tally.ts"
import * as Text from "./text.ts"

export interface Progress {
  /** Shows an event; results and errors are for somebody else to tell. */
  readonly on: (event: UploadEvent) => Effect.Effect<void>
  /** A person is watching lines that change. */
  readonly isLive: boolean
  /** Lets what an effect prints appear above what changes. */
  readonly around: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

export interface Options {
  /** Nothing of it is shown: the events go elsewhere. */
  readonly silent: boolean
  readonly start: Tally.Start
  /** The upload never ends. */
  readonly endless?: boolean
  /** Default: stderr if that is a terminal. */
  readonly terminal?: Screen.Terminal
}

const silent: Progress = { isLive: false, on: () => Effect.void, around: (effect) => effect }

/** Between two lines of a pipe that say no more than how far it is. Milliseconds. */
const sparse = 10_000

const standing = ({ acknowledged, left, rate, size }: Tally.Standing): string =>
  `${Text.percent(acknowledged, size)}% (${Text.sizeOf(acknowledged, size)})` +
  (rate > 0 ? `, ${Text.rate(rate)}` : "") +
  (left === undefined ? "" : `, ${Text.clock(left)} left`)

/** Lines for a pipe or a file: begin, waiting when the reason is another one, and now and then how far it is. */
const plain = (tally: Tally.Tally, begun: number): Progress => {
  const reasons = new Map<number, string>()
  let last = begun
  const howFar = (now: number) => {
    const rows = tally.rows(now)
    const total = tally.total(now)
    if (rows.length === 1 && total.files < 2) return `${rows[0]!.path}: ${standing(rows[0]!)}`
    const files = `${total.ended} of ${Text.count(total.files, "file")}`
    return total.grows
      ? `${files} so far, ${Text.size(total.acknowledged)} sent` + (total.rate > 0 ? `, ${Text.rate(total.rate)}` : "")
      : `${files}, ${standing(total)}`
  }
  return {
    ...silent,
    on: (event) =>
      Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        tally.on(event, now)
        if (event._tag === "Started") {
          const { acknowledged, path, size } = event
          const before = acknowledged > 0 ? `, ${Text.size(acknowledged)} of them sent before` : ""
          yield* tell(`${path}: sending ${Text.size(size)}${before}`)
        } else if (event._tag === "Waiting" && reasons.get(event.file) !== event.reason) {
          reasons.set(event.file, event.reason)
          yield* tell(`${event.path}: ${event.reason}; next try in ${Text.span(event.delay)}`)
        } else if (event._tag === "Progress") {
          reasons.delete(event.file)
          if (now - last < sparse) return
          last = now
          yield* tell(howFar(now))
        } else if (event._tag === "Finished") {
          reasons.delete(event.file)
        }
      })
  }
}

/** A console whose words appear above the lines that change, which are drawn anew below them. */
const aboveOf = (screen: Screen.Screen, draw: Effect.Effect<void>) => (console: Console.Console): Console.Console => {
  const above = (write: Effect.Effect<void>) => Effect.ensuring(Effect.zipRight(Effect.sync(screen.clear), write), draw)
  const aboveNow = (write: () => void) => {
    const again = screen.hide()
    write()
    again()
  }
  return {
    ...console,
    log: (...words) => above(console.log(...words)),
    error: (...words) => above(console.error(...words)),
    unsafe: {
      ...console.unsafe,
      log: (...words) => aboveNow(() => console.unsafe.log(...words)),
      error: (...words) => aboveNow(() => console.unsafe.error(...words))
    }
  }
}

const interactive = (tally: Tally.Tally, terminal: Screen.Terminal, endless: boolean) =>
  Effect.gen(function*() {
    const noColour = yield* Effect.option(Config.nonEmptyString("NO_COLOR"))
    const screen = Screen.make(terminal)
    const draw = Effect.map(Clock.currentTimeMillis, (now) =>
      screen.draw(Bars.lines(tally, now, {
        columns: terminal.columns || 80,
        rows: terminal.rows || 24,
        colour: Option.isNone(noColour),
        endless
      })))
    yield* Effect.addFinalizer(() => Effect.sync(screen.clear))
    yield* Effect.forkScoped(Effect.repeat(draw, Schedule.spaced("200 millis")))
    let reason = ""
    const around: Progress["around"] = (effect) =>
      Console.consoleWith((console) => Effect.withConsole(effect, aboveOf(screen, draw)(console)))
    return {
      isLive: true,
      around,
      on: (event: UploadEvent) =>
        Effect.gen(function*() {
          tally.on(event, yield* Clock.currentTimeMillis)
          if (event._tag === "Progress") reason = ""
          if (event._tag !== "Waiting" || event.reason === reason) return
          // whole, because the line that changes has no room for it
          reason = event.reason
          yield* tell(`${event.path}: ${event.reason}`)
        })
    }
  })

/** Shows events until the scope closes. */
export const make = (options: Options): Effect.Effect<Progress, never, Scope.Scope> =>
  Effect.gen(function*() {
    if (options.silent) return silent
    const begun = yield* Clock.currentTimeMillis
    const endless = options.endless ?? false
    const tally = Tally.make(options.start, begun, endless)
    const dumb = Option.contains(yield* Effect.option(Config.string("TERM")), "dumb")
    const terminal = options.terminal ?? (process.stderr.isTTY && !dumb ? process.stderr : undefined)
    return terminal === undefined ? plain(tally, begun) : yield* interactive(tally, terminal, endless)
  })
