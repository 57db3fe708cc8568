import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, writeFileSync } from "node:fs"
import * as Path from "node:path"
import * as ExitCode from "../../src/cli/ExitCode.ts"
import { bytesOf, contentOf, folderWith, run, startServer, temporaryHome, workIn } from "../support/cli.ts"

const client = (...words: ReadonlyArray<string>) => run("indexcp", words, { INDEXCP_API_KEY: "k" })

const inFolderWith = (files: Readonly<Record<string, Uint8Array | string>>) =>
  Effect.gen(function*() {
    yield* temporaryHome
    const folder = yield* folderWith(files)
    yield* workIn(folder)
    return folder
  })

const jsonLines = (text: string) =>
  text.trimEnd().split("\n").map((line) => JSON.parse(line) as Record<string, unknown>)

const sorted = (text: string) => text.trimEnd().split("\n").sort()

describe("buffer-and-upload", () => {
  it.scopedLive("sends several files and folders, and leaves the buffer as it is", () =>
    Effect.gen(function*() {
      const folder = yield* inFolderWith({ a: "a" })
      mkdirSync(Path.join(folder, "photos"))
      writeFileSync(Path.join(folder, "photos/1.jpg"), "1")
      const server = yield* startServer()
      const { code, stdout } = yield* client("buffer-and-upload", "-r", "a", "photos", server.url)
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(sorted(stdout), ["a -> a", "photos/1.jpg -> 1.jpg"])
      assert.include(yield* client("list"), { stdout: "No files in buffer\n" })
    }))

  it.scopedLive("goes on when some cannot be read, and ends with 3", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a", b: "b" })
      const server = yield* startServer()
      const { code, stderr, stdout } = yield* client("buffer-and-upload", "a", "missing", "b", server.url)
      assert.strictEqual(code, 3)
      assert.deepStrictEqual(sorted(stdout), ["a -> a", "b -> b"])
      assert.include(stderr, "File not found: missing\n")
      const asJson = yield* client("buffer-and-upload", "missing", "--json", server.url)
      assert.strictEqual(asJson.code, 3)
      const error = "File not found: missing"
      assert.deepStrictEqual(jsonLines(asJson.stdout), [
        { type: "skipped", name: "missing", error },
        {
          type: "summary",
          files: [{ name: "missing", state: "skipped", error }],
          counts: { delivered: 0, failed: 0, unconfirmed: 0, waiting: 0, claimed: 0, skipped: 1 }
        }
      ])
    }))

  it.scopedLive("has nothing to do with an empty folder", () =>
    Effect.gen(function*() {
      const folder = yield* inFolderWith({})
      mkdirSync(Path.join(folder, "empty"))
      assert.deepStrictEqual(yield* client("buffer-and-upload", "-r", "empty", "http://127.0.0.1:1"), {
        code: 0,
        stdout: "",
        stderr: "No files to send\n"
      })
    }))

  it.scopedLive("sends under another name", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a" })
      const server = yield* startServer()
      assert.include(yield* client("buffer-and-upload", "a", "--name", "b.txt", server.url), {
        stdout: "a -> b.txt\n"
      })
    }))
})

describe("--quiet", () => {
  it.scopedLive("prints nothing of what goes well", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a" })
      const server = yield* startServer()
      yield* client("add", "a")
      assert.deepStrictEqual(yield* client("upload", "--quiet", server.url), { code: 0, stdout: "", stderr: "" })
      assert.strictEqual((yield* contentOf(server.folder, "a")).toString(), "a")
      assert.deepStrictEqual(yield* client("upload", "-q", server.url), { code: 0, stdout: "", stderr: "" })
    }))

  it.scopedLive("prints errors", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a" })
      const { code, stderr, stdout } = yield* client(
        "buffer-and-upload",
        "a",
        "--quiet",
        "http://127.0.0.1:1",
        "--max-retries=1"
      )
      assert.deepStrictEqual({ code, stdout }, { code: 5, stdout: "" })
      assert.match(stderr, /^a: Gave up after 2 tries: [^\n]*\n$/)
    }))

  it.scopedLive("with --json prints the summary alone", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a" })
      const server = yield* startServer()
      const { stderr, stdout } = yield* client("buffer-and-upload", "a", "-q", "--json", server.url)
      assert.strictEqual(stderr, "")
      assert.deepStrictEqual(jsonLines(stdout).map(({ type }) => type), ["summary"])
    }))
})

