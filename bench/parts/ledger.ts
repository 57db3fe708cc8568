/**
 * Commits of the server's ledger, by themselves and many in one transaction.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Path from "node:path"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as UploadId from "../../src/protocol/UploadId.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadLedgerSqlite from "../../src/server/UploadLedgerSqlite.ts"
import { UploadKey } from "../../src/server/UploadStore.ts"
import type { Bench } from "../support/contest.ts"
import type * as Report from "../support/report.ts"
import { MiB } from "../support/settings.ts"
import { type Part, report } from "./part.ts"

const key = UploadKey.make("0".repeat(32))

/** Claims and commits the chunks of one upload, so many in a transaction. */
const committing = (amount: number, together: number, durability: "power" | "process") => {
  const claimed = (ledger: UploadLedger.UploadLedger["Type"], index: number) =>
    Effect.gen(function*() {
      const offset = index * MiB
      const claim = yield* ledger.claim(key, { from: offset, to: Option.some(offset + MiB) })
      if (claim._tag === "Repeat") return yield* Effect.dieMessage("a new range is taken for a repeat")
      return {
        key,
        written: Option.some({
          fence: claim.fence,
          extent: { offset, length: MiB, sha256: Sha256.empty, locator: "" }
        }),
        size: Option.none(),
        sha256: Option.none(),
        address: "127.0.0.1"
      }
    })
  const program = Effect.gen(function*() {
    const ledger = yield* UploadLedger.UploadLedger
    yield* ledger.create({
      key,
      principal: "default",
      id: Option.some(UploadId.UploadId.make("upload")),
      clientName: "a.bin",
      plannedName: "a.bin",
      address: "127.0.0.1",
      exclusiveName: false
    })
    const from = performance.now()
    for (let index = 0; index < amount; index += together) {
      const commits = yield* Effect.forEach(
        Array.from({ length: together }, (_, at) => index + at),
        (index) => claimed(ledger, index)
      )
      const outcomes = yield* ledger.commit(commits)
      if (outcomes.some(Either.isLeft)) return yield* Effect.dieMessage("a commit was refused")
    }
    return (performance.now() - from) / 1000
  })
  return (folder: string): Promise<number> =>
    Effect.runPromise(
      Effect.provide(program, UploadLedgerSqlite.layer({ file: Path.join(folder, "ledger.db"), durability }))
    )
}

export const ledger = (bench: Bench): Promise<Report.CaseReport> => {
  const amount = bench.settings.quick ? 40 : 2000
  const part = (together: number, durability: "power" | "process"): Part => ({
    name: `${together === 1 ? "each by itself" : `${together} in a transaction`}, durability ${durability}`,
    amount,
    unit: "commits",
    run: committing(amount, together, durability)
  })
  return report(bench, "ledger", "Ledger: claim and commit", [
    part(1, "power"),
    part(4, "power"),
    part(40, "power"),
    part(1, "process")
  ])
}
