/**
 * Slows down whoever fails again and again: each address may fail so many times at once, and then once more each second.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { TooMany } from "../../protocol/ProtocolError.ts"

export interface FailuresOptions {
  /** So many wrong keys from one address are refused at once; above that, one each second. At least 1. Default 50. */
  readonly maxFailures?: number | undefined
}

const defaultMaxFailures = 50

/** So many addresses are remembered; past that, those that failed longest ago are forgotten. */
const mostAddresses = 10_000

/** The eight groups of an IPv6 address without its zone; `undefined` for what is none. */
const groupsOf = (address: string): ReadonlyArray<number> | undefined => {
  const plain = address.split("%", 1)[0]!.replace(
    /(\d+)\.(\d+)\.(\d+)\.(\d+)$/,
    (_, a, b, c, d) => `${(Number(a) * 256 + Number(b)).toString(16)}:${(Number(c) * 256 + Number(d)).toString(16)}`
  )
  const [before = [], after] = plain.split("::").map((side) => side === "" ? [] : side.split(":"))
  const zeros = after === undefined ? 0 : 8 - before.length - after.length
  const groups = [...before, ...Array.from({ length: Math.max(0, zeros) }, () => "0"), ...(after ?? [])]
  return groups.length === 8 && groups.every((group) => /^[0-9a-f]{1,4}$/i.test(group))
    ? groups.map((group) => Number.parseInt(group, 16))
    : undefined
}

/** What counts as one address: of IPv6 its /64, because one host has all of that; IPv4 in IPv6 is IPv4. */
export const placeOf = (address: string): string => {
  if (!address.includes(":")) return address
  const groups = groupsOf(address)
  if (groups === undefined) return address
  const [high, low] = [groups[6]!, groups[7]!]
  return groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff
    ? [high >> 8, high & 255, low >> 8, low & 255].join(".")
    : `${groups.slice(0, 4).map((group) => group.toString(16)).join(":")}::/64`
}

const tooMany = (retryAfter: number) =>
  new TooMany({
    message: "Too many requests without a right key came from this address. Check the API key, then try again later",
    retryAfter
  })

export interface Failures {
  /** Counts a failure; `TooMany` when its address had none left. What has no address is never slowed. */
  readonly count: (address: string) => Effect.Effect<void, TooMany>
}

export const make = (options: FailuresOptions = {}): Failures => {
  const most = Math.max(1, options.maxFailures ?? defaultMaxFailures)
  /** When, in milliseconds, the address will have all its failures again; who failed last stands last. */
  const fullAt = new Map<string, number>()
  return {
    count: (address) =>
      address === "" ? Effect.void : Effect.flatMap(Clock.currentTimeNanos, (nanos) => {
        // not the time of day: that may jump
        const now = Number(nanos / 1_000_000n)
        const place = placeOf(address)
        const from = Math.max(now, fullAt.get(place) ?? now)
        const over = from + 1000 - now - most * 1000
        if (over > 0) return Effect.fail(tooMany(Math.ceil(over / 1000)))
        fullAt.delete(place)
        fullAt.set(place, from + 1000)
        for (const oldest of fullAt.keys()) {
          if (fullAt.size <= mostAddresses) break
          fullAt.delete(oldest)
        }
        return Effect.void
      })
  }
}
