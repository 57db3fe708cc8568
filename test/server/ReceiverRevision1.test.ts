import { describe, expect, it } from "@effect/vitest"
import { Effect, FastCheck, Fiber, Layer, Option, TestClock } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as Body from "../../src/server/Body.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import { UploadLedger } from "../../src/server/UploadLedger.ts"
import { UploadStore } from "../../src/server/UploadStore.ts"
import { cut, stalled, text } from "../contract/UploadStore.ts"
import {
  chunked,
  layer,
  layerNamed,
  layerOver,
  layerParts,
  names,
  outside,
  refusal,
  send1,
  send2,
  shown
} from "../support/rawReceiver.ts"

/** Sends chunks from an index on. */
const sendAll = (bodies: ReadonlyArray<string>, more: Parameters<typeof send1>[2] & { readonly from?: number } = {}) =>
  Effect.forEach(bodies, (body, at) => send1((more.from ?? 0) + at, body, more))

/** All that is visible. */
const folder = Effect.gen(function*() {
  const found: Record<string, string | undefined> = {}
  for (const name of yield* names) found[name] = yield* shown(name)
  return found
})

describe("Receiver, revision 1: chunks in order", () => {
  it.effect("answers as the old servers do, and nothing else", () =>
    Effect.gen(function*() {
      expect(yield* send1(0, "ab")).toEqual({
        message: "Chunk received",
        actualFilename: "a.txt",
        chunkIndex: 0,
        clientFilename: "/data/a.txt"
      })
    }).pipe(Effect.provide(layer())))

  it.effect("shows the bytes so far after each answer", () =>
    Effect.gen(function*() {
      for (const [index, expected] of ["ab", "abcd", "abcd", "abcde"].entries()) {
        yield* send1(index, ["ab", "cd", "", "e"][index]!)
        expect(yield* folder).toEqual({ "a.txt": expected })
      }
    }).pipe(Effect.provide(layer())))

  it.effect("takes bodies of unknown length", () =>
    Effect.gen(function*() {
      yield* send1(0, chunked("a", "b"))
      yield* send1(1, chunked("c"))
      expect(yield* send1(1, chunked("c"))).toMatchObject({ actualFilename: "a.txt" })
      expect(yield* folder).toEqual({ "a.txt": "abc" })
    }).pipe(Effect.provide(layer())))

  it.effect("takes a chunk whose answer was lost once more, and writes it once", () =>
    Effect.gen(function*() {
      for (const [index, body] of ["ab", "cd", "ef"].entries()) {
        const first = yield* send1(index, body)
        expect(yield* send1(index, body)).toEqual(first)
        expect(yield* send1(index, body)).toEqual(first)
      }
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
    }).pipe(Effect.provide(layer())))

  it.effect("refuses an index past the next one, naming the one expected", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      const error = yield* Effect.flip(send1(3, "gh"))
      expect(error).toMatchObject({ status: 409, message: expect.stringContaining("chunk 2;") })
      yield* send1(2, "ef")
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
    }).pipe(Effect.provide(layer())))

  it.effect("refuses any index but 0 for a file it does not know", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send1(1, "cd"))).toBe(409)
      expect(yield* folder).toEqual({})
    }).pipe(Effect.provide(layer())))

  it.effect("keeps the files of other names and other principals apart", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab")
      yield* send1(0, "xy", { name: "b.txt" })
      yield* send1(0, "12", { principal: "other" })
      yield* send2(0, "revision 2", { size: 10 })
      yield* send1(1, "cd")
      yield* send1(1, "34", { principal: "other" })
      expect(yield* folder).toEqual({ "a.txt": "abcd", "b.txt": "xy", "a (1).txt": "1234", "a (2).txt": "revision 2" })
    }).pipe(Effect.provide(layer())))
})

