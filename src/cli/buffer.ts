/**
 * `indexcp remove`, `retry` and `clear`.
 *
 * @module
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Prompt from "@effect/cli/Prompt"
import * as Terminal from "@effect/platform/Terminal"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { BufferedFile } from "../client/ChunkStore.ts"
import * as Uploader from "../client/Uploader.ts"
import * as Client from "./Client.ts"
import * as ExitCode from "./ExitCode.ts"
import { tell } from "./main.ts"
import * as Text from "./text.ts"

const names = Args.text({ name: "name" }).pipe(Args.withDescription("Files, as list shows them"))

/** The files in the buffer of these names, and the names that are not there, which are told. */
const find = (names: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const { list } = yield* Uploader.Uploader
    const wanted = new Set(names)
    const found: Array<Pick<BufferedFile, "id" | "path" | "failure">> = []
    yield* Stream.runForEach(list, ({ failure, id, path }) =>
      Effect.sync(() => void (wanted.has(path) && found.push({ id, path, failure }))))
    const missing = [...wanted].filter((name) =>
      !found.some(({ path }) => path === name)
    )
    yield* Effect.forEach(missing, (name) => tell(`${name} is not in the buffer`), { discard: true })
    return { found, missing }
  })

const endAfter = (missing: ReadonlyArray<string>) =>
  missing.length > 0 ? new ExitCode.Exit({ code: ExitCode.failed }) : Effect.void

/** The `remove` command. */
export const remove = Command.make("remove", {
  ...Client.buffer,
  ...Client.reaching,
  names: Args.atLeast(names, 1)
}, ({ names, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const { found, missing } = yield* find(names)
    if (found.length > 0) yield* uploader.remove(found.map(({ id }) => id))
    yield* Effect.forEach(found, ({ path }) => tell(`${path} is removed from the buffer`), { discard: true })
    yield* endAfter(missing)
  }).pipe(Effect.provide(Client.layer({ ...settings, asks: false })))).pipe(
    Command.withDescription("Remove files from the buffer; what a server has of them is deleted, if it can be reached")
  )

/** The `retry` command. */
export const retry = Command.make("retry", {
  ...Client.buffer,
  names: Args.repeated(names)
}, ({ names, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    if (names.length === 0) {
      const failed = yield* Stream.runFold(
        uploader.list,
        0,
        (count, { failure }) => Option.isSome(failure) ? count + 1 : count
      )
      yield* uploader.retry()
      return yield* tell(`${Text.count(failed, "file")} will be tried again`)
    }
    const { found, missing } = yield* find(names)
    if (found.length > 0) yield* uploader.retry(found.map(({ id }) => id))
    yield* Effect.forEach(
      found,
      ({ failure, path }) => tell(Option.isSome(failure) ? `${path} will be tried again` : `${path} had not failed`),
      { discard: true }
    )
    yield* endAfter(missing)
  }).pipe(Effect.provide(Client.layer({ ...settings, asks: false })))).pipe(
    Command.withDescription("Let files that failed be tried again, by a running upload --watch too: these, or all")
  )

/** Whether a person who can be asked wants it; without a terminal, giving the command is wanting it. */
const isSure = Effect.gen(function*() {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return true
  const { list } = yield* Uploader.Uploader
  const all = yield* Stream.runFold(list, { files: 0, size: 0 }, ({ files, size }, file) => ({
    files: files + 1,
    size: size + file.size
  }))
  if (all.files === 0) return true
  const terminal = yield* Terminal.Terminal
  return yield* Prompt.confirm({
    message: `Remove ${Text.count(all.files, "file")} (${Text.size(all.size)}) that no server has as a whole?`
  }).pipe(
    Effect.provideService(Terminal.Terminal, Client.onStderr(terminal)),
    Effect.catchTag("QuitException", () => Effect.andThen(tell(""), Effect.interrupt))
  )
})

/** The `clear` command. */
export const clear = Command.make("clear", {
  ...Client.buffer,
  ...Client.reaching,
  yes: Options.boolean("yes").pipe(Options.withAlias("y"), Options.withDescription("Do not ask"))
}, ({ yes, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    if (!yes && !(yield* isSure)) return yield* tell("Nothing is removed")
    yield* uploader.clear
    yield* tell("Buffer cleared")
  }).pipe(Effect.provide(Client.layer({ ...settings, asks: false })))).pipe(
    Command.withDescription("Remove every file from the buffer; asks first on a terminal")
  )
