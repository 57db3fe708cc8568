import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, FastCheck, Fiber, FiberId, Layer, Option, TestClock } from "effect"
import { ServerFailure } from "../../src/protocol/ProtocolError.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import { UploadLedger } from "../../src/server/UploadLedger.ts"
import { cut, stalled, text } from "../contract/UploadStore.ts"
import {
  abort,
  chunked,
  id,
  layer,
  layerNamed,
  layerOver,
  layerParts,
  names,
  outside,
  refusal,
  send2,
  shown,
  state
} from "../support/rawReceiver.ts"

const hash = (bytes: string) => Sha256.of(text(bytes))

const other = UploadId.make("u2")

describe("Receiver, revision 2: receiving", () => {
  it.effect("answers with the fields of both revisions", () =>
    Effect.gen(function*() {
      expect(yield* send2(0, "abc", { index: 7 })).toEqual({
        message: "Chunk received",
        actualFilename: "a.txt",
        chunkIndex: 7,
        clientFilename: "/data/a.txt",
        uploadId: "u1",
        duplicate: false,
        bytesReceived: 3,
        complete: false,
        expiresAt: "1970-01-08T00:00:00.000Z",
        finishing: false
      })
      expect(yield* send2(3, "def", { size: 6, sha256: hash("abcdef") })).toMatchObject({
        bytesReceived: 6,
        complete: true,
        size: 6,
        sha256: hash("abcdef")
      })
    }).pipe(Effect.provide(layer())))

  it.effect("takes chunks in any order, and shows nothing before the last", () =>
    Effect.gen(function*() {
      yield* send2(4, "ef", { size: 6 })
      yield* send2(0, "ab")
      expect(yield* names).toEqual([])
      expect(yield* send2(2, "cd")).toMatchObject({ complete: true, size: 6 })
      expect(yield* shown("a.txt")).toBe("abcdef")
    }).pipe(Effect.provide(layer())))

  it.effect("knows the hash of a file of which none was declared, and refuses another one that comes late", () =>
    Effect.gen(function*() {
      expect((yield* send2(0, "abc", { size: 3 })).sha256).toBe(hash("abc"))
      yield* send2(3, "def", { id: other })
      expect(yield* send2(0, "abc", { id: other, size: 6 })).toMatchObject({ complete: true, sha256: hash("abcdef") })
      expect(yield* send2(6, "", { id: other, sha256: hash("abcdef") })).toMatchObject({ complete: true })
      expect(yield* refusal(send2(6, "", { id: other, sha256: hash("abcdeX") }))).toBe(409)
    }).pipe(Effect.provide(layer())))

  it.effect("does not complete before the size is known, and then without any more bytes", () =>
    Effect.gen(function*() {
      expect(yield* send2(0, "abc")).toMatchObject({ complete: false })
      expect(yield* send2(3, "", { size: 3, sha256: hash("abc") })).toMatchObject({
        complete: true,
        duplicate: false,
        bytesReceived: 3
      })
      expect(yield* shown("a.txt")).toBe("abc")
    }).pipe(Effect.provide(layer())))

  it.effect("takes an empty file as one empty chunk", () =>
    Effect.gen(function*() {
      expect(yield* send2(0, "", { size: 0, sha256: Sha256.empty })).toMatchObject({ complete: true, size: 0 })
      expect(yield* shown("a.txt")).toBe("")
    }).pipe(Effect.provide(layer())))

  it.effect("takes an empty body at any time, at any offset, any number of times, as no repeat and no overlap", () =>
    Effect.gen(function*() {
      expect(yield* send2(0, "")).toMatchObject({ duplicate: false, bytesReceived: 0, complete: false })
      yield* send2(0, "abcd")
      const { body, reached } = yield* stalled(text("e"))
      const writing = yield* Effect.fork(send2(4, { ...body, length: Option.some(2) }))
      yield* reached
      for (const offset of [0, 2, 4, 5, 100]) {
        expect(yield* send2(offset, "", { size: 6 })).toMatchObject({ duplicate: false, bytesReceived: 4 })
        expect(yield* send2(offset, chunked())).toMatchObject({ duplicate: false, bytesReceived: 4 })
      }
      yield* Fiber.interrupt(writing)
    }).pipe(Effect.provide(layer())))

  it.effect("takes bodies of unknown length up to the next bytes", () =>
    Effect.gen(function*() {
      yield* send2(4, "ef", { size: 8 })
      expect(yield* refusal(send2(0, chunked("abc", "de")))).toBe(409)
      expect(yield* refusal(send2(6, chunked("ghi")))).toBe(409)
      expect(yield* send2(0, chunked("ab", "cd"))).toMatchObject({ bytesReceived: 6 })
      expect(yield* send2(0, chunked("abcd"))).toMatchObject({ duplicate: true })
      expect(yield* refusal(send2(0, chunked("abcx")))).toBe(409)
      expect(yield* refusal(send2(0, chunked("abc")))).toBe(409)
      expect(yield* send2(6, chunked("gh"))).toMatchObject({ complete: true })
      expect(yield* shown("a.txt")).toBe("abcdefgh")
    }).pipe(Effect.provide(layer())))

  it.effect("counts X-File-Name on the first chunk only, but echoes what was sent", () =>
    Effect.gen(function*() {
      yield* send2(0, "ab", { name: "first.txt", size: 4 })
      expect(yield* send2(2, "cd", { name: "../.." })).toMatchObject({
        actualFilename: "first.txt",
        clientFilename: "../..",
        complete: true
      })
      expect(yield* names).toEqual(["first.txt"])
    }).pipe(Effect.provide(layer())))

  const cuts = FastCheck.uniqueArray(FastCheck.integer({ min: 1, max: 39 }), { maxLength: 8 })
  it.effect.prop(
    "puts any file together that was cut anyhow, sent in any order, four at a time, some chunks twice",
    { cuts, seed: FastCheck.array(FastCheck.nat(), { minLength: 20, maxLength: 20 }) },
    ({ cuts, seed }) =>
      Effect.gen(function*() {
        const whole = Array.from({ length: 40 }, (_, at) => String.fromCharCode(97 + (at * 7) % 26)).join("")
        const edges = [0, ...cuts.sort((a, b) => a - b), 40]
        const chunks = edges.slice(1).map((to, at) => [edges[at]!, to] as const)
        const sent = [...chunks, ...chunks.filter((_, at) => seed[at]! % 2 === 0)]
          .map((chunk, at) => ({ chunk, order: seed[at]! }))
          .sort((a, b) => a.order - b.order)
        const receipts = yield* Effect.forEach(sent, ({ chunk: [from, to] }) =>
          // a chunk that is sent twice at once may be told to come again
          send2(from, whole.slice(from, to), { size: 40, sha256: hash(whole) }).pipe(
            Effect.catchTag("Busy", () => Effect.succeed(undefined))
          ), { concurrency: 4 })
        expect(receipts.filter((receipt) => receipt?.complete === true && !receipt.duplicate)).toHaveLength(1)
        expect(yield* state()).toMatchObject({ complete: true, missing: [] })
        expect(yield* shown("a.txt")).toBe(whole)
        expect(yield* names).toEqual(["a.txt"])
      }).pipe(Effect.provide(layer())),
    { fastCheck: { numRuns: 60 } }
  )
})

