/**
 * `indexcp`: the client on the command line.
 *
 * @module
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as Prompt from "@effect/cli/Prompt"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Terminal from "@effect/platform/Terminal"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as ApiKey from "../client/ApiKey.ts"
import * as ChunkStoreSqlite from "../client/ChunkStoreSqlite.ts"
import * as Source from "../client/Source.ts"
import * as TransportHttp from "../client/TransportHttp.ts"
import * as Uploader from "../client/Uploader.ts"
import type { Outcome, UploadEvent, Verdict, Verification } from "../client/UploadEvent.ts"
import * as ExitCode from "./ExitCode.ts"
import * as Json from "./json.ts"
import { print, run, tell } from "./main.ts"
import * as Shared from "./options.ts"
import * as Progress from "./Progress.ts"

const dbName = Options.text("db-name").pipe(
  Options.withPseudoName("name"),
  Options.withDescription("The buffer: ~/.indexcp/<name>.db. Default: indexcp"),
  Options.withDefault("indexcp")
)

const chunkSize = Options.text("chunk-size").pipe(
  Options.withPseudoName("size"),
  Options.withDescription("Bytes a chunk, like 64KiB or 5MB; at most 16MiB. Default: 1MiB"),
  Options.withSchema(Shared.ByteSize),
  Options.withDefault(Uploader.defaults.chunkSize)
)

const maxRetries = Shared.count("max-retries").pipe(
  Options.withDescription("Give up waiting after so many retries in a row. Default: never"),
  Options.optional
)

const resendUnconfirmed = Options.boolean("resend-unconfirmed").pipe(
  Options.withDescription("Send again to an old server a chunk that it may have got; then it is in the file twice")
)

const json = Options.boolean("json").pipe(Options.withDescription("Print JSON"))

const url = Args.text({ name: "url" }).pipe(
  Args.withDescription("The server, like http://127.0.0.1:3000/upload; without a path it means /upload")
)

const keyPrompt = Effect.gen(function*() {
  const terminal = yield* Terminal.Terminal
  if (!process.stdin.isTTY || !process.stderr.isTTY) return undefined
  // results are for stdout, a question is not
  const onStderr: Terminal.Terminal = {
    ...terminal,
    display: (text) => Effect.sync(() => void process.stderr.write(text))
  }
  return Prompt.hidden({ message: "API key" }).pipe(
    Effect.provideService(Terminal.Terminal, onStderr),
    // Ctrl-C, which is no signal here
    Effect.catchTag("QuitException", () => Effect.andThen(tell(""), Effect.interrupt))
  )
})

interface Settings {
  readonly dbName: string
  readonly chunkSize?: number
  readonly apiKey?: Option.Option<Redacted.Redacted>
  readonly maxRetries?: Option.Option<number>
}

/** The whole client over the buffer of that name. */
const client = (settings: Settings) =>
  Layer.unwrapEffect(Effect.gen(function*() {
    const given = yield* Shared.warnOfKey(settings.apiKey ?? Option.none())
    const prompt = yield* keyPrompt
    if (!/^[^/\\]+$/.test(settings.dbName)) {
      return yield* new ExitCode.Exit({
        code: ExitCode.usage,
        line: `--db-name is a name, not a path: ${settings.dbName}`
      })
    }
    return Uploader.layer({
      chunkSize: settings.chunkSize ?? Uploader.defaults.chunkSize,
      retry: Option.match(settings.maxRetries ?? Option.none(), {
        onNone: () => ({}),
        onSome: (maxRetries) => ({ maxRetries })
      })
    }).pipe(
      Layer.provide(TransportHttp.layer),
      Layer.provide(ChunkStoreSqlite.layer({ file: ChunkStoreSqlite.defaultFile(settings.dbName) })),
      Layer.provide(NodeHttpClient.layerUndici),
      Layer.provideMerge(ApiKey.layerFromEnv({ given, ...(prompt === undefined ? {} : { prompt }) }))
    )
  }))

