import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync, readFileSync } from "node:fs"
import * as Path from "node:path"
import { sections, table } from "../../src/cli/serverSettings.ts"
import { flagOf } from "../../src/cli/settings.ts"
import { folderWith, run, temporaryHome, workIn } from "../support/cli.ts"

const { version } = JSON.parse(readFileSync(Path.join(import.meta.dirname, "../../package.json"), "utf8")) as {
  readonly version: string
}

const client = (...words: ReadonlyArray<string>) => run("indexcp", words)
const server = (...words: ReadonlyArray<string>) => run("indexcp-server", words)

/** One line on stderr, and nothing else. */
const refused = (line: string) => ({ code: 2, stdout: "", stderr: `${line}\n` })

const unknown = (option: string, nearest: string) =>
  `Unknown option ${option}. Did you mean ${nearest}? (An argument that begins with - goes behind --)`

const inHomeWith = (files: Readonly<Record<string, string>>) =>
  Effect.andThen(temporaryHome, Effect.flatMap(folderWith(files), workIn))

describe("help", () => {
  it.live("is printed by indexcp without words, by help, --help and -h, with code 0", () =>
    Effect.gen(function*() {
      const help = yield* client()
      assert.deepInclude(help, { code: 0, stderr: "" })
      for (
        const command of ["add", "list", "upload", "watch", "buffer-and-upload", "verify", "remove", "retry", "clear"]
      ) {
        assert.match(help.stdout, new RegExp(`^  - ${command} \\[options\\].*\\n      [A-Z]`, "m"))
      }
      for (const name of ["INDEXCP_API_KEY", "EXIT CODES", "--version", "--completions", "help <command>"]) {
        assert.include(help.stdout, name)
      }
      for (const words of [["help"], ["--help"], ["-h"]]) assert.deepStrictEqual(yield* client(...words), help)
    }))

  it.live("of a command names its arguments, options and defaults", () =>
    Effect.gen(function*() {
      const help = yield* client("help", "buffer-and-upload")
      assert.strictEqual(help.code, 0)
      const usage =
        "$ indexcp buffer-and-upload [--db-name name] [--chunk-size size] [--max-buffer size] [--api-key key] "
      assert.include(help.stdout, usage)
      assert.include(help.stdout, "<file>... <url>\n")
      assert.include(help.stdout, "~/.indexcp/<name>.db. Default: indexcp")
      assert.notInclude(help.stdout, "user-defined")
      for (const words of [["buffer-and-upload", "--help"], ["buffer-and-upload", "x", "-h", "--json"]]) {
        assert.deepStrictEqual(yield* client(...words), help)
      }
    }))

  it.live("has no colours and no empty end where no terminal is", () =>
    Effect.gen(function*() {
      for (const { stdout } of [yield* client("help"), yield* server("help"), yield* client("--version")]) {
        assert.notInclude(stdout, "\u001b")
        assert.match(stdout, /\S\n$/)
      }
    }))

  it.live("of the server names every option", () =>
    Effect.gen(function*() {
      const help = yield* server("help")
      assert.deepInclude(help, { code: 0, stderr: "" })
      for (const name of Object.keys(table)) {
        assert.match(help.stdout, new RegExp(`^  ${flagOf(name)}( .+)?\n {6}\\S`, "m"))
      }
      for (const title of Object.keys(sections)) {
        assert.include(help.stdout, `\n\n${title}\n\n  --`)
      }
      assert.include(help.stdout, "INDEXCP_FOO_BAR in the environment and fooBar in the JSON file of --config")
      assert.deepStrictEqual(yield* server("--help"), help)
    }))
})

describe("what the parser brings along", () => {
  it.live("--version prints the version of the package", () =>
    Effect.gen(function*() {
      const expected = { code: 0, stdout: `${version}\n`, stderr: "" }
      assert.deepStrictEqual(yield* client("--version"), expected)
      assert.deepStrictEqual(yield* client("list", "--version"), expected)
      assert.deepStrictEqual(yield* server("--version"), expected)
    }))

  it.live("--completions prints a script for each shell", () =>
    Effect.gen(function*() {
      for (const shell of ["bash", "zsh", "fish", "sh"]) {
        const completions = yield* client("--completions", shell)
        assert.deepInclude(completions, { code: 0, stderr: "" })
        assert.include(completions.stdout, "buffer")
      }
      assert.deepStrictEqual(
        yield* client("--completions", "csh"),
        refused("--completions is one of bash, zsh, fish, sh")
      )
    }))

  it.live("a wizard, which would wait for ever without a terminal, is no option", () =>
    Effect.gen(function*() {
      assert.include(yield* client("--wizard"), { code: 2, stdout: "" })
      assert.include(yield* client("add", "--wizard"), { code: 2, stdout: "" })
    }))
})

