/**
 * Real programs that are killed at moments of chance, and started again until the work is done.
 *
 * @module
 */
import { assert } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { createHash, randomFillSync } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Cli from "./cli.ts"
import * as Live from "./live.ts"
import type { Chance } from "./proofRun.ts"
import { temporaryFolder } from "./rawFiles.ts"

const KiB = 1024

export const chunkSize = 256 * KiB

const apiKey = "the key"

export const hashOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex")

/** Bytes from no generator, so that no two files are alike. */
export const fresh = (length: number): Uint8Array => randomFillSync(new Uint8Array(length))

/** A size of one to some MiB, seldom a multiple of the chunk size. */
export const sizeBy = (by: Chance): number =>
  by.odds(0.2) ? chunkSize * (4 + by.below(8)) : 1024 * KiB + by.below(3 * 1024 * KiB)

/** `kill -9`, and waits until the process has ended. */
export const kill = (running: Cli.Running) => Effect.andThen(running.signal("SIGKILL"), running.ended)

/** A machine for a server and one for a client. */
export interface Site {
  readonly folder: string
  readonly url: string
  readonly key: string
  /** Starts a server on the same folder and port; returns once it listens. */
  readonly server: Effect.Effect<Cli.Running, never, Scope.Scope>
  /** Starts a client on the same buffer. */
  readonly client: (...words: ReadonlyArray<string>) => Effect.Effect<Cli.Running, never, Scope.Scope>
  /** Where the client's files are. */
  readonly home: string
}

export const site: Effect.Effect<Site, never, Scope.Scope> = Effect.gen(function*() {
  const home = yield* temporaryFolder
  const folder = yield* temporaryFolder
  const port = yield* Live.freePort
  const start = (name: "indexcp" | "indexcp-server", words: ReadonlyArray<string>) =>
    Cli.start(name, words, { home, variables: { INDEXCP_API_KEY: apiKey } })
  return {
    folder,
    home,
    key: apiKey,
    url: `http://127.0.0.1:${port}/upload`,
    server: Effect.tap(
      start("indexcp-server", ["--port", String(port), "--output-dir", folder]),
      (running) => running.said(/^Listening on/m)
    ),
    client: (...words) => start("indexcp", words)
  }
})

/** The visible files of a server by name, each with the hash of its content. */
export const shown = (site: Site): ReadonlyMap<string, string> =>
  new Map(
    Fs.readdirSync(site.folder, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ name }) => [name, hashOf(Fs.readFileSync(Path.join(site.folder, name)))])
  )

/** What is in the server's folder of part files. */
export const parts = (site: Site): ReadonlyArray<string> =>
  Fs.readdirSync(Path.join(site.folder, ".indexedcp", "parts"))

/** Runs a client to its end, which must be a good one. */
const finished = (site: Site, ...words: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const ended = yield* Effect.flatMap(site.client(...words), (running) => running.ended)
    assert.strictEqual(ended.code, 0, JSON.stringify(ended))
    return ended.stdout
  })

/** The n-th line of progress, and a few milliseconds; or the end of the client, if that comes first. */
const moment = (client: Cli.Running, by: Chance) =>
  Effect.gen(function*() {
    const lines = by.below(8)
    const reached = lines === 0 ? Effect.void : client.said(new RegExp(`(?:[^]*?"type":"progress"){${lines}}`))
    const pause = by.below(lines === 0 ? 300 : 40)
    const waits = Effect.andThen(Effect.catchAllCause(reached, () => Effect.never), Effect.sleep(pause))
    return yield* Effect.raceFirst(Effect.as(waits, true), Effect.as(client.ended, false))
  })

/** What was done: `midway` counts kills of somebody who had part of a file acknowledged. */
export interface Done {
  readonly kills: number
  readonly midway: number
  readonly files: number
}

/** Uploads files of our client to our server until so many kills have been survived. */
export const ours = (by: Chance, kills: number) =>
  Effect.gen(function*() {
    const at = yield* site
    const done = { kills: 0, midway: 0, files: 0 }
    const sent = new Map<string, string>()
    let server = yield* at.server
    const killServer = Effect.gen(function*() {
      yield* kill(server)
      done.kills += 1
      if (parts(at).length > 0) done.midway += 1
      yield* Effect.sleep(by.below(200))
      server = yield* at.server
    })

    while (done.kills < kills) {
      const paths = by.odds(0.3) ? ["one/data.bin", "two/data.bin"] : ["data.bin"]
      for (const path of paths) {
        const bytes = fresh(sizeBy(by))
        Fs.mkdirSync(Path.join(at.home, Path.dirname(path)), { recursive: true })
        Fs.writeFileSync(Path.join(at.home, path), bytes)
        sent.set(hashOf(bytes), path)
        if (by.odds(0.2)) {
          const adding = yield* at.client("add", "--chunk-size", "256KiB", path)
          yield* Effect.sleep(100 + by.below(250))
          yield* kill(adding)
          done.kills += 1
        }
        yield* finished(at, "add", "--chunk-size", "256KiB", path)
      }
      let client = yield* at.client("upload", "--json", at.url)
      for (;;) {
        if (done.kills >= kills || !(yield* moment(client, by))) {
          const { code, stderr } = yield* client.ended
          assert.strictEqual(code, 0, stderr)
          break
        }
        const victims = by.weighted({ client: 5, server: 3, both: 2 })
        if (victims !== "server") {
          const { stdout } = yield* kill(client)
          done.kills += 1
          if (/"type":"progress"/.test(stdout)) done.midway += 1
        }
        if (victims !== "client") yield* killServer
        if (victims !== "server") client = yield* at.client("upload", "--json", at.url)
      }
      done.files += paths.length
      assert.deepStrictEqual(JSON.parse(yield* finished(at, "list", "--json")), [])
      assert.deepStrictEqual([...shown(at).values()].sort(), [...sent.keys()].sort(), "each file once, as it was sent")
      assert.deepStrictEqual(parts(at), [])
    }
    return done
  })
