/**
 * A server among files that are none of its business, and what must hold after anything that was sent to it.
 *
 * @module
 */
import * as HttpServer from "@effect/platform/HttpServer"
import { expect } from "@effect/vitest"
import { Cause, Context, Effect, Layer, Logger, LogLevel, Redacted, type Scope } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Server from "../../src/server/Server.ts"
import { isWindows } from "./platform.ts"
import * as RawFiles from "./rawFiles.ts"
import { apiKey, authorized, connect, eventually, head, type RawAnswer, request } from "./rawHttp.ts"

/** One hostile thing, by the name it has in the output. */
export interface Row {
  readonly name: string
  readonly send: (world: World) => Effect.Effect<ReadonlyArray<RawAnswer>, never, Scope.Scope>
  /** What each of its answers may be. */
  readonly statuses: ReadonlyArray<number>
  /** The files (with the folders made for them) that appear by it, exactly; or what their names look like. Default: none. */
  readonly appears?: ReadonlyArray<string> | RegExp
  /** Part files that may stay besides those of uploads whose 200 says that they are unfinished or of revision 1. Default 0. */
  readonly staged?: number
}

export type Expected = Pick<Row, "statuses" | "appears" | "staged">

export interface World {
  readonly port: number
  /** The output folder. */
  readonly folder: string
  /** What must hold after a row: nothing outside has changed, no file but those allowed is new, and the server works. */
  readonly check: (answers: ReadonlyArray<RawAnswer>, expected: Expected) => Effect.Effect<void>
}

/** A 200 to a chunk, as far as it is looked at. */
interface Receipt {
  readonly actualFilename: string
  readonly uploadId?: string
  readonly complete?: boolean
}

const secret = "a secret that lies outside"

/** What something is, where it leads, what it holds, when it was changed (a folder also by what is put in it). */
const describe = (path: string, isOurs = false): string => {
  const stats = Fs.lstatSync(path)
  const content = stats.isSymbolicLink() ?
    Fs.readlinkSync(path) :
    stats.isFile()
    ? Fs.readFileSync(path, "utf8")
    : ""
  return `${path} ${stats.mode} ${stats.ino} ${isOurs && stats.isDirectory() ? "" : stats.mtimeMs} ${content}`
}

/** In the output folder, made by somebody else: two links out, a FIFO, a file, a folder, and a file in it. */
const theirs = ["link", "linked.txt", "pipe", "there.txt", "folder", "folder/inside.txt"]

/** Everything in a folder but the output folder, and of that what was there before the server. */
const canaries = (folder: string, output: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = Path.join(folder, entry.name)
    if (path === output) return theirs.map((name) => describe(Path.join(output, name), true))
    return entry.isDirectory() ? [describe(path), ...canaries(path, output)] : [describe(path)]
  })

/** The visible names, those of folders too. */
const visible = (folder: string, below = ""): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(folder, below), { withFileTypes: true }).flatMap((entry) => {
    const name = Path.posix.join(below, entry.name)
    if (name === ".indexedcp") return []
    return entry.isDirectory() ? [name, ...visible(folder, name)] : [name]
  }).sort()

const place = Effect.gen(function*() {
  const around = yield* RawFiles.temporaryFolder
  const folder = Path.join(around, "output")
  for (const made of [folder, Path.join(around, "outside"), Path.join(around, "etc"), Path.join(folder, "folder")]) {
    Fs.mkdirSync(made)
  }
  for (const name of ["passwd", "outside/file", "etc/passwd", "x", "output-x", "a.txt"]) {
    Fs.writeFileSync(Path.join(around, name), `${secret} ${name}`, { mode: 0o604 })
  }
  Fs.symlinkSync(Path.join(around, "outside"), Path.join(folder, "link"))
  Fs.symlinkSync(Path.join(around, "passwd"), Path.join(folder, "linked.txt"))
  if (!isWindows) execFileSync("mkfifo", [Path.join(folder, "pipe")])
  Fs.writeFileSync(Path.join(folder, "there.txt"), "there before")
  Fs.writeFileSync(Path.join(folder, "folder", "inside.txt"), "inside before")
  return { around, folder }
})

