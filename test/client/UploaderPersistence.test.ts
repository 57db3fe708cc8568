/**
 * Outages of any length, on the test clock.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Clock, Effect, Fiber, Option, Stream, TestClock } from "effect"
import * as Source from "../../src/client/Source.ts"
import type * as Transport from "../../src/client/Transport.ts"
import * as World from "../support/clientWorld.ts"

const { bytesOf, client, content, delays, down, endpoint, lost, refused, states } = World

/** Fails while `isDown`, on the way there or back. */
const outage = (
  isDown: (millis: number) => boolean,
  error: Transport.TransportError,
  arrives = false
): World.Script => {
  const through = <A>(proceed: Effect.Effect<A, Transport.TransportError>) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) =>
      !isDown(now)
        ? proceed
        : arrives
        ? Effect.zipRight(proceed, Effect.fail(error))
        : Effect.fail(error))
  return { send: through, ask: through }
}

const seconds = 1000
const hours = 3600 * seconds

describe("Uploader, outages", () => {
  const lengths = [["15 s", 15 * seconds], ["10 min", 600 * seconds], ["24 h", 24 * hours], [
    "9 days",
    9 * 24 * hours
  ]] as const
  const kinds = [["unreachable", down, false], ["answers lost", lost, true], ["503", refused(503), false]] as const
  for (const [name, length] of lengths) {
    for (const [kind, error, arrives] of kinds) {
      it.scoped(`delivers after ${name} of ${kind}, within two minutes of the end`, () =>
        Effect.gen(function*() {
          const { files, transport } = yield* World.server
          const { add, buffered, sends, uploader } = yield* client(
            transport,
            outage((now) => now >= 1 && now < length, error, arrives),
            { parallel: 4 }
          )
          yield* add("a", bytesOf(40))
          yield* add("b", bytesOf(9, 2))
          // the first chunk arrives, then the link is gone
          const fiber = yield* Effect.fork(Stream.runCollect(uploader.upload({ endpoint })))
          yield* TestClock.adjust(1)
          yield* TestClock.adjust(length)
          yield* TestClock.adjust("2 minutes")
          const events = Chunk.toReadonlyArray(yield* Fiber.join(fiber))
          expect(states(events.filter((event) => event._tag === "Finished"))).toEqual(["delivered", "delivered"])
          expect(yield* content(files, "a")).toEqual(bytesOf(40))
          expect(yield* content(files, "b")).toEqual(bytesOf(9, 2))
          expect(yield* buffered).toEqual([])
          expect(Math.max(0, ...delays(events))).toBeLessThanOrEqual(60 * seconds)
          // a try a minute, not a storm
          expect(sends().length).toBeLessThan(40 + (length / (40 * seconds)) * 2 + 20)
        }))
    }
  }

  it.scoped("lives through a thousand flaps", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, uploader } = yield* client(transport, {
        send: (proceed, number) =>
          number % 4 === 1
            ? Effect.fail(down)
            : number % 4 === 3
            ? Effect.zipRight(proceed, Effect.fail(lost))
            : proceed
      })
      yield* add("a", bytesOf(4000))
      const fiber = yield* Effect.fork(Stream.runCollect(uploader.upload({ endpoint })))
      yield* TestClock.adjust("1 day")
      const events = Chunk.toReadonlyArray(yield* Fiber.join(fiber))
      expect(events.at(-1)).toMatchObject({ state: "delivered" })
      expect(delays(events).length).toBe(999)
      expect(yield* content(files, "a")).toEqual(bytesOf(4000))
    }))

  it.scoped("gives up when it was told to, after a time without any success; the data is kept", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, buffered, calls, upload } = yield* client(transport, outage((now) => now >= 0, down), {
        retry: { giveUpAfter: "10 minutes" }
      })
      yield* add("a", bytesOf(5))
      const { outcomes } = yield* upload()
      expect(states(outcomes)).toEqual(["waiting"])
      expect(calls.at(-1)!.at).toBeCloseTo(600 * seconds, 3)
      const [file] = yield* buffered
      expect(Option.map(file!.trouble, ({ nextTry }) => nextTry)).toEqual(Option.some(Option.none()))
      expect(Option.getOrThrow(file!.trouble).reason).toContain("cannot be reached")
    }))

  it.scoped("tells what it waits for, to whoever looks into the buffer", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, buffered, uploader } = yield* client(transport, outage((now) => now < 100 * seconds, down))
      yield* add("a", bytesOf(5))
      const fiber = yield* Effect.fork(Stream.runDrain(uploader.upload({ endpoint })))
      yield* TestClock.adjust("30 seconds")
      const [file] = yield* buffered
      const { nextTry, reason } = Option.getOrThrow(file!.trouble)
      expect([file!.held, reason]).toEqual([true, down.message])
      expect(Option.getOrThrow(nextTry)).toBeGreaterThan(30 * seconds)
      yield* Fiber.interrupt(fiber)
      const [left] = yield* buffered
      expect([left!.held, Option.map(left!.trouble, ({ nextTry }) => nextTry)]).toEqual([
        false,
        Option.some(Option.none())
      ])
    }))

  it.scoped("obeys Retry-After, but comes back within a day", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed, number) =>
          number === 0
            ? Effect.fail(refused(503, { retryAfter: 600 }))
            : number === 1
            ? Effect.fail(refused(429, { retryAfter: 2 ** 40 }))
            : proceed
      })
      yield* add("a", bytesOf(3))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      const [first, second, third] = sends().map(({ at }) => at)
      expect(second! - first!).toBe(600 * seconds)
      expect(third! - second!).toBe(24 * hours)
    }))
})

