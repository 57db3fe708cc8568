import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Option } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { table } from "../../src/cli/serverSettings.ts"
import * as Settings from "../../src/cli/settings.ts"

const root = Path.join(import.meta.dirname, "../..")
const read = (...path: ReadonlyArray<string>) => Fs.readFileSync(Path.join(root, ...path), "utf8")

const names = Object.keys(table)
const flags = new Set(names.map(Settings.flagOf))
const variables = new Set(names.map(Settings.variableOf))

/** Options of the other commands and programs that the page names. */
const others = new Set([
  "--config",
  "--can",
  "--expires",
  "--prefix",
  "--json",
  "--no-simple",
  "--no-trust-proxy",
  "--foo-bar",
  "--all",
  "--free-early",
  "--stall-timeout",
  "--time"
])

/** Variables that are no settings: the file of settings, an example, and those of a command for each file. */
const otherVariables = new Set([
  "INDEXCP_CONFIG",
  "INDEXCP_FOO_BAR",
  "INDEXCP_NAME",
  "INDEXCP_PATH",
  "INDEXCP_SIZE",
  "INDEXCP_SHA256",
  "INDEXCP_KEY_NAME",
  "INDEXCP_CLIENT_NAME",
  "INDEXCP_UPLOAD_ID"
])

/** As a reader is shown it. */
const shown = ({ kind, standard }: Settings.Setting<unknown>): string =>
  kind.form === "flag" ? "off" : standard === undefined || standard === "" ? "none" : standard

const wordsOf = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([word]) => word)

const deployed = Fs.readdirSync(Path.join(root, "examples/deploy"))

/** The page's own JSON, and the example file. */
const files = (page: string) => [
  ...[...page.matchAll(/```json\n([^`]*)```/g)].map(([, json]) => json!),
  read("examples/deploy/indexcp-server.json")
]

describe("The server's page", () => {
  const page = read("docs/SERVER.md")

  it("names no option and no variable that there is not", () => {
    expect(wordsOf(page, /--[a-z][a-z0-9-]+/g).filter((option) => !flags.has(option) && !others.has(option))).toEqual(
      []
    )
    expect(
      wordsOf(page, /INDEXCP_[A-Z0-9_]+/g).filter((name) =>
        !variables.has(name) && !otherVariables.has(name) && name !== "INDEXCP_API_KEY"
      )
    ).toEqual([])
  })

  it("has every setting in a table, once, with its default", () => {
    const rows = [...page.matchAll(/^\| `(--[a-z0-9-]+)` \| (\S+)/gm)].map(([, flag, standard]) => [flag, standard])
    const all = Object.entries<Settings.Setting<unknown>>(table).map(([name, setting]) => [
      Settings.flagOf(name),
      shown(setting)
    ])
    expect(rows.toSorted()).toEqual(all.toSorted())
  })

  it("links to every example, and to headings that it has", () => {
    const headings = [...page.matchAll(/^## (.*)$/gm)].map(([, text]) =>
      text!.toLowerCase().replace(/[^a-z0-9 -]/g, "").replaceAll(" ", "-")
    )
    for (const [, anchor] of page.matchAll(/\]\(#([^)]*)\)/g)) expect(headings).toContain(anchor)
    for (const file of deployed.filter((file) => !file.endsWith(".dockerignore"))) {
      expect(page).toContain(`../examples/deploy/${file})`)
    }
  })
})

describe("The examples for operators", () => {
  it.effect("have settings that are taken as they are", () =>
    Effect.gen(function*() {
      const page = read("docs/SERVER.md")
      expect(files(page).length).toBe(2)
      for (const text of files(page)) {
        const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "indexedcp-docs-"))
        const file = Path.join(folder, "settings.json")
        Fs.writeFileSync(file, text)
        const { values } = yield* Settings.resolve(table, {}, Option.some(file))
        Fs.rmSync(folder, { recursive: true })
        expect(values).toMatchObject({ trustProxy: true, pathMode: "allow-paths", minFreeSpace: 5 * 1024 ** 3 })
      }
    }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))))

  it("name no variable that there is not", () => {
    const text = deployed.map((file) => read("examples/deploy", file)).join("\n")
    const named = wordsOf(text, /INDEXCP_[A-Z0-9_]+/g)
    expect(named.length).toBeGreaterThan(4)
    expect(named.filter((name) => !variables.has(name))).toEqual([])
  })

  it("give the server more time to stop than it takes", () => {
    const unit = read("examples/deploy/indexcp-server.service")
    const commands = 10
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1])).toBeGreaterThan(
      Number.parseInt(table.drainTimeout.standard!, 10) + commands
    )
  })
})
