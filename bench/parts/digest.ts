/**
 * SHA-256, as client and server compute it.
 *
 * @module
 */
import { sha256 as portable } from "@noble/hashes/sha2.js"
import * as Crypto from "node:crypto"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import type { Bench } from "../support/contest.ts"
import type * as Report from "../support/report.ts"
import { KiB, MiB } from "../support/settings.ts"
import { type Part, report, timed } from "./part.ts"

const hashing = (name: string, amount: number, piece: number, hash: (pieces: ReadonlyArray<Uint8Array>) => void) => {
  const bytes = Crypto.randomBytes(piece)
  const pieces = Array.from({ length: amount * MiB / piece }, () => bytes)
  return { name, amount, unit: "MiB", run: () => timed(() => hash(pieces)) } as const satisfies Part
}

export const digest = (bench: Bench): Promise<Report.CaseReport> => {
  const amount = bench.settings.quick ? 8 : 512
  const own = (pieces: ReadonlyArray<Uint8Array>) => void Sha256.of(...pieces)
  return report(bench, "digest", "Digest", [
    hashing("pieces of 1 MiB", amount, MiB, own),
    hashing("pieces of 64 KiB, as they come from a socket", amount, 64 * KiB, own),
    hashing("the portable code of browsers, pieces of 1 MiB", amount / 8, MiB, (pieces) => {
      const hasher = portable.create()
      pieces.forEach((bytes) => hasher.update(bytes))
      hasher.digest()
    })
  ])
}
