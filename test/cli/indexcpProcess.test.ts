/** `indexcp` as a process: its exit codes, its streams, its end in the middle of the work. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import {
  bundle,
  bytesOf,
  contentOf,
  folderWith,
  run,
  start,
  startServer,
  temporaryHome,
  type Variables,
  workIn
} from "../support/cli.ts"
import * as CutProxy from "../support/CutProxy.ts"
import * as PythonServer from "../support/peers/PythonServer.ts"
import { isWindows } from "../support/platform.ts"

/** Three bodies of 1 MB. */
const bytes = bytesOf(3_000_000)

/** What a program needs that is not under test is done in this process, which is faster. */
const here = (...words: ReadonlyArray<string>) => run("indexcp", words)

/** A home in which `a` lies, and the program started there. */
const inHome = Effect.gen(function*() {
  const home = yield* temporaryHome
  yield* Effect.promise(() => Fs.writeFile(Path.join(home, "a"), bytes))
  yield* workIn(home)
  const launch = (words: ReadonlyArray<string>, variables: Variables = { INDEXCP_API_KEY: "k" }) =>
    start("indexcp", words, { home, variables })
  return {
    home,
    launch,
    client: (words: ReadonlyArray<string>, variables?: Variables) =>
      Effect.flatMap(launch(words, variables), ({ ended }) => ended)
  }
})

/** The upload of `a` in two chunks, whose connection stands still when one of them has arrived. */
const halfWay = Effect.gen(function*() {
  const server = yield* startServer()
  const proxy = yield* CutProxy.make({ target: server.port })
  const { client, home, launch } = yield* inHome
  const both = bytes.subarray(0, 2_000_000)
  yield* Effect.promise(() => Fs.writeFile(Path.join(home, "a"), both))
  yield* here("add", "a", "--chunk-size", "1MB")
  const planned = yield* proxy.plan(CutProxy.stall(CutProxy.afterBody(500), { skip: 1 }))
  // one at a time, so that all goes over one connection
  const upload = yield* launch(["upload", "--parallel", "1", proxy.url])
  yield* planned.done
  assert.deepStrictEqual(yield* filesOf(server.folder), [])
  const goesOnTo = Effect.gen(function*() {
    const { code, stderr, stdout } = yield* client(["upload", proxy.url])
    assert.deepStrictEqual({ code, stdout }, { code: 0, stdout: "a -> a\n" })
    assert.include(stderr, "a: sending 1.91 MiB, 976.56 KiB of them sent before\n")
    assert.isTrue(both.equals(yield* contentOf(server.folder, "a")))
    assert.include(yield* here("list"), { code: 0, stdout: "No files in buffer\n" })
  })
  return { upload, goesOnTo, client, home, proxy, server }
})

const filesOf = (folder: string) =>
  Effect.promise(async () => (await Fs.readdir(folder)).filter((name) => name !== ".indexedcp"))

const assertNoStack = (stderr: string) => assert.notMatch(stderr, /^\s+at |node:internal|throw /m)