const parts = (folder: string): ReadonlyArray<string> => Fs.readdirSync(Path.join(folder, ".indexedcp", "parts"))

const receiptsOf = (answers: ReadonlyArray<RawAnswer>): ReadonlyArray<Receipt> =>
  answers.flatMap(({ body, status }) => {
    if (status !== 200 || !body.includes("Chunk received")) return []
    const answer = JSON.parse(body) as Receipt | { readonly results: ReadonlyArray<{ readonly receipt?: Receipt }> }
    return "results" in answer ? answer.results.flatMap(({ receipt }) => receipt ?? []) : [answer]
  })

/** How many part files stay for what was acknowledged: every file of revision 1 is one, and every unfinished upload. */
const stays = (answers: ReadonlyArray<RawAnswer>): number =>
  new Set(
    receiptsOf(answers).filter(({ complete }) => complete !== true)
      .map(({ actualFilename, uploadId }) => uploadId ?? `/${actualFilename}`)
  ).size

/** A good upload of each revision on one connection; their files are as they were sent, and go. */
const good = (port: number, folder: string, turn: number) =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* connect(port)
    for (const revision of [1, 2]) {
      yield* connection.write(
        head("POST", "/upload", {
          ...authorized,
          "content-length": 3,
          "x-file-name": `good ${turn} ${revision}.txt`,
          ...(revision === 1 ? {} : { "x-upload-id": `good-${turn}`, "x-chunk-offset": 0, "x-file-size": 3 })
        }),
        "abc"
      )
      const answer = yield* connection.answer
      expect(["a good upload", revision, answer.status]).toEqual(["a good upload", revision, 200])
      const path = Path.join(folder, receiptsOf([answer])[0]!.actualFilename)
      expect(Fs.readFileSync(path, "utf8")).toBe("abc")
      Fs.rmSync(path)
    }
  }))

/** Whatever a server says to its log, a line each. */
const logging = (lines: Array<string>) =>
  Layer.merge(
    Logger.replace(
      Logger.defaultLogger,
      Logger.map(Logger.logfmtLogger, (line) => {
        lines.push(line)
      })
    ),
    Logger.minimumLogLevel(LogLevel.Debug)
  )

/** Of all worlds, so that no two good uploads have one name. */
let turns = 0

/**
 * A server whose output folder lies among canaries and has {@link theirs} in it. Whose key is wrong is not slowed down,
 * unless asked for.
 */
export const world = (options: Partial<Server.ServerOptions> = {}): Effect.Effect<World, never, Scope.Scope> =>
  Effect.gen(function*() {
    const { around, folder } = yield* place
    const outside = canaries(around, folder)
    const before = visible(folder)
    const lines: Array<string> = []
    const context = yield* Effect.orDie(Layer.build(Layer.provide(
      Server.layer({
        outputDir: folder,
        apiKey: Redacted.make(apiKey),
        port: 0,
        maxAuthFailures: 1_000_000,
        durability: "process",
        minFreeSpace: 0,
        ...options
      }),
      logging(lines)
    )))
    const { address } = Context.get(context, HttpServer.HttpServer)
    const port = address._tag === "TcpAddress" ? address.port : 0
    let staged = new Set(parts(folder))
    let logged = 0
    return {
      port,
      folder,
      check: (answers, { appears = [], staged: more = 0, statuses }) =>
        Effect.gen(function*() {
          for (const answer of answers) {
            expect(statuses).toContain(answer.status)
            const said = JSON.stringify(answer)
            expect(said).not.toContain(apiKey)
            expect(said).not.toContain(secret)
            expect(said).not.toContain(around)
            expect(said).not.toMatch(/\.[tj]s:\d|at async|node_modules/)
          }
          expect(canaries(around, folder)).toEqual(outside)
          const fresh = visible(folder).filter((name) => !before.includes(name))
          if (appears instanceof RegExp) fresh.forEach((name) => expect(name).toMatch(appears))
          else expect(fresh).toEqual([...appears].sort())
          for (const { actualFilename, complete, uploadId } of receiptsOf(answers)) {
            if (uploadId === undefined || complete === true) expect(fresh).toContain(actualFilename)
          }
          const kept = () => parts(folder).filter((name) => !staged.has(name)).length
          const most = stays(answers) + more
          // those of cut bodies go when the server has seen the end of the connection
          yield* Effect.catchAllDefect(
            eventually(() => kept() <= most),
            () => Effect.dieMessage(`${kept()} part files stay, not ${most} at most`)
          )
          expect(kept()).toBeGreaterThanOrEqual(stays(answers))
          fresh.forEach((name) => Fs.rmSync(Path.join(folder, name), { recursive: true, force: true }))
          yield* good(port, folder, ++turns)
          staged = new Set(parts(folder))
          for (const line of lines.slice(logged)) {
            expect(line).not.toContain(apiKey)
            // oxlint-disable-next-line no-control-regex -- a line that is two would hold one
            expect(line).not.toMatch(/level=(ERROR|FATAL)|[\0-\x1f\x7f]/)
          }
          logged = lines.length
        })
    }
  })