describe("usage errors are one line, code 2, and nothing is done", () => {
  const cases: ReadonlyArray<readonly [words: ReadonlyArray<string>, line: string]> = [
    [["adda", "x"], "Unknown command adda. Did you mean add?"],
    [["server", "3000", "./uploads"], "Unknown command server. The server is a program of its own: indexcp-server"],
    [["help", "lst"], "Unknown command lst. Did you mean list?"],
    [[""], "Unknown command . Did you mean add?"],
    [["--json"], "A command is missing: one of "],
    [["list", "--jsno"], unknown("--jsno", "--json")],
    [["--jsno", "list"], unknown("--jsno", "--json")],
    [["add", "x", "--db-nam=y"], unknown("--db-nam", "--db-name")],
    [["add", "-x"], unknown("-x", "-h")],
    [["list", "--api-key", "k"], unknown("--api-key", "--all")],
    [["add", "a.txt", "--chunk-size"], "--chunk-size needs a value, like --chunk-size=…"],
    [["add", "a.txt", "--db-name", "--"], "--db-name needs a value, like --db-name=…"],
    [["list", "--db-name", "--json"], "--db-name needs a value, like --db-name=…"],
    [["add", "a.txt", "--db-name", "b", "--db-name=c"], "--db-name is given more than once"],
    [["list", "--json=yes"], "--json takes no value"],
    [["list", "yes"], "Received unknown argument: 'yes'"],
    [["list", "--json", "yes"], "Received unknown argument: 'yes'"],
    [["add"], "Missing argument <path>"],
    [["upload", "a", "b"], "Received unknown argument: 'b'"],
    [["buffer-and-upload", "a.txt"], "Missing argument <url>"],
    [["buffer-and-upload"], "Missing argument <file>"],
    [["watch", "."], "Missing argument <url>"],
    [["remove"], "Missing argument <name>"],
    [["add", "-"], "Standard input needs a --name (a file called - is ./-)"],
    [["add", "a.txt", "a.txt", "--name", "b"], "--name is for one file, and there are several"],
    [["add", "a.txt", "--name", ""], "--name is empty"],
    [["add", "a.txt", "--to", "nowhere"], "Not a URL: nowhere. Give one like http://127.0.0.1:3000/upload"],
    [["upload", "http://x", "--parallel", "0"], "--parallel is a whole number from 1 to 1000"],
    [["upload", "http://x", "--limit-rate", "0"], "Not a rate: 0. Write 5MB/s or 500KiB/s"],
    [["upload", "http://x", "--limit-rate", "5MB/m"], "Not a rate: 5MB/m. Write 5MB/s or 500KiB/s"],
    [["upload", "http://x", "--give-up-after", "2"], "Not a time: 2. Write 30s, 10m, 2h or 7d"],
    [["upload", "http://x", "--stall-timeout", "0s"], "Not a time: 0s. Write 30s, 10m, 2h or 7d"],
    [["upload", "http://x", "--cacert", "missing.pem"], "--cacert missing.pem cannot be read: NotFound"],
    [["upload", "http://x", "--cacert", "a.txt"], "There is no certificate in the text"],
    [["add", "a.txt", "--max-buffer", "much"], "Not a size: much. Write 64KiB, 5MB or a number of bytes"],
    [["add", "a.txt", "--chunk-size", "12q"], "Not a size: 12q. Write 64KiB, 5MB or a number of bytes"],
    [["add", "a.txt", "--chunk-size="], "Not a size: . Write 64KiB, 5MB or a number of bytes"],
    [["add", "a.txt", "--chunk-size", "0"], "The chunk size is 0; choose a whole number of bytes from 1 to 16777216"],
    [
      ["add", "a.txt", "--chunk-size", "17MiB"],
      "The chunk size is 17825792; choose a whole number of bytes from 1 to "
    ],
    [["add", "a.txt", "--db-name", "../x"], "--db-name is a name, not a path: ../x"],
    [["add", "a.txt", "--db-name", ""], "--db-name is a name, not a path: "],
    [["upload", "nowhere"], "Not a URL: nowhere. Give one like http://127.0.0.1:3000/upload"],
    [["buffer-and-upload", "a.txt", "ftp://x"], "Not a URL: ftp://x. Give one like http://127.0.0.1:3000/upload"],
    [["upload", "http://x", "--max-retries", "-1"], "--max-retries is a whole number from 0 to "],
    [["list", "--log-level", "loud"], "--log-level is one of all, "]
  ]

  it.live.each(cases)("indexcp %j: %s", ([words, line]) =>
    Effect.scoped(Effect.gen(function*() {
      yield* inHomeWith({ "a.txt": "a" })
      const { code, stderr, stdout } = yield* client(...words)
      assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
      assert.match(stderr, /^[^\n]+\n$/)
      assert.strictEqual(stderr.slice(0, line.length), line)
      if (!existsSync(Path.join(process.env["HOME"] ?? "", ".indexcp"))) return
      assert.include(yield* client("list"), { stdout: "No files in buffer\n" })
    })))

  const serverCases: ReadonlyArray<readonly [words: ReadonlyArray<string>, line: string]> = [
    [["--prot", "1"], unknown("--prot", "--port")],
    [["--port", "65536"], "--port is a whole number from 0 to 65535"],
    [["--port", "x"], "--port is a whole number from 0 to 65535"],
    [["--port"], "--port needs a value, like --port=…"],
    [["--host", ""], "--host is an address, like 127.0.0.1 or 0.0.0.0"],
    [["--on-conflict", "merge"], "--on-conflict is one of rename, overwrite, reject"],
    [["--log-level", "loud"], "--log-level is one of trace, debug, info, warning, error, fatal, none"],
    [["--simple", "--no-simple"], "--simple and --no-simple exclude each other"],
    [["folder"], "Received unknown argument: 'folder'"],
    [["--simple", "yes"], "Received unknown argument: 'yes'"]
  ]

  it.live.each(serverCases)("indexcp-server %j: %s", ([words, line]) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* server(...words), refused(line))
    }))
})

