import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Ref, TestClock } from "effect"
import * as Stall from "../../src/client/internal/stall.ts"

const guard = <A, E, R>(run: (progress: Stall.Progress) => Effect.Effect<A, E, R>) =>
  Stall.guard(Duration.seconds(16), () => "stalled" as const, run)

describe("stall", () => {
  it.effect("interrupts what never moved, after its time", () =>
    Effect.gen(function*() {
      const interrupted = yield* Ref.make(false)
      const fiber = yield* Effect.fork(
        guard(() => Effect.onInterrupt(Effect.never, () => Ref.set(interrupted, true)))
      )
      yield* TestClock.adjust("15900 millis")
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("100 millis")
      expect(yield* Fiber.await(fiber)).toEqual(Exit.fail("stalled"))
      expect(yield* Ref.get(interrupted)).toBe(true)
    }))

  it.effect("never cuts before its time is over since the last move, and soon after it", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(guard(({ moved }) =>
        Effect.gen(function*() {
          for (let times = 0; times < 5; times++) {
            yield* Effect.sleep("15900 millis")
            moved()
          }
          return yield* Effect.never
        })
      ))
      yield* TestClock.adjust(Duration.millis(5 * 15_900 + 16_000 - 1))
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("2 seconds")
      expect(yield* Fiber.await(fiber)).toEqual(Exit.fail("stalled"))
    }))

  it.effect("passes over waits of our own, and counts from their end", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(
        guard(({ held }) => Effect.zipRight(held(Effect.sleep("3 minutes")), Effect.never))
      )
      yield* TestClock.adjust(Duration.sum("3 minutes", "15 seconds"))
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("3 seconds")
      expect(yield* Fiber.await(fiber)).toEqual(Exit.fail("stalled"))
    }))

  it.effect("waits for the answer as long as the body took, which may still lie in buffers on the way", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(guard(({ handedOver, moved }) =>
        Effect.gen(function*() {
          for (let times = 0; times < 10; times++) {
            moved()
            yield* Effect.sleep("10 seconds")
          }
          handedOver()
          return yield* Effect.never
        })
      ))
      yield* TestClock.adjust("190 seconds")
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("20 seconds")
      expect(yield* Fiber.await(fiber)).toEqual(Exit.fail("stalled"))
    }))

  it.effect("gives back what came out", () =>
    Effect.gen(function*() {
      expect(yield* guard(() => Effect.succeed(1))).toBe(1)
      expect(yield* Effect.flip(guard(() => Effect.fail(2)))).toBe(2)
    }))
})
