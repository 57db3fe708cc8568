/** The programs where SQLite was not built for this Node: install scripts were not run, or Node is another one since. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { start, temporaryHome } from "../support/cli.ts"

/** As Node fails to load a program: another version's, or one that is not there. */
const failures = {
  "of another Node":
    `Object.assign(new Error("was compiled against a different Node.js version"), { code: "ERR_DLOPEN_FAILED" })`,
  "not built": `Object.assign(new Error("Cannot find module"), { code: "MODULE_NOT_FOUND" })`
}

describe.each(Object.entries(failures))("SQLite %s", (_, failure) => {
  it.scopedLive.each(
    [
      ["indexcp", ["list"], 1],
      ["indexcp-server", ["--output-dir", "out", "--port", "0"], 3],
      ["indexcp-server", ["keys", "add", "alice", "--output-dir", "out"], 3]
    ] as const
  )("%s %s says what to do", ([name, words, code]) =>
    Effect.gen(function*() {
      const home = yield* temporaryHome
      const hook = Path.join(home, "unbuilt.cjs")
      yield* Effect.promise(() =>
        Fs.writeFile(hook, `require("node:module")._extensions[".node"] = () => { throw ${failure} }`)
      )
      const { ended } = yield* start(name, words, { home, variables: { NODE_OPTIONS: `--require=${hook}` } })
      const { code: exit, stderr } = yield* ended
      assert.match(stderr, /SQLite is not built for Node v\S+ here\. Run npm rebuild better-sqlite3/)
      assert.strictEqual(exit, code)
    }))
})
