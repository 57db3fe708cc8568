/** `indexcp-server` as a process. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs/promises"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"
import { bytesOf, contentOf, folderWith, start, type Variables } from "../support/cli.ts"
import { isWindows } from "../support/platform.ts"

const launch = (home: string, words: ReadonlyArray<string>, variables: Variables = {}) =>
  start("indexcp-server", ["--port", "0", ...words], { home, variables })

/** A server that listens: its URL besides. */
const listening = (home: string, words: ReadonlyArray<string> = [], variables?: Variables) =>
  Effect.gen(function*() {
    const server = yield* launch(home, words, variables)
    return { ...server, url: yield* server.said(/^Listening on (\S+)$/m) }
  })

const endedAtOnce = (home: string, words: ReadonlyArray<string>, variables?: Variables) =>
  Effect.flatMap(launch(home, words, variables), ({ ended }) => ended)

const post = (url: string, key: string | undefined, body: string, name = "a.txt") =>
  Effect.promise(async () => {
    const answer = await fetch(url, {
      method: "POST",
      body,
      headers: { "x-file-name": name, "x-chunk-index": "0", ...key && { authorization: `Bearer ${key}` } }
    })
    return { status: answer.status, text: await answer.text() }
  })

/** A connection on which a request was answered and that stays open. */
const idleConnection = (url: string) =>
  Effect.gen(function*() {
    const agent = yield* Effect.acquireRelease(
      Effect.sync(() => new Http.Agent({ keepAlive: true })),
      (agent) => Effect.sync(() => agent.destroy())
    )
    yield* Effect.async<void>((resume) => {
      Http.get(new URL("/health", url), { agent }, (answer) => {
        answer.resume().once("end", () => setImmediate(() => resume(Effect.void)))
      })
    })
    assert.strictEqual(Object.values(agent.freeSockets).flat().length, 1)
  })

describe.skipIf(isWindows)("without any words", () => {
  it.scopedLive("it starts, by the environment alone", () =>
    Effect.gen(function*() {
      const home = yield* folderWith({})
      const variables = { INDEXCP_PORT: "0", INDEXCP_OUTPUT_DIR: "received", INDEXCP_API_KEY: "k" }
      const server = yield* start("indexcp-server", [], { home, variables })
      const url = yield* server.said(/^Listening on (\S+)$/m)
      assert.strictEqual((yield* post(url, "k", "x")).status, 200)
      yield* server.signal("SIGTERM")
      assert.strictEqual((yield* server.ended).code, 0)
    }))
})

describe.skipIf(isWindows)("the key", () => {
  it.scopedLive("is made at each start when there is none, and told once, on stderr", () =>
    Effect.gen(function*() {
      const keys: Array<string> = []
      for (const variables of [{}, { INDEXCP_API_KEY: "", INDEXEDCP_API_KEY: "" }]) {
        const home = yield* folderWith({})
        const server = yield* listening(home, [], variables)
        const key = yield* server.said(/^API key: ([0-9a-f]{64})$/m, "stderr")
        assert.strictEqual((yield* post(server.url, undefined, "x")).status, 401)
        assert.strictEqual((yield* post(server.url, key, "x")).status, 200)
        yield* server.signal("SIGTERM")
        const { stderr, stdout } = yield* server.ended
        assert.strictEqual(stdout, `Listening on ${server.url}\n`)
        assert.strictEqual(stderr.split(key).length, 2)
        keys.push(key)
      }
      assert.notStrictEqual(keys[0], keys[1])
    }))

  it.scopedLive.each(
    [
      [["--api-key", "one"], { INDEXCP_API_KEY: "two" }, "one"],
      [[], { INDEXCP_API_KEY: "one", INDEXEDCP_API_KEY: "two" }, "one"],
      [[], { INDEXCP_API_KEY: "", INDEXEDCP_API_KEY: "two" }, "two"],
      // a line end from a file
      [[], { INDEXCP_API_KEY: " one\r\n" }, "one"],
      [[], { INDEXEDCP_API_KEY: "two\n" }, "two"],
      [["--api-key", " three "], {}, "three"]
    ] as const
  )("given as %j or %j is %s, and is not printed", ([words, variables, key]) =>
    Effect.gen(function*() {
      const server = yield* listening(yield* folderWith({}), words, variables)
      assert.strictEqual((yield* post(server.url, key, "x")).status, 200)
      yield* server.signal("SIGTERM")
      const { stderr } = yield* server.ended
      assert.strictEqual(stderr.startsWith("Warning: a key on the command line can be read"), words.length > 0)
      assert.notMatch(stderr, /API key: |\bone\b|\btwo\b/)
    }))
})

