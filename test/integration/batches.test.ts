/**
 * Many small files between our client and our server as they run.
 *
 * @module
 */
import { assert, describe, expect, it } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Kills from "../support/kills.ts"
import * as Live from "../support/live.ts"
import { type Chance, chance } from "../support/proofRun.ts"
import { temporaryFolder } from "../support/rawFiles.ts"

const seed = Number(process.env["INDEXEDCP_SEED"] ?? 20261)
const kills = Number(process.env["INDEXEDCP_KILLS"] ?? 12)

/** Files of 0 bytes to some KiB, no two alike but the empty ones; their hashes by their names. */
const fill = (folder: string, count: number, by: Chance): ReadonlyMap<string, string> => {
  Fs.mkdirSync(folder, { recursive: true })
  return new Map(Array.from({ length: count }, (_, at) => {
    const name = `${Path.basename(folder)}-${at}.bin`
    const bytes = Kills.fresh(at === 0 ? 0 : 1 + by.below(8000))
    Fs.writeFileSync(Path.join(folder, name), bytes)
    return [name, Kills.hashOf(bytes)]
  }))
}

describe("Many small files", () => {
  it.scopedLive("arrive as they are, and each is told of", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const { url } = yield* Live.server(folder)
      const uploader = yield* Live.client(Path.join(yield* temporaryFolder, "buffer.db"), { chunkSize: 1024 * 1024 })
      const files = new Map(
        Array.from({ length: 150 }, (_, at) => [`ü ${at}.txt`, Kills.fresh(at === 7 ? 0 : at * 20)])
      )
      for (const [name, bytes] of files) yield* Live.add(uploader, name, bytes)
      const outcomes = yield* uploader.uploadAll({ endpoint: url })
      expect(outcomes.map(({ state }) => state)).toEqual(outcomes.map(() => "delivered"))
      expect(yield* Live.filesIn(folder)).toEqual([...files.keys()].sort())
      for (const [name, bytes] of files) expect(yield* Live.read(folder, name)).toEqual(bytes)
      expect(yield* Live.buffered(uploader)).toEqual([])
      expect(yield* Stream.runCount(uploader.receipts)).toBe(150)
    }))
})

describe("Many small files between programs that are killed", () => {
  /** Kills one of both, or both, at some moment of an upload, until it ends by itself. */
  const survive = (way: "direct" | "buffered", kills: number, by: Chance) =>
    Effect.gen(function*() {
      const at = yield* Kills.site
      const sent = fill(Path.join(at.home, "many"), 400, by)
      let server = yield* at.server
      if (way === "buffered") {
        const adding = yield* at.client("add", "-r", "many")
        assert.strictEqual((yield* adding.ended).code, 0)
      }
      const start = way === "direct"
        ? at.client("buffer-and-upload", "-r", "--json", "many", at.url)
        : at.client("upload", "--json", at.url)
      let client = yield* start
      // of a direct upload, whoever dies before its files are recorded as delivered has them sent again under the same ids;
      // those that are recorded leave no trace, so they are taken away from what is asked for again
      for (let left = kills; left > 0; left--) {
        const progress = new RegExp(`"type":"progress","name":"many/many-${by.below(400)}\\.bin"`)
        const reached = Effect.catchAllCause(client.said(progress), () => Effect.never)
        const lives = yield* Effect.raceFirst(
          Effect.as(Effect.andThen(reached, Effect.sleep(by.below(30))), true),
          Effect.as(client.ended, false)
        )
        if (!lives) break
        const victims = by.weighted({ client: 4, server: 3, both: 2 })
        if (victims !== "server") yield* Kills.kill(client)
        if (victims !== "client") {
          yield* Kills.kill(server)
          server = yield* at.server
        }
        if (victims === "server") continue
        if (way === "direct") {
          const all = yield* at.client("list", "--all", "--json")
          const known = JSON.parse((yield* all.ended).stdout) as ReadonlyArray<{ name: string; state: string }>
          for (const { name, state } of known) {
            if (state === "delivered") Fs.rmSync(Path.join(at.home, name), { force: true })
          }
        }
        client = yield* start
      }
      const { code, stderr } = yield* client.ended
      assert.strictEqual(code, 0, stderr)
      assert.deepStrictEqual([...Kills.shown(at)].sort(), [...sent].sort(), "each file once, as it was sent")
      assert.deepStrictEqual(Kills.parts(at), [])
    })

  it.scopedLive.each(["direct", "buffered"] as const)(
    "arrive once each, sent %s",
    (way) => survive(way, Math.ceil(kills / 4), chance(seed + (way === "direct" ? 1 : 2))),
    60_000 + kills * 3000
  )
})
