/**
 * The test that plays commands to a receiver and its model.
 *
 * @module
 */
import { expect, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { faults } from "./proofCommands.ts"
import { prove } from "./proofPlay.ts"
import { settings, Tally, timeout } from "./proofRun.ts"
import type { memoryDisk } from "./proofServer.ts"

const isFault = (kind: string) => faults.has(kind)

/** `share` is its part of all the steps that are asked for. */
export const provesReceiver = (what: string, disk: typeof memoryDisk, share: number) => {
  const steps = Math.ceil(settings.steps * share)
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
}
