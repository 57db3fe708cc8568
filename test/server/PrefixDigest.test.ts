import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, FiberId, Layer, Option, Scope, TestClock } from "effect"
import { ServerFailure } from "../../src/protocol/ProtocolError.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import { cut, text } from "../contract/UploadStore.ts"
import { bodyOf, layer, layerOver, layerParts, names, refusal, send2, shown, state } from "../support/rawReceiver.ts"

const hash = (bytes: string) => Sha256.of(text(bytes))

/** A chunk that comes with the hash of all bytes up to its end. */
const sendPrefix = (
  offset: number,
  body: Parameters<typeof send2>[1],
  prefix: string,
  more: Parameters<typeof send2>[2] = {}
) => send2(offset, body, { ...more, prefixDigest: hash(prefix) })

/** A store whose readings of uploads are counted, in bytes. */
const counting = () => {
  let bytes = 0
  const store = layerOver((store) => ({
    read: (key, extents, range, take) =>
      store.read(key, extents, range, (piece) => {
        bytes += piece.length
        take(piece)
      })
  }))
  return { store, bytes: () => bytes }
}

/** The body `abc`, whose last byte comes when `rest` is done; `begun` is when the others have come. */
const slowly = () => {
  const rest = Deferred.unsafeMake<void>(FiberId.none)
  const begun = Deferred.unsafeMake<void>(FiberId.none)
  const slow = {
    ...bodyOf("abc"),
    pieces: (async function*() {
      yield text("ab")
      Effect.runSync(Deferred.succeed(begun, undefined))
      await Effect.runPromise(Deferred.await(rest))
      yield text("c")
    })()
  }
  return { begun, rest, slow }
}