/** Sends each row of a table, and checks after each. */
export const run = (world: World, rows: ReadonlyArray<Row>): Effect.Effect<void> =>
  Effect.forEach(
    rows,
    (row) =>
      Effect.scoped(Effect.flatMap(row.send(world), (answers) => world.check(answers, row))).pipe(
        Effect.timeoutFailCause({ duration: "10 seconds", onTimeout: () => Cause.die(new Error("hangs")) }),
        Effect.catchAllDefect((cause) =>
          Effect.die(new Error(`${row.name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause }))
        )
      ),
    { discard: true }
  )

export type Headers = Readonly<Record<string, string | number | ReadonlyArray<string>>>

type More = Partial<Pick<Row, "appears" | "staged">>

/** A row that is one request. */
export const one = (
  name: string,
  headers: Headers,
  statuses: ReadonlyArray<number>,
  { body = "abc", method = "POST", path = "/upload", ...more }: More & {
    readonly body?: string | Uint8Array
    readonly method?: string
    readonly path?: string
  } = {}
): Row => ({
  name,
  statuses,
  ...more,
  send: ({ port }) => Effect.map(request(port, method, path, { ...authorized, ...headers }, body), (answer) => [answer])
})

/** A row that is bytes on a connection, whose first answer is waited for. */
export const raw = (
  name: string,
  bytes: ReadonlyArray<string | Uint8Array>,
  statuses: ReadonlyArray<number>,
  more: More = {}
): Row => ({
  name,
  statuses,
  ...more,
  send: ({ port }) =>
    Effect.gen(function*() {
      const connection = yield* connect(port)
      yield* connection.write(...bytes)
      return [yield* connection.answer]
    })
})

/** All answers in what came on a connection until its end; their bodies must have no answers in them. */
const answersIn = (received: string): ReadonlyArray<RawAnswer> =>
  received === "" ? [] : received.split(/(?=HTTP\/1\.1 \d{3} )/).map((text) => {
    const end = text.indexOf("\r\n\r\n")
    return { status: Number(text.split(" ")[1]), headers: { all: text.slice(0, end) }, body: text.slice(end + 4) }
  })

/**
 * A row that is bytes on a connection, and behind them a question for the server's health; exactly these answers come until
 * the server ends it, the last of them to that question where it has not ended before.
 */
export const all = (
  name: string,
  bytes: ReadonlyArray<string | Uint8Array>,
  statuses: ReadonlyArray<number>,
  more: More = {}
): Row => ({
  name,
  statuses,
  ...more,
  send: ({ port }) =>
    Effect.gen(function*() {
      const connection = yield* connect(port)
      yield* connection.write(...bytes, head("GET", "/health", { connection: "close" }))
      const answers = answersIn(yield* connection.rest)
      expect(answers.map(({ status }) => status)).toEqual(statuses)
      return answers
    })
})

/** Several rows that are answered the same and leave nothing, looked at together. */
export const together = (name: string, statuses: ReadonlyArray<number>, rows: ReadonlyArray<Row>): Row => ({
  name,
  statuses,
  send: (world) => Effect.map(Effect.forEach(rows, ({ send }) => send(world)), (answers) => answers.flat())
})
