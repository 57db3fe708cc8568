/**
 * Memory of bodies that is used again.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Bodies from "../../src/client/internal/bodies.ts"

const memory = (bodies: Bodies.Bodies, bytes = 10) => bodies.use(bytes, (into) => Effect.succeed(into.buffer))

describe("bodies", () => {
  it.effect("use the memory of an exchange that succeeded again, and have room for longer ones", () =>
    Effect.gen(function*() {
      const bodies = Bodies.make(100)
      const first = yield* memory(bodies)
      expect(first.byteLength).toBe(100)
      expect(yield* memory(bodies, 100)).toBe(first)
      const longer = yield* memory(bodies, 200)
      expect(longer.byteLength).toBe(200)
      expect(yield* memory(bodies)).toBe(longer)
    }))

  it.effect("never have two exchanges in the same memory", () =>
    Effect.gen(function*() {
      const bodies = Bodies.make(100)
      yield* memory(bodies)
      const [one, other] = yield* Effect.all(
        [1, 2].map(() => bodies.use(10, (into) => Effect.as(Effect.yieldNow(), into.buffer))),
        { concurrency: 2 }
      )
      expect(one).not.toBe(other)
    }))

  it.effect("leave memory to an exchange that failed or was stopped: something may still be reading it", () =>
    Effect.gen(function*() {
      const bodies = Bodies.make(100)
      const failed = yield* Effect.flip(bodies.use(10, (into) => Effect.fail(into.buffer)))
      let stopped: ArrayBufferLike | undefined
      const fiber = yield* Effect.fork(
        bodies.use(10, (into) => Effect.zipRight(Effect.sync(() => stopped = into.buffer), Effect.never))
      )
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(fiber)
      expect(stopped).toBeDefined()
      expect([failed, stopped]).not.toContain(yield* memory(bodies))
    }))
})