describe("Receiver, Prefix-Digest", () => {
  it.effect("takes chunks by the hash of all bytes up to their end, and reads each byte once for both hashes", () => {
    const { bytes, store } = counting()
    return Effect.gen(function*() {
      yield* send2(0, "abc", { contentDigest: hash("abc") })
      expect(yield* sendPrefix(3, "def", "abcdef")).toMatchObject({ bytesReceived: 6, duplicate: false })
      expect(yield* sendPrefix(6, "gh", "abcdefgh", { size: 8, sha256: hash("abcdefgh") })).toMatchObject({
        complete: true,
        sha256: hash("abcdefgh")
      })
      expect(yield* shown("a.txt")).toBe("abcdefgh")
      expect(bytes()).toBe(8)
    }).pipe(Effect.provide(store))
  })

  it.effect("keeps nothing of bytes that are others, and takes the right ones then", () =>
    Effect.gen(function*() {
      yield* sendPrefix(0, "abc", "abc")
      expect(yield* refusal(sendPrefix(3, "deX", "abcdef"))).toBe(422)
      expect(yield* refusal(sendPrefix(3, "def", "abXdef"))).toBe(422)
      expect(yield* state()).toMatchObject({ bytesReceived: 3 })
      expect(yield* sendPrefix(3, "def", "abcdef", { size: 6 })).toMatchObject({
        complete: true,
        sha256: hash("abcdef")
      })
    }).pipe(Effect.provide(layer())))

  it.effect("reads nothing again because of a chunk that it refused", () => {
    const { bytes, store } = counting()
    return Effect.gen(function*() {
      yield* sendPrefix(0, "abc", "abc")
      expect(yield* refusal(sendPrefix(3, "X", "abcd"))).toBe(422)
      const ahead = yield* Effect.fork(refusal(sendPrefix(9, "j", "abcdefghij")))
      yield* TestClock.adjust("5 seconds")
      expect(yield* Fiber.join(ahead)).toBe(503)
      yield* sendPrefix(3, "d", "abcd", { size: 4 })
      expect(bytes()).toBe("abc".length + "X".length + "d".length)
    }).pipe(Effect.provide(store))
  })

  it.effect("looks at Content-Digest where there are both", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { contentDigest: hash("abc") })
      expect(yield* refusal(send2(3, "def", { contentDigest: hash("dex") }))).toBe(422)
      expect(yield* send2(3, "def", { contentDigest: hash("def"), size: 6 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(layer())))

  it.effect("waits for the bytes before, as long as somebody is sending them", () =>
    Effect.gen(function*() {
      const { begun, rest, slow } = slowly()
      const first = yield* Effect.fork(sendPrefix(0, slow, "abc"))
      yield* Deferred.await(begun)
      const second = yield* Effect.fork(sendPrefix(3, "def", "abcdef"))
      const third = yield* Effect.fork(sendPrefix(6, "ghi", "abcdefghi", { size: 9 }))
      yield* Effect.yieldNow()
      expect(yield* state()).toMatchObject({ bytesReceived: 0 })
      yield* Deferred.succeed(rest, undefined)
      expect(yield* Fiber.join(first)).toMatchObject({ duplicate: false })
      expect(yield* Fiber.join(second)).toMatchObject({ duplicate: false })
      expect(yield* Fiber.join(third)).toMatchObject({ complete: true, sha256: hash("abcdefghi") })
      expect(yield* shown("a.txt")).toBe("abcdefghi")
    }).pipe(Effect.provide(layer())))

  it.effect("waits for the bytes before also when they come after it", () =>
    Effect.gen(function*() {
      const second = yield* Effect.fork(sendPrefix(3, "def", "abcdef"))
      const third = yield* Effect.fork(sendPrefix(6, "ghi", "abcdefghi", { size: 9 }))
      yield* TestClock.adjust("4 seconds")
      yield* sendPrefix(0, "abc", "abc")
      expect(yield* Fiber.join(second)).toMatchObject({ duplicate: false })
      expect(yield* Fiber.join(third)).toMatchObject({ complete: true, sha256: hash("abcdefghi") })
      const other = { id: UploadId.make("u2"), name: "b" }
      const next = yield* Effect.fork(sendPrefix(3, "def", "abcdef", { ...other, size: 6 }))
      yield* TestClock.adjust("4 seconds")
      yield* send2(0, "abc", { ...other, contentDigest: hash("abc") })
      expect(yield* Fiber.join(next)).toMatchObject({ complete: true, sha256: hash("abcdef") })
    }).pipe(Effect.provide(layer())))

  it.effect("keeps nothing, and asks for the bytes before, where nobody is sending them or their request fails", () =>
    Effect.gen(function*() {
      const alone = yield* Effect.fork(refusal(sendPrefix(3, "def", "abcdef")))
      yield* TestClock.adjust("4999 millis")
      expect(yield* Fiber.poll(alone)).toEqual(Option.none())
      yield* TestClock.adjust("1 millis")
      expect(yield* Fiber.join(alone)).toBe(503)
      const first = yield* Effect.fork(Effect.flip(sendPrefix(0, cut(3, text("ab")), "abc")))
      const second = yield* Effect.fork(refusal(sendPrefix(3, "def", "abcdef")))
      expect((yield* Fiber.join(first))._tag).toBe("BodyCut")
      yield* TestClock.adjust("5 seconds")
      expect(yield* Fiber.join(second)).toBe(503)
      expect(yield* state()).toMatchObject({ bytesReceived: 0 })
      yield* send2(3, "def", { contentDigest: hash("def"), size: 6 })
      expect(yield* sendPrefix(0, "abc", "abc")).toMatchObject({ complete: true, sha256: hash("abcdef") })
    }).pipe(Effect.provide(layer())))

  it.effect("finds the bytes before also when they are recorded while it looks for them", () => {
    let look = Effect.void
    const ledger = Layer.effect(
      UploadLedger.UploadLedger,
      Effect.map(UploadLedger.UploadLedger, (ledger) => ({
        ...ledger,
        contiguous: (key: Parameters<typeof ledger.contiguous>[0], from: number) =>
          Effect.zipLeft(ledger.contiguous(key, from), Effect.suspend(() => look))
      }))
    )
    return Effect.gen(function*() {
      const { begun, rest, slow } = slowly()
      const first = yield* Effect.fork(send2(0, slow, { contentDigest: hash("abc") }))
      yield* Deferred.await(begun)
      look = Effect.suspend(() => {
        look = Effect.void
        return Effect.zipRight(Deferred.succeed(rest, undefined), Fiber.await(first))
      })
      expect(yield* sendPrefix(3, "def", "abcdef", { size: 6 })).toMatchObject({ complete: true })
    }).pipe(Effect.provide(
      Receiver.layer().pipe(Layer.provideMerge(ledger), Layer.provideMerge(layerParts))
    ))
  })

  it.effect("tells a repeat, by either hash, from other bytes", () =>
    Effect.gen(function*() {
      yield* send2(0, "abc", { contentDigest: hash("abc") })
      yield* sendPrefix(3, "def", "abcdef")
      for (
        const repeat of [
          sendPrefix(3, "def", "abcdef"),
          send2(3, "def", { contentDigest: hash("def") }),
          send2(3, "def"),
          sendPrefix(0, "abc", "abc")
        ]
      ) expect(yield* repeat).toMatchObject({ duplicate: true, bytesReceived: 6 })
      for (
        const other of [
          sendPrefix(3, "xyz", "abcxyz"),
          send2(3, "xyz", { contentDigest: hash("xyz") }),
          sendPrefix(0, "xyz", "xyz")
        ]
      ) expect(yield* refusal(other)).toBe(409)
      expect(yield* sendPrefix(6, "g", "abcdefg", { size: 7 })).toMatchObject({ complete: true })
      expect(yield* sendPrefix(3, "def", "abcdef")).toMatchObject({ duplicate: true, complete: true })
      expect(yield* refusal(sendPrefix(3, "xyz", "abcxyz"))).toBe(409)
      expect(yield* send2(3, "def", { contentDigest: hash("def") })).toMatchObject({ duplicate: true, complete: true })
      expect(yield* shown("a.txt")).toBe("abcdefg")
    }).pipe(Effect.provide(layer())))

  it.effect("goes on after a restart, and finds bytes that were changed meanwhile", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const parts = yield* Layer.buildWithScope(layerParts, scope)
      const during = <A, E>(use: Effect.Effect<A, E, Receiver.Receiver | Layer.Layer.Success<typeof layerParts>>) =>
        Effect.gen(function*() {
          const run = yield* Scope.make()
          const receiver = yield* Layer.buildWithScope(Receiver.layer(), run).pipe(Effect.provide(parts))
          return yield* use.pipe(
            Effect.provide(receiver),
            Effect.provide(parts),
            Effect.ensuring(Scope.close(run, Exit.void))
          )
        })
      yield* during(Effect.zipRight(sendPrefix(0, "abc", "abc"), sendPrefix(3, "def", "abcdef")))
      expect(yield* during(sendPrefix(6, "ghi", "abcdefghi", { size: 9, sha256: hash("abcdefghi") }))).toMatchObject({
        complete: true
      })
      const name = "/data/b.txt"
      const id = { id: UploadId.make("u2"), name }
      yield* during(Effect.zipRight(sendPrefix(0, "abc", "abc", id), sendPrefix(3, "def", "abcdef", id)))
      expect(yield* during(send2(6, "g", { ...id, size: 7 }))).toMatchObject({ complete: true })
      expect(yield* during(names)).toEqual(["a.txt", "b.txt"])
    }).pipe(Effect.scoped))

  it.effect("forgets what it has hashed of a chunk that could not be recorded", () => {
    let isFailing = false
    const failing = layerOver((store) => ({
      sync: (written) =>
        Effect.suspend(() => isFailing ? new ServerFailure({ message: "the disk failed" }) : store.sync(written))
    }))
    return Effect.gen(function*() {
      yield* sendPrefix(0, "abc", "abc")
      isFailing = true
      expect(yield* refusal(sendPrefix(3, "def", "abcdef"))).toBe(500)
      isFailing = false
      // another version of the same bytes, by its own hash
      yield* send2(3, "xyz", { contentDigest: hash("xyz") })
      expect(yield* sendPrefix(6, "g", "abcxyzg", { size: 7 })).toMatchObject({
        complete: true,
        sha256: hash("abcxyzg")
      })
      expect(yield* shown("a.txt")).toBe("abcxyzg")
    }).pipe(Effect.provide(failing))
  })

  it.effect("has no part of an empty body", () =>
    Effect.gen(function*() {
      yield* sendPrefix(0, "abc", "abc")
      expect(yield* sendPrefix(3, "", "abc", { size: 3 })).toMatchObject({ complete: true, sha256: hash("abc") })
      expect(yield* shown("a.txt")).toBe("abc")
    }).pipe(Effect.provide(layer())))
})
