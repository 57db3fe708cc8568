/**
 * What runs until it is stopped, as processes.
 *
 * @module
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { contentOf, run, start, startServer, temporaryHome, workIn } from "../support/cli.ts"
import { isWindows } from "../support/platform.ts"

const variables = { INDEXCP_API_KEY: "k" }
const here = (...words: ReadonlyArray<string>) => run("indexcp", words, variables)

/** A home that is the current folder, with a folder `in`, and a program started there. */
const inHome = Effect.gen(function*() {
  const home = yield* temporaryHome
  yield* workIn(home)
  yield* Effect.promise(() => Fs.mkdir(Path.join(home, "in")))
  const server = yield* startServer()
  return {
    home,
    server,
    write: (name: string, text: string) => Effect.promise(() => Fs.writeFile(Path.join(home, name), text)),
    launch: (words: ReadonlyArray<string>, under: ReadonlyArray<string> = []) =>
      start("indexcp", words, { home, variables, under })
  }
})

const assertStops = (running: Effect.Effect.Success<ReturnType<typeof start>>) =>
  Effect.gen(function*() {
    const begun = Date.now()
    yield* running.signal("SIGTERM")
    const { code, stderr } = yield* running.ended
    assert.strictEqual(code, 143)
    assert.isTrue(stderr.endsWith("Interrupted\n"))
    assert.isBelow(Date.now() - begun, 2000)
  })

describe.skipIf(isWindows)("upload --watch", () => {
  it.scopedLive("sends what is there and what other programs add, until it is stopped", () =>
    Effect.gen(function*() {
      const { launch, server, write } = yield* inHome
      yield* write("a", "a")
      yield* write("b", "b")
      yield* here("add", "a")
      const running = yield* launch(["upload", "--watch", server.url])
      yield* running.said(/a -> a\n/)
      yield* here("add", "b")
      yield* running.said(/b -> b\n/)
      assert.strictEqual((yield* contentOf(server.folder, "b")).toString(), "b")
      yield* assertStops(running)
    }))

  it.scopedLive("without a URL sends files where they were added for", () =>
    Effect.gen(function*() {
      const { launch, server, write } = yield* inHome
      yield* write("a", "a")
      const running = yield* launch(["upload", "--watch"])
      yield* here("add", "a", "--to", server.url)
      yield* running.said(/a -> a\n/)
      yield* assertStops(running)
    }))

  it.scopedLive("with --json ends with a summary that counts", () =>
    Effect.gen(function*() {
      const { launch, server, write } = yield* inHome
      yield* write("a", "a")
      yield* here("add", "a")
      const running = yield* launch(["upload", "--watch", "--json", server.url])
      yield* running.said(/"type":"file"/)
      yield* running.signal("SIGINT")
      const { code, stdout } = yield* running.ended
      assert.strictEqual(code, 130)
      assert.deepStrictEqual(JSON.parse(stdout.trimEnd().split("\n").at(-1)!), {
        type: "summary",
        counts: { delivered: 1, failed: 0, unconfirmed: 0, waiting: 0, claimed: 0, skipped: 0 },
        error: "Interrupted"
      })
    }))

  it.scopedLive("ends with 4 when the key is refused", () =>
    Effect.gen(function*() {
      const { launch, server, write } = yield* inHome
      yield* write("a", "a")
      yield* here("add", "a")
      const { ended } = yield* launch(["upload", "--watch", "--api-key", "no", server.url])
      assert.include(yield* ended, { code: 4, stdout: "" })
    }))
})

describe.skipIf(isWindows)("watch", () => {
  it.scopedLive("sends files of a folder as they settle, again when they change, and not again after a restart", () =>
    Effect.gen(function*() {
      const { launch, server, write } = yield* inHome
      yield* write("in/a.txt", "1")
      yield* write("in/b.txt.part", "half")
      const running = yield* launch(["watch", "in", server.url, "--settle", "500ms"])
      yield* running.said(/in\/a\.txt -> a\.txt\n/)
      yield* write("in/a.txt", "2 now")
      yield* running.said(/in\/a\.txt -> a \(1\)\.txt\n/)
      assert.strictEqual((yield* contentOf(server.folder, "a (1).txt")).toString(), "2 now")
      yield* assertStops(running)
      const again = yield* launch(["watch", "in", server.url, "--settle", "500ms"])
      yield* write("in/c.txt", "c")
      yield* again.said(/in\/c\.txt -> c\.txt\n/)
      yield* assertStops(again)
      assert.strictEqual((yield* again.ended).stdout, "in/c.txt -> c.txt\n")
      assert.include(yield* here("list"), { stdout: "No files in buffer\n" })
    }))

  it.scopedLive("leaves alone what else is in the buffer", () =>
    Effect.gen(function*() {
      const { launch, server, write } = yield* inHome
      yield* write("mine", "mine")
      yield* here("add", "mine")
      const running = yield* launch(["watch", "in", server.url, "--settle", "200ms"])
      yield* write("in/a", "1")
      yield* running.said(/in\/a -> a\n/)
      yield* assertStops(running)
      assert.match((yield* here("list")).stdout, /\nmine .*\n$/)
    }))

  it.scopedLive("waits for room in a full buffer", () =>
    Effect.gen(function*() {
      const { launch, server, write } = yield* inHome
      yield* write("old", "x".repeat(3_000_000))
      yield* write("in/a", "x".repeat(1_000_000))
      yield* here("add", "old")
      const running = yield* launch(["watch", "in", server.url, "--settle", "200ms", "--max-buffer", "4MB"])
      yield* running.said(/in\/a waits for room: The buffer [^\n]*\n/, "stderr")
      yield* here("remove", "old")
      yield* running.said(/in\/a -> a\n/)
      yield* assertStops(running)
    }))

  it.scopedLive("ends with 3 where there is no folder", () =>
    Effect.gen(function*() {
      const { launch, server } = yield* inHome
      const { ended } = yield* launch(["watch", "missing", server.url])
      assert.deepStrictEqual(yield* ended, { code: 3, stdout: "", stderr: "File not found: missing\n" })
    }))
})

describe.skipIf(isWindows)("standard input", () => {
  const piped = ["sh", "-c", `printf 'some bytes' | "$0" "$@"`]

  it.scopedLive("is added under its name", () =>
    Effect.gen(function*() {
      const { launch } = yield* inHome
      const { ended } = yield* launch(["add", "-", "--name", "logs/x.txt"], piped)
      assert.deepStrictEqual(yield* ended, { code: 0, stdout: "logs/x.txt  1 chunk\n", stderr: "" })
    }))

  it.scopedLive("is sent under its name", () =>
    Effect.gen(function*() {
      const { launch, server } = yield* inHome
      const { ended } = yield* launch(["buffer-and-upload", "-", server.url, "--name", "x.txt"], piped)
      assert.deepInclude(yield* ended, { code: 0, stdout: "x.txt -> x.txt\n" })
      assert.strictEqual((yield* contentOf(server.folder, "x.txt")).toString(), "some bytes")
    }))
})
