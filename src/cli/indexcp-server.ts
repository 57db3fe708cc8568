/**
 * `indexcp-server`: the server on the command line.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
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
import { keys } from "./keys.ts"
import { print, run, tell } from "./main.ts"
import * as Shared from "./options.ts"
import { uploads } from "./uploads.ts"

const port = Shared.count("port", 65535).pipe(
  Options.withDescription(`The port to listen on; 0 for any free one. Default: ${NodeServer.defaults.port}`),
  Options.withDefault(NodeServer.defaults.port)
)

const host = Options.text("host").pipe(
  Options.withPseudoName("address"),
  Options.withDescription(`The address to listen on. Default: ${NodeServer.defaults.host}`),
  // for Node an empty one means all addresses
  Options.filterMap(Option.liftPredicate((host) => host !== ""), "--host is an address, like 127.0.0.1 or 0.0.0.0"),
  Options.withDefault(NodeServer.defaults.host)
)

const onConflict = Options.choice("on-conflict", ["rename", "overwrite", "reject"]).pipe(
  Options.withDescription("What to do when a file of that name is there already. Default: rename"),
  Options.withDefault("rename" as const)
)

const durability = Options.choice("durability", ["power", "process"]).pipe(
  Options.withDescription("What a 200 survives: loss of power, or only the death of the process. Default: power"),
  Options.withDefault("power" as const)
)

const simple = Options.boolean("simple").pipe(
  Options.withDescription(`Without a key, appends every body to ${FileName.absent}; for trying things out`)
)

const fromEnv = (name: string) =>
  Effect.option(Config.redacted(name)).pipe(Effect.map(Option.filter((key) => Redacted.value(key) !== "")))

/** The key that was given, else the environment's, else a new one. */
const keyOf = (given: Option.Option<Redacted.Redacted>) =>
  Effect.gen(function*() {
    const known = Option.firstSomeOf([given, yield* fromEnv("INDEXCP_API_KEY"), yield* fromEnv("INDEXEDCP_API_KEY")])
    return {
      key: Option.getOrElse(known, () => Redacted.make(randomBytes(32).toString("hex"))),
      isNew: Option.isNone(known)
    }
  })

/** The server that appends everything to one file, in a folder that is made if missing. */
const simpleServer = (folder: string, listen: Pick<NodeServer.ListenOptions, "host" | "port">) =>
  Layer.unwrapEffect(Effect.as(
    Effect.tryPromise({
      try: () => mkdir(folder, { recursive: true }),
      catch: (cause) =>
        new ExitCode.Exit({
          code: ExitCode.failed,
          line: `The output folder ${folder} cannot be made: ${(cause as { readonly code?: string }).code}`
        })
    }),
    Server.layerSimple(Path.join(folder, FileName.absent), listen)
  ))

/** The `indexcp-server` command. */
export const command = Command.make("indexcp-server", {
  port,
  host,
  outputDir: Shared.outputDir,
  apiKey: Shared.apiKey,
  onConflict,
  durability,
  simple
}, ({ apiKey, durability, onConflict, outputDir, simple, ...listen }) =>
  Effect.gen(function*() {
    const given = yield* Shared.warnOfKey(apiKey)
    const folder = Path.resolve(outputDir)
    const { isNew, key } = yield* keyOf(given)
    if (simple && Option.isSome(given)) {
      return yield* new ExitCode.Exit({
        code: ExitCode.usage,
        line: "--simple asks nobody for a key; leave out --api-key"
      })
    }
    const server: Layer.Layer<HttpServer.HttpServer, Server.StartError | ExitCode.Exit> = simple
      ? simpleServer(folder, listen)
      : Server.layer({ ...listen, outputDir: folder, onConflict, durability, apiKey: key })
    const announce = Layer.effectDiscard(Effect.gen(function*() {
      const url = yield* NodeServer.baseUrl
      // before the line that says that it runs, so that who waits for that has both
      if (isNew && !simple) yield* tell(`API key: ${Redacted.value(key)}`)
      yield* tell(simple ? `Everything goes to ${Path.join(folder, FileName.absent)}` : `Files go to ${folder}`)
      yield* print(`Listening on ${url}/upload`)
    }))
    yield* Layer.launch(Layer.provide(announce, server))
  })).pipe(Command.withDescription("Take files from clients and put them into a folder"))

const footer = HelpDoc.blocks([
  HelpDoc.h1("THE API KEY"),
  HelpDoc.p("--api-key, else INDEXCP_API_KEY, else INDEXEDCP_API_KEY, else a new one, which is printed on stderr."),
  HelpDoc.h1("MORE"),
  HelpDoc.p("indexcp-server uploads list | purge, for uploads that are not complete"),
  HelpDoc.p("indexcp-server keys add | list | revoke, for keys with names, rights and an end"),
  HelpDoc.h1("EXIT CODES"),
  HelpDoc.p("1 unexpected, 2 usage, 3 cannot start, 130 or 143 stopped by a signal")
])

const keysFooter = HelpDoc.blocks([
  HelpDoc.h1("EXIT CODES"),
  HelpDoc.p("1 unexpected, 2 usage, 3 no such key, or the keys cannot be read or written")
])

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
      return run(command, { name: "indexcp-server", description: "Receives files and keeps them safe", footer }, words)
  }
}
