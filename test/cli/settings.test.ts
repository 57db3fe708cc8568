/** Where the server's settings come from, and how its logs look. */
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as NodeContext from "@effect/platform-node/NodeContext"
import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Console, Duration, Effect, Fiber, Redacted, Stream } from "effect"
import * as Path from "node:path"
import { codesOf } from "../../src/cli/indexcp-server.ts"
import * as Logs from "../../src/cli/logs.ts"
import { run as runCommand } from "../../src/cli/main.ts"
import { serverOptions, type ServerSettings, table } from "../../src/cli/serverSettings.ts"
import * as Settings from "../../src/cli/settings.ts"
import * as Words from "../../src/cli/words.ts"
import * as NodeServer from "../../src/server/NodeServer.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import { folderWith, run, type Variables } from "../support/cli.ts"

type Name = keyof typeof table

const names = Object.keys(table) as ReadonlyArray<Name>

/** For each setting a value that is not its default: as a text, what it means, and what a file may have besides. */
const samples: { readonly [N in Name]: readonly [text: string, value: ServerSettings[N], json?: unknown] } = {
  outputDir: ["received", "received"],
  onConflict: ["reject", "reject"],
  pathMode: ["timestamp", "timestamp"],
  fileMode: ["0600", 0o600, 600],
  durability: ["process", "process"],
  simple: ["true", true, true],
  host: ["::1", "::1"],
  port: ["8080", 8080, 8080],
  socket: ["/run/i.sock", "/run/i.sock"],
  basePath: ["/files/new", "/files/new"],
  tlsCert: ["cert.pem", "cert.pem"],
  tlsKey: ["key.pem", "key.pem"],
  trustProxy: ["1", true, true],
  corsOrigin: ["https://a.example, *", ["https://a.example", "*"], ["https://a.example", "*"]],
  apiKey: ["k,1", Redacted.make("k,1")],
  maxAuthFailures: ["5", 5, 5],
  maxChunkSize: ["16MiB", 16 * 1024 ** 2, 16 * 1024 ** 2],
  maxFileSize: ["1GB", 1e9, 1e9],
  maxHeaderSize: ["8KiB", 8192, 8192],
  maxNameLength: ["255", 255, 255],
  maxOpenUploads: ["3", 3, 3],
  maxKeyBytes: ["1TiB", 1024 ** 4, 1024 ** 4],
  minFreeSpace: ["0", 0, 0],
  maxRequests: ["7", 7, 7],
  maxConnections: ["8", 8, 8],
  bodyMemory: ["1MiB", 1024 ** 2, 1024 ** 2],
  headersTimeout: ["20s", Duration.seconds(20)],
  keepAliveTimeout: ["1m", Duration.minutes(1)],
  bodyTimeout: ["500ms", Duration.millis(500)],
  minBodyRate: ["1KB/s", 1000, 1000],
  drainTimeout: ["2h", Duration.hours(2)],
  unfinishedLifetime: ["1d", Duration.days(1)],
  endedLifetime: ["60d", Duration.days(60)],
  revision1Idle: ["1h", Duration.hours(1)],
  revision1Lifetime: ["30d", Duration.days(30)],
  onComplete: ["notify --done", "notify --done"],
  metricsKey: ["m", Redacted.make("m")],
  metricsAddress: ["[::1]:9100", "[::1]:9100"],
  logFormat: ["json", "json"],
  logLevel: ["error", "error"]
}

/** The settings for words, variables and the content of a file, through the real parser. */
const resolved = (words: ReadonlyArray<string>, variables: Variables = {}, file?: object) =>
  Effect.gen(function*() {
    const folder = yield* folderWith(file === undefined ? {} : { "s.json": JSON.stringify(file) })
    const all = file === undefined ? words : [...words, "--config", Path.join(folder, "s.json")]
    let found: Settings.Resolved<typeof table> | undefined
    const command = Command.make(
      "test",
      { config: Settings.file, ...Settings.options(table) },
      ({ config, ...flags }) =>
        Effect.map(
          Settings.resolve(table, { ...flags, logLevel: Words.valueOf(all, "--log-level") }, config),
          (settings) => {
            found = settings
          }
        )
    )
    const code = yield* runCommand(
      command,
      { name: "test", description: "", footer: HelpDoc.empty },
      // without words it prints its help
      all.length === 0 ? ["--"] : all
    ).pipe(
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables)))),
      Effect.provide(NodeContext.layer)
    )
    assert.strictEqual(code, 0)
    return found ?? assert.fail("the command did not run")
  })

