import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as Path from "node:path"
import * as FileState from "../../src/cli/FileState.ts"
import { type BufferedFile, FileId } from "../../src/client/ChunkStore.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import { unsent } from "../contract/ChunkStore.ts"
import { bytesOf, folderWith, run, temporaryHome, workIn } from "../support/cli.ts"
import { raw } from "../support/sqliteFiles.ts"

const client = (...words: ReadonlyArray<string>) => run("indexcp", words, { INDEXCP_API_KEY: "k" })

describe("list", () => {
  it.scopedLive("shows aligned columns with a header, and only those that say something", () =>
    Effect.gen(function*() {
      yield* temporaryHome
      yield* workIn(yield* folderWith({ "a.txt": bytesOf(10_000), 日本: "" }))
      assert.deepStrictEqual(yield* client("list"), { code: 0, stdout: "No files in buffer\n", stderr: "" })
      yield* client("add", "a.txt", "日本", "--chunk-size", "1KB")
      assert.deepStrictEqual(yield* client("list"), {
        code: 0,
        stdout: [
          "NAME       SIZE  CHUNKS  SENT  STATE",
          "a.txt  9.77 KiB      10    0%  queued",
          "日本        0 B       0    0%  queued",
          ""
        ].join("\n"),
        stderr: ""
      })
      yield* client("upload", "http://127.0.0.1:1", "--max-retries", "0")
      const { stdout } = yield* client("list")
      assert.match(
        stdout,
        /^NAME +SIZE +CHUNKS +SENT +STATE +LAST ERROR\na\.txt .* 0% +queued +Gave up after the first try/
      )
    }))

  it.scopedLive("shows as many files as there are, a line each, also when they fill its pages to the last row", () =>
    Effect.gen(function*() {
      const home = yield* temporaryHome
      // pages have 500, and the first 1000 say how wide the columns are
      const names = Array.from({ length: 1500 }, (_, at) => `${at}.txt`)
      yield* workIn(yield* folderWith({ "0.txt": "" }))
      yield* client("add", "0.txt")
      raw(Path.join(home, ".indexcp", "indexcp.db"), (database) =>
        database.prepare(
          `INSERT INTO files (state, path, source, name, chunk_size, sha256, added_at)
            SELECT state, value, value, value, chunk_size, sha256, added_at FROM files, json_each(?)`
        ).run(JSON.stringify(names.slice(1))))
      const { stdout } = yield* client("list")
      assert.deepStrictEqual(stdout.split("\n").map((line) => line.split(" ")[0]), ["NAME", ...names, ""])
      // it is not known whether a later row says something there
      assert.match(stdout, /^NAME .*DESTINATION +NEXT TRY +LAST ERROR\n/)
      assert.strictEqual(JSON.parse((yield* client("list", "--json")).stdout).length, names.length)
    }))

  it.scopedLive("shows where files are for", () =>
    Effect.gen(function*() {
      yield* temporaryHome
      yield* workIn(yield* folderWith({ a: "a", b: "b" }))
      yield* client("add", "a", "--to", "http://server:3000")
      yield* client("add", "b")
      assert.include(yield* client("list"), {
        stdout: [
          "NAME  SIZE  CHUNKS  SENT  STATE   DESTINATION",
          "a      1 B       1    0%  queued  http://server:3000/upload",
          "b      1 B       1    0%  queued  -",
          ""
        ].join("\n")
      })
    }))

  it.scopedLive("writes out characters that could harm a terminal", () =>
    Effect.gen(function*() {
      yield* temporaryHome
      yield* workIn(yield* folderWith({ "a\n\u001b[2J\u009b": "a" }))
      yield* client("add", "a\n\u001b[2J\u009b")
      assert.match((yield* client("list")).stdout, /\na\\n\\x1b\[2J\\x9b .*\n$/)
      const { stdout } = yield* client("list", "--json")
      assert.notInclude(stdout, "\u009b")
      assert.strictEqual(JSON.parse(stdout)[0].name, "a\n\u001b[2J\u009b")
    }))

  it.scopedLive("with --json prints one array, an entry a line", () =>
    Effect.gen(function*() {
      yield* temporaryHome
      const folder = yield* folderWith({ a: bytesOf(10), b: "" })
      assert.deepStrictEqual(yield* client("list", "--json"), { code: 0, stdout: "[]\n", stderr: "" })
      yield* client("add", Path.join(folder, "a"), Path.join(folder, "b"))
      const { stdout } = yield* client("list", "--json")
      assert.strictEqual(stdout.split("\n").length, 4)
      const [first, second] = JSON.parse(stdout) as ReadonlyArray<Record<string, unknown>>
      assert.deepStrictEqual({ ...first, addedAt: "" }, {
        name: Path.join(folder, "a"),
        sentAs: "a",
        size: 10,
        chunks: 1,
        sha256: Sha256.of(bytesOf(10)),
        acknowledged: 0,
        state: "queued",
        destination: null,
        server: null,
        error: null,
        nextTry: null,
        addedAt: ""
      })
      assert.include(second, { size: 0, chunks: 0 })
    }))
})

describe("the state of a file", () => {
  const queued: BufferedFile = {
    id: FileId.make(1),
    path: "a",
    source: "/a",
    name: "a",
    chunkSize: 1000,
    destination: Option.none(),
    version: Option.none(),
    size: 10,
    sha256: Option.some(Sha256.empty),
    chunks: 1,
    addedAt: 0,
    ...unsent
  }
  const trouble = (nextTry: Option.Option<number>) => Option.some({ reason: "no way", nextTry })
  const delivery = (revision: 1 | 2, sending: Option.Option<number>) =>
    Option.some({
      endpoint: "http://s/upload",
      name: "a",
      uploadId: UploadId.make("0123456789abcdef0123456789abcdef"),
      revision: Option.some(revision),
      serverName: Option.none(),
      sending
    })

  const cases: ReadonlyArray<readonly [string, Partial<BufferedFile>, FileState.Standing]> = [
    ["queued", {}, { state: "queued", error: Option.none(), nextTry: Option.none() }],
    ["sending", { held: true }, { state: "sending", error: Option.none(), nextTry: Option.none() }],
    [
      "waiting while a program waits for the next try",
      { held: true, trouble: trouble(Option.some(5)) },
      { state: "waiting", error: Option.some("no way"), nextTry: Option.some(5) }
    ],
    [
      "queued again, with its last trouble, when nobody waits any more",
      { trouble: trouble(Option.none()) },
      { state: "queued", error: Option.some("no way"), nextTry: Option.none() }
    ],
    [
      "failed",
      { failure: Option.some("409"), trouble: trouble(Option.none()) },
      { state: "failed", error: Option.some("409"), nextTry: Option.none() }
    ],
    [
      "unconfirmed when an old server may have got a chunk",
      { delivery: delivery(1, Option.some(3)) },
      { state: "unconfirmed", error: Option.some("Chunk 3 may or may not have arrived"), nextTry: Option.none() }
    ],
    [
      "sending when that chunk is on its way right now",
      { held: true, delivery: delivery(1, Option.some(3)) },
      { state: "sending", error: Option.none(), nextTry: Option.none() }
    ],
    [
      "queued when nothing is open at an old server, or the server is no old one",
      { delivery: delivery(1, Option.none()) },
      { state: "queued", error: Option.none(), nextTry: Option.none() }
    ]
  ]

  it.each(cases)("is %s", (_, changes, expected) => {
    assert.deepStrictEqual(FileState.of({ ...queued, ...changes }), expected)
  })
})