describe("Receiver, revision 1: repeats and new versions", () => {
  it.effect("takes a whole file again as a repeat, and goes on with it", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      yield* sendAll(["ab", "cd", "ef"])
      yield* sendAll(["ab", "cd", "ef"])
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
    }).pipe(Effect.provide(layer())))

  it.effect("starts a new version at index 0 with other bytes, and leaves the old one as it is", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      expect(yield* send1(0, "xy")).toMatchObject({ actualFilename: "a (1).txt" })
      expect(yield* send1(1, "cd")).toMatchObject({ actualFilename: "a (1).txt" })
      expect(yield* folder).toEqual({ "a.txt": "abcd", "a (1).txt": "xycd" })
    }).pipe(Effect.provide(layer())))

  it.effect("starts a new version at the replay cursor, and carries over what precedes it", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd", "ef"])
      yield* sendAll(["ab", "cd"])
      expect(yield* send1(2, "EF")).toMatchObject({ actualFilename: "a (1).txt" })
      yield* send1(3, "gh")
      expect(yield* send1(2, "EF")).toMatchObject({ actualFilename: "a (1).txt" })
      expect(yield* folder).toEqual({ "a.txt": "abcdef", "a (1).txt": "abcdEFgh" })
    }).pipe(Effect.provide(layer())))

  it.effect("tells a longer or shorter chunk from the same one", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      yield* send1(0, "ab")
      expect(yield* send1(1, "cdx")).toMatchObject({ actualFilename: "a (1).txt" })
      expect(yield* send1(0, "a")).toMatchObject({ actualFilename: "a (2).txt" })
      expect(yield* folder).toEqual({ "a.txt": "abcd", "a (1).txt": "abcdx", "a (2).txt": "a" })
    }).pipe(Effect.provide(layer())))

  it.effect("refuses other bytes anywhere else, and loses nothing", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd", "ef"])
      expect(yield* refusal(send1(1, "XX"))).toBe(409)
      expect(yield* refusal(send1(2, "XX"))).toBe(409)
      yield* send1(0, "ab")
      expect(yield* refusal(send1(2, "XX"))).toBe(409)
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
      yield* send1(3, "gh")
      expect(yield* folder).toEqual({ "a.txt": "abcdefgh" })
    }).pipe(Effect.provide(layer())))

  it.effect("carries over the name under overwrite, and refuses a new version under reject", () =>
    Effect.gen(function*() {
      const replay = Effect.gen(function*() {
        yield* sendAll(["ab", "cd"])
        yield* send1(0, "ab")
        return yield* Effect.either(send1(1, "CD!"))
      })
      const inFolder = Effect.all([replay, folder])
      const [taken, after] = yield* Effect.provide(inFolder, layer({ onConflict: "overwrite" }))
      expect([taken._tag, after]).toEqual(["Right", { "a.txt": "abCD!" }])
      const [refused, before] = yield* Effect.provide(inFolder, layer({ onConflict: "reject" }))
      expect(refused).toMatchObject({ _tag: "Left", left: { status: 409 } })
      expect(before).toEqual({ "a.txt": "abcd" })
    }))

  it.effect("goes on with the new version after the old one was refused a place under reject", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      expect(yield* refusal(send1(0, "xy"))).toBe(409)
      yield* send1(2, "ef")
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
    }).pipe(Effect.provide(layer({ onConflict: "reject" }))))

  const version = FastCheck.array(FastCheck.constantFrom("a", "b", "cc"), { minLength: 1, maxLength: 5 })
  it.effect.prop(
    "holds, after any number of whole files under one name, the last of them whole under the name last answered",
    { versions: FastCheck.array(version, { minLength: 1, maxLength: 5 }) },
    ({ versions }) =>
      Effect.gen(function*() {
        let before: ReadonlyArray<string> = []
        for (const bodies of versions) {
          const receipts = yield* sendAll(bodies)
          // a file that was cut at a chunk boundary leaves the longer one: revision 1 cannot say that it ended
          const isCut = bodies.every((body, at) => body === before[at])
          const expected = isCut && before.length > bodies.length ? before : bodies
          expect(yield* shown(receipts.at(-1)!.actualFilename)).toBe(expected.join(""))
          before = expected
        }
      }).pipe(Effect.provide(layer())),
    { fastCheck: { numRuns: 60 } }
  )
})

