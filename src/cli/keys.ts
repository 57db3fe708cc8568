/**
 * `indexcp-server keys`: who may send files.
 *
 * @module
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Arr from "effect/Array"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { existsSync } from "node:fs"
import * as Path from "node:path"
import { ApiKeys } from "../server/ApiKeys.ts"
import * as ApiKeysSqlite from "../server/ApiKeysSqlite.ts"
import { type NamedKey, rights } from "../server/NamedKey.ts"
import * as ExitCode from "./ExitCode.ts"
import { print, printJson, tell } from "./main.ts"
import * as Shared from "./options.ts"
import * as Table from "./table.ts"
import { count } from "./text.ts"
import { Span } from "./values.ts"

const fileOf = (outputDir: string): string => ApiKeysSqlite.keysFile(Path.resolve(outputDir))

const can = Options.text("can").pipe(
  Options.withPseudoName("rights"),
  Options.withDescription(
    `What it may do, like upload,read: send files, ask how its uploads stand, delete unfinished ones. Default: ${
      rights.join(",")
    }`
  ),
  Options.filterMap((text) => {
    const words = text.split(",").map((word) => word.trim())
    const chosen = rights.filter((right) => words.includes(right))
    return chosen.length === new Set(words).size ? Option.some(chosen) : Option.none()
  }, `--can takes one or more of ${rights.join(",")}, with commas between them`),
  Options.withDefault(rights)
)

const expires = Shared.value("expires", "time", Span).pipe(
  Options.withDescription("For how long it is taken, like 30d. Default: until it is revoked"),
  Options.optional
)

const prefix = Options.text("prefix").pipe(
  Options.withPseudoName("folder/"),
  Options.withDescription("The folder below the output folder in which its files are put. Default: none"),
  Options.optional
)

const iso = (time: Option.Option<number>): string | null =>
  Option.getOrNull(Option.map(time, (millis) => new Date(millis).toISOString()))

const json = ({ can, createdAt, expiresAt, id, name, prefix }: NamedKey) => ({
  id,
  name,
  can,
  prefix: Option.getOrNull(prefix),
  createdAt: iso(Option.some(createdAt)),
  expiresAt: iso(expiresAt)
})

const add = Command.make("add", {
  name: Args.text({ name: "name" }).pipe(
    Args.withDescription("Whose its uploads are. Several keys may have one name, so that a new one can take over")
  ),
  outputDir: Shared.outputDir,
  can,
  expires,
  prefix,
  json: Options.boolean("json").pipe(Options.withDescription("Print JSON, the key in it"))
}, (asked) =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const added = yield* (yield* ApiKeys).add({
      name: asked.name,
      can: asked.can,
      ...(Option.isSome(asked.prefix) ? { prefix: asked.prefix.value } : {}),
      ...(Option.isSome(asked.expires) ? { expiresAt: Math.ceil(now + Duration.toMillis(asked.expires.value)) } : {})
    })
    const { can, expiresAt, id, name, prefix } = added
    const folder = Option.match(prefix, { onNone: () => "", onSome: (prefix) => `, puts files into ${prefix}` })
    yield* tell(
      `Key ${id} of ${name}: may ${can.join(", ")}${folder}, ${
        Option.isSome(expiresAt) ? `expires ${iso(expiresAt)}` : "does not expire"
      }`
    )
    yield* tell("It is shown only this once; clients read it from INDEXCP_API_KEY")
    const key = Redacted.value(added.key)
    yield* asked.json ? printJson({ ...json(added), key }) : print(key)
  }).pipe(
    Effect.catchTag("InvalidKey", ({ message }) => new ExitCode.Exit({ code: ExitCode.usage, line: message })),
    Effect.provide(ApiKeysSqlite.layer({ file: fileOf(asked.outputDir) }))
  )).pipe(Command.withDescription("Make a key and print it. A running server takes it at once"))

const columns: ReadonlyArray<Table.Column> = [
  { title: "ID" },
  { title: "NAME" },
  { title: "MAY" },
  { title: "FOLDER", optional: true },
  { title: "CREATED" },
  { title: "EXPIRES" }
]

const cellsOf = (key: NamedKey, now: number): ReadonlyArray<string> => [
  key.id,
  key.name,
  key.can.join(","),
  Option.getOrElse(key.prefix, () => Table.nothing),
  new Date(key.createdAt).toISOString(),
  `${iso(key.expiresAt) ?? Table.nothing}${Option.exists(key.expiresAt, (at) => at <= now) ? " (expired)" : ""}`
]

/** The keys of a folder. Asking about one that has none must not make a file for them. */
export const withKeys = <A, E>(outputDir: string, none: A, use: Effect.Effect<A, E, ApiKeys>) =>
  Effect.suspend(() => {
    const file = fileOf(outputDir)
    return existsSync(file) ? Effect.provide(use, ApiKeysSqlite.layer({ file })) : Effect.succeed(none)
  })

const list = Command.make("list", {
  outputDir: Shared.outputDir,
  json: Options.boolean("json").pipe(Options.withDescription("Print one JSON array"))
}, (asked) =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const keys = yield* withKeys(asked.outputDir, [], Effect.flatMap(ApiKeys, ({ list }) => list))
    if (asked.json) return yield* printJson(keys.map(json))
    if (!Arr.isNonEmptyReadonlyArray(keys)) return yield* print("No keys")
    const rows = keys.map((key) => cellsOf(key, now))
    const table = Table.make(columns, rows, { all: true, fit: undefined })
    yield* Effect.forEach([table.header, ...rows.map(table.row)], print, { discard: true })
  })).pipe(Command.withDescription("List the keys, without what they are"))

const revoke = Command.make("revoke", {
  nameOrId: Args.text({ name: "name-or-id" }).pipe(
    Args.withDescription("All keys of a name, or the one that has this id")
  ),
  outputDir: Shared.outputDir
}, ({ nameOrId, outputDir }) =>
  Effect.gen(function*() {
    const revoked = yield* withKeys(outputDir, 0, Effect.flatMap(ApiKeys, ({ revoke }) => revoke(nameOrId)))
    if (revoked === 0) {
      return yield* new ExitCode.Exit({
        code: ExitCode.failed,
        line: `No key has the name or id ${nameOrId}; indexcp-server keys list shows those there are`
      })
    }
    yield* tell(`${count(revoked, "key")} revoked`)
  })).pipe(Command.withDescription("Revoke keys. A running server refuses them at once"))

/** The `indexcp-server keys` command. */
export const keys = Command.make("keys").pipe(
  Command.withDescription("Make, list and revoke keys with names"),
  Command.withSubcommands([add, list, revoke])
)