/** Finds the key, before a bar would be where a person is asked for it. Having none is for the uploader to find out. */
const findKey = Effect.flatMap(ApiKey.ApiKey, ({ get }) => Effect.ignore(get))

/** Shows an upload, prints its results, and ends with the code that they call for. */
const show = <E>(events: Stream.Stream<UploadEvent, E, Uploader.Uploader>, json: boolean) =>
  Effect.scoped(Effect.gen(function*() {
    const outcomes: Array<Outcome> = []
    const progress = yield* Progress.make
    yield* Stream.runForEach(events, (event) =>
      Effect.gen(function*() {
        if (json) yield* print(JSON.stringify(Json.event(event)))
        else yield* progress(event)
        if (event._tag !== "Finished") return
        outcomes.push(event)
        if (Option.isSome(event.error)) yield* tell(`${event.path}: ${event.error.value}`)
        else if (!json) yield* print(`${event.path} -> ${Option.getOrElse(event.serverName, () => "?")}`)
      })).pipe(
        // also when a refused key ends it half-way
        Effect.ensuring(Effect.suspend(() => json ? print(JSON.stringify(Json.summary(outcomes))) : Effect.void))
      )
    if (outcomes.length === 0 && !json) yield* tell("No files in buffer")
    const code = ExitCode.of(outcomes.map(({ state }) => state))
    if (code !== ExitCode.success) return yield* new ExitCode.Exit({ code })
  }))

const add = Command.make("add", {
  dbName,
  chunkSize,
  paths: Args.text({ name: "path" }).pipe(Args.withDescription("Files to put into the buffer"), Args.atLeast(1))
}, ({ paths, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const added = yield* Effect.forEach(paths, (path) =>
      Effect.gen(function*() {
        const { file, replaced } = yield* Effect.flatMap(Source.file(path), uploader.add)
        if (Option.isSome(replaced)) yield* tell(`${path} was in the buffer already; it is replaced`)
        yield* print(`${path}  ${file.chunks} chunks`)
        return true
      }).pipe(Effect.catchTag("SourceError", ({ message }) => Effect.as(tell(message), false))))
    if (added.includes(false)) return yield* new ExitCode.Exit({ code: ExitCode.failed })
  }).pipe(Effect.provide(client(settings)))).pipe(
    Command.withDescription("Put files into the buffer, to be uploaded later")
  )

const all = Options.boolean("all").pipe(Options.withDescription("Also the files that were delivered"))

const list = Command.make("list", { dbName, all, json }, ({ all, json, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const files = Stream.map(uploader.list, (file) => ({ line: file.path, json: Json.file(file) as object }))
    const receipts = Stream.map(uploader.receipts, (receipt) => ({
      line: `${receipt.path} -> ${receipt.serverName}`,
      json: Json.receipt(receipt)
    }))
    const entries = all ? Stream.concat(files, receipts) : files
    const count = yield* Stream.runFoldEffect(entries, 0, (count, entry) =>
      Effect.as(print(json ? `${count === 0 ? "[" : ","}${JSON.stringify(entry.json)}` : entry.line), count + 1))
    if (json) {
      yield* print(count === 0 ? "[]" : "]")
    } else if (count === 0) {
      yield* print("No files in buffer")
    }
  }).pipe(Effect.provide(client(settings)))).pipe(
    Command.withDescription("List the files in the buffer")
  )

const verdicts: Readonly<Record<Verdict, string>> = {
  same: "as it was sent",
  different: "DIFFERENT on the server",
  gone: "gone from the server",
  unknown: "not remembered by the server",
  unverifiable: "cannot be verified: the server speaks revision 1"
}

