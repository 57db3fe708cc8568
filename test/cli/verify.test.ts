import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { folderWith, run, startServer, temporaryHome, workIn } from "../support/cli.ts"

const client = (...words: ReadonlyArray<string>) => run("indexcp", words, { INDEXCP_API_KEY: "k" })

describe("verify", () => {
  it.scopedLive("says of each file whether the server has it as it was sent, and ends with 3 unless all are", () =>
    Effect.gen(function*() {
      yield* temporaryHome
      yield* workIn(yield* folderWith({ a: "1", b: "2", c: "3" }))
      const server = yield* startServer()
      yield* client("add", "a", "b", "c")
      yield* client("upload", "--parallel", "1", server.url)
      assert.deepStrictEqual(yield* client("verify", server.url), {
        code: 0,
        stdout: "a -> a: as it was sent\nb -> b: as it was sent\nc -> c: as it was sent\n",
        stderr: "3 as they were sent, 0 not, 0 not verifiable\n"
      })
      Fs.writeFileSync(Path.join(server.folder, "b"), "other")
      Fs.rmSync(Path.join(server.folder, "c"))
      assert.deepStrictEqual(yield* client("verify", server.url, "b", "c", "d"), {
        code: 3,
        stdout: "b -> b: DIFFERENT on the server\nc -> c: gone from the server\n",
        stderr: "d: there is no receipt of it from this server\n0 as they were sent, 2 not, 0 not verifiable\n"
      })
      assert.include(yield* client("verify", server.url, "a"), { code: 0 })
      assert.include(yield* run("indexcp", ["verify", server.url], { INDEXCP_API_KEY: "no" }), { code: 4, stdout: "" })
      assert.include(yield* client("verify", "http://127.0.0.1:1"), { code: 0, stdout: "" })
    }))

  it.scopedLive("has the delivered files in list --all, and only there", () =>
    Effect.gen(function*() {
      yield* temporaryHome
      yield* workIn(yield* folderWith({ a: "1", b: "2" }))
      const server = yield* startServer()
      yield* client("buffer-and-upload", "a", server.url)
      yield* client("add", "b")
      assert.match((yield* client("list")).stdout, /^NAME .*\nb .*\n$/)
      assert.match((yield* client("list", "--all")).stdout, /^NAME .*\nb .*\na -> a .* 100% +delivered +http.*\n$/)
      const { stdout } = yield* client("list", "--all", "--json")
      assert.deepInclude(JSON.parse(stdout)[1], {
        name: "a",
        serverName: "a",
        size: 1,
        state: "delivered",
        revision: 2
      })
    }))
})