describe("Receiver, revision 1: addresses and time", () => {
  const [here, there, elsewhere] = [{ address: "10.0.0.1" }, { address: "10.0.0.2" }, { address: "10.0.0.3" }]

  it.effect("starts an upload of its own for index 0 from another address, and keeps them apart", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab", here)
      expect(yield* send1(0, "ab", there)).toMatchObject({ actualFilename: "a (1).txt" })
      yield* send1(1, "cd", here)
      yield* send1(1, "xy", there)
      yield* send1(2, "ef", here)
      expect(yield* folder).toEqual({ "a.txt": "abcdef", "a (1).txt": "abxy" })
    }).pipe(Effect.provide(layer())))

  it.effect("takes a chunk from a new address for the only upload that expects it, which has that address then", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"], here)
      yield* send1(0, "xy", there)
      yield* send1(2, "ef", elsewhere)
      yield* send1(3, "gh", elsewhere)
      yield* send1(1, "zz", here)
      expect(yield* folder).toEqual({ "a.txt": "abcdefgh", "a (1).txt": "xyzz" })
    }).pipe(Effect.provide(layer())))

  it.effect("refuses a chunk from a new address when none or several uploads expect it", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab", here)
      yield* send1(0, "xy", there)
      expect(yield* refusal(send1(1, "cd", elsewhere))).toBe(409)
      expect(yield* refusal(send1(2, "cd", elsewhere))).toBe(409)
      expect(yield* folder).toEqual({ "a.txt": "ab", "a (1).txt": "xy" })
    }).pipe(Effect.provide(layer())))

  it.effect("starts a new file at index 0 after 24 hours without chunks, whatever its bytes", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab")
      yield* TestClock.adjust("24 hours")
      expect(yield* send1(0, "ab")).toMatchObject({ actualFilename: "a.txt" })
      yield* TestClock.adjust("24 hours")
      yield* TestClock.adjust("1 millis")
      expect(yield* send1(0, "ab")).toMatchObject({ actualFilename: "a (1).txt" })
      yield* send1(1, "cd")
      expect(yield* folder).toEqual({ "a.txt": "ab", "a (1).txt": "abcd" })
    }).pipe(Effect.provide(layer())))

  it.effect("takes the next expected index even after months", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab")
      yield* TestClock.adjust("100 days")
      expect(yield* send1(1, "cd")).toMatchObject({ actualFilename: "a.txt" })
      expect(yield* folder).toEqual({ "a.txt": "abcd" })
    }).pipe(Effect.provide(layer({ upkeepInterval: "1 day" }))))

  it.effect("lets the operator choose the time", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab")
      yield* TestClock.adjust("2 minutes")
      expect(yield* send1(0, "ab")).toMatchObject({ actualFilename: "a (1).txt" })
    }).pipe(Effect.provide(layer({ revision1Idle: "1 minute" }))))
})

