/**
 * `indexcp add`.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Uploader from "../client/Uploader.ts"
import * as Client from "./Client.ts"
import * as ExitCode from "./ExitCode.ts"
import { print, tell } from "./main.ts"
import * as Sources from "./sources.ts"

const to = Options.text("to").pipe(
  Options.withPseudoName("url"),
  Options.withDescription("The server that the files are for. Default: the one that upload names"),
  Options.optional
)

/** The `add` command. */
export const add = Command.make("add", {
  ...Client.buffer,
  ...Client.adding,
  ...Sources.options,
  to,
  paths: Sources.paths
}, ({ name, paths, recursive, to, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const sources = yield* Sources.of(paths, { name, recursive })
    const options = Option.isSome(to) ? { to: yield* Uploader.endpointOf(to.value) } : {}
    let missed = 0
    yield* Stream.runForEach(sources, (source) =>
      Effect.gen(function*() {
        const { file, replaced } = yield* Effect.flatMap(source, (source) => uploader.add(source, options))
        if (Option.isSome(replaced)) yield* tell(`${file.path} was in the buffer already; it is replaced`)
        yield* print(`${file.path}  ${file.chunks} chunk${file.chunks === 1 ? "" : "s"}`)
      }).pipe(
        Effect.catchTag("SourceError", ({ message }) => {
          missed++
          return tell(message)
        })
      )).pipe(
        Effect.catchTag(
          "BufferFull",
          ({ message }) =>
            new ExitCode.Exit({ code: ExitCode.failed, line: `${message}. What comes after it was not tried` })
        )
      )
    if (missed > 0) return yield* new ExitCode.Exit({ code: ExitCode.failed })
  }).pipe(Effect.provide(Client.layer(settings)))).pipe(
    Command.withDescription("Put files into the buffer, to be uploaded later")
  )