const verify = Command.make("verify", {
  apiKey: Shared.apiKey,
  dbName,
  url,
  files: Args.text({ name: "file" }).pipe(Args.withDescription("Only these, as they were added"), Args.repeated)
}, ({ files, url, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    yield* findKey
    const found: Array<Verification> = []
    yield* Stream.runForEach(uploader.verify(url), (verification) => {
      const { receipt, verdict } = verification
      if (files.length > 0 && !files.includes(receipt.path)) return Effect.void
      found.push(verification)
      return print(`${receipt.path} -> ${receipt.serverName}: ${verdicts[verdict]}`)
    })
    const missing = files.filter((file) => !found.some(({ receipt }) => receipt.path === file))
    yield* Effect.forEach(missing, (file) => tell(`${file}: there is no receipt of it from this server`), {
      discard: true
    })
    const count = (wanted: (verdict: Verdict) => boolean) => found.filter(({ verdict }) => wanted(verdict)).length
    const wrong = count((verdict) => verdict !== "same" && verdict !== "unverifiable")
    yield* tell(
      `${count((verdict) => verdict === "same")} as they were sent, ${wrong} not, ` +
        `${count((verdict) => verdict === "unverifiable")} not verifiable`
    )
    if (wrong + missing.length > 0) return yield* new ExitCode.Exit({ code: ExitCode.failed })
  }).pipe(Effect.provide(client(settings)))).pipe(
    Command.withDescription("Ask a server to read again the files that it has received")
  )

const upload = Command.make("upload", {
  apiKey: Shared.apiKey,
  dbName,
  maxRetries,
  resendUnconfirmed,
  json,
  url
}, ({ json, resendUnconfirmed, url, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    if (Option.isSome(yield* Stream.runHead(uploader.list))) yield* findKey
    yield* show(uploader.upload({ endpoint: url, resendUnconfirmed }), json)
  }).pipe(Effect.provide(client(settings)))).pipe(
    Command.withDescription("Send the files in the buffer until the server holds them")
  )

const bufferAndUpload = Command.make("buffer-and-upload", {
  apiKey: Shared.apiKey,
  dbName,
  chunkSize,
  maxRetries,
  resendUnconfirmed,
  json,
  file: Args.text({ name: "file" }).pipe(Args.withDescription("The file to send")),
  url
}, ({ file, json, resendUnconfirmed, url, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    const source = yield* Source.file(file)
    yield* findKey
    yield* show(uploader.bufferAndUpload(source, { endpoint: url, resendUnconfirmed }), json)
  }).pipe(Effect.provide(client(settings)))).pipe(
    Command.withDescription("Send one file from where it lies; ask again to go on after an interruption")
  )

const clear = Command.make("clear", { dbName }, (settings) =>
  Effect.gen(function*() {
    yield* (yield* Uploader.Uploader).clear
    yield* tell("Buffer cleared")
  }).pipe(Effect.provide(client(settings)))).pipe(
    Command.withDescription("Remove every file from the buffer")
  )

/** The `indexcp` command. */
export const command = Command.make("indexcp").pipe(
  Command.withDescription("Put files into a buffer on this machine, and send them until the server holds them"),
  Command.withSubcommands([add, list, upload, bufferAndUpload, verify, clear])
)

const description = "Moves files over bad networks and loses nothing"

const footer = HelpDoc.blocks([
  HelpDoc.h1("MORE"),
  HelpDoc.enumeration([
    HelpDoc.p("indexcp help <command>"),
    HelpDoc.p("indexcp --version"),
    HelpDoc.p("indexcp --completions bash | zsh | fish")
  ]),
  HelpDoc.h1("THE API KEY"),
  HelpDoc.p("--api-key, else INDEXCP_API_KEY, else INDEXEDCP_API_KEY, else it is asked for on a terminal."),
  HelpDoc.h1("EXIT CODES"),
  HelpDoc.enumeration([
    HelpDoc.p("0 all is delivered, or there was nothing to do"),
    HelpDoc.p("1 unexpected, 2 usage"),
    HelpDoc.p("3 some files failed for good"),
    HelpDoc.p("4 the key is missing or was refused"),
    HelpDoc.p("5 gave up waiting; the data is kept"),
    HelpDoc.p("6 not confirmed by an old server; the data is kept"),
    HelpDoc.p("130 or 143 interrupted; upload again to go on")
  ])
])

/** Runs `indexcp` with the words behind its name, to its exit code. */
export const program = (words: ReadonlyArray<string>) => run(command, { name: "indexcp", description, footer }, words)
