/**
 * `indexcp watch`.
 *
 * @module
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as Source from "../client/Source.ts"
import * as Uploader from "../client/Uploader.ts"
import * as Client from "./Client.ts"
import { tell } from "./main.ts"
import * as Shared from "./options.ts"
import * as Plan from "./Plan.ts"
import { resendUnconfirmed, url } from "./send.ts"
import { options as showing, show } from "./show.ts"
import * as Values from "./values.ts"

/** Between two looks whether there is room in the buffer. */
const roomPause = "1 second"

/** After which a file that could not be read is tried again. */
const readPause = "30 seconds"

/** Puts files into the buffer as they arrive, for ever. */
const take = (folder: string, to: string, settle: Duration.DurationInput) =>
  Effect.scoped(Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader

    const add = (source: Source.Source) => {
      let isFirst = true
      return uploader.add(source, { to }).pipe(
        Effect.tapErrorTag("BufferFull", ({ message }) =>
          Effect.suspend(() => {
            if (!isFirst) return Effect.void
            isFirst = false
            return tell(`${source.path} waits for room: ${message}`)
          })),
        Effect.retry({
          while: ({ _tag }) => _tag === "BufferFull",
          schedule: Schedule.spaced(roomPause)
        })
      )
    }

    /** Whether a source is in the buffer now, or has gone. One that cannot be read is told once, and tried again. */
    const one = (source: Source.Source) =>
      Effect.gen(function*() {
        if (yield* uploader.has(source)) return
        const { replaced } = yield* add(source)
        if (Option.isSome(replaced)) yield* tell(`${source.path} was in the buffer already; it is replaced`)
      })

    const later = (source: Source.Source) =>
      Effect.retry(one(source), {
        while: ({ _tag, message }) => _tag === "SourceError" && !message.startsWith("File not found"),
        schedule: Schedule.spaced(readPause)
      }).pipe(Effect.delay(readPause), Effect.catchTag("SourceError", () => Effect.void))

    yield* Stream.runForEach(Source.arriving(folder, { settle }), (source) =>
      Effect.catchTag(
        one(source),
        "SourceError",
        ({ message }) => Effect.zipRight(tell(message), Effect.forkScoped(later(source)))
      ))
    return yield* Effect.never
  }))

/** The `watch` command. */
export const watch = Command.make("watch", {
  ...Client.buffer,
  ...Client.adding,
  ...Client.sending,
  ...showing,
  resendUnconfirmed,
  settle: Shared.value("settle", "time", Values.Span).pipe(
    Options.withDescription("A file is sent once it has not changed for so long. Default: 2s"),
    Options.withDefault(Duration.decode(Source.defaultSettle))
  ),
  folder: Args.text({ name: "folder" }).pipe(Args.withDescription("The folder to look at, with those in it")),
  url
}, ({ folder, json, quiet, resendUnconfirmed, settle, url, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const endpoint = yield* Uploader.endpointOf(url)
    const { start } = yield* Plan.make({ endpoint, destined: true, endless: true })
    yield* Plan.warnOfPlainHttp([endpoint])
    yield* Client.findKey
    const events = uploader.watch({ endpoint, destined: true, resendUnconfirmed })
    yield* show(events, { json, quiet, start, endless: true }, take(folder, endpoint, settle))
  }).pipe(Effect.provide(Client.layer(settings)))).pipe(
    Command.withDescription("Send the files of a folder as they appear and stop changing, until stopped")
  )
