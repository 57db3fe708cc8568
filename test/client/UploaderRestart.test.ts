/**
 * The uploading program when it dies and is started again.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option, Stream } from "effect"
import * as World from "../support/clientWorld.ts"

const { bytesOf, client, content, delays, dying, failing, refused, states } = World

describe("Uploader, restarts", () => {
  for (const when of ["before", "after"] as const) {
    it.scoped.each([0, 3, 10])(
      `goes on after it died ${when} any step, and no byte travels twice (%i bytes)`,
      (size) =>
        Effect.gen(function*() {
          for (let at = 0;; at++) {
            const { files, transport } = yield* World.server
            let arrived = 0
            const counting: World.TransportService = {
              ...transport,
              send: (out) =>
                Effect.suspend(() => {
                  arrived += out.body.length
                  return transport.send(out)
                })
            }
            const store = yield* World.memoryStore
            const { dead, over, script } = yield* dying(at, when)
            const first = yield* client(counting, script, { store: over(store) })
            yield* first.add("a", bytesOf(size))
            const running = yield* Effect.fork(first.upload())
            const ended = yield* Effect.race(Effect.as(dead, false), Effect.as(Effect.exit(Fiber.join(running)), true))
            if (ended) {
              expect(at).toBeGreaterThan(size === 10 ? 8 : 5)
              break
            }
            yield* Fiber.interrupt(running)
            const second = yield* client(counting, {}, { store })
            const { events, outcomes } = yield* second.upload()
            // died between the drop and the end
            if ((yield* files.names).length === 1 && outcomes.length === 0) continue
            expect(states(outcomes)).toEqual(["delivered"])
            expect(yield* second.buffered).toEqual([])
            expect(yield* files.names).toEqual(["a"])
            expect(yield* content(files, "a")).toEqual(bytesOf(size))
            expect(arrived).toBe(size)
            expect(delays(events)).toEqual([])
          }
        })
    )
  }

  it.scoped("goes on when a request of the one that died arrives after it has asked what is missing", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const store = yield* World.memoryStore
      const late = yield* Deferred.make<World.Send["out"]>()
      const first = yield* client(transport, {
        send: (proceed, number, { out }) =>
          number === 2 ? Effect.zipRight(Deferred.succeed(late, out), Effect.never) : proceed
      }, { store, largestBody: 8 })
      yield* first.add("a", bytesOf(24))
      const running = yield* Effect.fork(Stream.runDrain(first.uploader.upload({ endpoint: World.endpoint })))
      const out = yield* Deferred.await(late)
      expect(out.body.length).toBe(8)
      yield* Fiber.interrupt(running)
      const second = yield* client(transport, {
        ask: (proceed, number) => number === 0 ? Effect.tap(proceed, () => transport.send(out)) : proceed
      }, { store })
      expect(states((yield* second.upload()).outcomes)).toEqual(["delivered"])
      expect(second.sends().map(({ offset }) => offset)).toEqual([8, 16, 20])
      expect(yield* content(files, "a")).toEqual(bytesOf(24))
    }))

  it.scoped("goes on at another server from the start", () =>
    Effect.gen(function*() {
      const store = yield* World.memoryStore
      const there = yield* client((yield* World.server).transport, failing(refused(401), 1), { store })
      yield* there.add("a", bytesOf(8))
      yield* Effect.flip(there.upload())
      const { files, transport } = yield* World.server
      const here = yield* client(transport, {}, { store })
      expect(states((yield* here.upload({ endpoint: "http://other/upload" })).outcomes)).toEqual(["delivered"])
      expect(here.sends().map(({ offset }) => offset)).toEqual([0, 4])
      expect(yield* content(files, "a")).toEqual(bytesOf(8))
    }))

  it.scoped("reports a file that somebody else is sending, and frees its own claims", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, buffered, store, upload } = yield* client(transport)
      const file = yield* add("a", bytesOf(8))
      yield* add("b", bytesOf(8))
      const { outcomes } = yield* Effect.scoped(Effect.zipRight(store.claim(file.id), upload()))
      expect(states(outcomes)).toEqual(["claimed", "delivered"])
      expect((yield* buffered).map(({ failure, path }) => [path, failure])).toEqual([["a", Option.none()]])
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(yield* files.names).toEqual(["a", "b"])
    }))

  it.scoped("tells of a file that was cleared away while it was sent", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const store = yield* World.memoryStore
      const { add, upload } = yield* client(transport, {
        send: (proceed, number) => number === 1 ? Effect.zipLeft(proceed, Effect.orDie(store.clear)) : proceed
      }, { store })
      yield* add("a", bytesOf(12))
      expect(states((yield* upload()).outcomes)).toEqual(["failed"])
      expect(yield* files.names).toEqual([])
    }))
})
