/**
 * Trying again: what each failure means (PROTOCOL.md, "Errors"), and how long to wait.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import type { TransportError } from "../Transport.ts"

export interface RetryOptions {
  /** Before the first retry. Default 1 second. */
  readonly initialDelay: Duration.DurationInput
  /** Each further delay is so many times the one before. Default 2. */
  readonly factor: number
  /** No delay is longer, unless the server asks for that. Default 60 seconds. */
  readonly maxDelay: Duration.DurationInput
  /** Retries in a row without any success, then the client gives up waiting. Default: without end. */
  readonly maxRetries: number
  /** So long without any success, then the client gives up waiting. Default: without end. */
  readonly giveUpAfter: Duration.DurationInput
}

export const defaults: RetryOptions = {
  initialDelay: "1 second",
  factor: 2,
  maxDelay: "60 seconds",
  maxRetries: Number.POSITIVE_INFINITY,
  giveUpAfter: Duration.infinity
}

/** The server stayed unreachable or busy for as many tries, or as long, as was allowed. The data is kept. */
export class GaveUpWaiting extends Schema.TaggedError<GaveUpWaiting>("indexedcp/GaveUpWaiting")("GaveUpWaiting", {
  message: Schema.String,
  /** What the last try failed with. */
  cause: Schema.optional(Schema.Defect)
}) {}

const passing: ReadonlySet<number> = new Set([408, 425, 429])

/** Whether waiting and sending the same again is the answer to a failure. */
export const isPassing = (error: TransportError): boolean =>
  error._tag === "Refused"
    ? passing.has(error.status) || error.status >= 500
    : error._tag !== "ApiKeyMissing"

/** The server's disk is full: that does not pass in a second. */
const longWait = 60_000

/** A server that asks for more is asked again all the same. */
const longestWait = Duration.toMillis("1 day")

/** Delays are spread by so much to either side, so that clients which failed together do not come back together. */
const jitter = 0.2

/** Milliseconds before the next try. */
export const delayOf = (error: TransportError, attempt: number, options: RetryOptions) =>
  Effect.map(Random.nextRange(1 - jitter, 1 + jitter), (spread) => {
    const most = Duration.toMillis(options.maxDelay) / (1 + jitter)
    const backoff = Math.min(Duration.toMillis(options.initialDelay) * options.factor ** attempt, most) * spread
    if (error._tag !== "Refused") return backoff
    const asked = Math.min((error.retryAfter ?? 0) * 1000, longestWait)
    return Math.max(backoff, asked, error.status === 507 ? longWait : 0)
  })

/** Tells of a pause of so many milliseconds, and makes it. */
export type Pause = (error: TransportError, delay: number) => Effect.Effect<void>

/** Waits before the next try. */
export type Wait = (error: TransportError) => Effect.Effect<void, GaveUpWaiting>

/** Counts failures in a row, and waits after each, longer and longer. */
export const patience = (options: RetryOptions, pause: Pause) => {
  let failures = 0
  let since: number | undefined
  return {
    /** Something succeeded: the next failure is the first one again. */
    reset: (): void => {
      failures = 0
      since = undefined
    },
    wait: ((error) =>
      Effect.gen(function*() {
        const now = yield* Clock.currentTimeMillis
        since ??= now
        const left = since + Duration.toMillis(options.giveUpAfter) - now
        if (failures >= options.maxRetries || left <= 0) {
          return yield* new GaveUpWaiting({
            message: `Gave up after ${failures === 0 ? "the first try" : `${failures + 1} tries`}: ${error.message}. ` +
              "The data is kept, upload again later",
            cause: error
          })
        }
        // whole milliseconds: of a fraction, rounding may leave a rest that no clock ever passes
        const delay = Math.ceil(Math.min(yield* delayOf(error, failures, options), left))
        failures++
        yield* pause(error, delay)
      })) satisfies Wait
  }
}

/** Runs an exchange until it succeeds or fails for a reason that does not pass. */
export const persist = <A, E, R>(
  exchange: Effect.Effect<A, TransportError | E, R>,
  isPassing: (error: TransportError | E) => error is TransportError,
  wait: Wait
): Effect.Effect<A, TransportError | E | GaveUpWaiting, R> => {
  const attempt: Effect.Effect<A, TransportError | E | GaveUpWaiting, R> = Effect.catchIf(
    exchange,
    isPassing,
    (error) => Effect.zipRight(wait(error), Effect.suspend(() => attempt))
  )
  return attempt
}