describe("exit codes", () => {
  it.scopedLive("0: results are on stdout, all else is on stderr", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { client } = yield* inHome
      assert.deepStrictEqual(yield* client(["add", "a", "--chunk-size=1MB"]), {
        code: 0,
        stdout: "a  3 chunks\n",
        stderr: ""
      })
      assert.deepStrictEqual(yield* client(["upload", server.url]), {
        code: 0,
        stdout: "a -> a\n",
        stderr: "a: sending 2.86 MiB\n"
      })
    }))

  it.scopedLive("1: the buffer is unusable", () =>
    Effect.gen(function*() {
      const { client, home } = yield* inHome
      yield* Effect.promise(() => Fs.writeFile(Path.join(home, ".indexcp"), "a file where the folder should be"))
      const { code, stderr, stdout } = yield* client(["list"])
      assert.deepStrictEqual({ code, stdout }, { code: 1, stdout: "" })
      assert.match(stderr, /^The buffer [^\n]+\n$/)
    }))

  it.runIf(process.platform === "linux")("1: where the buffer lies, no folder can be made", () => {
    const program = Path.join(bundle, "dist/bin/indexcp.js")
    const { status, stderr } = spawnSync(process.execPath, [program, "list"], {
      env: { PATH: process.env["PATH"], HOME: "/proc/nobody" },
      encoding: "utf8",
      timeout: 20_000,
      killSignal: "SIGKILL"
    })
    assert.match(stderr, /^The buffer \/proc\/nobody\/\S+ cannot be created: ENOENT[^\n]*\n$/)
    assert.strictEqual(status, 1)
  })

  it.scopedLive("1: what nobody foresaw is one line too", () =>
    Effect.gen(function*() {
      const { client, home } = yield* inHome
      const bug = Path.join(home, "bug.mjs")
      const throwOnceStarted = `process.on("newListener", (name) => {
        if (name === "uncaughtException") setImmediate(() => { throw new Error("a bug\\n  in two lines") })
      })`
      yield* Effect.promise(() => Fs.writeFile(bug, throwOnceStarted))
      const { code, stderr } = yield* client(["list"], { NODE_OPTIONS: `--import ${bug}` })
      assert.deepStrictEqual({ code, stderr }, { code: 1, stderr: "Unexpected failure: a bug in two lines\n" })
    }))

  it.scopedLive("2: usage", () =>
    Effect.gen(function*() {
      const { client } = yield* inHome
      const { code, stderr, stdout } = yield* client(["add", "a", "--chunk-sise", "1KB"])
      assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
      assert.match(stderr, /^Unknown option --chunk-sise\. Did you mean --chunk-size\?[^\n]*\n$/)
    }))

  it.scopedLive("3: a file failed for good", () =>
    Effect.gen(function*() {
      const server = yield* startServer({ onConflict: "reject" })
      const { client } = yield* inHome
      yield* Effect.promise(() => Fs.writeFile(Path.join(server.folder, "a"), "taken"))
      const { code, stderr, stdout } = yield* client(["buffer-and-upload", "a", server.url])
      assert.deepStrictEqual({ code, stdout }, { code: 3, stdout: "" })
      assert.match(stderr, /\na: [^\n]*409[^\n]*\n$/)
      assertNoStack(stderr)
    }))

  it.scopedLive("4: no key, and nobody to ask: it does not wait for one", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { client } = yield* inHome
      const { code, stderr, stdout } = yield* client(["buffer-and-upload", "a", server.url], {})
      assert.deepStrictEqual({ code, stdout }, { code: 4, stdout: "" })
      assert.match(stderr, /\nNo API key: set INDEXCP_API_KEY[^\n]*\n$/)
    }))

  it.scopedLive("4: the key is refused", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { client } = yield* inHome
      const { code, stderr } = yield* client(["buffer-and-upload", "a", server.url, "--api-key", "no"])
      assert.strictEqual(code, 4)
      assert.match(stderr, /^Warning: a key on the command line [^\n]*\n[^\n]*\n[^\n]*401[^\n]*Check the API key\n$/)
    }))

  it.scopedLive("5: gave up waiting", () =>
    Effect.gen(function*() {
      const { client } = yield* inHome
      const { code, stderr } = yield* client(["buffer-and-upload", "a", "http://127.0.0.1:1", "--max-retries=0"])
      assert.strictEqual(code, 5)
      assert.match(stderr, /\na: Gave up after the first try: [^\n]*The data is kept[^\n]*\n$/)
      assertNoStack(stderr)
    }))

  it.scopedLive("6: a revision-1 server may have got a chunk; it is sent again only when asked for", () =>
    Effect.gen(function*() {
      const { client, home } = yield* inHome
      const folder = yield* folderWith({})
      const server = yield* PythonServer.make({ folder, apiKey: "k" })
      const proxy = yield* CutProxy.make({ target: server.port })
      yield* here("add", "a", "--chunk-size", "1MB")
      yield* proxy.plan(CutProxy.pass)
      const lost = yield* proxy.plan(CutProxy.cut(CutProxy.answerLost))
      const first = yield* client(["upload", proxy.url])
      yield* lost.done
      assert.deepInclude(first, { code: 6, stdout: "" })
      assert.match(first.stderr, /\na: Chunk 1 may or may not have arrived [^\n]*--resend-unconfirmed[^\n]*\n$/)
      const second = yield* client(["upload", "--json", proxy.url])
      assert.strictEqual(second.code, 6)
      assert.match(second.stdout, /\n\{"type":"summary","files":\[\{[^\n]*"state":"unconfirmed"[^\n]*\n$/)
      yield* Effect.promise(() => Fs.truncate(Path.join(folder, "a"), 1_000_000))
      assert.deepInclude(yield* client(["upload", "--resend-unconfirmed", proxy.url]), { code: 0, stdout: "a -> a\n" })
      assert.isTrue(bytes.equals(yield* contentOf(folder, "a")))
      assert.isTrue(bytes.equals(yield* contentOf(home, "a")))
    }))
})

describe.skipIf(isWindows)("an upload that ends half-way goes on where it was", () => {
  it.scopedLive.each([["SIGINT", 130], ["SIGTERM", 143]] as const)(
    "after %s, which ends it with %d",
    ([signal, code]) =>
      Effect.gen(function*() {
        const { goesOnTo, upload } = yield* halfWay
        yield* upload.signal(signal)
        assert.deepStrictEqual(yield* upload.ended, {
          code,
          stdout: "",
          stderr: "a: sending 1.91 MiB\nInterrupted\n"
        })
        yield* goesOnTo
      })
  )

  it.scopedLive("after kill -9", () =>
    Effect.gen(function*() {
      const { goesOnTo, upload } = yield* halfWay
      yield* upload.signal("SIGKILL")
      assert.include(yield* upload.ended, { code: -1 })
      yield* goesOnTo
    }))
})

describe("other programs beside it", () => {
  it.scopedLive("a second upload leaves a file alone that the first is sending, and ends with 5", () =>
    Effect.gen(function*() {
      const { client, goesOnTo, proxy, upload } = yield* halfWay
      const { code, stderr, stdout } = yield* client(["upload", "--json", proxy.url])
      assert.deepStrictEqual({ code, stderr }, { code: 5, stderr: "a: Another program is sending a already\n" })
      assert.match(stdout, /\{"type":"summary","files":\[\{[^\n]*"state":"claimed"/)
      yield* upload.signal("SIGINT")
      yield* upload.ended
      yield* goesOnTo
    }))

  it.scopedLive("when the reader of its output goes away, it ends the work in silence", () =>
    Effect.gen(function*() {
      const server = yield* startServer()
      const { launch } = yield* inHome
      yield* here("add", "a", "--chunk-size", "1MB")
      const upload = yield* launch(["upload", "--json", server.url])
      yield* upload.said(/"started".*\n/)
      // the server is in this process, so the answers come after this
      upload.child.stdout?.destroy()
      const { code, stderr } = yield* upload.ended
      assert.deepStrictEqual({ code, stderr }, { code: 0, stderr: "" })
      assert.isTrue(bytes.equals(yield* contentOf(server.folder, "a")))
    }))
})