describe("what a person is warned of", () => {
  const plain = (host: string) =>
    `Warning: http://${host} is not encrypted; the key and the files can be read on the way\n`

  it.scopedLive("plain HTTP to another machine, once for each host", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a", b: "b" })
      const give = ["--max-retries=0", "--quiet"]
      // both names lead nowhere
      const { stderr } = yield* client("buffer-and-upload", "a", "http://nowhere.invalid:1", ...give)
      assert.isTrue(stderr.startsWith(plain("nowhere.invalid:1")))
      yield* client("add", "a", "--to", "http://one.invalid")
      yield* client("add", "b", "--to", "http://two.invalid")
      const many = yield* client("upload", ...give)
      assert.isTrue(many.stderr.startsWith(plain("one.invalid") + plain("two.invalid")))
      for (const url of ["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1", "https://nowhere.invalid"]) {
        assert.notInclude((yield* client("buffer-and-upload", "a", url, ...give)).stderr, "Warning")
      }
    }))

  it.scopedLive("--insecure", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a" })
      const server = yield* startServer()
      const { code, stderr } = yield* client("buffer-and-upload", "a", "--insecure", server.url)
      assert.strictEqual(code, 0)
      assert.isTrue(
        stderr.startsWith(
          "Warning: --insecure accepts every certificate; anybody on the way can read the key and the files\n"
        )
      )
    }))
})

describe("options of sending", () => {
  it.scopedLive("are taken together", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: bytesOf(200_000) })
      const server = yield* startServer()
      yield* client("add", "a", "--chunk-size=64KiB")
      const begun = Date.now()
      const sent = yield* client(
        "upload",
        "--parallel=2",
        "--limit-rate=200KB/s",
        "--stall-timeout=5s",
        "--give-up-after=1m",
        "--free-early",
        "--resend-unconfirmed",
        server.url
      )
      assert.deepInclude(sent, { code: 0, stdout: "a -> a\n" })
      assert.isAbove(Date.now() - begun, 500)
      assert.isTrue(bytesOf(200_000).equals(yield* contentOf(server.folder, "a")))
    }))

  it.scopedLive("--give-up-after ends it with 5", () =>
    Effect.gen(function*() {
      yield* inFolderWith({ a: "a" })
      const { code, stderr } = yield* client("buffer-and-upload", "a", "--give-up-after", "100ms", "http://127.0.0.1:1")
      assert.strictEqual(code, 5)
      assert.match(stderr, /The data is kept[^\n]*\n$/)
    }))
})

describe("the exit code", () => {
  const error = (tag: string) => ({ _tag: tag })

  it("of several outcomes is the first of 4, 6, 5, 3", () => {
    assert.strictEqual(ExitCode.of([]), 0)
    assert.strictEqual(ExitCode.of(["delivered"]), 0)
    assert.strictEqual(ExitCode.of(["delivered", "skipped"]), 3)
    assert.strictEqual(ExitCode.of(["failed", "claimed"]), 5)
    assert.strictEqual(ExitCode.of(["skipped", "waiting", "unconfirmed"]), 6)
    assert.strictEqual(ExitCode.ofError(error("KeyRefused"), ["unconfirmed", "failed"]), 4)
    assert.strictEqual(ExitCode.ofError(error("WrongEndpoint"), ["failed", "waiting"]), 5)
    assert.strictEqual(ExitCode.ofError(error("BufferFull"), ["delivered"]), 3)
    assert.strictEqual(ExitCode.ofError(error("InvalidEndpoint"), ["failed"]), 2)
    assert.strictEqual(ExitCode.ofError(error("ChunkStoreError"), ["failed"]), 1)
  })
})
