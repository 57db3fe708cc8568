/**
 * A limit that all who send share.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

export interface RateLimit {
  /** Bytes a second. */
  readonly rate: number
  /** Waits until this many bytes may be sent. Who asks first is served first. */
  readonly take: (bytes: number) => Effect.Effect<void>
}

/** What an idle time is worth, in milliseconds: enough to make up for timers that fire late. */
const credit = 50

/** A limit in bytes a second, which is positive. */
export const make = (rate: number): RateLimit => {
  /** When everything taken so far is paid for. */
  let paid: number | undefined
  return {
    rate,
    take: (bytes) =>
      Effect.flatMap(Clock.currentTimeNanos, (nanos) => {
        const now = Number(nanos) / 1e6
        paid = Math.max(paid ?? now, now - credit) + bytes / rate * 1000
        return paid > now ? Effect.sleep(Duration.millis(Math.ceil(paid - now))) : Effect.void
      })
  }
}
