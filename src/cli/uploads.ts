/**
 * `indexcp-server uploads`: what has arrived in part.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { existsSync } from "node:fs"
import * as Path from "node:path"
import * as OutputFolder from "../server/OutputFolder.ts"
import { defaults } from "../server/Receiver.ts"
import * as Server from "../server/Server.ts"
import { type Upload, UploadLedger } from "../server/UploadLedger.ts"
import * as UploadLedgerSqlite from "../server/UploadLedgerSqlite.ts"
import { UploadStore } from "../server/UploadStore.ts"
import * as UploadStoreFileSystem from "../server/UploadStoreFileSystem.ts"
import * as ExitCode from "./ExitCode.ts"
import { print, printJson, tell } from "./main.ts"
import * as Shared from "./options.ts"

/** The ledger of a folder that has one; asking about another must not make one. */
const ledger = (outputDir: string) =>
  Layer.unwrapEffect(Effect.suspend(() => {
    const file = Server.ledgerFile(Path.resolve(outputDir))
    return existsSync(file)
      ? Effect.succeed(UploadLedgerSqlite.layer({ file }))
      : Effect.fail(new ExitCode.Exit({ code: ExitCode.failed, line: `No server has run on ${outputDir}` }))
  }))

const json = (upload: Upload) => ({
  uploadId: Option.getOrNull(upload.id),
  principal: upload.principal,
  name: upload.name,
  state: upload.state,
  size: Option.getOrNull(upload.size),
  bytesReceived: upload.received,
  lastChunkAt: new Date(upload.touchedAt).toISOString()
})

const line = (upload: Upload): string => {
  const size = Option.getOrElse(Option.map(upload.size, String), () => "?")
  return `${upload.name}  ${upload.state}  ${upload.received} of ${size} bytes  ${
    new Date(upload.touchedAt).toISOString()
  }`
}

const list = Command.make("list", {
  outputDir: Shared.outputDir,
  json: Options.boolean("json").pipe(Options.withDescription("Print JSON"))
}, (asked) =>
  Effect.gen(function*() {
    const uploads = yield* (yield* UploadLedger).unfinished
    if (asked.json) return yield* printJson(uploads.map(json))
    yield* Effect.forEach(uploads, (upload) => print(line(upload)), { discard: true })
    if (uploads.length === 0) yield* print("No unfinished uploads")
  }).pipe(Effect.provide(ledger(asked.outputDir)))).pipe(
    Command.withDescription("List the uploads that are not complete, also while the server runs")
  )

const purge = Command.make("purge", {
  outputDir: Shared.outputDir,
  all: Options.boolean("all").pipe(Options.withDescription("Every unfinished upload, also those of today"))
}, ({ all, outputDir }) =>
  Effect.gen(function*() {
    const uploadLedger = yield* UploadLedger
    const store = yield* UploadStore
    const old = (yield* Clock.currentTimeMillis) - (all ? 0 : Duration.toMillis(defaults.unfinishedLifetime))
    const unfinished = yield* uploadLedger.unfinished
    const chosen = unfinished.filter(({ state, touchedAt }) =>
      state !== "finishing" && (state === "failed" || touchedAt <= old)
    )
    yield* Effect.forEach(chosen, ({ key }) => Effect.andThen(uploadLedger.remove(key), store.drop(key)), {
      discard: true
    })
    yield* Effect.forEach(chosen, (upload) => print(line(upload)), { discard: true })
    yield* tell(`${chosen.length} of ${unfinished.length} unfinished uploads deleted`)
  }).pipe(
    Effect.provide(
      UploadStoreFileSystem.layer({ outputDir }).pipe(
        Layer.provideMerge(ledger(outputDir)),
        // a running server has the folder
        Layer.provide(OutputFolder.layer(Path.resolve(outputDir)))
      )
    )
  )).pipe(Command.withDescription("Delete failed uploads and those untouched for 7 days. The server must not run"))

/** The `indexcp-server uploads` command. */
export const uploads = Command.make("uploads").pipe(
  Command.withDescription("Look at uploads that are not complete, and delete them"),
  Command.withSubcommands([list, purge])
)
