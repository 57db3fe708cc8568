/**
 * What a person sees of an upload while it works: a bar on a terminal, sparse plain lines elsewhere. All on stderr.
 *
 * @module
 */
import * as CliProgress from "cli-progress"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import xbytes from "xbytes"
import * as UploadEvent from "../client/UploadEvent.ts"
import { tell } from "./main.ts"

const size = (bytes: number): string => bytes < 1024 ? `${bytes} B` : xbytes(bytes, { iec: true })

const seconds = (millis: number): string => `${Math.max(1, Math.round(millis / 1000))} s`

const nothing = () => Effect.void

/** Lines for a pipe or a file: when a file begins, when something is to be waited for, what went wrong. */
const plain = UploadEvent.match({
  Started: ({ acknowledged, path, size: bytes }) =>
    tell(`${path}: sending ${size(bytes)}${acknowledged > 0 ? `, ${size(acknowledged)} of them sent before` : ""}`),
  Progress: nothing,
  Waiting: ({ delay, path, reason }) => tell(`${path}: ${reason}; next try in ${seconds(delay)}`),
  Notice: ({ message, path }) => tell(`${path}: ${message}`),
  Finished: nothing
})

/** A bar, and above it a line for what should stay to be read. Narrow, so that 80 columns hold a path too. */
const bars = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() =>
      new CliProgress.SingleBar({
        format: "{bar} {percentage}% | {done} of {whole}{note} | {path}",
        barsize: 20,
        hideCursor: true,
        clearOnComplete: true,
        stopOnComplete: false,
        stream: process.stderr
      }, CliProgress.Presets.shades_classic)
    ),
    (bar) => Effect.sync(() => bar.stop())
  ),
  (bar) => {
    let shown = { path: "", size: 0, acknowledged: 0 }
    let reason = ""
    const payload = (note = "") => ({
      path: shown.path,
      note,
      done: size(shown.acknowledged),
      whole: size(shown.size)
    })
    // a bar of nothing would divide by zero
    const start = () => bar.start(Math.max(1, shown.size), shown.acknowledged, payload())
    const above = (line: string) =>
      Effect.sync(() => bar.stop()).pipe(Effect.andThen(tell(`${shown.path}: ${line}`)), Effect.andThen(start))
    return UploadEvent.match({
      Started: (event) =>
        Effect.sync(() => {
          shown = event
          reason = ""
          start()
        }),
      Progress: (event) =>
        Effect.sync(() => {
          shown = event
          reason = ""
          bar.update(event.acknowledged, payload())
        }),
      Waiting: (event) =>
        Effect.gen(function*() {
          if (event.reason !== reason) yield* above(event.reason)
          reason = event.reason
          bar.update(shown.acknowledged, payload(` | next try in ${seconds(event.delay)}`))
        }),
      Notice: ({ message }) => above(message),
      Finished: () => Effect.sync(() => bar.stop())
    })
  }
)

/** Shows one event after the other until the scope closes. */
export const make: Effect.Effect<(event: UploadEvent.UploadEvent) => Effect.Effect<void>, never, Scope.Scope> = Effect
  .suspend(() => process.stderr.isTTY ? bars : Effect.succeed(plain))