const isFlag = (name: Name) => table[name].kind.form === "flag"

describe("each setting", () => {
  const ways: ReadonlyArray<readonly [Settings.Source, (name: Name) => Parameters<typeof resolved>]> = [
    ["flag", (name) => [isFlag(name) ? [Settings.flagOf(name)] : [Settings.flagOf(name), samples[name][0]]]],
    ["environment", (name) => [[], { [Settings.variableOf(name)]: samples[name][0] }]],
    ["file", (name) => [[], {}, { [name]: samples[name][0] }]],
    ["file", (name) => [[], {}, { [name]: samples[name][2] ?? samples[name][0] }]]
  ]

  it.scopedLive.each(ways)(
    "is taken from the %s, and the others stay as they are",
    ([source, given]) =>
      Effect.gen(function*() {
        const before = yield* resolved([])
        for (const name of names) {
          const { from, values } = yield* resolved(...given(name))
          assert.deepStrictEqual(values, { ...before.values, [name]: samples[name][1] })
          assert.strictEqual(from[name], source)
        }
      })
  )

  it("has names that follow from the one in the file", () => {
    assert.strictEqual(Settings.flagOf("revision1Idle"), "--revision1-idle")
    assert.strictEqual(Settings.variableOf("revision1Idle"), "INDEXCP_REVISION1_IDLE")
  })

  it.scopedLive("has the default that the server has without it", () =>
    Effect.gen(function*() {
      const options: Readonly<Record<string, unknown>> = serverOptions((yield* resolved([])).values)
      const plain = (value: unknown) =>
        Duration.isDuration(value) || typeof value === "string" && /^\d+ [a-z]+$/.test(value)
          ? Duration.toMillis(value as Duration.DurationInput)
          : value
      const defaults = Object.entries({ ...NodeServer.defaults, ...Receiver.defaults })
      const shared = defaults.filter(([name]) => name in options)
      assert.isAbove(shared.length, 7)
      for (const [name, value] of shared) assert.strictEqual(plain(options[name]), plain(value), name)
    }))
})

describe("of several places", () => {
  const cases: ReadonlyArray<
    readonly [
      Name,
      flag: readonly [string, unknown],
      environment: readonly [string, unknown],
      file: readonly [unknown, unknown],
      standard: unknown
    ]
  > = [
    ["port", ["1", 1], ["2", 2], [3, 3], 3000],
    ["host", ["a", "a"], ["b", "b"], ["c", "c"], "127.0.0.1"],
    ["onConflict", ["reject", "reject"], ["overwrite", "overwrite"], ["rename", "rename"], "rename"],
    ["logLevel", ["error", "error"], ["debug", "debug"], ["fatal", "fatal"], "info"],
    ["maxChunkSize", ["1KiB", 1024], ["2KiB", 2048], [3, 3], 1024 ** 3],
    [
      "bodyTimeout",
      ["1s", Duration.seconds(1)],
      ["2s", Duration.seconds(2)],
      ["3s", Duration.seconds(3)],
      Duration.seconds(30)
    ],
    ["corsOrigin", ["http://a", ["http://a"]], ["http://b", ["http://b"]], [["http://c"], ["http://c"]], undefined]
  ]

  it.scopedLive.each(cases)(
    "%s comes from the first that has it",
    ([name, flag, environment, file, standard]) =>
      Effect.gen(function*() {
        for (let which = 0; which < 8; which++) {
          const { from, values } = yield* resolved(
            which & 1 ? [Settings.flagOf(name), flag[0]] : [],
            which & 2 ? { [Settings.variableOf(name)]: environment[0] } : {},
            which & 4 ? { [name]: file[0] } : {}
          )
          const expected = which & 1
            ? [flag[1], "flag"]
            : which & 2
            ? [environment[1], "environment"]
            : which & 4
            ? [file[1], "file"]
            : [standard, "default"]
          assert.deepStrictEqual([values[name], from[name]], expected)
        }
      })
  )

  it.scopedLive("a flag that is on is switched off by the environment, and by --no-… again", () =>
    Effect.gen(function*() {
      assert.isTrue((yield* resolved([], {}, { simple: true })).values.simple)
      assert.isFalse((yield* resolved([], { INDEXCP_SIMPLE: "0" }, { simple: true })).values.simple)
      assert.isTrue((yield* resolved(["--simple"], { INDEXCP_SIMPLE: "false" })).values.simple)
      assert.isFalse((yield* resolved(["--no-simple"], { INDEXCP_SIMPLE: "true" })).values.simple)
    }))

  it.scopedLive("an empty variable, or an empty key on the command line, is none", () =>
    Effect.gen(function*() {
      const { from } = yield* resolved(["--api-key", ""], { INDEXCP_PORT: "", INDEXCP_API_KEY: "k" }, { port: 5 })
      assert.deepInclude(from, { port: "file", apiKey: "environment" })
    }))

  it.scopedLive("the file is named by --config, else by INDEXCP_CONFIG", () =>
    Effect.gen(function*() {
      const folder = yield* folderWith({ "other.json": `\uFEFF{ "host": "other" }` })
      const variables = { INDEXCP_CONFIG: Path.join(folder, "other.json") }
      assert.strictEqual((yield* resolved([], variables)).values.host, "other")
      assert.strictEqual((yield* resolved([], variables, { host: "mine" })).values.host, "mine")
    }))
})

