import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { mkdirSync, readdirSync, writeFileSync } from "node:fs"
import * as Path from "node:path"
import { bytesOf, contentOf, folderWith, run, startServer, temporaryHome } from "../support/cli.ts"

const variables = { INDEXCP_API_KEY: "k" }
const client = (...words: ReadonlyArray<string>) => run("indexcp", words, variables)

/** What list names. */
const listed = Effect.map(
  client("list", "--json"),
  ({ stdout }) => (JSON.parse(stdout) as ReadonlyArray<{ readonly name: string }>).map(({ name }) => name)
)

const counts = { delivered: 0, failed: 0, unconfirmed: 0, waiting: 0, claimed: 0, skipped: 0 }

const hex = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

/** A home, and absolute paths of files in a folder. */
const filesIn = <Name extends string>(files: Readonly<Record<Name, Uint8Array | string>>) =>
  Effect.gen(function*() {
    const home = yield* temporaryHome
    const folder = yield* folderWith(files)
    return { home, folder, at: (name: Name | "missing") => Path.join(folder, name) }
  })

const jsonLines = (text: string) =>
  text.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>)

describe("add", () => {
  it.scopedLive("prints a line a file, and makes the buffer at ~/.indexcp/<db-name>.db", () =>
    Effect.gen(function*() {
      const { at, home } = yield* filesIn({ a: bytesOf(2500), empty: "" })
      assert.deepStrictEqual(yield* client("add", at("a"), at("empty"), "--chunk-size", "1KB", "--db-name", "mine"), {
        code: 0,
        stdout: `${at("a")}  3 chunks\n${at("empty")}  0 chunks\n`,
        stderr: ""
      })
      assert.include(readdirSync(Path.join(home, ".indexcp")), "mine.db")
      assert.include(yield* client("list"), { stdout: "No files in buffer\n" })
    }))

  it.scopedLive("adds the others when one cannot be read, says which, and ends with 3", () =>
    Effect.gen(function*() {
      const { at, folder } = yield* filesIn({ a: "1", b: "2" })
      assert.deepStrictEqual(yield* client("add", at("a"), at("missing"), folder, at("b")), {
        code: 3,
        stdout: `${at("a")}  1 chunk\n${at("b")}  1 chunk\n`,
        stderr: `File not found: ${
          at("missing")
        }\n${folder} is a folder, not a file; with -r the files below it are taken\n`
      })
    }))

  it.scopedLive("says that a file added again replaces itself", () =>
    Effect.gen(function*() {
      const { at } = yield* filesIn({ a: "1" })
      yield* client("add", at("a"))
      assert.deepInclude(yield* client("add", at("a")), {
        code: 0,
        stderr: `${at("a")} was in the buffer already; it is replaced\n`
      })
      assert.deepStrictEqual(yield* listed, [at("a")])
    }))
})

describe("clear", () => {
  it.scopedLive("empties the buffer and prints no result", () =>
    Effect.gen(function*() {
      const { at } = yield* filesIn({ a: "1" })
      yield* client("add", at("a"))
      assert.deepStrictEqual(yield* client("clear"), { code: 0, stdout: "", stderr: "Buffer cleared\n" })
      assert.include(yield* client("list"), { stdout: "No files in buffer\n" })
    }))
})

