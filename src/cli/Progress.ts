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

const size = (bytes: number): string => xbytes(bytes, { iec: true })

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

const bars = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() =>
      new CliProgress.SingleBar({
        format: "{bar} {percentage}% | {done} of {whole} | {path}{note}",
        hideCursor: true,
        clearOnComplete: true,
        stopOnComplete: false,
        stream: process.stderr
      }, CliProgress.Presets.shades_classic)
    ),
    (bar) => Effect.sync(() => bar.stop())
  ),
  (bar) => {
    const show = (path: string, bytes: number, acknowledged: number) => ({
      path,
      note: "",
      done: size(acknowledged),
      whole: size(bytes)
    })
    return UploadEvent.match({
      // a bar of nothing would divide by zero
      Started: ({ acknowledged, path, size: bytes }) =>
        Effect.sync(() => bar.start(Math.max(1, bytes), acknowledged, show(path, bytes, acknowledged))),
      Progress: ({ acknowledged, path, size: bytes }) =>
        Effect.sync(() => bar.update(Math.max(1, acknowledged), show(path, bytes, acknowledged))),
      Waiting: ({ delay, reason }) =>
        Effect.sync(() => bar.update({ note: ` | ${reason}; next try in ${seconds(delay)}` })),
      Notice: ({ message, path }) => Effect.andThen(Effect.sync(() => bar.stop()), tell(`${path}: ${message}`)),
      Finished: () => Effect.sync(() => bar.stop())
    })
  }
)

/** Shows one event after the other until the scope closes. */
export const make: Effect.Effect<(event: UploadEvent.UploadEvent) => Effect.Effect<void>, never, Scope.Scope> = Effect
  .suspend(() => process.stderr.isTTY ? bars : Effect.succeed(plain))