describe("a wrong setting is one line and code 2", () => {
  const cases: ReadonlyArray<
    readonly [file: string | undefined, words: ReadonlyArray<string>, Variables, line: string]
  > = [
    [
      undefined,
      ["--max-chunk-size", "much"],
      {},
      "--max-chunk-size: Not a size: much. Write 64KiB, 5MB or a number of bytes"
    ],
    [undefined, ["--max-chunk-size", "0"], {}, "--max-chunk-size is 1 bytes or more"],
    [undefined, ["--headers-timeout", "25d"], {}, "--headers-timeout is 24d or less"],
    [
      undefined,
      ["--file-mode", "0755"],
      {},
      "--file-mode is a mode like 0640: its owner reads and writes, nobody executes"
    ],
    [undefined, ["--base-path", "files/"], {}, "--base-path is a path like /files, without / at its end, or empty"],
    [
      undefined,
      ["--metrics-address", "1:65536"],
      {},
      "--metrics-address is an address and a port, like 127.0.0.1:9100"
    ],
    [undefined, ["--tls-cert", "c"], {}, "--tls-cert needs --tls-key beside it"],
    [undefined, [], { INDEXCP_TLS_KEY: "c" }, "--tls-key needs --tls-cert beside it"],
    [undefined, ["--socket", ""], {}, "--socket is empty; give it a value or leave it out"],
    [undefined, [], { INDEXCP_PORT: "x" }, "INDEXCP_PORT is a whole number from 0 to 65535"],
    [undefined, [], { INDEXCP_SIMPLE: "yes" }, "INDEXCP_SIMPLE is true or false"],
    [
      undefined,
      [],
      { INDEXCP_LOG_LEVEL: "loud" },
      "INDEXCP_LOG_LEVEL is one of trace, debug, info, warning, error, fatal, none"
    ],
    [undefined, [], { INDEXCP_BODY_TIMEOUT: "30" }, "INDEXCP_BODY_TIMEOUT: Not a time: 30. Write 30s, 10m, 2h or 7d"],
    [undefined, [], { INDEXCP_CONFIG: "none.json" }, "The settings in none.json cannot be read: ENOENT"],
    [undefined, ["--config", "/"], {}, "The settings in / cannot be read: EISDIR"],
    [`{ "maxFileSiez": 1 }`, [], {}, "Unknown key maxFileSiez in FILE. Did you mean maxFileSize?"],
    [`{ "constructor": 1 }`, [], {}, "Unknown key constructor in FILE. Did you mean "],
    [`{ "port": 65536 }`, ["--port", "1"], {}, "port in FILE is a whole number from 0 to 65535"],
    [`{ "port": true }`, [], {}, "port in FILE is a number or a text"],
    [`{ "host": 1 }`, [], {}, "host in FILE is a text in quotes"],
    [`{ "simple": null }`, [], {}, "simple in FILE is true or false"],
    [`{ "corsOrigin": [1] }`, [], {}, "corsOrigin in FILE is a list of texts, or one text"],
    [
      `{ "corsOrigin": ["https://a.example/"] }`,
      [],
      {},
      "corsOrigin in FILE is origins like https://app.example, with commas between them, or *"
    ],
    [`{ "bodyTimeout": "0s" }`, [], {}, "bodyTimeout in FILE: Not a time: 0s. Write 30s, 10m, 2h or 7d"],
    [`{ "minBodyRate": 0 }`, [], {}, "minBodyRate in FILE: Not a rate: 0. Write 5MB/s or 500KiB/s"],
    [`{ "apiKey": "" }`, [], {}, "apiKey in FILE is empty; give it a value or leave it out"],
    [`{ "simple": true, "apiKey": "k" }`, [], {}, "--simple asks nobody for a key; leave out --api-key"],
    [`[]`, [], {}, `The settings in FILE are not a JSON object, like {"port": 8080}`],
    [`{ "apiKey": "secret"\n "port"`, [], {}, "The settings in FILE are not JSON"]
  ]

  it.scopedLive.each(cases)("%s %j %j: %s", ([content, words, variables, line]) =>
    Effect.gen(function*() {
      const folder = yield* folderWith(content === undefined ? {} : { "s.json": content })
      const file = Path.join(folder, "s.json")
      const all = content === undefined ? words : [...words, "--config", file]
      const { code, stderr, stdout } = yield* run("indexcp-server", all.length === 0 ? ["--"] : all, variables)
      assert.deepStrictEqual({ code, stdout }, { code: 2, stdout: "" })
      assert.match(stderr, /^[^\n]+\n$/)
      assert.strictEqual(stderr.replaceAll(file, "FILE").slice(0, line.length), line)
      assert.notInclude(stderr, "secret")
    }))
})

