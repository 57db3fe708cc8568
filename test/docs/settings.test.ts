import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Option } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { table } from "../../src/cli/serverSettings.ts"
import * as Settings from "../../src/cli/settings.ts"

const root = Path.join(import.meta.dirname, "../..")
const read = (...path: ReadonlyArray<string>) => Fs.readFileSync(Path.join(root, ...path), "utf8")

const flags = new Set(Object.keys(table).map(Settings.flagOf))
/** Options of the other commands and programs that these pages name. */
const others = new Set([
  "--config",
  "--output-dir",
  "--can",
  "--expires",
  "--prefix",
  "--json",
  "--no-simple",
  "--no-trust-proxy",
  "--foo-bar",
  "--help",
  "--all"
])

describe("The server's page", () => {
  const page = read("docs/SERVER.md")

  it("names no option that there is not", () => {
    const named = [...page.matchAll(/--[a-z][a-z0-9-]+/g)].map(([option]) => option)
    expect(named.filter((option) => !flags.has(option) && !others.has(option))).toEqual([])
  })

  it("names every setting, here or in the README", () => {
    const both = page + read("README.md")
    expect([...flags].filter((flag) => !both.includes(flag) && flag !== "--log-level")).toEqual([])
  })

  it("has the defaults of the settings in its tables", () => {
    const rows = [...page.matchAll(/^\| `(--[a-z0-9-]+)` \| (\S+)/gm)]
    expect(rows.length).toBeGreaterThan(8)
    for (const [, flag, shown] of rows) {
      const [, { standard }] = Object.entries<Settings.Setting<unknown>>(table).find(([name]) =>
        Settings.flagOf(name) === flag
      )!
      expect([flag, shown!.replace(/,$/, "")]).toEqual([flag, standard ?? "none"])
    }
  })
})

describe("The example file", () => {
  it.effect("is taken as it is", () =>
    Effect.gen(function*() {
      const file = Path.join(root, "examples/deploy/indexcp-server.json")
      const { values } = yield* Settings.resolve(table, {}, Option.some(file))
      expect(values).toMatchObject({ trustProxy: true, minFreeSpace: 5 * 1024 ** 3, metricsAddress: "127.0.0.1:9464" })
    }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))))
})