describe("Receiver, revision 2: repeats and conflicts", () => {
  it.effect("calls the same range with the same bytes a duplicate, and writes nothing", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc")
      expect(yield* send2(0, "abc")).toMatchObject({ duplicate: true, bytesReceived: 3, complete: false })
      expect((yield* state()).bytesReceived).toBe(3)
    }).pipe(Effect.provide(layer())))

  it.effect("refuses all else that touches committed bytes, and loses nothing", () =>
    Effect.gen(function*() {
      yield* send2(2, "cde", { size: 8 })
      for (
        const [offset, body] of [[2, "xxx"], [2, "cd"], [2, "cdef"], [0, "abc"], [3, "d"], [4, "ef"], [
          0,
          "abcdefgh"
        ]] as const
      ) {
        expect([offset, body, yield* refusal(send2(offset, body))]).toEqual([offset, body, 409])
      }
      yield* send2(0, "ab")
      yield* send2(5, "fgh")
      expect(yield* shown("a.txt")).toBe("abcdefgh")
    }).pipe(Effect.provide(layer())))

  it.effect("refuses a size or a Repr-Digest that changes, with a body and without", () =>
    Effect.gen(function*() {
      yield* send2(0, "ab", { size: 6, sha256: hash("abcdef") })
      for (const body of ["", "cd"]) {
        expect(yield* refusal(send2(2, body, { size: 7 }))).toBe(409)
        expect(yield* refusal(send2(2, body, { sha256: hash("other") }))).toBe(409)
      }
      expect(yield* refusal(send2(0, "ab", { size: 7 }))).toBe(409)
      expect(yield* send2(2, "cdef", { size: 6, sha256: hash("abcdef") })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer())))

  it.effect("takes what a repeat says of size and hash, if it is new", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc")
      expect(yield* send2(0, "abc", { size: 3, sha256: hash("abc") })).toMatchObject({
        duplicate: true,
        complete: true,
        sha256: hash("abc")
      })
    }).pipe(Effect.provide(layer())))

  it.effect("refuses bytes past the size, and a size that is less than what is here", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc")
      expect(yield* refusal(send2(3, "", { size: 2 }))).toBe(409)
      expect(yield* refusal(send2(3, "def", { size: 5 }))).toBe(409)
      yield* send2(3, "", { size: 5 })
      expect(yield* refusal(send2(3, "def"))).toBe(409)
      expect(yield* refusal(send2(6, "x"))).toBe(409)
      expect(yield* send2(3, "de")).toMatchObject({ complete: true, size: 5 })
      expect(yield* shown("a.txt")).toBe("abcde")
    }).pipe(Effect.provide(layer())))

  it.effect("keeps nothing of a body that is not what Content-Digest says, and takes it again", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, "abx", { contentDigest: hash("abc") }))).toBe(422)
      expect(yield* refusal(send2(0, "", { contentDigest: hash("abc"), size: 5 }))).toBe(422)
      expect(yield* state()).toMatchObject({ bytesReceived: 0, size: null })
      yield* send2(0, "abc", { contentDigest: hash("abc") })
      expect(yield* refusal(send2(0, "abx", { contentDigest: hash("abc") }))).toBe(422)
      expect(yield* send2(0, "abc", { contentDigest: hash("abc") })).toMatchObject({ duplicate: true })
    }).pipe(Effect.provide(layer())))

  it.effect("keeps nothing of a cut body, and takes the bytes again", () =>
    Effect.gen(function*() {
      expect((yield* Effect.flip(send2(0, cut(6, text("abcd")))))._tag).toBe("BodyCut")
      expect(yield* state()).toMatchObject({ bytesReceived: 0, missing: [] })
      expect(yield* send2(0, "xy", { size: 2 })).toMatchObject({ complete: true })
      expect(yield* shown("a.txt")).toBe("xy")
    }).pipe(Effect.provide(layer())))

  it.effect("publishes no byte behind the size, whatever refused and cut bodies left there", () =>
    Effect.gen(function*() {
      yield* send2(0, "ab")
      expect(yield* refusal(send2(2, "cdefgh", { size: 4 }))).toBe(409)
      expect((yield* Effect.flip(send2(2, cut(undefined, text("x".repeat(20))))))._tag).toBe("BodyCut")
      expect(yield* refusal(send2(10, "abc", { contentDigest: hash("x") }))).toBe(422)
      expect(yield* send2(2, "cd", { size: 4 })).toMatchObject({ complete: true, size: 4 })
      expect(yield* shown("a.txt")).toBe("abcd")
    }).pipe(Effect.provide(layer())))
})

