/**
 * Who is writing which range of an upload just now. Claims live in memory: a server that died holds none.
 *
 * @module
 */
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Ranges from "../protocol/Ranges.ts"
import type { UploadKey } from "./UploadStore.ts"

/** The newer request has taken the range over; this one counts for nothing. */
export class Superseded extends Schema.TaggedError<Superseded>("indexedcp/Superseded")("Superseded", {
  message: Schema.String
}) {}

/** Which bytes a request wants to write. `to` is `None` while the body's length is not known. */
export type Wanted = { readonly from: number; readonly to: Option.Option<number> } | "whole"

interface Held {
  readonly fence: number
  readonly wanted: Wanted
}

/** A claim that was taken, and the one it takes over from. */
export interface Taken {
  readonly fence: number
  readonly supersedes: Option.Option<number>
}

const range = (wanted: Wanted): Ranges.Range =>
  wanted === "whole"
    ? [0, Number.MAX_SAFE_INTEGER]
    : [wanted.from, Option.getOrElse(wanted.to, () => Number.MAX_SAFE_INTEGER)]

const same = (a: Ranges.Range, b: Ranges.Range) => a[0] === b[0] && a[1] === b[1]

/**
 * The claims of one ledger. `take` answers `undefined` when the range overlaps a claimed one without being the same; the
 * same range goes to the newer claim (PROTOCOL.md, "Revision 2: repeats, conflicts, races").
 */
export const make = () => {
  let last = 0
  const held = new Map<UploadKey, Array<Held>>()
  return {
    /** Takes a range for the newest request that asks for it. */
    take: (key: UploadKey, wanted: Wanted): Taken | undefined => {
      const claims = held.get(key) ?? []
      const touching = claims.filter((claim) => Ranges.overlap(range(claim.wanted), range(wanted)))
      if (!touching.every((claim) => same(range(claim.wanted), range(wanted)))) return undefined
      const fence = ++last
      held.set(key, [...claims.filter((claim) => !touching.includes(claim)), { fence, wanted }])
      return { fence, supersedes: Option.map(Option.fromNullable(touching[0]), (claim) => claim.fence) }
    },
    /** Whether the claim was neither superseded nor given up. */
    holds: (key: UploadKey, fence: number): boolean => held.get(key)?.some((claim) => claim.fence === fence) ?? false,
    /** Whether anybody is writing to the upload. */
    isHeld: (key: UploadKey): boolean => held.has(key),
    /** Gives a claim up; one that was superseded is left alone. */
    release: (key: UploadKey, fence: number): void => {
      const rest = held.get(key)?.filter((claim) => claim.fence !== fence) ?? []
      if (rest.length === 0) held.delete(key)
      else held.set(key, rest)
    }
  }
}
