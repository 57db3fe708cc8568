/**
 * The program on a real terminal.
 *
 * @module
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { bytesOf, run, start, startServer, temporaryHome, type Variables, workIn } from "../support/cli.ts"
import * as FakeTerminal from "../support/FakeTerminal.ts"
import { isWindows } from "../support/platform.ts"

const here = (...words: ReadonlyArray<string>) => run("indexcp", words, { INDEXCP_API_KEY: "k" })

const inHome = Effect.gen(function*() {
  const home = yield* temporaryHome
  yield* workIn(home)
  for (const name of ["a", "b"]) yield* Effect.promise(() => Fs.writeFile(Path.join(home, name), bytesOf(400_000)))
  return {
    /** Runs it to its end: its code, everything it wrote, and what is left on the terminal. */
    onTerminal: (words: ReadonlyArray<string>, variables: Variables = { INDEXCP_API_KEY: "k" }) =>
      Effect.gen(function*() {
        const under = ["python3", Path.join(import.meta.dirname, "../support/onTerminal.py")]
        const { ended } = yield* start("indexcp", words, { home, variables, under })
        const { code, stdout } = yield* ended
        const terminal = FakeTerminal.make(80, 24)
        terminal.write(stdout)
        return { code, written: stdout, lines: terminal.lines() }
      })
  }
})

describe.skipIf(isWindows)("an upload on a terminal", () => {
  it.scopedLive("shows files in flight and a total while it works, and only results after", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { onTerminal } = yield* inHome
      yield* here("add", "a", "b", "--chunk-size", "64KiB")
      const { code, lines, written } = yield* onTerminal(["upload", "--limit-rate=500KB/s", server.url])
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(lines.slice(0, 2).sort(), ["a -> a", "b -> b"])
      assert.match(lines.slice(2).join("\n"), /^2 files sent, 781\.25 KiB in \d+ s$/)
      assert.match(written, /[ab] +\d+% {2}[█░]{10} +[\d.]+ of 390\.6 KiB/)
      const totals = [...written.matchAll(/of 2 files +(\d+)%/g)].map(([, percent]) => Number(percent))
      assert.isAbove(totals.length, 3)
      assert.deepStrictEqual(totals, totals.toSorted((one, other) => one - other))
      assert.isAtMost(totals.at(-1)!, 100)
    }))

  it.scopedLive("shows what it waits for", () =>
    Effect.gen(function*() {
      const { onTerminal } = yield* inHome
      const words = ["buffer-and-upload", "a", "http://127.0.0.1:1", "--max-retries=1"]
      const { code, lines, written } = yield* onTerminal(words)
      assert.strictEqual(code, 5)
      assert.match(lines.join(""), /^a: 127[^:]*:1 cannot be reached.*a: Gave up after 2 tries.*later$/)
      assert.match(lines[0]!, /^a: 127\.0\.0\.1:1 cannot be reached/)
      assert.match(written, /a {2}0% {2}next try in 1 s: 127\.0\.0\.1:1 cannot/)
      assert.include(written, "\u001b[33m")
      const plain = yield* onTerminal(words, { INDEXCP_API_KEY: "k", NO_COLOR: "1" })
      assert.notInclude(plain.written, "\u001b[33m")
      const dumb = yield* onTerminal(words, { INDEXCP_API_KEY: "k", TERM: "dumb" })
      assert.notInclude(dumb.written, "\u001b")
    }))

  it.scopedLive("asks for the key, and does not show it", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { onTerminal } = yield* inHome
      const { code, lines, written } = yield* onTerminal(["buffer-and-upload", "a", server.url], { PTY_ANSWERS: "k\r" })
      assert.strictEqual(code, 0)
      assert.include(written, "API key")
      assert.strictEqual(lines.at(-1), "a -> a")
    }))
})

describe.skipIf(isWindows)("clear on a terminal", () => {
  it.scopedLive("asks first", () =>
    Effect.gen(function*() {
      const { onTerminal } = yield* inHome
      yield* here("add", "a", "b")
      const no = yield* onTerminal(["clear"], { PTY_ANSWERS: "n" })
      assert.strictEqual(no.code, 0)
      assert.include(no.lines.join("\n"), "Remove 2 files (781.25 KiB) that no server has as a whole?")
      assert.strictEqual(no.lines.at(-1), "Nothing is removed")
      assert.include((yield* here("list")).stdout, "\na ")
      const yes = yield* onTerminal(["clear"], { PTY_ANSWERS: "y" })
      assert.strictEqual(yes.lines.at(-1), "Buffer cleared")
      assert.strictEqual((yield* here("list")).stdout, "No files in buffer\n")
    }))

  it.scopedLive("does not with --yes, nor where nothing is in it; Ctrl-C removes nothing", () =>
    Effect.gen(function*() {
      const { onTerminal } = yield* inHome
      assert.deepInclude(yield* onTerminal(["clear"]), { code: 0, lines: ["Buffer cleared"] })
      yield* here("add", "a")
      assert.include(yield* onTerminal(["clear"], { PTY_ANSWERS: "\u0003" }), { code: 130 })
      assert.include((yield* here("list")).stdout, "\na ")
      assert.deepInclude(yield* onTerminal(["clear", "--yes"]), { code: 0, lines: ["Buffer cleared"] })
    }))
})

describe.skipIf(isWindows)("list and help on a terminal", () => {
  it.scopedLive("fit into it", () =>
    Effect.gen(function*() {
      const { onTerminal } = yield* inHome
      yield* here("add", "a")
      yield* here("upload", "http://127.0.0.1:1", "--max-retries=0")
      const { lines } = yield* onTerminal(["list"])
      assert.strictEqual(lines.length, 2)
      assert.match(lines[1]!, /Gave up.*…$/)
      assert.include((yield* onTerminal(["help"])).lines.join("\n"), "  - add [options] <path>...\n      Put files")
    }))
})
