/**
 * How much is sent to one server at once: bodies grow while they take no time or that makes the link faster, and what is in
 * flight shrinks when requests break or are too large. One request at a time until the server has shown that it speaks
 * revision 2.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type { UploadBatch } from "../../protocol/UploadBatch.ts"
import type { UploadLimit } from "../../protocol/UploadLimit.ts"
import { isRefused, type Refused } from "../Transport.ts"

/** Bodies are not cut smaller than this after a 413 (PROTOCOL.md, "Errors"). */
export const smallestAfter413 = 64 * 1024

/** On links that break within seconds, shorter bodies still get through. */
const smallest = 16 * 1024

/** A server may ask for longer bodies, but for no longer ones than these: they are held in memory. */
const largestAsked = 64 * 1024 * 1024

/** Bytes that may be in flight, in more than two requests, once bodies have grown: each is held in memory. */
const mostInFlight = 24 * 1024 * 1024

/** Less than that much faster may be chance. */
const rise = 1.05

/** Milliseconds. A body that takes no longer is short: little is lost with it, and most of its time may not be its bytes'. */
const shortRequest = 200

/** Milliseconds that a request may take at most before less is sent at once: what waits in buffers on the way is not seen to move. */
const longestRequest = 10_000

/** After so many batches in a row that did not get through, files go alone. */
const mostFailedBatches = 3

/** Whether bytes were on their way when it failed. */
const isBroken = (error: { readonly _tag: string }): boolean =>
  error._tag === "NoAnswer" || (isRefused(error) && error.status === 408)

export interface PaceOptions {
  /** Bytes of the first bodies. */
  readonly body: number
  /** Bytes that a body may grow to. */
  readonly largestBody: number
  /** Requests in flight at most, and files at once. */
  readonly parallel: number
}