describe("Uploader, one file's trouble", () => {
  it.scoped("does not hold up the others, also when more files are in trouble than are sent at once", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, uploader } = yield* client(transport, {
        send: (proceed, _, { out }) => out.chunk.fileName.startsWith("bad") ? Effect.fail(refused(500)) : proceed
      }, { parallel: 2 })
      for (const number of [1, 2, 3, 4, 5]) yield* add(`bad${number}`, bytesOf(9))
      for (const number of [1, 2, 3]) yield* add(`good${number}`, bytesOf(9, number))
      const fiber = yield* Effect.fork(Stream.runDrain(uploader.upload({ endpoint })))
      yield* TestClock.adjust("1 minute")
      expect(yield* files.names).toEqual(["good1", "good2", "good3"])
      yield* Fiber.interrupt(fiber)
    }))

  it.scoped("is its own when it is taken away meanwhile", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const store = yield* World.memoryStore
      const { add, upload } = yield* client(transport, {
        send: (proceed, number, { out }) =>
          number === 1 && out.chunk.fileName === "a" ? Effect.zipRight(Effect.orDie(store.clear), proceed) : proceed
      }, { store })
      yield* add("a", bytesOf(12))
      const { outcomes } = yield* upload()
      expect(outcomes.map(({ path, state }) => [path, state])).toEqual([["a", "failed"]])
      expect(yield* files.names).toEqual([])
    }))
})

describe("Uploader, a source that is read while its upload waits", () => {
  it.scoped("is told that it cannot be read, and the others are sent", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { uploader } = yield* client(transport)
      const bad = new Source.SourceError({ path: "gone", message: "gone cannot be read" })
      const sources = Stream.make(
        { _tag: "Right" as const, right: Source.stream("a", Stream.make(bytesOf(5))) },
        { _tag: "Left" as const, left: bad },
        { _tag: "Right" as const, right: Source.stream("b", Stream.make(bytesOf(6))) }
      ).pipe(Stream.mapEffect((either) =>
        Effect.either(either._tag === "Right" ? Effect.succeed(either.right) : Effect.fail(either.left))
      ))
      const events = Chunk.toReadonlyArray(yield* Stream.runCollect(uploader.bufferAndUpload(sources, { endpoint })))
      expect(events.flatMap((event) =>
        event._tag === "Skipped" ? [[event.path, event.message]] : []
      )).toEqual(
        [["gone", "gone cannot be read"]]
      )
      expect(states(events.filter((event) => event._tag === "Finished"))).toEqual(["delivered", "delivered"])
      expect(yield* files.names).toEqual(["a", "b"])
    }))
})
