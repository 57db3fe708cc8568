/**
 * The proof of "exactly once, whole" for both sides: the real `Uploader` sends files through a bad network to the real
 * `Receiver`, while either side is restarted or dies at any step. At the end each file is there once, with its bytes,
 * under the name that the client was told, and the buffer is empty.
 *
 * A server that speaks revision 1 cannot tell a repeat. There a file is never doubled; it is called delivered only when
 * it is whole, and unconfirmed only when the client cannot know.
 *
 * `INDEXEDCP_STEPS` and `INDEXEDCP_SEED` as in `receiver.test.ts`. A step is a request, a fault or a restart.
 */
import { expect, it } from "@effect/vitest"
import { Console, Effect } from "effect"
import { deliveryFaults, proveDeliveries, type Receiving } from "../support/proofDelivery.ts"
import { settings, Tally, timeout } from "../support/proofRun.ts"

const isFault = (kind: string) => deliveryFaults.has(kind)

const proof = (receiving: Receiving, steps: number) =>
  it.effect(
    `Uploader to a server, ${receiving}`,
    () =>
      Effect.gen(function*() {
        const tally = new Tally()
        const wrong = yield* proveDeliveries(receiving, { steps, seed: settings.seed, tally })
        yield* Console.log(tally.line(`Uploader to a server, ${receiving}`, settings.seed, isFault))
        expect(JSON.stringify(wrong, undefined, 1)).toBe(undefined)
        expect(tally.share(isFault)).toBeGreaterThan(1 / 3)
      }),
    timeout(steps)
  )

proof("revision 2", Math.ceil(settings.steps * 0.07))

proof("revision 1", Math.ceil(settings.steps * 0.01))

proof("appending", Math.ceil(settings.steps * 0.01))
