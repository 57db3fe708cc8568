import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { PassThrough } from "node:stream"
import * as Body from "../../src/server/Body.ts"
import * as Flow from "../../src/server/internal/flow.ts"
import { text } from "../contract/UploadStore.ts"

const untilIdle = Effect.promise(() => new Promise((resolve) => setImmediate(() => setImmediate(resolve))))

/** A body over one of Node's streams, and what is written of it; each write ends when it is told to. */
const taken = (gather: number, length = Option.none<number>()) => {
  const stream = new PassThrough({ highWaterMark: 1 })
  const written: Array<{ readonly at: number; readonly bytes: string; readonly end: () => void }> = []
  const consuming = Body.consume(
    { length, pieces: Flow.fromReadable(stream), gather: () => gather },
    {
      limit: 100,
      write: (pieces, at) => new Promise((end) => written.push({ at, bytes: Buffer.concat(pieces).toString(), end })),
      onWriteError: (cause) => cause
    }
  )
  return { stream, written, consuming }
}

describe("Flow", () => {
  it.live("gathers while it writes, reads no more than may be held, and goes on behind that", () =>
    Effect.gen(function*() {
      const { consuming, stream, written } = taken(4)
      const fiber = yield* Effect.fork(consuming)
      yield* Effect.yieldNow()
      for (const bytes of ["ab", "cd", "ef", "gh"]) {
        stream.write(bytes)
        yield* untilIdle
      }
      // half is being written, half is held, the rest has not been read
      expect(written.map(({ bytes }) => bytes)).toEqual(["ab"])
      expect(stream.isPaused()).toBe(true)
      written[0]!.end()
      yield* untilIdle
      expect(written.map(({ at, bytes }) => [at, bytes])).toEqual([[0, "ab"], [2, "cd"]])
      stream.end()
      for (let at = 1; at < 4; at++) {
        written[at]?.end()
        yield* untilIdle
      }
      expect(yield* Fiber.join(fiber)).toMatchObject({ length: 8 })
      expect(written.map(({ bytes }) => bytes).join("")).toBe("abcdefgh")
    }))

  it.live("ends, when it is interrupted, only with the write under way, and writes no more", () =>
    Effect.gen(function*() {
      const { consuming, stream, written } = taken(2)
      const fiber = yield* Effect.fork(consuming)
      yield* Effect.yieldNow()
      stream.write("ab")
      yield* untilIdle
      const ended = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* untilIdle
      expect(yield* Fiber.poll(ended)).toEqual(Option.none())
      written[0]!.end()
      yield* Fiber.join(ended)
      stream.write("cd")
      yield* untilIdle
      expect(written).toHaveLength(1)
      expect(stream.listenerCount("data")).toBe(0)
    }))

  it.live("is cut when its stream is destroyed, before or while it is read", () =>
    Effect.gen(function*() {
      const early = taken(2)
      early.stream.destroy()
      yield* untilIdle
      expect(yield* Effect.flip(early.consuming)).toMatchObject({ _tag: "BodyCut" })
      const late = taken(2)
      const fiber = yield* Effect.fork(Effect.flip(late.consuming))
      yield* Effect.yieldNow()
      late.stream.destroy()
      expect(yield* Fiber.join(fiber)).toMatchObject({ _tag: "BodyCut" })
    }))

  it.live("gives its pieces one by one to whoever iterates, and none unasked", () =>
    Effect.gen(function*() {
      const stream = new PassThrough()
      stream.write("ab")
      const pieces = Flow.fromReadable(stream)[Symbol.asyncIterator]()
      expect(yield* Effect.promise(() => pieces.next())).toEqual({ done: false, value: Buffer.from("ab") })
      expect(stream.isPaused()).toBe(true)
      stream.end("cd")
      expect(yield* Effect.promise(() => pieces.next())).toEqual({ done: false, value: Buffer.from("cd") })
      expect(yield* Effect.promise(() => pieces.next())).toMatchObject({ done: true })
    }))

  it.effect("holds what any iterable gives while its valve is shut", () =>
    Effect.gen(function*() {
      const got: Array<string> = []
      const { pieces } = Body.of(text("a"), text("b"), text("c"))
      const valve = Flow.of(pieces).start({
        take: (piece) => void got.push(new TextDecoder().decode(piece)),
        end: () => void got.push("end")
      })
      valve.shut()
      yield* untilIdle
      expect(got).toEqual([])
      valve.open()
      yield* untilIdle
      expect(got).toEqual(["a", "b", "c", "end"])
    }))
})