describe("the output folder of the commands beside the server", () => {
  it.live.each(
    [
      [["--output-dir", "one"], { INDEXCP_OUTPUT_DIR: "two" }, "one"],
      [[], { INDEXCP_OUTPUT_DIR: "two" }, "two"],
      [[], { INDEXCP_OUTPUT_DIR: "" }, "."]
    ] as const
  )("for %j and %j is %s", ([words, variables, folder]) =>
    Effect.map(
      run("indexcp-server", ["uploads", "list", ...words], variables),
      (ended) => assert.deepInclude(ended, { code: 3, stderr: `No server has run on ${folder}\n` })
    ))
})

describe("what a signal ends it with", () => {
  it("is no failure for the server, but for a command that it breaks off", () => {
    for (const words of [[], ["--port", "1"]]) assert.deepStrictEqual(codesOf(words), { SIGINT: 0, SIGTERM: 0 })
    assert.deepStrictEqual(codesOf(["uploads", "purge"]), { SIGINT: 130, SIGTERM: 143 })
  })
})

describe("the options of the server", () => {
  it.scopedLive("have nothing that is absent, the folder in full, and no certificate without one", () =>
    Effect.gen(function*() {
      const options = serverOptions((yield* resolved([])).values)
      assert.notIncludeMembers(Object.keys(options), ["socket", "apiKey", "tls", "tlsCert", "logLevel", "maxKeyBytes"])
      assert.strictEqual(options.outputDir, process.cwd())
    }))

  it.scopedLive("with a certificate read it again for each SIGHUP", () =>
    Effect.gen(function*() {
      const { tls } = serverOptions((yield* resolved(["--tls-cert", "c", "--tls-key", "k"])).values)
      assert.deepInclude(tls, { cert: "c", key: "k" })
      const before = process.listenerCount("SIGHUP")
      const listening = Effect.async<void>((resume) => {
        process.on("newListener", function added(name) {
          if (name !== "SIGHUP") return
          process.off("newListener", added)
          resume(Effect.void)
        })
      })
      const heard = yield* Effect.fork(Effect.zip(listening, Effect.void))
      yield* Effect.yieldNow()
      const reloads = yield* Effect.fork(Stream.runCount(Stream.take(tls?.reload ?? Stream.empty, 2)))
      yield* Fiber.join(heard)
      yield* Effect.yieldNow()
      process.emit("SIGHUP")
      process.emit("SIGHUP")
      assert.strictEqual(yield* Fiber.join(reloads), 2)
      assert.strictEqual(process.listenerCount("SIGHUP"), before)
    }))
})

