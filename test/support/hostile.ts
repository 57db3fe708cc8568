/**
 * A server among files that are none of its business, and what must hold after anything that was sent to it.
 *
 * @module
 */
import { expect } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as Server from "../../src/server/Server.ts"
import * as RawFiles from "./rawFiles.ts"
import { apiKey, authorized, connect, head, type RawAnswer, request, serve } from "./rawHttp.ts"

/** One hostile thing, by the name it has in the output. */
export interface Row {
  readonly name: string
  readonly send: (world: World) => Effect.Effect<ReadonlyArray<RawAnswer>, never, Scope.Scope>
  /** What it may be answered. */
  readonly statuses: ReadonlyArray<number>
  /** The files that may appear by it: their safe names. Default: none. */
  readonly appears?: ReadonlyArray<string> | RegExp
}

export interface World {
  readonly port: number
  /** The output folder. */
  readonly folder: string
  /** What must hold after a row: nothing outside has changed, no file but those allowed is new, and the server works. */
  readonly check: (answers: ReadonlyArray<RawAnswer>, row: Pick<Row, "statuses" | "appears">) => Effect.Effect<void>
}

const secret = "a secret that lies outside"

/** Everything in a folder but the output folder: what it is, what it holds, when it was changed. */
const canaries = (folder: string, output: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = Path.join(folder, entry.name)
    if (path === output) return []
    const { mode, mtimeMs } = Fs.lstatSync(path)
    const own = `${path} ${mode} ${mtimeMs} ${entry.isFile() ? Fs.readFileSync(path, "utf8") : ""}`
    return entry.isDirectory() ? [own, ...canaries(path, output)] : [own]
  })

/** The visible names, those of folders too. */
const visible = (folder: string, below = ""): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(folder, below), { withFileTypes: true }).flatMap((entry) => {
    const name = Path.join(below, entry.name)
    if (name === ".indexedcp") return []
    return entry.isDirectory() ? [name, ...visible(folder, name)] : [name]
  }).sort()

/** A good upload, of each revision by turns; returns the name of its file. */
const good = (port: number, turn: number) =>
  Effect.gen(function*() {
    const { body, status } = yield* request(port, "POST", "/upload", {
      ...authorized,
      "x-file-name": `good ${turn}.txt`,
      ...(turn % 2 === 0 ? {} : { "x-upload-id": `good-${turn}`, "x-chunk-offset": 0, "x-file-size": 3 })
    }, "abc")
    expect([turn, status]).toEqual([turn, 200])
    return (JSON.parse(body) as { readonly actualFilename: string }).actualFilename
  })

/**
 * A server whose output folder lies among canaries and has, in it, a link out, a link to a file outside, a folder and a
 * file. Its key's failures are not slowed down, unless asked for.
 */
export const world = (options: Partial<Server.ServerOptions> = {}): Effect.Effect<World, never, Scope.Scope> =>
  Effect.gen(function*() {
    const around = yield* RawFiles.temporaryFolder
    const folder = Path.join(around, "output")
    for (const made of [folder, Path.join(around, "outside"), Path.join(around, "etc"), Path.join(folder, "folder")]) {
      Fs.mkdirSync(made)
    }
    for (const name of ["passwd", "outside/file", "etc/passwd", "x", "output-x", "a.txt"]) {
      Fs.writeFileSync(Path.join(around, name), `${secret} ${name}`)
    }
    Fs.symlinkSync(Path.join(around, "outside"), Path.join(folder, "link"))
    Fs.symlinkSync(Path.join(around, "passwd"), Path.join(folder, "linked.txt"))
    Fs.writeFileSync(Path.join(folder, "there.txt"), "there before")
    const { port } = yield* Effect.orDie(
      serve(folder, { maxAuthFailures: 1_000_000, durability: "process", ...options })
    )
    let before = visible(folder)
    let turn = 0
    const outside = canaries(around, folder)
    return {
      port,
      folder,
      check: (answers, { appears = [], statuses }) =>
        Effect.gen(function*() {
          for (const answer of answers) {
            expect(statuses).toContain(answer.status)
            const said = JSON.stringify(answer)
            expect(said).not.toContain(apiKey)
            expect(said).not.toContain(secret)
            expect(said).not.toContain(around)
            expect(said).not.toMatch(/\.ts:|\.js:|at async/)
          }
          expect(canaries(around, folder)).toEqual(outside)
          expect(Fs.readFileSync(Path.join(folder, "there.txt"), "utf8")).toBe("there before")
          const now = visible(folder)
          const fresh = now.filter((name) => !before.includes(name))
          if (appears instanceof RegExp) fresh.forEach((name) => expect(name).toMatch(appears))
          else expect(fresh.filter((name) => !appears.includes(name))).toEqual([])
          expect(before.filter((name) => !now.includes(name))).toEqual([])
          Fs.rmSync(Path.join(folder, yield* good(port, ++turn)))
          before = [...before, ...fresh]
        })
    }
  })

/** Sends each row of a table, and checks after each. */
export const run = (world: World, rows: ReadonlyArray<Row>): Effect.Effect<void> =>
  Effect.forEach(rows, (row) =>
    Effect.scoped(Effect.gen(function*() {
      const answers = yield* row.send(world)
      yield* world.check(answers, row)
    })).pipe(
      Effect.catchAllDefect((cause) =>
        Effect.die(new Error(`${row.name}: ${(cause as Error).message ?? String(cause)}`, { cause }))
      )
    ), { discard: true })

/** A row that is one request. */
export const one = (
  name: string,
  headers: Readonly<Record<string, string | number | ReadonlyArray<string>>>,
  statuses: ReadonlyArray<number>,
  more: {
    readonly body?: string | Uint8Array
    readonly appears?: Row["appears"]
    readonly method?: string
    readonly path?: string
  } = {}
): Row => ({
  name,
  statuses,
  ...(more.appears === undefined ? {} : { appears: more.appears }),
  send: ({ port }) =>
    Effect.map(
      request(port, more.method ?? "POST", more.path ?? "/upload", { ...authorized, ...headers }, more.body ?? "abc"),
      (answer) => [answer]
    )
})

/** A row that is bytes on a connection, whose end is waited for; whatever was answered counts. */
export const raw = (
  name: string,
  bytes: ReadonlyArray<string | Uint8Array>,
  statuses: ReadonlyArray<number>,
  appears?: Row["appears"]
): Row => ({
  name,
  statuses,
  ...(appears === undefined ? {} : { appears }),
  send: ({ port }) =>
    Effect.gen(function*() {
      const connection = yield* connect(port)
      yield* connection.write(...bytes)
      return [yield* connection.answer]
    })
})

export { head }