describe("options and arguments", () => {
  it.scopedLive("stand in any order", () =>
    Effect.gen(function*() {
      yield* inHomeWith({ "a.txt": "12345" })
      const added = { code: 0, stdout: "a.txt  3 chunks\n", stderr: "" }
      assert.deepStrictEqual(yield* client("add", "--chunk-size", "2", "--db-name=1", "a.txt"), added)
      assert.deepStrictEqual(yield* client("add", "a.txt", "--chunk-size=2", "--db-name", "2"), added)
      assert.deepStrictEqual(yield* client("--db-name", "3", "add", "--chunk-size", "2", "a.txt"), added)
      for (const name of ["1", "2", "3"]) {
        assert.match((yield* client("list", "--db-name", name)).stdout, /\na\.txt .*\n$/)
      }
    }))

  it.scopedLive("behind -- are arguments, whatever they begin with; ./- is the file called -", () =>
    Effect.gen(function*() {
      const names = ["--version", "--help", "-x", "--db-name=y", "--wizard", "-"]
      yield* inHomeWith(Object.fromEntries(names.map((name) => [name, "x"])))
      assert.deepStrictEqual(yield* client("add", "./-", "--", ...names.slice(0, -1)), {
        code: 0,
        stdout: ["./-", ...names.slice(0, -1)].map((name) => `${name}  1 chunk\n`).join(""),
        stderr: ""
      })
    }))

  it.scopedLive("named like a command, or like the value of a flag, are arguments", () =>
    Effect.gen(function*() {
      yield* inHomeWith({ list: "x", true: "x" })
      assert.include(yield* client("add", "list", "true"), { stdout: "list  1 chunk\ntrue  1 chunk\n" })
      const sent = yield* client("buffer-and-upload", "--json", "true", "http://127.0.0.1:1")
      assert.include(sent.stdout, `"name":"true"`)
    }))

  it.scopedLive.each([
    ["1KiB", 3],
    ["1kib", 3],
    ["1KB", 4],
    ["1.5 kb", 3],
    ["3072", 1],
    ["3071B", 2],
    ["16MiB", 1]
  ])("--chunk-size %s makes %d chunks of 3072 bytes", ([size, chunks]) =>
    Effect.gen(function*() {
      yield* inHomeWith({ "a.txt": "x".repeat(3072) })
      const { stdout } = yield* client("add", "a.txt", "--chunk-size", String(size))
      assert.strictEqual(stdout, `a.txt  ${chunks} chunk${chunks === 1 ? "" : "s"}\n`)
    }))
})
