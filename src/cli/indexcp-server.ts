/**
 * `indexcp-server`: the server on the command line.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import type * as HttpServer from "@effect/platform/HttpServer"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { randomBytes } from "node:crypto"
import { mkdir } from "node:fs/promises"
import * as Path from "node:path"
import * as FileName from "../protocol/FileName.ts"
import * as NodeServer from "../server/NodeServer.ts"
import * as Server from "../server/Server.ts"
import * as ExitCode from "./ExitCode.ts"
import { print, run, tell } from "./main.ts"
import * as Shared from "./options.ts"

const port = Options.integer("port").pipe(
  Options.withDescription("The port to listen on; 0 for any free one"),
  Options.filterMap((port) => port >= 0 && port <= 65535 ? Option.some(port) : Option.none(), "--port is 0 to 65535"),
  Options.withDefault(NodeServer.defaults.port)
)

const host = Options.text("host").pipe(
  Options.withDescription("The address to listen on"),
  Options.withDefault(NodeServer.defaults.host)
)

const outputDir = Options.text("output-dir").pipe(
  Options.withDescription("The folder for received files; made if missing"),
  Options.withDefault(".")
)

const onConflict = Options.choice("on-conflict", ["rename", "overwrite", "reject"]).pipe(
  Options.withDescription("What to do when a file of that name is there already"),
  Options.withDefault("rename" as const)
)

const simple = Options.boolean("simple").pipe(
  Options.withDescription(`Without a key, appends every body to ${FileName.absent}; for trying things out`)
)

/** The key that was given, else the environment's, else a new one, told once. */
const keyOf = (given: Option.Option<Redacted.Redacted>) =>
  Effect.gen(function*() {
    const fromEnv = Config.redacted("INDEXCP_API_KEY").pipe(Config.orElse(() => Config.redacted("INDEXEDCP_API_KEY")))
    const known = Option.isSome(given) ? given : yield* Effect.option(fromEnv)
    if (Option.exists(known, (key) => Redacted.value(key) !== "")) return Option.getOrThrow(known)
    const made = randomBytes(32).toString("hex")
    yield* tell(`API key: ${made}`)
    return Redacted.make(made)
  })

/** The `indexcp-server` command. */
export const command = Command.make("indexcp-server", {
  port,
  host,
  outputDir,
  apiKey: Shared.apiKey,
  onConflict,
  simple
}, ({ apiKey, onConflict, outputDir, simple, ...listen }) =>
  Effect.gen(function*() {
    const given = yield* Shared.warnOfKey(apiKey, tell)
    const folder = Path.resolve(outputDir)
    const server: Layer.Layer<HttpServer.HttpServer, Server.StartError | ExitCode.Exit> = simple
      ? Layer.unwrapEffect(Effect.as(
        Effect.tryPromise({
          try: () => mkdir(folder, { recursive: true }),
          catch: (cause) =>
            new ExitCode.Exit({ code: ExitCode.failed, line: `Cannot make the folder ${folder}: ${String(cause)}` })
        }),
        Server.layerSimple(Path.join(folder, FileName.absent), listen)
      ))
      : Server.layer({ ...listen, outputDir: folder, onConflict, apiKey: yield* keyOf(given) })
    const announce = Layer.effectDiscard(Effect.flatMap(NodeServer.baseUrl, (url) =>
      Effect.andThen(
        print(`Listening on ${url}/upload`),
        tell(simple ? `Everything goes to ${Path.join(folder, FileName.absent)}` : `Files go to ${folder}`)
      )))
    yield* Layer.launch(Layer.provide(announce, server))
  })).pipe(Command.withDescription("Receives files and keeps them safe"))

/** Runs `indexcp-server` with the words behind its name, to its exit code. */
export const program = (words: ReadonlyArray<string>) =>
  run(command, { name: "indexcp-server", description: "Receives files and keeps them safe" }, words)