describe("upload", () => {
  it.scopedLive("prints path and server name a file, to a URL without a path", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { at } = yield* filesIn({ a: bytesOf(3000), empty: "" })
      yield* client("add", at("a"), at("empty"), "--chunk-size=1KB")
      const { code, stderr, stdout } = yield* client("upload", server.url)
      assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: `${at("a")} -> a\n${at("empty")} -> empty\n` })
      assert.strictEqual(stderr, `${at("a")}: sending 2.93 KiB\n${at("empty")}: sending 0 B\n`)
      assert.isTrue(bytesOf(3000).equals(yield* contentOf(server.folder, "a")))
      assert.include(yield* client("list"), { stdout: "No files in buffer\n" })
    }))

  it.scopedLive("has nothing to do with an empty buffer: code 0, without a server, without a key", () =>
    Effect.gen(function*() {
      yield* temporaryHome
      assert.deepStrictEqual(yield* run("indexcp", ["upload", "http://127.0.0.1:1"]), {
        code: 0,
        stdout: "",
        stderr: "No files in buffer\n"
      })
      assert.deepStrictEqual(yield* run("indexcp", ["upload", "--json", "http://127.0.0.1:1"]), {
        code: 0,
        stdout: `${JSON.stringify({ type: "summary", files: [], counts })}\n`,
        stderr: ""
      })
    }))

  it.scopedLive("with --json prints an object a line, the last one what became of each file", () =>
    Effect.gen(function*() {
      const server = yield* startServer({ onConflict: "reject" })
      const { at } = yield* filesIn({ a: bytesOf(3000), taken: "x" })
      writeFileSync(Path.join(server.folder, "taken"), "mine")
      yield* client("add", at("taken"), at("a"), "--chunk-size=1KB")
      const { code, stderr, stdout } = yield* client("upload", "--json", server.url)
      const lines = jsonLines(stdout)
      assert.strictEqual(code, 3)
      const about = { name: at("a"), size: 3000 }
      const ofA = lines.filter(({ name }) => name === at("a"))
      assert.deepStrictEqual(ofA[0], { type: "started", ...about, acknowledged: 0 })
      const progress = ofA.filter(({ type }) => type === "progress").map(({ acknowledged }) => Number(acknowledged))
      assert.deepStrictEqual(progress, progress.toSorted((one, other) => one - other))
      assert.strictEqual(progress.at(-1), 3000)
      assert.deepStrictEqual(lines.at(-1)?.["counts"], { ...counts, delivered: 1, failed: 1 })
      const files = lines.at(-1)?.["files"] as ReadonlyArray<Record<string, unknown>>
      assert.strictEqual(files.length, 2)
      const [failed] = files.filter(({ name }) => name === at("taken"))
      assert.deepStrictEqual({ ...failed, error: "" }, {
        name: at("taken"),
        serverName: null,
        size: 1,
        sha256: hex(Buffer.from("x")),
        state: "failed",
        error: ""
      })
      assert.include(stderr, `${at("taken")}: ${String(failed?.["error"])}\n`)
      const [sent] = files.filter(({ name }) => name === at("a"))
      assert.deepStrictEqual(sent, { ...about, serverName: "a", sha256: hex(bytesOf(3000)), state: "delivered" })
      assert.deepStrictEqual(ofA.at(-1), { type: "file", ...sent })
      assert.include(JSON.parse((yield* client("list", "--json")).stdout)[0], { error: failed?.["error"] })
    }))

  it.scopedLive("ends with 3 when a URL leads elsewhere, and the data is kept", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { at } = yield* filesIn({ a: "1" })
      yield* client("add", at("a"))
      const { code, stderr, stdout } = yield* client("upload", `${server.url}/elsewhere`)
      assert.deepStrictEqual({ code, stdout }, { code: 3, stdout: "" })
      assert.match(stderr, /\n[^\n]*404[^\n]*Check the URL[^\n]*\n$/)
      assert.deepStrictEqual(yield* listed, [at("a")])
    }))

  it.scopedLive("tells each try while it waits, and gives up with 5 after --max-retries", () =>
    Effect.gen(function*() {
      const { at } = yield* filesIn({ a: "1" })
      yield* client("add", at("a"))
      const { code, stderr, stdout } = yield* client("upload", "--max-retries", "1", "http://127.0.0.1:1")
      assert.deepStrictEqual({ code, stdout }, { code: 5, stdout: "" })
      assert.match(stderr, /: sending 1 B\n.*; next try in 1 s\n.*: Gave up after 2 tries: .*\n$/)
      assert.deepStrictEqual(yield* listed, [at("a")])
    }))
})