describe("Receiver, revision 2: claims", () => {
  it.effect("lets a newer request for the same range take over from one that stalls", () =>
    Effect.gen(function*() {
      const { body, reached } = yield* stalled(text("ab"))
      const older = yield* Effect.fork(send2(0, { ...body, length: Option.some(4) }, { size: 4 }))
      yield* reached
      expect(yield* send2(0, "wxyz", { size: 4 })).toMatchObject({ complete: true, duplicate: false })
      expect(yield* Effect.flip(Fiber.join(older))).toMatchObject({ _tag: "Busy", status: 503 })
      expect(yield* shown("a.txt")).toBe("wxyz")
    }).pipe(Effect.provide(layer())))

  it.effect("refuses a request that overlaps a claimed range otherwise, with Retry-After, and keeps the older one", () =>
    Effect.gen(function*() {
      const go = yield* Deferred.make<void>()
      const started = yield* Deferred.make<void>()
      const older = yield* Effect.fork(send2(2, {
        length: Option.some(4),
        pieces: (async function*() {
          yield text("cd")
          Deferred.unsafeDone(started, Effect.void)
          await Effect.runPromise(Deferred.await(go))
          yield text("ef")
        })()
      }, { size: 6 }))
      yield* Deferred.await(started)
      for (
        const [offset, body] of [[2, "xx"], [0, "abc"], [5, "f"], [2, chunked("cdef")], [0, chunked("a")]] as const
      ) {
        expect(yield* Effect.flip(send2(offset, body))).toMatchObject({ _tag: "Busy", retryAfter: 1 })
      }
      yield* send2(0, "ab")
      yield* Deferred.succeed(go, undefined)
      expect(yield* Fiber.join(older)).toMatchObject({ complete: true })
      expect(yield* shown("a.txt")).toBe("abcdef")
    }).pipe(Effect.provide(layer())))

  it.effect("frees a range when its request is interrupted, refused or cut", () =>
    Effect.gen(function*() {
      const { body, reached } = yield* stalled(text("ab"))
      const gone = yield* Effect.fork(send2(0, body))
      yield* reached
      yield* Fiber.interrupt(gone)
      yield* Effect.flip(send2(0, cut(4, text("a"))))
      yield* Effect.flip(send2(0, "abcd", { contentDigest: hash("x") }))
      expect(yield* send2(0, "abc", { size: 3 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer())))

  it.effect("begins to write only when the writes of all that it takes over from have ended", () => {
    const events: Array<string> = []
    const slow = layerOver((store) => ({
      write: (to, body) =>
        store.write(to, body).pipe(
          // the write under way takes its time to end
          Effect.onInterrupt(() => Effect.andThen(Effect.sleep("1 second"), Effect.sync(() => events.push("end")))),
          Effect.zipLeft(Effect.sync(() => events.push("written")))
        )
    }))
    return Effect.gen(function*() {
      const first = yield* stalled(text("ab"))
      const oldest = yield* Effect.fork(send2(0, { ...first.body, length: Option.some(4) }))
      yield* first.reached
      const older = yield* Effect.fork(send2(0, "1234"))
      yield* Effect.yieldNow()
      const newest = yield* Effect.fork(send2(0, "abcd", { size: 4 }))
      yield* Effect.yieldNow()
      yield* TestClock.adjust("10 seconds")
      expect(yield* Fiber.join(newest)).toMatchObject({ complete: true })
      expect(yield* refusal(Fiber.join(oldest))).toBe(503)
      expect(yield* refusal(Fiber.join(older))).toBe(503)
      expect(events).toEqual(["end", "written"])
    }).pipe(Effect.provide(slow))
  })

  it.effect("stops whoever still writes behind the end before it publishes", () =>
    Effect.gen(function*() {
      const { body, reached } = yield* stalled(text("junk"))
      const behind = yield* Effect.fork(send2(2, body))
      yield* reached
      expect(yield* send2(0, "ab", { size: 2 })).toMatchObject({ complete: true })
      expect(yield* refusal(Fiber.join(behind))).toBe(503)
      expect(yield* shown("a.txt")).toBe("ab")
    }).pipe(Effect.provide(layer())))

  it.effect("publishes once, for exactly one of many last chunks", () => {
    let published = 0
    const counted = layerOver((store) => ({
      publish: (...asked) => Effect.zipLeft(store.publish(...asked), Effect.sync(() => published++))
    }))
    return Effect.gen(function*() {
      const receipts = yield* Effect.forEach(
        Array.from({ length: 20 }, (_, at) => at),
        (at) => send2(at * 2, "ab", { size: 40 }),
        { concurrency: 20 }
      )
      expect(receipts.filter(({ complete }) => complete)).toHaveLength(1)
      expect(published).toBe(1)
    }).pipe(Effect.provide(counted))
  })
})

describe("Receiver, revision 2: finishing", () => {
  /** A store whose hash over a whole file waits. */
  const hashing = () => {
    const go = Deferred.unsafeMake<void>(FiberId.none)
    let asked = 0
    const layer = layerOver((store) => ({
      read: (...of) =>
        Effect.suspend(() => {
          asked++
          return Effect.andThen(Deferred.await(go), store.read(...of))
        })
    }))
    return { layer, go: Deferred.succeed(go, undefined), asked: () => asked }
  }

  it.effect("keeps nobody waiting longer than 5 s, says finishing meanwhile, and completes by itself", () => {
    const store = hashing()
    return Effect.gen(function*() {
      yield* send2(0, "abc", { size: 6 })
      const last = yield* Effect.fork(send2(3, "def", { sha256: hash("abcdef") }))
      yield* TestClock.adjust("4999 millis")
      expect(yield* Fiber.poll(last)).toEqual(Option.none())
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(last)).toMatchObject({ complete: false, finishing: true, bytesReceived: 6 })
      expect(yield* state()).toMatchObject({ state: "finishing", complete: false, missing: [] })
      for (const [offset, body] of [[0, "abc"], [3, ""], [1, "bc"]] as const) {
        const again = yield* Effect.fork(send2(offset, body))
        yield* TestClock.adjust("5 seconds")
        expect(yield* Fiber.join(again)).toMatchObject({ duplicate: true, complete: false, finishing: true })
      }
      expect(yield* names).toEqual([])
      expect(store.asked()).toBe(1)
      yield* store.go
      expect(yield* send2(0, "abc")).toMatchObject({ duplicate: true, complete: true, sha256: hash("abcdef") })
      expect(yield* state()).toMatchObject({ state: "complete", complete: true, sha256: hash("abcdef") })
    }).pipe(Effect.provide(store.layer))
  })

  it.effect("goes on when the client of the last chunk leaves", () => {
    const store = hashing()
    return Effect.gen(function*() {
      yield* send2(0, "ab", { size: 3 })
      const last = yield* Effect.fork(send2(2, "c", { sha256: hash("abc") }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(last)
      yield* store.go
      expect(yield* send2(0, "ab")).toMatchObject({ complete: true })
    }).pipe(Effect.provide(store.layer))
  })

  it.effect("reads no file again that came in one chunk, and finds all the same that it is another", () => {
    const store = hashing()
    return Effect.gen(function*() {
      expect(yield* send2(0, "abc", { size: 3, sha256: hash("abc") })).toMatchObject({
        complete: true,
        sha256: hash("abc")
      })
      const other = UploadId.make("other")
      expect(yield* Effect.flip(send2(0, "abc", { id: other, size: 3, sha256: hash("abd") }))).toMatchObject({
        status: 409
      })
      expect(store.asked()).toBe(0)
    }).pipe(Effect.provide(store.layer))
  })

  it.effect("publishes nothing that is not what Repr-Digest says, says so from then on, and lets it be deleted", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { size: 6, sha256: hash("abcdef") })
      expect(yield* refusal(send2(3, "xyz"))).toBe(409)
      expect(yield* state()).toMatchObject({ state: "failed", complete: false, bytesReceived: 6 })
      expect(yield* names).toEqual([])
      expect(yield* refusal(send2(3, "xyz"))).toBe(409)
      expect(yield* refusal(send2(0, ""))).toBe(409)
      yield* abort()
      expect(yield* refusal(state())).toBe(404)
      expect(yield* refusal(send2(0, "abc"))).toBe(412)
    }).pipe(Effect.provide(layer())))

  it.effect("is deleted, not refused, when it turns out to have failed while the DELETE waited", () => {
    const store = hashing()
    return Effect.gen(function*() {
      const last = yield* Effect.fork(Effect.flip(send2(0, "abx", { size: 3, sha256: hash("abc") })))
      yield* TestClock.adjust("1 second")
      const deleting = yield* Effect.fork(abort())
      yield* store.go
      yield* Fiber.join(deleting)
      expect(yield* Fiber.join(last)).toMatchObject({ _tag: "Conflict" })
      expect(yield* refusal(state())).toBe(404)
    }).pipe(Effect.provide(store.layer))
  })

  it.effect("is carried on by the next chunk or GET when a step failed", () => {
    let failing = true
    const store = layerOver((store) => ({
      publish: (...asked) =>
        failing ? Effect.fail(new ServerFailure({ message: "the disk is away" })) : store.publish(...asked)
    }))
    return Effect.gen(function*() {
      expect(yield* refusal(send2(0, "abc", { size: 3 }))).toBe(500)
      expect(yield* refusal(send2(0, "abc"))).toBe(500)
      expect(yield* state()).toMatchObject({ state: "finishing" })
      failing = false
      expect(yield* send2(0, "abc")).toMatchObject({ duplicate: true, complete: true })
      expect(yield* shown("a.txt")).toBe("abc")
    }).pipe(Effect.provide(store))
  })

  it.scoped("is carried on at the next start, under the name it was to have", () =>
    Effect.gen(function*() {
      const parts = yield* Layer.build(layerParts)
      const started = <A, E, R>(use: Effect.Effect<A, E, R>, on: Layer.Layer<Receiver.Receiver, unknown>) =>
        Effect.scoped(Effect.flatMap(Layer.build(on), (context) => Effect.provide(use, context)))
      const first = Receiver.layer().pipe(Layer.provide(Layer.succeedContext(parts)))
      yield* Effect.gen(function*() {
        yield* started(send2(0, "abc"), first)
        // the server died between its commit and the publishing
        const ledger = yield* UploadLedger
        const { key } = Option.getOrThrow(yield* ledger.find("default", id))
        yield* ledger.commit([
          { key, written: Option.none(), size: Option.some(3), sha256: Option.none(), address: "" }
        ])
        expect(yield* names).toEqual([])
        const second = Receiver.layer().pipe(Layer.provide(Layer.succeedContext(parts)))
        const waited = Effect.iterate(yield* ledger.get(key), {
          while: (upload) => Option.getOrThrow(upload).state === "finishing",
          body: () => Effect.andThen(Effect.yieldNow(), ledger.get(key))
        })
        yield* started(waited, second)
        expect(yield* shown("a.txt")).toBe("abc")
      }).pipe(Effect.provide(parts))
    }))
})

describe("Receiver, revision 2: whose an upload is, and what is remembered", () => {
  it.effect("knows nothing of another principal's upload", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { size: 6 })
      expect(yield* refusal(state(id, "other"))).toBe(404)
      expect(yield* refusal(abort(id, "other"))).toBe(404)
      expect(yield* refusal(send2(3, "def", { principal: "other", known: true }))).toBe(412)
      expect(yield* send2(0, "xyz", { principal: "other", size: 3 })).toMatchObject({ complete: true })
      expect(yield* send2(3, "def")).toMatchObject({ complete: true, actualFilename: "a (1).txt" })
      expect([yield* shown("a.txt"), yield* shown("a (1).txt")]).toEqual(["xyz", "abcdef"])
    }).pipe(Effect.provide(layer())))

  it.effect("answers 412 to If-Match for an upload it does not know, and keeps nothing", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send2(0, "abc", { known: true, size: 3 }))).toBe(412)
      expect(yield* refusal(state())).toBe(404)
      yield* send2(0, "ab", { size: 3 })
      expect(yield* send2(2, "c", { known: true })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer())))

  it.effect("remembers a deleted upload: 404, and 412 for its chunks", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { size: 6 })
      yield* abort()
      expect(yield* refusal(state())).toBe(404)
      expect(yield* refusal(abort())).toBe(404)
      for (const known of [true, false]) {
        expect(yield* refusal(send2(3, "def", { known }))).toBe(412)
        expect(yield* refusal(send2(0, "", { known }))).toBe(412)
      }
      expect(yield* names).toEqual([])
    }).pipe(Effect.provide(layer())))

  it.effect("stops whoever is writing when an upload is deleted", () =>
    Effect.gen(function*() {
      const { body, reached } = yield* stalled(text("ab"))
      const writing = yield* Effect.fork(send2(0, body))
      yield* reached
      yield* abort()
      expect(yield* refusal(Fiber.join(writing))).toBe(503)
      expect(yield* refusal(send2(0, "ab"))).toBe(412)
    }).pipe(Effect.provide(layer())))

  it.effect("either deletes an upload or completes it, when both are asked at once", () =>
    Effect.gen(function*() {
      for (const at of [1, 2, 3, 4, 5, 6, 7, 8]) {
        const id = UploadId.make(`race${at}`)
        const name = `race${at}.txt`
        yield* send2(0, "ab", { id, name, size: 4 })
        const [deleted, sent] = yield* Effect.all([
          Effect.exit(Effect.andThen(at % 2 === 0 ? Effect.yieldNow() : Effect.void, abort(id))),
          Effect.exit(send2(2, "cd", { id, name }))
        ], { concurrency: 2 })
        expect(Exit.isSuccess(deleted)).toBe(!Exit.isSuccess(sent))
        expect(yield* shown(name)).toBe(Exit.isSuccess(deleted) ? undefined : "abcd")
      }
    }).pipe(Effect.provide(layer())))

  it.effect("remembers a complete upload: chunks are duplicates, other bytes conflicts, DELETE is refused", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { size: 6 })
      const last = yield* send2(3, "def", { sha256: hash("abcdef") })
      expect(yield* send2(3, "def", { sha256: hash("abcdef"), known: true })).toEqual({ ...last, duplicate: true })
      expect(yield* send2(0, chunked("abc"))).toEqual({ ...last, duplicate: true })
      expect(yield* send2(6, "", { size: 6 })).toEqual({ ...last, duplicate: true })
      expect(yield* refusal(send2(0, "xyz"))).toBe(409)
      expect(yield* refusal(send2(0, chunked("xyz")))).toBe(409)
      expect(yield* refusal(send2(6, "g"))).toBe(409)
      expect(yield* refusal(send2(6, "", { size: 7 }))).toBe(409)
      expect(yield* refusal(send2(6, "", { sha256: hash("x") }))).toBe(409)
      expect(yield* refusal(abort())).toBe(409)
      expect(yield* shown("a.txt")).toBe("abcdef")
    }).pipe(Effect.provide(layer())))

  it.effect("remembers a complete upload when its file is gone", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { size: 3 })
      yield* outside.remove("a.txt")
      expect(yield* send2(0, "abc")).toMatchObject({ duplicate: true, complete: true })
      expect(yield* names).toEqual([])
    }).pipe(Effect.provide(layer())))
})

