/**
 * `indexcp upload` and `buffer-and-upload`.
 *
 * @module
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Uploader from "../client/Uploader.ts"
import * as Client from "./Client.ts"
import { tell } from "./main.ts"
import * as Plan from "./Plan.ts"
import { options as showing, show } from "./show.ts"
import * as Sources from "./sources.ts"
import * as Tally from "./Tally.ts"
import * as Text from "./text.ts"

export const url = Args.text({ name: "url" }).pipe(
  Args.withDescription("The server, like http://127.0.0.1:3000/upload; without a path it means /upload")
)

export const resendUnconfirmed = Options.boolean("resend-unconfirmed").pipe(
  Options.withDescription("Send again to an old server a chunk that it may have got; then it is in the file twice")
)

/** Why nothing was sent. */
const whyNothing = (others: number, endpoint: string | undefined): string => {
  if (others === 0) return "No files in buffer"
  const left = Text.count(others, "file")
  return endpoint === undefined
    ? `Nothing to send. Added without --to: ${left}; name the server for them: indexcp upload <url>`
    : `Nothing to send. For another server: ${left}`
}

/** The `upload` command. */
export const upload = Command.make("upload", {
  ...Client.buffer,
  ...Client.sending,
  ...showing,
  resendUnconfirmed,
  watch: Options.boolean("watch").pipe(
    Options.withDescription("Go on until stopped, and send whatever is added, by other programs too")
  ),
  url: Args.optional(url)
}, ({ json, quiet, resendUnconfirmed, url, watch, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const endpoint = Option.isSome(url) ? yield* Uploader.endpointOf(url.value) : undefined
    const asked = { resendUnconfirmed, ...(endpoint === undefined ? {} : { endpoint }) }
    const { endpoints, others, start } = yield* Plan.make({ endpoint, destined: false, endless: watch })
    yield* Plan.warnOfPlainHttp(endpoints)
    if (watch || start.files > 0) yield* Client.findKey
    const events = watch ? uploader.watch(asked) : uploader.upload(asked)
    const ended = yield* show(events, { json, quiet, start, endless: watch })
    if (ended === 0 && !json && !quiet) yield* tell(whyNothing(others, endpoint))
  }).pipe(Effect.provide(Client.layer(settings)))).pipe(
    Command.withDescription("Send the files in the buffer until the server holds them")
  )

/** The `buffer-and-upload` command. */
export const bufferAndUpload = Command.make("buffer-and-upload", {
  ...Client.buffer,
  ...Client.adding,
  ...Client.sending,
  ...showing,
  ...Sources.options,
  resendUnconfirmed,
  files: Sources.pathsAndUrl
}, ({ files: { paths, url }, json, name, quiet, recursive, resendUnconfirmed, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const endpoint = yield* Uploader.endpointOf(url)
    const sources = Stream.provideContext(
      yield* Sources.of(paths, { name, recursive }),
      yield* Effect.context<FileSystem.FileSystem | Path.Path>()
    )
    yield* Plan.warnOfPlainHttp([endpoint])
    yield* Client.findKey
    const events = uploader.bufferAndUpload(sources, { endpoint, resendUnconfirmed })
    const ended = yield* show(events, { json, quiet, start: Tally.nothing })
    if (ended === 0 && !json && !quiet) yield* tell("No files to send")
  }).pipe(Effect.provide(Client.layer(settings)))).pipe(
    Command.withDescription("Send files from where they lie; ask again to go on after an interruption")
  )