describe("buffer-and-upload", () => {
  it.scopedLive("sends that file alone, and leaves what is in the buffer", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { at } = yield* filesIn({ a: "1", b: "2" })
      yield* client("add", at("a"))
      assert.deepInclude(yield* client("buffer-and-upload", at("b"), `${server.url}/upload`), {
        code: 0,
        stdout: `${at("b")} -> b\n`
      })
      assert.deepStrictEqual(yield* listed, [at("a")])
    }))

  it.scopedLive("ends with 3 without the file, and can be asked again after there was no server", () =>
    Effect.gen(function*() {
      const { at } = yield* filesIn({ a: "1" })
      assert.deepStrictEqual(yield* client("buffer-and-upload", at("missing"), "http://127.0.0.1:1"), {
        code: 3,
        stdout: "",
        stderr: `File not found: ${at("missing")}\n`
      })
      const { code } = yield* client("buffer-and-upload", at("a"), "http://127.0.0.1:1", "--max-retries=0")
      assert.strictEqual(code, 5)
      const server = yield* startServer()
      assert.include(yield* client("buffer-and-upload", at("a"), server.url), { stdout: `${at("a")} -> a\n` })
    }))
})

describe("the key", () => {
  const warning =
    "Warning: a key on the command line can be read by others on this machine; set INDEXCP_API_KEY instead\n"

  it.scopedLive.each(
    [
      ["--api-key before all else, with a warning", ["--api-key", "k"], { INDEXCP_API_KEY: "no" }, true],
      ["--api-key=", ["--api-key=k"], {}, true],
      ["INDEXCP_API_KEY before INDEXEDCP_API_KEY", [], { INDEXCP_API_KEY: "k", INDEXEDCP_API_KEY: "no" }, false],
      ["INDEXEDCP_API_KEY", [], { INDEXEDCP_API_KEY: "k" }, false],
      ["the environment's when --api-key is empty", ["--api-key", ""], { INDEXCP_API_KEY: "k" }, false]
    ] as const
  )("is taken from %s", ([, words, variables, warns]) =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { at } = yield* filesIn({ a: "1" })
      const sent = yield* run("indexcp", ["buffer-and-upload", at("a"), server.url, ...words], variables)
      assert.deepInclude(sent, { code: 0, stdout: `${at("a")} -> a\n` })
      assert.strictEqual(sent.stderr.startsWith(warning), warns)
    }))

  it.scopedLive("that is missing or refused ends with 4, and the data is kept", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { at } = yield* filesIn({ a: "1" })
      yield* client("add", at("a"))
      const missing = yield* run("indexcp", ["upload", server.url])
      assert.deepInclude(missing, { code: 4, stdout: "" })
      assert.match(missing.stderr, /\nNo API key: set INDEXCP_API_KEY [^\n]+\n$/)
      const wrong = yield* run("indexcp", ["upload", server.url], { INDEXCP_API_KEY: "wrong-key" })
      assert.deepInclude(wrong, { code: 4, stdout: "" })
      assert.match(wrong.stderr, /\n[^\n]*401[^\n]*Check the API key\n$/)
      assert.notInclude(wrong.stderr, "wrong-key")
      assert.deepInclude(yield* client("upload", server.url), { code: 0, stdout: `${at("a")} -> a\n` })
    }))
})

describe("an unusable buffer", () => {
  it.scopedLive("ends with 1 and one line, and stays as it is", () =>
    Effect.gen(function*() {
      const home = yield* temporaryHome
      mkdirSync(Path.join(home, ".indexcp"))
      const file = Path.join(home, ".indexcp/indexcp.db")
      writeFileSync(file, "no database".repeat(100))
      for (const words of [["list"], ["clear"], ["upload", "http://127.0.0.1:1"]]) {
        const { code, stderr, stdout } = yield* client(...words)
        assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
        assert.match(stderr, /^[^\n]+indexcp\.db is damaged or no SQLite database[^\n]+\n$/)
      }
      assert.strictEqual((yield* contentOf(file)).toString(), "no database".repeat(100))
    }))
})
