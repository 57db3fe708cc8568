/**
 * The proof of "exactly once, whole" for the server: whatever comes in whatever order, with whatever faults on the way,
 * the real `Receiver` answers as the model of PROTOCOL.md does, and shows the files that the model shows.
 *
 * `INDEXEDCP_STEPS=5000000 npx vitest run test/proof` runs for a long time, `INDEXEDCP_SEED=7` draws other steps; each
 * test prints how many steps of which kinds it took, and its seed. A step is one request that reaches the receiver, one
 * fault, or one restart. A difference is printed with the fewest commands that show it.
 */
import { expect, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { faults } from "../support/proofCommands.ts"
import { prove } from "../support/proofPlay.ts"
import { settings, Tally, timeout } from "../support/proofRun.ts"
import { memoryDisk, realDisk } from "../support/proofServer.ts"

const isFault = (kind: string) => faults.has(kind)

const proof = (what: string, disk: typeof memoryDisk, steps: number) =>
  it.effect(
    what,
    () =>
      Effect.gen(function*() {
        const tally = new Tally()
        const difference = yield* prove(disk, { steps, seed: settings.seed, tally })
        yield* Console.log(tally.line(what, settings.seed, isFault))
        expect(JSON.stringify(difference, undefined, 1)).toBe(undefined)
        expect(tally.share(isFault)).toBeGreaterThan(1 / 3)
      }),
    timeout(steps)
  )

proof("Receiver over memory", memoryDisk, Math.ceil(settings.steps * 0.84))

proof("Receiver over a folder and SQLite", realDisk, Math.ceil(settings.steps * 0.02))
