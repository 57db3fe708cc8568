import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Logger, LogLevel, Option, TestClock } from "effect"
import { ServerFailure } from "../../src/protocol/ProtocolError.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as Body from "../../src/server/Body.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import { UploadLedger } from "../../src/server/UploadLedger.ts"
import { UploadKey, UploadStore } from "../../src/server/UploadStore.ts"
import { stalled } from "../contract/UploadStore.ts"
import { abort, layer, layerParts, names, refusal, send1, send2, shown, state } from "../support/rawReceiver.ts"

const staged = Effect.flatMap(UploadStore, (store) => store.keys)

const other = UploadId.make("u2")

describe("Receiver, upkeep", () => {
  it.effect("deletes an unfinished upload 7 days after its last chunk, and remembers that for 30 days", () =>
    Effect.gen(function*() {
      yield* send2(0, "ab", { size: 6 })
      yield* TestClock.adjust("6 days")
      yield* send2(2, "cd")
      yield* TestClock.adjust("167 hours")
      expect(yield* state()).toMatchObject({ bytesReceived: 4, expiresAt: "1970-01-14T00:00:00.000Z" })
      yield* TestClock.adjust("2 hours")
      expect(yield* refusal(state())).toBe(404)
      expect(yield* staged).toEqual([])
      expect(yield* refusal(send2(4, "ef", { known: true }))).toBe(412)
      expect(yield* refusal(send2(0, "ab"))).toBe(412)
      yield* TestClock.adjust("31 days")
      expect(yield* send2(0, "abc", { size: 3 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer())))

  it.effect("never deletes an upload that somebody is writing to", () =>
    Effect.gen(function*() {
      yield* send2(0, "ab", { size: 4 })
      const { body, reached } = yield* stalled(new TextEncoder().encode("c"))
      const writing = yield* Effect.fork(send2(2, { ...body, length: body.length }, {}))
      yield* reached
      yield* TestClock.adjust("20 days")
      expect(yield* state()).toMatchObject({ state: "receiving", bytesReceived: 2 })
      yield* Fiber.interrupt(writing)
      yield* TestClock.adjust("2 hours")
      expect(yield* refusal(state())).toBe(404)
    }).pipe(Effect.provide(layer())))

  it.effect("remembers a completed upload for 30 days, and leaves its file alone", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { size: 3 })
      yield* TestClock.adjust("29 days")
      expect(yield* send2(0, "abc")).toMatchObject({ duplicate: true, complete: true })
      yield* TestClock.adjust("2 days")
      expect(yield* refusal(state())).toBe(404)
      expect(yield* shown("a.txt")).toBe("abc")
    }).pipe(Effect.provide(layer({ upkeepInterval: "1 day" }))))

  it.effect("forgets an upload of revision 1 after a year, and leaves its file alone", () =>
    Effect.gen(function*() {
      yield* send1(0, "abc")
      yield* TestClock.adjust("364 days")
      yield* send1(1, "def")
      yield* TestClock.adjust("366 days")
      expect(yield* refusal(send1(2, "ghi"))).toBe(409)
      expect(yield* shown("a.txt")).toBe("abcdef")
      expect(yield* staged).toEqual([])
    }).pipe(Effect.provide(layer({ upkeepInterval: "1 day" }))))

  it.effect("removes at the start what no upload needs, and forgets uploads without bytes", () =>
    Effect.gen(function*() {
      const store = yield* UploadStore
      const ledger = yield* UploadLedger
      const start = <A, E, R>(program: Effect.Effect<A, E, R>) => Effect.provide(program, Receiver.layer())
      yield* start(Effect.all([send2(0, "ab", { size: 4 }), send2(0, "ab", { id: other, size: 4 })]))
      const orphan = UploadKey.make("f".repeat(32))
      yield* store.reserve(orphan, { size: (yield* ledger.unfinished)[0]!.size })
      const [first] = yield* ledger.unfinished
      yield* store.drop(first!.key)
      yield* start(Effect.gen(function*() {
        expect(yield* staged).toHaveLength(1)
        expect(yield* refusal(send2(2, "cd", { known: true }))).toBe(412)
        expect(yield* send2(2, "cd", { id: other, known: true })).toMatchObject({ complete: true })
      }))
      expect(yield* names).toEqual(["a.txt"])
    }).pipe(Effect.provide(layerParts)))

  describe("finds at the start what somebody has done to part files", () => {
    const start = <A, E, R>(program: Effect.Effect<A, E, R>) =>
      Effect.provide(program, Receiver.layer()).pipe(Logger.withMinimumLogLevel(LogLevel.None))

    /** Sends `abcd` as two chunks to a server that dies before it publishes: the upload is left `finishing`. */
    const leftFinishing = (more: { readonly sha256?: Sha256.Sha256 } = {}) =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const publish = () => new ServerFailure({ message: "it died" })
        yield* send2(0, "ab", { size: 4 }).pipe(
          Effect.andThen(Effect.exit(send2(2, "cd", more))),
          Effect.provide(Receiver.layer()),
          Effect.provideService(UploadStore, { ...store, publish }),
          Logger.withMinimumLogLevel(LogLevel.None)
        )
        const [upload] = yield* (yield* UploadLedger).unfinished
        expect(upload!.state).toBe("finishing")
        return { store, key: upload!.key }
      })

    it.effect("removed: an upload that was finishing is forgotten", () =>
      Effect.gen(function*() {
        const { key, store } = yield* leftFinishing()
        yield* store.drop(key)
        yield* start(Effect.gen(function*() {
          yield* Effect.yieldNow()
          expect(yield* refusal(send2(2, "cd", { known: true }))).toBe(412)
          expect(yield* refusal(state())).toBe(404)
        }))
        expect(yield* names).toEqual([])
      }).pipe(Effect.provide(layerParts)))

    it.effect("shortened: what is gone is missing again, and the file is whole in the end", () =>
      Effect.gen(function*() {
        for (const isFinishing of [true, false]) {
          const { key, store } = isFinishing ? yield* leftFinishing() : yield* Effect.gen(function*() {
            yield* start(Effect.all([send2(0, "ab", { id: other, size: 6 }), send2(2, "cd", { id: other })]))
            const ledger = yield* UploadLedger
            return {
              store: yield* UploadStore,
              key: (yield* ledger.unfinished).find(({ id }) => Option.contains(id, other))!.key
            }
          })
          yield* store.trim(key, 3)
          yield* start(Effect.gen(function*() {
            const of = isFinishing ? {} : { id: other }
            for (let turns = 0; turns < 50; turns++) yield* Effect.yieldNow()
            const size = isFinishing ? 4 : 6
            expect(yield* state(of.id)).toMatchObject({ state: "receiving", missing: [[2, size]] })
            if (!isFinishing) yield* send2(4, "ef", of)
            const { actualFilename, complete } = yield* send2(2, "cd", of)
            expect([complete, yield* shown(actualFilename)]).toEqual([true, isFinishing ? "abcd" : "abcdef"])
          }))
        }
      }).pipe(Effect.provide(layerParts)))

    it.effect("shortened: an upload can be deleted", () =>
      Effect.gen(function*() {
        const { key, store } = yield* leftFinishing()
        yield* store.trim(key, 3)
        yield* start(abort())
        expect(yield* staged).toEqual([])
      }).pipe(Effect.provide(layerParts)))

    it.effect("changed: it is not published, with Repr-Digest or without", () =>
      Effect.gen(function*() {
        const abcd = Sha256.of(new TextEncoder().encode("abcd"))
        for (const [id, more] of [[undefined, {}], [other, { sha256: abcd }]] as const) {
          const of = id === undefined ? {} : { id }
          yield* start(send2(0, "ab", { ...of, size: 4 }))
          const ledger = yield* UploadLedger
          const store = yield* UploadStore
          const key = (yield* ledger.unfinished).find(({ state }) => state === "receiving")!.key
          yield* store.write({ key, offset: 1, limit: 1 }, Body.of(new TextEncoder().encode("X")))
          yield* start(Effect.gen(function*() {
            expect(yield* refusal(send2(2, "cd", { ...of, ...more }))).toBe(409)
            expect(yield* state(id)).toMatchObject({ state: "failed" })
          }))
        }
        expect(yield* names).toEqual([])
      }).pipe(Effect.provide(layerParts)))

    it.effect("of revision 1, shortened or removed: the next index is the one that is missing, or 0", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* start(Effect.all([send1(0, "ab"), send1(1, "cd"), send1(2, "ef")]))
        const [key] = yield* store.keys
        yield* store.trim(key!, 5)
        yield* start(Effect.gen(function*() {
          expect(yield* shown("a.txt")).toBe("abcd")
          expect(yield* refusal(send1(3, "gh"))).toBe(409)
          yield* send1(2, "ef")
          expect(yield* shown("a.txt")).toBe("abcdef")
        }))
        yield* store.drop(key!)
        yield* start(Effect.gen(function*() {
          expect(yield* refusal(send1(3, "gh"))).toBe(409)
          expect(yield* send1(0, "ab")).toMatchObject({ actualFilename: "a (1).txt" })
        }))
      }).pipe(Effect.provide(layerParts)))
  })

  it.effect("keeps part files when the ledger was lost", () =>
    Effect.gen(function*() {
      const store = yield* UploadStore
      yield* store.reserve(UploadKey.make("f".repeat(32)), { size: Option.none() })
      yield* Effect.provide(Effect.void, Receiver.layer())
      expect(yield* staged).toHaveLength(1)
    }).pipe(Effect.provide(layerParts)))
})
