/**
 * What both proofs share: seeded chance, how long to run, and the line that tells what was done.
 *
 * @module
 */
import { Clock, Duration, Effect } from "effect"
import { generator } from "../../src/testing/internal/chance.ts"

/**
 * `INDEXEDCP_STEPS` says how many steps all proofs together take (default 12 000; `npm run test:chaos` takes a million), and
 * `INDEXEDCP_SEED` where chance begins, so that a run can be repeated.
 */
export const settings = {
  steps: Number(process.env["INDEXEDCP_STEPS"] ?? 12_000),
  seed: Number(process.env["INDEXEDCP_SEED"] ?? 20261) >>> 0
}

/** Vitest's limit for a proof of so many steps. */
export const timeout = (steps: number): number => 60_000 + steps * 10

/** Seeded chance in the forms that proofs want. */
export const chance = (seed: number) => {
  const next = generator(seed)
  return {
    /** A whole number below `most`. */
    below: (most: number): number => Math.floor(next() * most),
    /** True so often. */
    odds: (probability: number): boolean => next() < probability,
    pick: <A>(from: ReadonlyArray<A>): A => from[Math.floor(next() * from.length)]!,
    /** One of the names, each as often as its weight says. */
    weighted: <K extends string>(weights: Readonly<Record<K, number>>): K => {
      const entries = Object.entries(weights) as unknown as ReadonlyArray<readonly [K, number]>
      let left = next() * entries.reduce((sum, [, weight]) => sum + weight, 0)
      return (entries.find(([, weight]) => (left -= weight) < 0) ?? entries.at(-1)!)[0]
    },
    text: (length: number): string =>
      Array.from({ length }, () => String.fromCharCode(97 + Math.floor(next() * 26))).join("")
  }
}

export type Chance = ReturnType<typeof chance>

/** Steps by kind. A step is one request that reaches the server, one fault, or one restart. */
export class Tally {
  readonly kinds = new Map<string, number>()
  private readonly from = Date.now()

  add(kind: string, count = 1): void {
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + count)
  }

  get steps(): number {
    return [...this.kinds.values()].reduce((sum, count) => sum + count, 0)
  }

  /** Which share of the steps are faults or restarts. */
  share(isFault: (kind: string) => boolean): number {
    return [...this.kinds].reduce((sum, [kind, count]) => isFault(kind) ? sum + count : sum, 0) / this.steps
  }

  line(what: string, seed: number, isFault: (kind: string) => boolean): string {
    const kinds = [...this.kinds].sort(([, a], [, b]) => b - a).map(([kind, count]) => `${kind} ${count}`).join(", ")
    const seconds = (Date.now() - this.from) / 1000
    const faults = Math.round(this.share(isFault) * 100)
    return `${what}: ${this.steps} steps in ${
      seconds.toFixed(1)
    } s, ${faults} % faults and restarts, seed ${seed} (${kinds})`
  }
}

/** A clock that stands still until it is told to go on. */
export const handClock = () => {
  let now = 0
  const sleepers = new Set<{ readonly at: number; readonly wake: () => void }>()
  const clock: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: () => now,
    unsafeCurrentTimeNanos: () => BigInt(now) * 1_000_000n,
    currentTimeMillis: Effect.sync(() => now),
    currentTimeNanos: Effect.sync(() => BigInt(now) * 1_000_000n),
    sleep: (duration) =>
      Effect.async((resume) => {
        const sleeper = { at: now + Math.ceil(Duration.toMillis(duration)), wake: () => resume(Effect.void) }
        sleepers.add(sleeper)
        return Effect.sync(() => sleepers.delete(sleeper))
      })
  }
  return {
    clock,
    /** Lets time pass; who slept long enough wakes once it has passed. */
    pass: (milliseconds: number): void => {
      now += milliseconds
      for (const sleeper of [...sleepers].filter(({ at }) => at <= now).sort((a, b) => a.at - b.at)) {
        sleepers.delete(sleeper)
        sleeper.wake()
      }
    },
    /** When the next sleeper wakes, from now on. */
    next: (): number | undefined =>
      sleepers.size === 0 ? undefined : Math.max(0, Math.min(...[...sleepers].map(({ at }) => at)) - now)
  }
}
