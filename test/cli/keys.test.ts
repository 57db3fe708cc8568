import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Redacted } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { ApiKeys } from "../../src/server/ApiKeys.ts"
import * as ApiKeysSqlite from "../../src/server/ApiKeysSqlite.ts"
import { run, startServer, temporaryFolder } from "../support/cli.ts"

const keys = (folder: string, ...words: ReadonlyArray<string>) =>
  run("indexcp-server", ["keys", ...words, "--output-dir", folder])

/** An output folder that is not there yet. */
const newFolder = Effect.map(temporaryFolder, (folder) => Path.join(folder, "out"))

const find = (folder: string, key: string) =>
  Effect.flatMap(ApiKeys, (keys) => keys.find(Redacted.make(key))).pipe(
    Effect.provide(ApiKeysSqlite.layer({ file: ApiKeysSqlite.keysFile(folder) }))
  )

const day = 24 * 60 * 60 * 1000

describe("indexcp-server keys", () => {
  it.scopedLive("adds a key and prints it alone, before any server has run there, and while one runs", () =>
    Effect.gen(function*() {
      const folder = yield* newFolder
      const first = yield* keys(folder, "add", "alice")
      assert.strictEqual(first.code, 0)
      assert.match(first.stdout, /^[0-9a-f]{64}\n$/)
      assert.match(
        first.stderr,
        /^Key [0-9a-f]{8} of alice: may upload, read, abort, does not expire\n.*only this once/
      )
      assert.notInclude(first.stderr, first.stdout.trim())
      yield* startServer({ outputDir: folder })
      const second = yield* keys(folder, "add", "bob", "--can", "read,upload", "--prefix", "scans", "--expires=30d")
      assert.match(second.stderr, /of bob: may upload, read, puts files into scans\/, expires \d{4}-/)
      assert.deepStrictEqual(
        yield* find(folder, first.stdout.trim()),
        Option.some({
          name: "alice",
          can: ["upload", "read", "abort"] as const
        })
      )
      assert.deepStrictEqual(
        yield* find(folder, second.stdout.trim()),
        Option.some({
          name: "bob",
          can: ["upload", "read"] as const,
          prefix: "scans/"
        })
      )
    }))

  it.scopedLive("lists the keys without what they are, as a table or as JSON", () =>
    Effect.gen(function*() {
      const folder = yield* newFolder
      assert.include(yield* keys(folder, "list"), { code: 0, stdout: "No keys\n" })
      assert.include(yield* keys(folder, "list", "--json"), { code: 0, stdout: "[]\n" })
      assert.isFalse(Fs.existsSync(folder))

      const before = Date.now()
      const added = JSON.parse((yield* keys(folder, "add", "alice", "--expires", "30d", "--json")).stdout)
      yield* keys(folder, "add", "bob", "--expires", "500ms")
      const table = yield* Effect.repeat(keys(folder, "list"), { until: ({ stdout }) => stdout.includes("(expired)") })
      const json = yield* keys(folder, "list", "--json")

      assert.match(
        table.stdout,
        /^ID +NAME +MAY +CREATED +EXPIRES\n[0-9a-f]{8} +alice +upload,read,abort +\S+Z +\S+Z\n/
      )
      assert.match(table.stdout, /bob .*Z \(expired\)\n$/)
      const { key, ...described } = added
      const [first, second] = JSON.parse(json.stdout)
      assert.deepStrictEqual(first, described)
      assert.include(second, { name: "bob", prefix: null })
      const lifetime = Date.parse(first.expiresAt) - before
      assert.isTrue(lifetime >= 30 * day && lifetime < 30 * day + 60_000)
      assert.strictEqual((yield* find(folder, key))._tag, "Some")
      for (const { stderr, stdout } of [table, json]) assert.notMatch(stdout + stderr, /[0-9a-f]{64}/)
    }))

  it.scopedLive("revokes by name or id and says how many; code 3 when there is none", () =>
    Effect.gen(function*() {
      const folder = yield* newFolder
      const none = "No key has the name or id alice; indexcp-server keys list shows those there are\n"
      assert.include(yield* keys(folder, "revoke", "alice"), { code: 3, stdout: "", stderr: none })
      assert.isFalse(Fs.existsSync(folder))

      const add = Effect.map(keys(folder, "add", "alice", "--json"), ({ stdout }) => JSON.parse(stdout))
      const [first] = [yield* add, yield* add, yield* add]
      assert.include(yield* keys(folder, "revoke", first.id), { code: 0, stdout: "", stderr: "1 key revoked\n" })
      assert.strictEqual((yield* find(folder, first.key))._tag, "None")
      assert.include(yield* keys(folder, "revoke", "alice"), { code: 0, stderr: "2 keys revoked\n" })
      assert.include(yield* keys(folder, "revoke", "alice"), { code: 3, stderr: none })
    }))

  it.scopedLive("refuses what makes no sense with code 2, and says what would", () =>
    Effect.gen(function*() {
      const folder = yield* newFolder
      const cases: ReadonlyArray<readonly [ReadonlyArray<string>, string]> = [
        [["add", "a b"], "A key's name has 1 to 64 of the characters"],
        [["add"], "Missing argument <name>"],
        [["add", "a", "--can", "fly"], "--can takes one or more of upload,read,abort"],
        [["add", "a", "--can", ""], "--can takes one or more of upload,read,abort"],
        [["add", "a", "--can", "read,fly"], "--can takes one or more of upload,read,abort"],
        [["add", "a", "--expires", "never"], "Not a time: never. Write 30s, 10m, 2h or 7d"],
        [["add", "a", "--expires", "99999999999d"], "A key expires at a time in the future"],
        [["add", "a", "--prefix", "../up/"], "is no folder inside the output folder"],
        [["add", "a", "--prefix", ".indexedcp/parts/"], "is no folder inside the output folder"],
        [["add", "a", "--prefx", "b/"], "Unknown option --prefx. Did you mean --prefix?"],
        [["revoke"], "Missing argument <name-or-id>"],
        [["rotate"], "Unknown command rotate"]
      ]
      for (const [words, line] of cases) {
        const { code, stderr, stdout } = yield* keys(folder, ...words)
        assert.deepStrictEqual([words, code, stdout], [words, 2, ""])
        assert.include(stderr, line)
      }
      assert.include(yield* keys(folder, "list"), { stdout: "No keys\n" })
    }))

  it.scopedLive("says in one line that the keys cannot be read, with code 3", () =>
    Effect.gen(function*() {
      const folder = yield* newFolder
      yield* keys(folder, "add", "alice")
      Fs.writeFileSync(ApiKeysSqlite.keysFile(folder), "nonsense ".repeat(1000))
      const { code, stderr } = yield* keys(folder, "list")
      assert.strictEqual(code, 3)
      assert.match(stderr, /^The keys file \S+keys\.db cannot be opened; .*\n$/)
    }))

  it.effect("shows help when nothing is asked", () =>
    Effect.gen(function*() {
      const help = yield* run("indexcp-server", ["keys"])
      assert.strictEqual(help.code, 0)
      for (const command of ["add [options] <name>", "list [options]", "revoke [options] <name-or-id>"]) {
        assert.include(help.stdout, command)
      }
      assert.include((yield* run("indexcp-server", ["--help"])).stdout, "indexcp-server keys add | list | revoke")
    }))
})