export const make = (options: PaceOptions) =>
  Effect.gen(function*() {
    const { parallel } = options
    const slots = yield* Effect.makeSemaphore(1)
    const requests = yield* Effect.makeSemaphore(1)
    const largest = Math.max(options.body, options.largestBody)
    let body = options.body
    let limit = { min: 1, max: Number.POSITIVE_INFINITY }
    let revision: 1 | 2 | undefined
    let batch: UploadBatch | undefined
    let prefix = false
    let failedBatches = 0
    let permits = 1
    // a request that was sent before the last cut says nothing about what is sent since
    let cuts = 0
    // what was sent last before it was known what the server speaks
    let firstWasShort = false
    // since when something is in flight, and what was acknowledged in which time, pauses left out
    let inFlight = { requests: 0, since: 0 }
    let measured = { millis: 0, bytes: 0, bodies: 0, longest: 0 }
    let best = 0

    const setPermits = (wanted: number) =>
      Effect.suspend(() => {
        permits = Math.max(1, Math.min(wanted, parallel, Math.max(2, Math.floor(mostInFlight / body))))
        return requests.resize(permits)
      })

    const grow = (): void => {
      body = Math.min(body * 2, largest)
    }

    const acknowledged = (bytes: number, took: number, now: number) =>
      Effect.suspend(() => {
        const isBody = bytes * 2 > body
        const isShort = isBody && took <= shortRequest
        if (revision !== 2) {
          measured.millis = 0
          firstWasShort = isShort
          return Effect.void
        }
        measured.bytes += bytes
        if (isBody) measured.bodies++
        let isFaster = false
        let wanted = permits
        if (measured.bodies >= 2 * permits) {
          const open = inFlight.requests > 0 ? now - inFlight.since : 0
          const rate = measured.bytes / Math.max(1, measured.millis + open)
          const isQuick = measured.longest * 2 < longestRequest
          isFaster = isQuick && rate > best * rise
          if (isQuick) wanted++
          // a link may get slower: then less is a rise
          best = Math.max(rate, best * 0.9)
          measured = { millis: -open, bytes: 0, bodies: 0, longest: 0 }
        }
        if (isShort || isFaster) grow()
        return setPermits(wanted)
      })

    /** Halves what is in flight, once for all that were sent before. */
    const less = (sentAt: number) =>
      Effect.suspend(() => {
        if (sentAt !== cuts) return Effect.void
        cuts++
        body = Math.max(Math.min(smallest, body), Math.floor(body / 2))
        return setPermits(Math.floor(permits / 2))
      })

    const broken = (sentAt: number) => {
      best = 0
      return less(sentAt)
    }

    return {
      /** Bytes that a body should have now at least and at most. */
      fitting: () => ({ min: limit.min, max: Math.max(limit.min, Math.min(body, limit.max)), largest }),

      /** The server told what it takes. */
      limited: ({ maxAppendSize, minAppendSize }: UploadLimit): void => {
        limit = {
          min: Math.min(Math.max(limit.min, minAppendSize ?? 1), largestAsked),
          max: Math.max(1, Math.min(limit.max, maxAppendSize ?? limit.max))
        }
      },

      /** A body of so many bytes was too large. */
      tooLarge: (sent: number, { maxBody }: Refused): void => {
        const half = Math.max(smallestAfter413, Math.floor(sent / 2))
        limit = { min: 1, max: Math.max(1, Math.min(limit.max, half, maxBody ?? half)) }
      },

      /** The server has said that it takes so much in one request. One that then failed too often is not believed. */
      takesBatches: (said: UploadBatch): void => {
        if (failedBatches < mostFailedBatches) batch = said
      },

      /** Whether the server takes the hash of all bytes up to the end of a body, by its last answer. */
      takesPrefix: (said: boolean): void => void (prefix = said),

      prefix: (): boolean => prefix,

      /** A batch did not get through as a whole, or it did. */
      batchEnded: (isSuccess: boolean): void => {
        failedBatches = isSuccess ? 0 : failedBatches + 1
        if (!isSuccess) batch = undefined
      },

      /** What the server takes in one request, if it does. */
      batches: (): UploadBatch | undefined => batch,

      /** An answer has shown what the server speaks. */
      speaks: (shown: 1 | 2) =>
        Effect.suspend(() => {
          if (revision === shown) return Effect.void
          revision = shown
          const width = shown === 2 ? parallel : 1
          if (shown === 2 && firstWasShort) grow()
          return Effect.zipRight(slots.resize(width), setPermits(width))
        }),

      /** What the server speaks, as far as answers have shown it in this run. */
      spoken: (): 1 | 2 | undefined => revision,

      /** Runs the delivery of a file, when it is one of those that are sent at once. */
      inTurn: slots.withPermits(1),

      /** Lets another file take this one's place meanwhile. */
      aside: (wait: Effect.Effect<void>): Effect.Effect<void> =>
        Effect.acquireUseRelease(slots.release(1), () => wait, () => slots.take(1)),

      /** Runs one exchange that sends so many bytes, asked for when it is over, when there is room for it. */
      request: <A, E extends { readonly _tag: string }, R>(
        bytes: number | (() => number),
        exchange: Effect.Effect<A, E, R>
      ): Effect.Effect<A, E, R> =>
        requests.withPermits(1)(Effect.gen(function*() {
          const sentAt = cuts
          const began = yield* Clock.currentTimeMillis
          if (inFlight.requests++ === 0) inFlight.since = began
          return yield* Effect.onExit(exchange, (exit) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) => {
              if (--inFlight.requests === 0) measured.millis += now - inFlight.since
              measured.longest = Math.max(measured.longest, now - began)
              if (Exit.isSuccess(exit)) {
                return Effect.zipRight(
                  acknowledged(typeof bytes === "number" ? bytes : bytes(), now - began, now),
                  now - began > longestRequest ? less(sentAt) : Effect.void
                )
              }
              return Option.exists(Cause.failureOption(exit.cause), isBroken) ? broken(sentAt) : Effect.void
            }))
        })),

      /** Workers that a file may need to fill what may be in flight. */
      parallel
    }
  })

export type Pace = Effect.Effect.Success<ReturnType<typeof make>>
