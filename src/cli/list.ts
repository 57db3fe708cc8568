/**
 * `indexcp list`.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { BufferedFile, DeliveryReceipt } from "../client/ChunkStore.ts"
import * as Uploader from "../client/Uploader.ts"
import * as Client from "./Client.ts"
import * as FileState from "./FileState.ts"
import * as Json from "./json.ts"
import { print } from "./main.ts"
import * as Table from "./table.ts"
import * as Text from "./text.ts"

const columns: ReadonlyArray<Table.Column> = [
  { title: "NAME" },
  { title: "SIZE", align: "right" },
  { title: "CHUNKS", align: "right" },
  { title: "SENT", align: "right" },
  { title: "STATE" },
  { title: "DESTINATION", optional: true },
  { title: "NEXT TRY", optional: true },
  { title: "LAST ERROR", optional: true }
]

const orNothing = Option.getOrElse(() => Table.nothing)

const cellsOf = (file: BufferedFile, now: number): ReadonlyArray<string> => {
  const { error, nextTry, state } = FileState.of(file)
  // of a file for no server that waits in the buffer, where it was last sent to matters only if something arrived there
  const isBegun = state !== "queued" || file.settledBytes > 0
  const endpoint = Option.map(Option.filter(file.delivery, () => isBegun), ({ endpoint }) => endpoint)
  return [
    Text.visible(file.path),
    Text.size(file.size),
    String(file.chunks),
    `${Text.percent(file.settledBytes, file.size)}%`,
    state,
    Text.visible(orNothing(Option.orElse(file.destination, () => endpoint))),
    orNothing(Option.map(nextTry, (at) => at > now ? `in ${Text.span(at - now)}` : "now")),
    Text.visible(orNothing(error))
  ]
}

const cellsOfReceipt = ({ endpoint, path, serverName, size }: DeliveryReceipt): ReadonlyArray<string> => [
  Text.visible(`${path} -> ${serverName}`),
  Text.size(size),
  Table.nothing,
  "100%",
  "delivered",
  Text.visible(endpoint),
  Table.nothing,
  Table.nothing
]

/** So many rows decide how wide the columns are. */
const firstRows = 1000

/** Prints pages of rows, each in one go. */
const printTable = <E, R>(rows: Stream.Stream<ReadonlyArray<string>, E, R>) =>
  Effect.gen(function*() {
    const first: Array<ReadonlyArray<string>> = []
    let table: Table.Table | undefined
    const begin = (all: boolean) => {
      table = Table.make(columns, first, {
        all,
        fit: process.stdout.isTTY ? process.stdout.columns || undefined : undefined
      })
      return Console.log([table.header, ...first.map(table.row)].join("\n"))
    }
    yield* Stream.runForEachChunk(rows, (page) => {
      if (Chunk.isEmpty(page)) return Effect.void
      if (table !== undefined) return Console.log(Chunk.toReadonlyArray(page).map(table.row).join("\n"))
      first.push(...page)
      return first.length < firstRows ? Effect.void : begin(false)
    })
    if (first.length === 0) yield* print("No files in buffer")
    else if (table === undefined) yield* begin(true)
  })

/** One array, an entry a line. */
const printArray = <E, R>(entries: Stream.Stream<object, E, R>) =>
  Effect.gen(function*() {
    let isFirst = true
    yield* Stream.runForEachChunk(entries, (page) => {
      const lines = Chunk.toReadonlyArray(page).map((entry) => {
        const start = isFirst ? "[" : ","
        isFirst = false
        return start + Text.json(entry)
      })
      return lines.length === 0 ? Effect.void : Console.log(lines.join("\n"))
    })
    yield* print(isFirst ? "[]" : "]")
  })

/** The `list` command. */
export const list = Command.make("list", {
  ...Client.buffer,
  all: Options.boolean("all").pipe(Options.withDescription("Also the files that were delivered")),
  json: Options.boolean("json").pipe(Options.withDescription("Print one JSON array"))
}, ({ all, json, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const now = yield* Clock.currentTimeMillis
    const each = <A>(ofFile: (file: BufferedFile) => A, ofReceipt: (receipt: DeliveryReceipt) => A) => {
      const files = Stream.map(uploader.list, ofFile)
      return all ? Stream.concat(files, Stream.map(uploader.receipts, ofReceipt)) : files
    }
    yield* json
      ? printArray(each<object>(Json.file, Json.receipt))
      : printTable(each((file) => cellsOf(file, now), cellsOfReceipt))
  }).pipe(Effect.provide(Client.layer(settings)))).pipe(
    Command.withDescription("List the files in the buffer, and how they stand")
  )
