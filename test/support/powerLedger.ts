/**
 * A ledger that is as it was after its last finished transaction whenever it is opened again: the one in memory, told its
 * transactions once more.
 *
 * @module
 */
import { type Context, Effect } from "effect"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import type { UploadKey } from "../../src/server/UploadStore.ts"

type Ledger = Context.Tag.Service<UploadLedger.UploadLedger>

const changing = [
  "create",
  "createWhole",
  "commit",
  "repeated",
  "carried",
  "publishing",
  "complete",
  "completeWhole",
  "fail",
  "remove",
  "shorten",
  "lose"
] as const
type Call = typeof changing[number] | "claim" | "release"

interface Finished {
  readonly at: number
  readonly call: Call
  readonly words: ReadonlyArray<unknown>
}

/** What is durable of a ledger. */
export class Journal {
  private readonly finished: Array<Finished>

  constructor(finished: ReadonlyArray<Finished> = []) {
    this.finished = [...finished]
  }

  copy(): Journal {
    return new Journal(this.finished)
  }

  /** The ledger of another process. `before` is told of each transaction that is about to change something. */
  open(before: (transaction: string) => void): Effect.Effect<Ledger> {
    return Effect.gen(this, function*() {
      const ledger = yield* Effect.provide(UploadLedger.UploadLedger, UploadLedger.layerMemory)
      const clock = yield* Effect.clock
      const held = new Map<number, UploadKey>()

      const carryOut = ({ call, words }: Omit<Finished, "at">) =>
        Effect.tap(
          (ledger[call] as (...words: ReadonlyArray<unknown>) => Effect.Effect<unknown>)(...words),
          (outcome) => {
            const { _tag, fence } = (outcome ?? {}) as { readonly _tag?: string; readonly fence?: number }
            if (call === "claim" && _tag === "Claimed") held.set(fence!, words[0] as UploadKey)
            if (call === "release") held.delete(words[1] as number)
          }
        )
      const kept = (call: Call, asSeen: boolean) => (...words: ReadonlyArray<unknown>) =>
        Effect.uninterruptible(Effect.suspend(() => {
          if (asSeen) before(`ledger: ${call}`)
          const at = clock.unsafeCurrentTimeMillis()
          return Effect.tap(carryOut({ call, words }), () => void this.finished.push({ at, call, words }))
        }))

      for (const { at, ...finished } of this.finished) {
        yield* Effect.withClock(carryOut(finished), { ...clock, currentTimeMillis: Effect.succeed(at) })
      }
      const release = kept("release", false)
      // claims die with their process
      for (const [fence, key] of held) yield* release(key, fence)
      return {
        ...ledger,
        release,
        claim: kept("claim", false),
        ...Object.fromEntries(changing.map((call) => [call, kept(call, true)]))
      } as Ledger
    })
  }
}