describe("Receiver, revision 1: the visible file", () => {
  it.effect("links it again with the next chunk when it was removed", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      yield* outside.remove("a.txt")
      expect(yield* send1(2, "ef")).toMatchObject({ actualFilename: "a.txt" })
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
      yield* outside.remove("a.txt")
      yield* send1(1, "cd")
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
    }).pipe(Effect.provide(layer())))

  it.effect("takes the next free name when it was overwritten, and never writes through the name", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      yield* outside.write("a.txt", "theirs")
      expect(yield* send1(2, "ef")).toMatchObject({ actualFilename: "a (1).txt" })
      expect(yield* send1(3, "gh")).toMatchObject({ actualFilename: "a (1).txt" })
      expect(yield* folder).toEqual({ "a.txt": "theirs", "a (1).txt": "abcdefgh" })
    }).pipe(Effect.provide(layer())))

  it.effect("takes the name back under overwrite", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      yield* outside.write("a.txt", "theirs")
      yield* send1(2, "ef")
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
    }).pipe(Effect.provide(layer({ onConflict: "overwrite" }))))

  it.effect("starts a new file at index 0, same bytes or not, once it is gone or overwritten", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      yield* outside.remove("a.txt")
      expect(yield* send1(0, "ab")).toMatchObject({ actualFilename: "a.txt" })
      expect(yield* folder).toEqual({ "a.txt": "ab" })
      yield* outside.write("a.txt", "theirs")
      expect(yield* send1(0, "ab")).toMatchObject({ actualFilename: "a (1).txt" })
      expect(yield* folder).toEqual({ "a.txt": "theirs", "a (1).txt": "ab" })
    }).pipe(Effect.provide(layer())))

  it.effect("settles a taken name at the first chunk: rename, overwrite, reject", () =>
    Effect.gen(function*() {
      const taken = Effect.gen(function*() {
        yield* outside.write("a.txt", "theirs")
        const status = yield* Effect.merge(
          Effect.map(send1(0, "ab"), () => 200).pipe(
            Effect.mapError((error) => (error as { readonly status?: number }).status)
          )
        )
        return [status, yield* folder]
      })
      expect(yield* Effect.provide(taken, layer())).toEqual([200, { "a.txt": "theirs", "a (1).txt": "ab" }])
      expect(yield* Effect.provide(taken, layer({ onConflict: "overwrite" }))).toEqual([200, { "a.txt": "ab" }])
      expect(yield* Effect.provide(taken, layer({ onConflict: "reject" }))).toEqual([409, { "a.txt": "theirs" }])
    }))

  it.effect("is as long as what was acknowledged after a chunk that was cut, refused, stopped or stalled", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab")
      expect((yield* Effect.flip(send1(1, cut(9, text("cut")))))._tag).toBe("BodyCut")
      expect(yield* folder).toEqual({ "a.txt": "ab" })
      expect(yield* refusal(send1(1, "wrong", { contentDigest: Sha256.empty }))).toBe(422)
      expect(yield* folder).toEqual({ "a.txt": "ab" })
      const { body, reached } = yield* stalled(text("x".repeat(2 * 1024 * 1024)))
      const gone = yield* Effect.fork(send1(1, body))
      yield* reached
      yield* Fiber.interrupt(gone)
      expect(yield* folder).toEqual({ "a.txt": "ab" })
      yield* send1(1, "cd", { contentDigest: Sha256.of(text("cd")) })
      expect(yield* folder).toEqual({ "a.txt": "abcd" })
    }).pipe(Effect.provide(layer())))

  it.effect("is not there after a first chunk that failed, and its name is free", () =>
    Effect.gen(function*() {
      expect((yield* Effect.flip(send1(0, cut(9, text("cut")))))._tag).toBe("BodyCut")
      expect(yield* refusal(send1(0, "wrong", { contentDigest: Sha256.empty }))).toBe(422)
      expect(yield* folder).toEqual({})
      expect(yield* send2(0, "abc", { size: 3 })).toMatchObject({ actualFilename: "a.txt" })
      const ledger = yield* UploadLedger
      expect(yield* ledger.findRevision1("default", "/data/a.txt")).toEqual([])
    }).pipe(Effect.provide(layer({ onConflict: "reject" }))))

  it.effect("leaves no trace of a new version whose first chunk failed", () =>
    Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      expect((yield* Effect.flip(send1(0, cut(9, text("XY")))))._tag).toBe("BodyCut")
      expect(yield* refusal(send1(0, "XY", { contentDigest: Sha256.empty }))).toBe(422)
      yield* send1(2, "ef")
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
      const ledger = yield* UploadLedger
      expect(yield* ledger.findRevision1("default", "/data/a.txt")).toHaveLength(1)
    }).pipe(Effect.provide(layer())))

  it.scoped("has its acknowledged length again at the next start, and its upload goes on", () =>
    Effect.gen(function*() {
      const parts = yield* Layer.build(layerParts)
      const started = <A, E, R>(use: Effect.Effect<A, E, R>) =>
        Effect.scoped(
          Effect.flatMap(
            Layer.build(Layer.fresh(Receiver.layer().pipe(Layer.provide(Layer.succeedContext(parts))))),
            (context) => Effect.provide(use, context)
          )
        )
      yield* Effect.gen(function*() {
        yield* started(send1(0, "ab"))
        // the server died in the middle of a chunk
        const [upload] = yield* Effect.flatMap(
          UploadLedger,
          (ledger) => ledger.findRevision1("default", "/data/a.txt")
        )
        const store = yield* UploadStore
        yield* store.write({ key: upload!.key, offset: 2, limit: 100 }, Body.of(text("half a chu")))
        expect(yield* folder).toEqual({ "a.txt": "abhalf a chu" })
        yield* started(Effect.gen(function*() {
          expect(yield* folder).toEqual({ "a.txt": "ab" })
          yield* send1(1, "cd")
        }))
        expect(yield* folder).toEqual({ "a.txt": "abcd" })
      }).pipe(Effect.provide(parts))
    }))
})

