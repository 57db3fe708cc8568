/**
 * A body on its way from a stream past the hash, in pieces as a socket gives them, without a network or a disk.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Crypto from "node:crypto"
import { Readable } from "node:stream"
import * as Body from "../../src/server/Body.ts"
import * as BodyRules from "../../src/server/internal/bodyRules.ts"
import * as Flow from "../../src/server/internal/flow.ts"
import type { Bench } from "../support/contest.ts"
import type * as Report from "../support/report.ts"
import { KiB, MiB } from "../support/settings.ts"
import { type Part, report, timed } from "./part.ts"

const piece = Crypto.randomBytes(64 * KiB)

/** A stream of so many pieces, each of them new, as those of a socket are. */
const stream = (pieces: number): Readable => {
  let given = 0
  return new Readable({
    read() {
      this.push(given++ < pieces ? Buffer.from(piece) : null)
    }
  })
}

const taking = (name: string, amount: number, piecesOf: (stream: Readable) => AsyncIterable<Uint8Array>): Part => ({
  name,
  amount,
  unit: "MiB",
  run: () => {
    const body = BodyRules.hold(
      { length: Option.some(amount * MiB), pieces: piecesOf(stream(amount * MiB / piece.length)) },
      { maxBytes: amount * MiB, window: 30_000, leastBytes: 1 }
    )
    return timed(async () => {
      await Effect.runPromise(Body.hash(body))
    })
  }
})

export const body = (bench: Bench): Promise<Report.CaseReport> => {
  const amount = bench.settings.quick ? 8 : 512
  return report(bench, "body", "Body: held to the rules and hashed", [
    taking("as it arrives", amount, Flow.fromReadable),
    taking("by an iterator, as on other platforms", amount, (stream) => ({
      [Symbol.asyncIterator]: () => stream[Symbol.asyncIterator]()
    }))
  ])
}
