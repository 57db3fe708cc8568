import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import * as Path from "node:path"
import {
  bytesOf,
  contentOf,
  folderWith,
  run,
  startServer,
  temporaryHome,
  type Variables,
  workIn
} from "../support/cli.ts"

const client = (...words: ReadonlyArray<string>) => run("indexcp", words, { INDEXCP_API_KEY: "k" })

interface Listed {
  readonly name: string
  readonly sentAs: string
  readonly destination: string | null
}

const listed = Effect.map(client("list", "--json"), ({ stdout }) => JSON.parse(stdout) as ReadonlyArray<Listed>)

/** A home, and the current folder: with `a.txt`, `photos/1.jpg` and `photos/2020/2.jpg`. */
const inFolder = Effect.gen(function*() {
  yield* temporaryHome
  const folder = yield* folderWith({ "a.txt": "a" })
  mkdirSync(Path.join(folder, "photos/2020"), { recursive: true })
  writeFileSync(Path.join(folder, "photos/1.jpg"), "1")
  writeFileSync(Path.join(folder, "photos/2020/2.jpg"), "2")
  yield* workIn(folder)
  return folder
})

describe("add -r", () => {
  it.scopedLive("takes folders and files, and sends paths from the folder on", () =>
    Effect.gen(function*() {
      const folder = yield* inFolder
      assert.deepStrictEqual(yield* client("add", "-r", Path.join(folder, "photos"), "a.txt"), {
        code: 0,
        stdout: `${folder}/photos/1.jpg  1 chunk\n${folder}/photos/2020/2.jpg  1 chunk\na.txt  1 chunk\n`,
        stderr: ""
      })
      assert.deepStrictEqual((yield* listed).map(({ sentAs }) => sentAs), [
        "photos/1.jpg",
        "photos/2020/2.jpg",
        "a.txt"
      ])
    }))

  it.scopedLive("goes on when something in a folder cannot be read, and ends with 3", () =>
    Effect.gen(function*() {
      const folder = yield* inFolder
      writeFileSync(Path.join(folder, "photos/3.jpg"), "3")
      symlinkSync("nowhere", Path.join(folder, "photos/2.jpg"))
      symlinkSync("..", Path.join(folder, "photos/up"))
      assert.deepStrictEqual(yield* client("add", "--recursive", "photos", "missing"), {
        code: 3,
        stdout: "photos/1.jpg  1 chunk\nphotos/2020/2.jpg  1 chunk\nphotos/3.jpg  1 chunk\n",
        stderr: "File not found: photos/2.jpg\nphotos/up is a link to a folder, which is not followed\n" +
          "File not found: missing\n"
      })
    }))

  it.scopedLive("is said where a folder is named without it", () =>
    Effect.gen(function*() {
      yield* inFolder
      assert.deepStrictEqual(yield* client("add", "photos"), {
        code: 3,
        stdout: "",
        stderr: "photos is a folder, not a file; with -r the files below it are taken\n"
      })
    }))
})

describe("add --name and --to", () => {
  it.scopedLive("set what the server is told, of a folder for all that is below it", () =>
    Effect.gen(function*() {
      yield* inFolder
      yield* client("add", "a.txt", "--name", "other/b.txt")
      yield* client("add", "-r", "photos", "--name", "album")
      assert.deepStrictEqual(
        (yield* listed).map(({ name, sentAs }) => [name, sentAs]),
        [["a.txt", "other/b.txt"], ["photos/1.jpg", "album/1.jpg"], ["photos/2020/2.jpg", "album/2020/2.jpg"]]
      )
    }))

  it.scopedLive("lets files go to their own servers, with one upload", () =>
    Effect.gen(function*() {
      yield* inFolder
      const one = yield* startServer()
      const other = yield* startServer()
      yield* client("add", "a.txt", "--to", one.url)
      yield* client("add", "photos/1.jpg", "--to", `${other.url}/upload`)
      yield* client("add", "photos/2020/2.jpg")
      assert.deepStrictEqual((yield* listed).map(({ destination }) => destination), [
        `${one.url}/upload`,
        `${other.url}/upload`,
        null
      ])
      const { code, stdout } = yield* client("upload")
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(stdout.trim().split("\n").sort(), ["a.txt -> a.txt", "photos/1.jpg -> 1.jpg"])
      assert.strictEqual((yield* contentOf(one.folder, "a.txt")).toString(), "a")
      assert.strictEqual((yield* contentOf(other.folder, "1.jpg")).toString(), "1")
      assert.deepStrictEqual(yield* client("upload"), {
        code: 0,
        stdout: "",
        stderr: "Nothing to send. Added without --to: 1 file; name the server for them: indexcp upload <url>\n"
      })
    }))

  it.scopedLive("upload with a URL leaves alone what is for another server, and says so", () =>
    Effect.gen(function*() {
      yield* inFolder
      const server = yield* startServer()
      yield* client("add", "a.txt", "--to", "http://127.0.0.1:1")
      assert.deepStrictEqual(yield* client("upload", server.url), {
        code: 0,
        stdout: "",
        stderr: "Nothing to send. For another server: 1 file\n"
      })
      assert.strictEqual((yield* listed).length, 1)
    }))
})

describe("--max-buffer", () => {
  const full = /^The buffer [^\n]* may use [^\n]* What comes after it was not tried\n$/

  it.scopedLive.each(
    [
      ["the option", ["--max-buffer", "2MB"], {}],
      ["INDEXCP_MAX_BUFFER", [], { INDEXCP_MAX_BUFFER: "2MB" }],
      ["the option before the variable", ["--max-buffer", "2MB"], { INDEXCP_MAX_BUFFER: "1GB" }]
    ] as ReadonlyArray<readonly [string, ReadonlyArray<string>, Variables]>
  )(
    "as %s: what has no room ends it with 3, and the rest is not tried",
    ([, words, variables]) =>
      Effect.gen(function*() {
        yield* temporaryHome
        yield* workIn(yield* folderWith({ a: bytesOf(1000), b: bytesOf(4_000_000), c: "c" }))
        const { code, stderr, stdout } = yield* run("indexcp", ["add", "a", "b", "c", ...words], variables)
        assert.deepStrictEqual({ code, stdout }, { code: 3, stdout: "a  1 chunk\n" })
        assert.match(stderr, full)
        assert.deepStrictEqual((yield* listed).map(({ name }) => name), ["a"])
      })
  )

  it.scopedLive("that is no size in the variable is a usage error", () =>
    Effect.gen(function*() {
      yield* inFolder
      assert.deepStrictEqual(yield* run("indexcp", ["add", "a.txt"], { INDEXCP_MAX_BUFFER: "much" }), {
        code: 2,
        stdout: "",
        stderr: "INDEXCP_MAX_BUFFER is no size: much. Write 500MB or 20GiB\n"
      })
    }))
})