describe("Receiver, revision 1: one client at a time", () => {
  it.effect("lets a newer request take over from one that stalls, whichever chunk it is", () =>
    Effect.gen(function*() {
      yield* send1(0, "ab")
      const { body, reached } = yield* stalled(text("x".repeat(2 * 1024 * 1024)))
      const older = yield* Effect.fork(send1(1, body))
      yield* reached
      yield* send1(1, "cd")
      expect(yield* Effect.flip(Fiber.join(older))).toMatchObject({ _tag: "Busy", status: 503 })
      expect(yield* folder).toEqual({ "a.txt": "abcd" })
      const again = yield* stalled(text("x"))
      const second = yield* Effect.fork(send1(2, again.body))
      yield* again.reached
      yield* sendAll(["ab", "cd", "ef"])
      expect(yield* refusal(Fiber.join(second))).toBe(503)
      expect(yield* folder).toEqual({ "a.txt": "abcdef" })
    }).pipe(Effect.provide(layer())))

  it.effect("lets a newer first chunk take over from a first chunk that stalls", () =>
    Effect.gen(function*() {
      const { body, reached } = yield* stalled(text("x".repeat(2 * 1024 * 1024)))
      const older = yield* Effect.fork(send1(0, body))
      yield* reached
      expect(yield* send1(0, "ab")).toMatchObject({ actualFilename: "a.txt" })
      expect(yield* refusal(Fiber.join(older))).toBe(503)
      yield* send1(1, "cd")
      expect(yield* folder).toEqual({ "a.txt": "abcd" })
    }).pipe(Effect.provide(layer())))

  it.effect("ends with one file of the right bytes when the same chunk comes many times at once", () =>
    Effect.gen(function*() {
      for (const [index, body] of ["ab", "cd"].entries()) {
        const outcomes = yield* Effect.all(
          Array.from({ length: 8 }, () => Effect.either(send1(index, body))),
          { concurrency: 8 }
        )
        expect(outcomes.some(({ _tag }) => _tag === "Right")).toBe(true)
      }
      expect(yield* shown("a.txt")).toBe("abcd")
    }).pipe(Effect.provide(layer())))

  it.effect("hangs nobody and leaves the range free when the store fails", () => {
    let failing = true
    const store = layerOver((store) => ({
      sync: (written) => failing ? Effect.die(new Error("broken disk")) : store.sync(written)
    }))
    return Effect.gen(function*() {
      expect((yield* Effect.exit(send1(0, "ab")))._tag).toBe("Failure")
      expect(yield* folder).toEqual({})
      failing = false
      yield* send1(0, "ab")
      expect(yield* folder).toEqual({ "a.txt": "ab" })
    }).pipe(Effect.provide(store))
  })
})

describe("Receiver, revision 1: names", () => {
  it.effect.each(["..", "/", "C:\\..", ".indexedcp", "..."])("refuses the name %j", (name) =>
    Effect.gen(function*() {
      expect(yield* refusal(send1(0, "ab", { name }))).toBe(400)
      expect(yield* folder).toEqual({})
    }).pipe(Effect.provide(layer())))

  it.effect("takes the last part of a path of any kind of machine", () =>
    Effect.gen(function*() {
      expect(yield* send1(0, "ab", { name: "../../x/b.txt" })).toMatchObject({ actualFilename: "b.txt" })
      expect(yield* send1(0, "ab", { name: "C:\\x\\c.txt" })).toMatchObject({ actualFilename: "c.txt" })
    }).pipe(Effect.provide(layer())))

  it.effect("asks the filename generator once an upload, and not for a new version", () => {
    let asked = 0
    return Effect.gen(function*() {
      yield* sendAll(["ab", "cd"])
      yield* sendAll(["ab", "xy"])
      expect(asked).toBe(1)
      expect(yield* folder).toEqual({ "n1.txt": "abcd", "n1 (1).txt": "abxy" })
    }).pipe(Effect.provide(layerNamed(() => `n${++asked}.txt`)))
  })

  it.effect("answers 500 when the generator throws, and keeps nothing", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send1(0, "ab"))).toBe(500)
      const ledger = yield* UploadLedger
      expect(yield* ledger.findRevision1("default", "/data/a.txt")).toEqual([])
      expect(Option.isNone(Option.fromNullable((yield* names)[0]))).toBe(true)
    }).pipe(Effect.provide(layerNamed(() => Promise.reject(new Error("no name today"))))))
})