describe("Receiver, revision 2: state", () => {
  it.effect("tells what is missing", () =>
    Effect.gen(function*() {
      yield* send2(5, "fg")
      expect(yield* state()).toEqual({
        uploadId: "u1",
        clientFilename: "/data/a.txt",
        actualFilename: "a.txt",
        size: null,
        bytesReceived: 2,
        missing: [[0, 5]],
        state: "receiving",
        complete: false,
        expiresAt: "1970-01-08T00:00:00.000Z"
      })
      yield* send2(2, "c", { size: 10 })
      expect(yield* state()).toMatchObject({ size: 10, bytesReceived: 3, missing: [[0, 2], [3, 5], [7, 10]] })
    }).pipe(Effect.provide(layer())))

  it.effect("tells 1000 ranges at most, and that there are more", () =>
    Effect.gen(function*() {
      for (let at = 0; at < 1000; at++) yield* send2(at * 2 + 1, "x")
      const thousand = yield* state()
      expect([thousand.missing.length, thousand.more]).toEqual([1000, undefined])
      yield* send2(2001, "x")
      const more = yield* state()
      expect([more.missing.length, more.missing.at(-1), more.more]).toEqual([1000, [1998, 1999], true])
    }).pipe(Effect.provide(layer())))

  it.effect("knows nothing of an id that was never sent", () =>
    Effect.gen(function*() {
      expect(yield* Effect.flip(state())).toMatchObject({ status: 404, error: "Unknown upload" })
      expect(yield* Effect.flip(abort())).toMatchObject({ status: 404, error: "Unknown upload" })
    }).pipe(Effect.provide(layer())))
})

