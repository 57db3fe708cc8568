/**
 * `indexcp-server`: the server on the command line.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import type * as HttpServer from "@effect/platform/HttpServer"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { randomBytes } from "node:crypto"
import * as Path from "node:path"
import * as FileName from "../protocol/FileName.ts"
import { ApiKeys } from "../server/ApiKeys.ts"
import * as NodeServer from "../server/NodeServer.ts"
import * as OutputFolder from "../server/OutputFolder.ts"
import * as Server from "../server/Server.ts"
import * as Tracing from "../server/Tracing.ts"
import * as ExitCode from "./ExitCode.ts"
import * as Help from "./help.ts"
import { keys, withKeys } from "./keys.ts"
import * as Logs from "./logs.ts"
import { lineOf, print, run } from "./main.ts"
import { sections, serverOptions, type ServerSettings, table } from "./serverSettings.ts"
import * as Settings from "./settings.ts"
import { uploads } from "./uploads.ts"
import * as Words from "./words.ts"

/** The one key: given, else the one that older programs know, else a new one where no key with a name lets anybody in. */
const keyOf = ({ apiKey, outputDir, simple }: ServerSettings) =>
  Effect.gen(function*() {
    const given = apiKey === undefined
      ? Option.map(yield* Settings.variable("INDEXEDCP_API_KEY"), (key) => Redacted.make(key.trim()))
      : Option.some(apiKey)
    if (simple || Option.isSome(given)) return { key: Option.getOrUndefined(given), isNew: false }
    const named = yield* withKeys(outputDir, [], Effect.flatMap(ApiKeys, ({ list }) => list))
    return named.length > 0
      ? { key: undefined, isNew: false }
      : { key: Redacted.make(randomBytes(32).toString("hex")), isNew: true }
  })

/** The server that appends everything to one file, in a folder that is made if missing. */
const simpleServer = (folder: string, listen: Partial<NodeServer.ListenOptions>) =>
  Layer.unwrapEffect(
    Effect.as(OutputFolder.make(folder), Server.layerSimple(Path.join(folder, FileName.absent), listen))
  )

const usage = (line: string) => new ExitCode.Exit({ code: ExitCode.usage, line })

/** Settings that do not go together, each of which would be right alone. */
const contradiction = ({ from, values }: Settings.Resolved<typeof table>): ExitCode.Exit | undefined => {
  // a variable may be there for other programs, too
  if (values.simple && (from.apiKey === "flag" || from.apiKey === "file")) {
    return usage("--simple asks nobody for a key; leave out --api-key")
  }
  if ((values.tlsCert === undefined) !== (values.tlsKey === undefined)) {
    const [there, missing] = values.tlsKey === undefined ? ["--tls-cert", "--tls-key"] : ["--tls-key", "--tls-cert"]
    return usage(`${there} needs ${missing} beside it`)
  }
  return undefined
}

/** Listens until it is interrupted. */
const serve = (settings: ServerSettings) =>
  Effect.gen(function*() {
    const say = (line: string) => Logs.say(settings.logFormat, line)
    const { isNew, key } = yield* keyOf(settings)
    const options = { ...serverOptions(settings), ...(key === undefined ? {} : { apiKey: key }) }
    const { outputDir } = options
    const server: Layer.Layer<HttpServer.HttpServer, Server.StartError | ExitCode.Exit> = settings.simple
      ? simpleServer(outputDir, options)
      : Server.layer(options)
    const announce = Layer.effectDiscard(Effect.gen(function*() {
      const url = yield* NodeServer.baseUrl
      // before the line that says that it runs, so that who waits for that has both
      if (isNew && key !== undefined) yield* say(`API key: ${Redacted.value(key)}`)
      yield* say(
        settings.simple ? `Everything goes to ${Path.join(outputDir, FileName.absent)}` : `Files go to ${outputDir}`
      )
      yield* print(`Listening on ${url}${settings.basePath}/upload`)
    }))
    yield* Layer.launch(Layer.provide(announce, server)).pipe(Effect.onInterrupt(() => say("Stopped")))
  })

/** Among JSON records, why it ends is one, too. */
const asRecord = (error: Server.StartError | ExitCode.Exit) =>
  Effect.andThen(
    Logs.say("json", lineOf(error), LogLevel.Fatal),
    new ExitCode.Exit({ code: error instanceof ExitCode.Exit ? error.code : ExitCode.ofError(error) })
  )

/** The `indexcp-server` command. The parser keeps the log level to itself. */
const command = (logLevel: Option.Option<string>) =>
  Command.make(
    "indexcp-server",
    { config: Settings.file, ...Settings.options(table) },
    ({ config, ...flags }) =>
      Effect.gen(function*() {
        const resolved = yield* Settings.resolve(table, { ...flags, logLevel }, config)
        const { logFormat, logLevel: level } = resolved.values
        const warnings = Settings.shownSecrets(table, resolved)
        yield* Effect.forEach(warnings, (line) => Logs.say(logFormat, line, LogLevel.Warning), { discard: true })
        const problem = contradiction(resolved)
        if (problem !== undefined) return yield* problem
        const served = Effect.provide(
          serve(resolved.values),
          Layer.provideMerge(Tracing.layer, Logs.layer(logFormat, level))
        )
        yield* logFormat === "json" ? Effect.catchAll(served, asRecord) : served
      })
  ).pipe(Command.withDescription("Take files from clients and put them into a folder"))

const footer = HelpDoc.blocks([
  HelpDoc.h1("VARIABLES AND THE FILE"),
  HelpDoc.p("Each --foo-bar is also INDEXCP_FOO_BAR in the environment and fooBar in the JSON file of --config."),
  HelpDoc.p("The command line comes first, then the environment, then the file."),
  HelpDoc.h1("THE API KEY"),
  HelpDoc.p(
    "--api-key, else INDEXCP_API_KEY, else the file, else INDEXEDCP_API_KEY. Without one, and without keys with names, a new one is made and printed on stderr."
  ),
  HelpDoc.h1("MORE"),
  HelpDoc.p("indexcp-server uploads list | purge, for uploads that are not complete"),
  HelpDoc.p("indexcp-server keys add | list | revoke, for keys with names, rights and an end"),
  HelpDoc.h1("EXIT CODES"),
  HelpDoc.p("0 stopped by SIGTERM or SIGINT, 1 unexpected, 2 usage or settings, 3 cannot start")
])

const keysFooter = HelpDoc.blocks([
  HelpDoc.h1("EXIT CODES"),
  HelpDoc.p("1 unexpected, 2 usage, 3 no such key, or the keys cannot be read or written")
])

/** What a signal ends it with: stopping a server is no failure, breaking off a command is. */
export const codesOf = ([first]: ReadonlyArray<string>): ExitCode.BySignal =>
  first === undefined || first.startsWith("-") ? ExitCode.stopped : ExitCode.interrupted

/** Runs `indexcp-server` with the words behind its name, to its exit code. */
export const program = (words: ReadonlyArray<string>) => {
  const [first, ...rest] = words
  switch (first) {
    case "uploads":
      return run(uploads, {
        name: "indexcp-server uploads",
        description: "Uploads that are not complete",
        footer: HelpDoc.empty
      }, rest)
    case "keys":
      return run(keys, { name: "indexcp-server keys", description: "Keys with names", footer: keysFooter }, rest)
    default:
      return run(command(Words.valueOf(words, "--log-level")), {
        name: "indexcp-server",
        description: "Receives files and keeps them safe",
        footer,
        arrange: Help.arrange(sections),
        tellsInterrupt: false
      }, words)
  }
}
