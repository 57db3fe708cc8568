import { describe, expect, it } from "@effect/vitest"
import { Clock, Effect, Fiber, TestClock } from "effect"
import * as RateLimit from "../../src/client/internal/rateLimit.ts"

/** When each of these came through, in milliseconds. */
const times = (limit: RateLimit.RateLimit, sizes: ReadonlyArray<number>) =>
  Effect.forEach(sizes, (bytes) => Effect.zipRight(limit.take(bytes), Clock.currentTimeMillis))

describe("rateLimit", () => {
  it.effect("lets bytes through one after the other, at its rate", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(times(RateLimit.make(1000), [100, 1, 399, 500]))
      yield* TestClock.adjust("1 second")
      expect(yield* Fiber.join(fiber)).toEqual([100, 101, 500, 1000])
    }))

  it.effect("is shared fairly by all who ask", () =>
    Effect.gen(function*() {
      const limit = RateLimit.make(1000)
      const fiber = yield* Effect.fork(
        Effect.all([times(limit, [100, 100, 100]), times(limit, [100, 100, 100])], { concurrency: 2 })
      )
      yield* TestClock.adjust("600 millis")
      expect(yield* Fiber.join(fiber)).toEqual([[100, 300, 500], [200, 400, 600]])
    }))

  it.effect("gives next to nothing for an idle time", () =>
    Effect.gen(function*() {
      const limit = RateLimit.make(1000)
      const first = yield* Effect.fork(times(limit, [100]))
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(first)
      const now = yield* Clock.currentTimeMillis
      const fiber = yield* Effect.fork(times(limit, [50, 50, 50]))
      yield* TestClock.adjust("100 millis")
      expect(yield* Fiber.join(fiber)).toEqual([now, now + 50, now + 100])
    }))

  it.effect("is not lowered by timers that know whole milliseconds only", () =>
    Effect.gen(function*() {
      const limit = RateLimit.make(50e6)
      const fiber = yield* Effect.fork(
        Effect.zipRight(Effect.replicateEffect(limit.take(65_536), 200, { discard: true }), Clock.currentTimeMillis)
      )
      yield* TestClock.adjust("1 second")
      const ideal = 200 * 65_536 / 50e3
      const took = yield* Fiber.join(fiber)
      expect(took).toBeGreaterThanOrEqual(ideal)
      expect(took).toBeLessThan(ideal + 2)
    }))
})
