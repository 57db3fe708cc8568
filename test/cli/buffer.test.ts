import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { writeFileSync } from "node:fs"
import * as Path from "node:path"
import { folderWith, run, startServer, temporaryHome, workIn } from "../support/cli.ts"

const client = (...words: ReadonlyArray<string>) => run("indexcp", words, { INDEXCP_API_KEY: "k" })

const listed = Effect.map(
  client("list", "--json"),
  ({ stdout }) =>
    (JSON.parse(stdout) as ReadonlyArray<{ readonly name: string; readonly state: string }>)
      .map(({ name, state }) => `${name} ${state}`)
)

const withFiles = Effect.gen(function*() {
  yield* temporaryHome
  yield* workIn(yield* folderWith({ a: "a", b: "b", c: "c" }))
  yield* client("add", "a", "b", "c")
})

describe("remove", () => {
  it.scopedLive("takes files out of the buffer by the names that list shows", () =>
    Effect.gen(function*() {
      yield* withFiles
      assert.deepStrictEqual(yield* client("remove", "a", "c"), {
        code: 0,
        stdout: "",
        stderr: "a is removed from the buffer\nc is removed from the buffer\n"
      })
      assert.deepStrictEqual(yield* listed, ["b queued"])
    }))

  it.scopedLive("ends with 3 for a name that is not there, and removes the others", () =>
    Effect.gen(function*() {
      yield* withFiles
      assert.deepStrictEqual(yield* client("remove", "x", "a"), {
        code: 3,
        stdout: "",
        stderr: "x is not in the buffer\na is removed from the buffer\n"
      })
      assert.deepStrictEqual(yield* listed, ["b queued", "c queued"])
    }))
})

describe("retry", () => {
  /** `a` has failed, because there is another file of that name on the server. */
  const failed = Effect.gen(function*() {
    yield* withFiles
    const server = yield* startServer({ onConflict: "reject" })
    writeFileSync(Path.join(server.folder, "a"), "taken")
    assert.include(yield* client("upload", server.url), { code: 3 })
    yield* client("add", "b")
    assert.deepStrictEqual(yield* listed, ["a failed", "b queued"])
  })

  it.scopedLive("lets all files that failed be tried again", () =>
    Effect.gen(function*() {
      yield* failed
      assert.deepStrictEqual(yield* client("retry"), { code: 0, stdout: "", stderr: "1 file will be tried again\n" })
      assert.deepStrictEqual(yield* listed, ["a queued", "b queued"])
      assert.include(yield* client("retry"), { stderr: "0 files will be tried again\n" })
    }))

  it.scopedLive("or those that it is given", () =>
    Effect.gen(function*() {
      yield* failed
      assert.deepStrictEqual(yield* client("retry", "b", "x"), {
        code: 3,
        stdout: "",
        stderr: "x is not in the buffer\nb had not failed\n"
      })
      assert.deepStrictEqual(yield* listed, ["a failed", "b queued"])
      assert.deepStrictEqual(yield* client("retry", "a"), { code: 0, stdout: "", stderr: "a will be tried again\n" })
      assert.deepStrictEqual(yield* listed, ["a queued", "b queued"])
    }))
})

describe("clear", () => {
  it.scopedLive.each([[[]], [["--yes"]], [["-y"]]])(
    "asks nobody without a terminal: %j",
    ([words]) =>
      Effect.gen(function*() {
        yield* withFiles
        assert.deepStrictEqual(yield* client("clear", ...words!), { code: 0, stdout: "", stderr: "Buffer cleared\n" })
        assert.deepStrictEqual(yield* listed, [])
      })
  )
})