/** What is logged on stderr, and that nothing is on stdout. */
const logged = (format: Logs.Format, level: Logs.Level, log: Effect.Effect<void>) =>
  Console.consoleWith((console) => {
    const lines: Array<string> = []
    return Effect.provide(log, Logs.layer(format, level)).pipe(
      Effect.withConsole({
        ...console,
        unsafe: {
          ...console.unsafe,
          log: () => assert.fail("on stdout"),
          error: (text: unknown) => void lines.push(String(text))
        }
      }),
      Effect.as(lines)
    )
  })

const hostile = "a\u001b[2J\r\nb\u009b\u202e"

const records = Effect.all([
  Effect.logInfo("Received").pipe(Effect.annotateLogs({ file: "a b.txt", size: 12, key: Redacted.make("secret") })),
  Effect.logWarning(hostile, { [hostile]: hostile }).pipe(Effect.annotateLogs(hostile, hostile)),
  Effect.logError("It failed", new Error(`no ${hostile}`)),
  Effect.logError("It died", Cause.die(new Error("a bug"))),
  Effect.logFatal(undefined).pipe(Effect.annotateLogs({ level: "mine", huge: 1n }))
], { discard: true })

describe("logs", () => {
  it.live("for people are one line a record, in which no character moves the cursor", () =>
    Effect.gen(function*() {
      const lines = yield* logged("human", "info", records)
      assert.strictEqual(lines.length, 5)
      // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
      for (const line of lines) assert.notMatch(line, /[\x00-\x1f\x7f-\x9f\u202a-\u202e]/)
      assert.match(lines[0]!, /^\d{4}-\d\d-\d\dT[\d:.]+Z INFO  Received /)
      for (const part of [`file="a b.txt"`, "size=12", "key=<redacted>"]) assert.include(lines[0], ` ${part}`)
      assert.match(lines[2]!, /Z ERROR It failed error="Error: no /)
      assert.match(lines[3]!, /Z ERROR It died error="Error: a bug at .*settings\.test\.ts/)
    }))

  it.live("as JSON are one object a line, with the annotations as fields", () =>
    Effect.gen(function*() {
      const lines = yield* logged("json", "info", records)
      for (const line of lines) assert.notInclude(line, "\n")
      const [first, second, third, , last] = lines.map((line) => JSON.parse(line))
      const { timestamp, ...rest } = first
      assert.strictEqual(new Date(timestamp).toISOString(), timestamp)
      assert.deepStrictEqual(rest, { level: "INFO", message: "Received", file: "a b.txt", size: 12, key: "<redacted>" })
      assert.deepInclude(second, { level: "WARN", [hostile]: hostile })
      assert.deepInclude(third, { level: "ERROR", message: "It failed" })
      assert.isTrue(third.error.startsWith(`Error: no ${hostile}\n    at `))
      assert.deepInclude(last, { level: "FATAL", message: "", huge: "1" })
    }))

  it.live.each([["info", 5], ["warning", 4], ["fatal", 1], ["none", 0]] as const)(
    "from %s on are %d of these",
    ([level, count]) => Effect.map(logged("json", level, records), (lines) => assert.strictEqual(lines.length, count))
  )

  it.live("in a program that logged in one format already come once, in the other", () =>
    Effect.gen(function*() {
      const lines = yield* logged("human", "none", Effect.provide(Effect.logInfo("once"), Logs.layer("json", "info")))
      assert.deepStrictEqual(lines.map((line) => JSON.parse(line).message), ["once"])
    }))
})
