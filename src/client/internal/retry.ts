/**
 * Trying again: what each failure means (PROTOCOL.md, "Errors"), and how long to wait.
 *
 * @internal
 */
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
  /** No delay is longer. Default 60 seconds. */
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

/** The server stayed unreachable or busy for as many tries as were allowed. The data is kept. */
export class GaveUpWaiting extends Schema.TaggedError<GaveUpWaiting>("indexedcp/GaveUpWaiting")("GaveUpWaiting", {
  message: Schema.String
}) {}

const passing: ReadonlySet<number> = new Set([408, 425, 429])

/** Whether waiting and sending the same again is the answer to a failure. */
export const isPassing = (error: TransportError): boolean =>
  error._tag === "Refused"
    ? passing.has(error.status) || error.status >= 500
    : error._tag !== "ApiKeyMissing"

/** The server's disk is full: that does not pass in a second. */
const longWait = 60_000

/** Milliseconds before the next try. */
export const delayOf = (error: TransportError, attempt: number, options: RetryOptions) =>
  Effect.map(Random.nextRange(0.8, 1.2), (jitter) => {
    const most = Duration.toMillis(options.maxDelay)
    const backoff = Math.min(Duration.toMillis(options.initialDelay) * options.factor ** attempt * jitter, most)
    if (error._tag !== "Refused") return backoff
    return Math.max(backoff, (error.retryAfter ?? 0) * 1000, error.status === 507 ? longWait : 0)
  })

/** Runs an exchange until it succeeds or fails for a reason that does not pass. `waiting` is told before each pause. */
export const persist = <A, E, R>(
  exchange: Effect.Effect<A, TransportError | E, R>,
  isPassing: (error: TransportError | E) => error is TransportError,
  waiting: (error: TransportError, delay: number) => Effect.Effect<void>,
  options: RetryOptions
): Effect.Effect<A, TransportError | E | GaveUpWaiting, R> => {
  const attempt = (number: number): Effect.Effect<A, TransportError | E | GaveUpWaiting, R> =>
    Effect.catchIf(exchange, isPassing, (error) =>
      Effect.gen(function*() {
        if (number >= options.maxRetries) {
          return yield* new GaveUpWaiting({
            message: `Gave up after ${number + 1} tries: ${error.message}. The data is kept, upload again later`
          })
        }
        const delay = yield* delayOf(error, number, options)
        yield* waiting(error, delay)
        yield* Effect.sleep(delay)
        return yield* attempt(number + 1)
      }))
  return attempt(0)
}
