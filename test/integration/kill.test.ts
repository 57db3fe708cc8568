/**
 * Real programs under `kill -9`: however often client and server die, each file arrives once and as it was.
 *
 * `INDEXEDCP_KILLS` says how many kills there are (default 12), `INDEXEDCP_SEED` where chance begins.
 *
 * @module
 */
import { assert, describe, it } from "@effect/vitest"
import { Console, Effect, Fiber } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Kills from "../support/kills.ts"
import * as PythonClient from "../support/peers/PythonClient.ts"
import { type Chance, chance } from "../support/proofRun.ts"

const kills = Number(process.env["INDEXEDCP_KILLS"] ?? 12)
const seed = Number(process.env["INDEXEDCP_SEED"] ?? 20261)
const timeout = 60_000 + kills * 3000

/** A client of revision 1 whose server is killed between and during its chunks. */
const revision1 = (by: Chance, kills: number) =>
  Effect.gen(function*() {
    const at = yield* Kills.site
    const client = yield* PythonClient.make()
    const done = { kills: 0, midway: 0, files: 0 }
    const sent = new Map<string, string>()
    let server = yield* at.server

    while (done.kills < kills) {
      const name = `/home/someone/data ${done.files}.bin`
      const bytes = Kills.fresh(Kills.sizeBy(by))
      const chunk = (index: number) => bytes.slice(index * Kills.chunkSize, (index + 1) * Kills.chunkSize)
      const chunks = Math.ceil(bytes.length / Kills.chunkSize)
      const shown = Path.basename(name)
      let acknowledged = 0
      let begun = 0
      for (let index = 0; index < chunks;) {
        begun = Math.max(begun, index + 1)
        const dies = done.kills < kills && by.odds(0.3)
        const pause = by.below(12)
        const killing = yield* Effect.fork(
          dies ? Effect.andThen(Effect.sleep(pause), Effect.suspend(() => Kills.kill(server))) : Effect.void
        )
        const answer = yield* Effect.either(client.uploadChunk(at.url, chunk(index), index, name, at.key))
        yield* Fiber.join(killing)
        if (answer._tag === "Right") {
          assert.strictEqual(answer.right.json?.["actualFilename"], shown)
          index += 1
          acknowledged = Math.max(acknowledged, index)
        } else {
          // a connection that an older server left half-open may be the one that is used
          assert.strictEqual(answer.left._tag, "NoAnswer", answer.left.message)
        }
        if (!dies) continue
        done.kills += 1
        if (acknowledged > 0) done.midway += 1
        server = yield* at.server
        const file = Path.join(at.folder, shown)
        const length = Fs.existsSync(file) ? Fs.statSync(file).size : 0
        const lengths = [acknowledged, begun].map((count) => Math.min(bytes.length, count * Kills.chunkSize))
        assert.include(lengths, length, `${acknowledged} chunks are acknowledged, ${begun} were sent`)
        if (length > 0) assert.isTrue(Fs.readFileSync(file).equals(bytes.subarray(0, length)))
        // a buffered upload goes on with the chunk that got no answer, a direct one begins again
        if (by.odds(0.2)) index = 0
      }
      sent.set(shown, Kills.hashOf(bytes))
      done.files += 1
      assert.deepStrictEqual([...Kills.shown(at)].sort(), [...sent].sort())
      // an upload of revision 1 has no end: its part file is the visible one, and stays
      assert.isAtLeast(Kills.parts(at).length, sent.size)
    }
    return done
  })

const told = (what: string, lanes: ReadonlyArray<Kills.Done>, from: number) => {
  const sum = (of: keyof Kills.Done) => lanes.reduce((sum, lane) => sum + lane[of], 0)
  const seconds = ((Date.now() - from) / 1000).toFixed(1)
  return Console.log(
    `${what}: ${sum("kills")} kills, ${sum("midway")} of them in the middle of a file, ${
      sum("files")
    } files, ${seconds} s, seed ${seed}`
  )
}

describe("programs that are killed", () => {
  it.scopedLive("deliver each file once and right, whoever of both dies", () =>
    Effect.gen(function*() {
      const from = Date.now()
      const lane = (number: number) => Kills.ours(chance(seed + number), Math.ceil(kills * 0.35))
      const lanes = yield* Effect.all([lane(1), lane(2)], { concurrency: 2 })
      yield* told("Client and server", lanes, from)
    }), timeout)

  it.scopedLive(
    "take the file of a revision-1 client, whose server dies between and during chunks",
    () =>
      Effect.gen(function*() {
        const from = Date.now()
        const done = yield* revision1(chance(seed), Math.ceil(kills * 0.3))
        yield* told("Revision 1", [done], from)
      }),
    timeout
  )
})