describe("Receiver, revision 2: names", () => {
  it.effect("renames when the name is taken, and tells the final name once complete", () =>
    Effect.gen(function*() {
      yield* outside.write("a.txt", "theirs")
      yield* outside.write("a (1).txt", "theirs")
      expect(yield* send2(0, "abc", { size: 3 })).toMatchObject({ actualFilename: "a (2).txt", complete: true })
      expect(yield* state()).toMatchObject({ actualFilename: "a (2).txt" })
      expect([yield* shown("a.txt"), yield* shown("a (2).txt")]).toEqual(["theirs", "abc"])
    }).pipe(Effect.provide(layer())))

  it.effect("never mixes two uploads of one name", () =>
    Effect.gen(function*() {
      yield* Effect.all([
        send2(0, "ab", { size: 4 }),
        send2(0, "wx", { id: other, size: 4 }),
        send2(2, "yz", { id: other }),
        send2(2, "cd")
      ], { concurrency: 4 })
      const { actualFilename } = yield* state()
      expect(yield* shown(actualFilename)).toBe("abcd")
      expect(yield* shown((yield* state(other)).actualFilename)).toBe("wxyz")
      expect(yield* names).toEqual(["a (1).txt", "a.txt"])
    }).pipe(Effect.provide(layer())))

  it.effect("overwrites when complete, and not before", () =>
    Effect.gen(function*() {
      yield* outside.write("a.txt", "theirs")
      yield* send2(0, "ab", { size: 4 })
      expect(yield* shown("a.txt")).toBe("theirs")
      expect(yield* send2(2, "cd")).toMatchObject({ actualFilename: "a.txt", complete: true })
      expect(yield* shown("a.txt")).toBe("abcd")
      expect(yield* names).toEqual(["a.txt"])
    }).pipe(Effect.provide(layer({ onConflict: "overwrite" }))))

  it.effect("rejects a name that is taken by a file or claimed by an upload, at the first chunk, and keeps nothing", () =>
    Effect.gen(function*() {
      yield* outside.write("a.txt", "theirs")
      expect(yield* refusal(send2(0, "ab", { size: 4 }))).toBe(409)
      expect(yield* refusal(state())).toBe(404)
      yield* send2(0, "ab", { name: "b.txt", size: 4 })
      expect(yield* refusal(send2(0, "ab", { id: other, name: "b.txt" }))).toBe(409)
      yield* send2(2, "cd")
      expect(yield* refusal(send2(0, "ab", { id: other, name: "b.txt" }))).toBe(409)
      expect(yield* names).toEqual(["a.txt", "b.txt"])
    }).pipe(Effect.provide(layer({ onConflict: "reject" }))))

  it.effect("rejects no name any more whose upload was deleted", () =>
    Effect.gen(function*() {
      yield* send2(0, "ab", { size: 4 })
      yield* abort()
      expect(yield* send2(0, "ab", { id: other, size: 2 })).toMatchObject({ complete: true, actualFilename: "a.txt" })
    }).pipe(Effect.provide(layer({ onConflict: "reject" }))))

  it.effect("renames even under reject when somebody outside takes the name later", () =>
    Effect.gen(function*() {
      yield* send2(0, "ab", { size: 4 })
      yield* outside.write("a.txt", "theirs")
      expect(yield* send2(2, "cd")).toMatchObject({ complete: true, actualFilename: "a (1).txt" })
      expect(yield* shown("a.txt")).toBe("theirs")
    }).pipe(Effect.provide(layer({ onConflict: "reject" }))))

  it.effect.each(["..", "/", "a/..", "...", ".indexedcp", ".IndexedCP"])(
    "refuses the name %j",
    (name) =>
      Effect.gen(function*() {
        expect(yield* refusal(send2(0, "abc", { name, size: 3 }))).toBe(400)
        expect(yield* refusal(state())).toBe(404)
        expect(yield* names).toEqual([])
      }).pipe(Effect.provide(layer()))
  )

  it.effect.each(
    [["a\nb", "a_b"], ["a:b. ", "a_b"], ["nul.txt", "_nul.txt"], ["x".repeat(256), "x".repeat(255)]] as const
  )(
    "makes the name %j safe",
    ([name, made]) =>
      Effect.gen(function*() {
        expect(yield* send2(0, "abc", { name, size: 3 })).toMatchObject({ actualFilename: made })
        expect(yield* names).toEqual([made])
      }).pipe(Effect.provide(layer()))
  )

  it.effect("puts a principal's files in its folder, whatever the generator says", () =>
    Effect.gen(function*() {
      const send = (id: string, prefix: string) => send2(0, "abc", { id: UploadId.make(id), size: 3, prefix })
      expect(yield* send("u1", "scans/")).toMatchObject({ actualFilename: "scans/b" })
      expect(yield* send("u2", "scans")).toMatchObject({ actualFilename: "scans/b (1)" })
      expect(yield* refusal(send("u3", "../"))).toBe(400)
      expect(yield* names).toEqual(["scans/b", "scans/b (1)"])
    }).pipe(Effect.provide(layerNamed(() => "b"))))

  it.effect.each(["../b", "/b", "x/../../b"])(
    "refuses %j, which leads out of a principal's folder",
    (name) =>
      Effect.gen(function*() {
        expect(yield* refusal(send2(0, "abc", { size: 3, prefix: "scans/" }))).toBe(400)
        expect(yield* names).toEqual([])
      }).pipe(Effect.provide(layerNamed(() => name)))
  )

  it.effect("asks the filename generator once an upload, and tells it of the request", () => {
    const asked: Array<unknown> = []
    const named = layerNamed((...of) => {
      asked.push(of)
      return "in/box.bin"
    })
    return Effect.gen(function*() {
      yield* send2(0, "ab", { index: 3, size: 4, principal: "anna" })
      yield* send2(0, "ab", { principal: "anna" })
      expect(yield* send2(2, "cd", { principal: "anna" })).toMatchObject({ actualFilename: "in/box.bin" })
      expect(asked).toEqual([["/data/a.txt", 3, {
        headers: { "x-file-name": "/data/a.txt" },
        method: "POST",
        url: "/upload",
        remoteAddress: "10.0.0.1",
        keyName: "anna"
      }]])
      expect(yield* shown("in/box.bin")).toBe("abcd")
    }).pipe(Effect.provide(named))
  })

  it.effect("answers 500 when the generator throws, keeps nothing, and asks again for the next try", () => {
    let fails = true
    const named = layerNamed(() => {
      if (fails) throw new Error("no name today")
      return "b"
    })
    return Effect.gen(function*() {
      expect(yield* refusal(send2(0, "abc", { size: 3 }))).toBe(500)
      expect(yield* refusal(state())).toBe(404)
      fails = false
      expect(yield* send2(0, "abc", { size: 3 })).toMatchObject({ actualFilename: "b", complete: true })
    }).pipe(Effect.provide(named))
  })

  it.effect.each(["../b", "/etc/b", "a/../../b", "", "a:b", "con", "a\x1bb"])(
    "answers 400 when the generator names %j",
    (name) =>
      Effect.gen(function*() {
        expect(yield* refusal(send2(0, "abc", { size: 3 }))).toBe(400)
      }).pipe(Effect.provide(layerNamed(() => name)))
  )
})