describe.skipIf(isWindows)("start", () => {
  it.scopedLive("makes the folder, and keeps files there as --on-conflict says", () =>
    Effect.gen(function*() {
      const home = yield* folderWith({})
      const words = ["--output-dir", "deep/down", "--on-conflict", "reject", "--host", "127.0.0.1"]
      const { url } = yield* listening(home, words, { INDEXCP_API_KEY: "k" })
      yield* Effect.promise(() => Fs.writeFile(Path.join(home, "deep/down/taken"), "mine"))
      assert.strictEqual((yield* post(url, "k", "x", "taken")).status, 409)
      assert.strictEqual((yield* post(url, "k", "x", "free")).status, 200)
      assert.strictEqual((yield* contentOf(home, "deep/down/free")).toString(), "x")
    }))

  it.scopedLive.each(
    [
      ["a file", "file"],
      ["below a file", "file/deeper"],
      ["where nobody may make one", "/proc/nothing/deeper"]
    ] as const
  )("in a folder that is %s fails with 3 and one line, no key", ([, folder]) =>
    Effect.gen(function*() {
      const home = yield* folderWith({ file: "" })
      for (const words of [[], ["--simple"]]) {
        const { code, stderr, stdout } = yield* endedAtOnce(home, ["--output-dir", folder, ...words])
        assert.deepStrictEqual({ code, stdout }, { code: 3, stdout: "" })
        assert.match(stderr, /^The output folder \S+ cannot be made[^\n]*: E[A-Z]+\n$/)
      }
    }))

  it.scopedLive("at a port in use fails with 3 and one line", () =>
    Effect.gen(function*() {
      const home = yield* folderWith({})
      const taken = yield* Effect.acquireRelease(
        Effect.async<Net.Server>((resume) => {
          const server = Net.createServer().listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const { port } = taken.address() as Net.AddressInfo
      for (const words of [[], ["--simple"]]) {
        const server = yield* start("indexcp-server", ["--port", String(port), ...words], { home })
        const { code, stderr, stdout } = yield* server.ended
        assert.deepStrictEqual({ code, stdout }, { code: 3, stdout: "" })
        assert.match(stderr, new RegExp(`^Cannot listen on 127.0.0.1 port ${port}: the port is in use[^\\n]*\\n$`))
      }
    }))

  it.scopedLive("on a folder that another server has fails with 3, and the other goes on", () =>
    Effect.gen(function*() {
      const home = yield* folderWith({})
      const first = yield* listening(home, [], { INDEXCP_API_KEY: "k" })
      const { code, stderr, stdout } = yield* endedAtOnce(home, [])
      assert.deepStrictEqual({ code, stdout }, { code: 3, stdout: "" })
      assert.match(stderr, /^Another server is running on [^\n]+\n$/)
      assert.strictEqual((yield* post(first.url, "k", "x")).status, 200)
      yield* first.signal("SIGKILL")
      yield* first.ended
      yield* listening(home)
    }))
})

describe.skipIf(isWindows)("stop", () => {
  it.scopedLive.each(["SIGINT", "SIGTERM"] as const)(
    "by %s is prompt, also with an idle connection, and no failure: code 0",
    (signal) =>
      Effect.gen(function*() {
        for (const words of [[], ["--simple"]]) {
          const server = yield* listening(yield* folderWith({}), words)
          yield* idleConnection(server.url)
          yield* server.signal(signal)
          // the drain for requests in flight takes up to 10 seconds
          const ended = yield* Effect.timeout(server.ended, "5 seconds")
          assert.strictEqual(ended.code, 0)
          assert.match(ended.stderr, /\nStopped\n$/)
        }
      })
  )
})

describe.skipIf(isWindows)("--simple", () => {
  it.scopedLive("asks for no key, prints none, and appends everything to one file", () =>
    Effect.gen(function*() {
      const home = yield* folderWith({})
      const server = yield* listening(home, ["--simple", "--output-dir", "new"], { INDEXCP_API_KEY: "k" })
      assert.deepStrictEqual(yield* post(server.url, undefined, "one"), { status: 200, text: "Chunk received\n" })
      yield* post(server.url, "any", "two", "other")
      assert.strictEqual((yield* contentOf(home, "new/uploaded_file.txt")).toString(), "onetwo")
      const file = Path.join(yield* Effect.promise(() => Fs.realpath(home)), "new/uploaded_file.txt")
      yield* server.said(new RegExp(`^Everything goes to ${file}$`, "m"), "stderr")
      yield* server.signal("SIGTERM")
      assert.notInclude((yield* server.ended).stderr, "API key")
    }))

  it.scopedLive("with --api-key is a usage error: no key would be asked for", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* endedAtOnce(yield* folderWith({}), ["--simple", "--api-key", "k"])
      assert.strictEqual(code, 2)
      assert.include(stderr, "\n--simple asks nobody for a key; leave out --api-key\n")
    }))
})

describe.skipIf(isWindows)("settings", () => {
  it.scopedLive("come from the file, the environment and the command line; logs as JSON are all of stderr", () =>
    Effect.gen(function*() {
      const file = { outputDir: "from-file", logFormat: "human", onConflict: "reject", port: 1 }
      const home = yield* folderWith({ "s.json": JSON.stringify(file) })
      const variables = { INDEXCP_CONFIG: "s.json", INDEXCP_LOG_FORMAT: "json", INDEXCP_LOG_LEVEL: "none" }
      const server = yield* listening(home, ["--log-level", "debug"], variables)
      yield* Effect.promise(() => Fs.writeFile(Path.join(home, "from-file/taken"), "mine"))
      const key = yield* server.said(/"API key: (\w+)"/, "stderr")
      assert.strictEqual((yield* post(server.url, key, "x", "taken")).status, 409)
      yield* server.signal("SIGTERM")
      const { code, stderr } = yield* server.ended
      assert.strictEqual(code, 0)
      const records = stderr.trimEnd().split("\n").map((line) => JSON.parse(line))
      for (const record of records) assert.containsAllKeys(record, ["timestamp", "level", "message"])
      assert.deepInclude(records.map(({ level }) => level), "DEBUG")
      assert.include(records.at(-1), { level: "INFO", message: "Stopped" })
    }))

  it.scopedLive("of the logs hold for the line that says why it cannot start, too", () =>
    Effect.gen(function*() {
      const home = yield* folderWith({ file: "" })
      const words = ["--output-dir", "file/deeper", "--log-format", "json"]
      const { code, stderr } = yield* endedAtOnce(home, words)
      assert.strictEqual(code, 3)
      const { level, message } = JSON.parse(stderr)
      assert.strictEqual(level, "FATAL")
      assert.match(message, /^The output folder \S+ cannot be made/)
    }))
})

describe.skipIf(isWindows)("both programs together", () => {
  it.scopedLive("deliver a file byte for byte with the key that the server made", () =>
    Effect.gen(function*() {
      const bytes = bytesOf(3_000_000)
      const home = yield* folderWith({ "a b.bin": bytes })
      const server = yield* listening(home, ["--output-dir", "received"])
      const key = yield* server.said(/^API key: (\w+)$/m, "stderr")
      const client = yield* start("indexcp", ["buffer-and-upload", "a b.bin", server.url], {
        home,
        variables: { INDEXCP_API_KEY: key }
      })
      assert.deepInclude(yield* client.ended, { code: 0, stdout: "a b.bin -> a b.bin\n" })
      assert.isTrue(bytes.equals(yield* contentOf(home, "received/a b.bin")))
    }))
})
