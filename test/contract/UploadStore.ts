/**
 * What every `UploadStore` does, wherever its bytes lie.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Either, FastCheck, Fiber, type Layer, Option } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as Body from "../../src/server/Body.ts"
import * as SafeName from "../../src/server/SafeName.ts"
import { type Extent, MemoryFiles, type StoreError, UploadKey, UploadStore } from "../../src/server/UploadStore.ts"

export const key = (number: number): UploadKey => UploadKey.make(number.toString(16).padStart(32, "0"))

export const safe = (name: string): SafeName.SafeName => Either.getOrThrow(SafeName.check(name))

export const text = (bytes: string): Uint8Array => new TextEncoder().encode(bytes)

const unlimited = Number.MAX_SAFE_INTEGER

/** A body that gives these bytes, says so, and then nothing more. */
export const stalled = (...pieces: ReadonlyArray<Uint8Array>) =>
  Effect.map(Deferred.make<void>(), (reached) => {
    const body: Body.Body = {
      length: Option.none(),
      pieces: (async function*() {
        yield* pieces
        Deferred.unsafeDone(reached, Effect.void)
        await new Promise(() => {})
      })()
    }
    return { body, reached: Deferred.await(reached) }
  })

/** A body whose connection breaks behind these bytes. */
export const cut = (length: number | undefined, ...pieces: ReadonlyArray<Uint8Array>): Body.Body => ({
  length: Option.fromNullable(length),
  // oxlint-disable-next-line require-await -- an async iterable is what a body is
  pieces: (async function*() {
    yield* pieces
    throw new Error("ECONNRESET")
  })()
})

/** Reserves an upload and writes it whole. */
/** The SHA-256 of the first bytes of an upload in staging. */
export const digestOf = (upload: UploadKey, bytes: number) =>
  Effect.gen(function*() {
    const hasher = Sha256.make()
    yield* (yield* UploadStore).read(upload, Effect.succeed([]), [0, bytes], hasher.update)
    return hasher.digest()
  })

export const stage = Effect.fnUntraced(function*(upload: UploadKey, bytes: string) {
  const store = yield* UploadStore
  yield* store.reserve(upload, { size: Option.none() })
  const extent = yield* store.write({ key: upload, offset: 0, limit: unlimited }, Body.of(text(bytes)))
  yield* store.sync([{ key: upload, extent }])
  return [extent] as const
})

const shown = (name: string) =>
  Effect.flatMap(
    MemoryFiles,
    ({ read }) => Effect.map(read(name), (bytes) => new TextDecoder().decode(Option.getOrThrow(bytes)))
  )

const names = Effect.flatMap(MemoryFiles, ({ names }) => names)

export const suite = (name: string, layer: Layer.Layer<UploadStore | MemoryFiles, StoreError>): void => {
  describe(`UploadStore: ${name}`, () => {
    it.scoped("says of what it wrote where it lies, how long it is and its hash", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* store.reserve(key(1), { size: Option.some(7) })
        const extent = yield* store.write(
          { key: key(1), offset: 3, limit: 4 },
          Body.of(text("de"), text(""), text("fg"))
        )
        expect(extent).toMatchObject({ offset: 3, length: 4, sha256: Sha256.of(text("defg")) })
      }).pipe(Effect.provide(layer)))

    it.scoped("shows nothing before it is published", () =>
      Effect.gen(function*() {
        yield* stage(key(1), "abc")
        expect(yield* names).toEqual([])
      }).pipe(Effect.provide(layer)))

    it.scoped("publishes pieces that were written in any order", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* store.reserve(key(1), { size: Option.none() })
        const write = (offset: number, bytes: string) =>
          store.write({ key: key(1), offset, limit: unlimited }, Body.of(text(bytes)))
        const [c, a, b] = yield* Effect.all([write(4, "ef"), write(0, "ab"), write(2, "cd")], { concurrency: 3 })
        const extents = [a, b, c]
        yield* store.sync(extents.map((extent) => ({ key: key(1), extent })))
        expect(yield* digestOf(key(1), 6)).toBe(Sha256.of(text("abcdef")))
        yield* store.publish(key(1), Effect.succeed(extents), safe("a.txt"), "exclusive")
        expect(yield* shown("a.txt")).toBe("abcdef")
      }).pipe(Effect.provide(layer)))

    it.scoped("publishes an empty file", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* store.reserve(key(1), { size: Option.some(0) })
        expect(yield* digestOf(key(1), 0)).toBe(Sha256.empty)
        yield* store.publish(key(1), Effect.succeed([]), safe("empty"), "exclusive")
        expect(yield* shown("empty")).toBe("")
      }).pipe(Effect.provide(layer)))

    it.scoped("publishes into sub-folders", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const extents = Effect.succeed(yield* stage(key(1), "abc"))
        yield* store.publish(key(1), extents, safe("x/y/a.txt"), "exclusive")
        expect(yield* names).toEqual(["x/y/a.txt"])
      }).pipe(Effect.provide(layer)))

    it.scoped("writes many whole and publishes them, each by itself", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const put = (at: number, bytes: string) => ({
          key: key(at),
          bytes: text(bytes),
          sha256: Sha256.of(text(bytes))
        })
        yield* Effect.flatMap(MemoryFiles, ({ write }) => write("taken", text("outside")))
        const uploads = [put(1, "one"), put(2, ""), put(3, "three"), put(4, "four"), put(5, "five")]
        const extents = yield* store.putWhole(uploads)
        expect(extents).toMatchObject(
          uploads.map(({ bytes, sha256 }) => ({ offset: 0, length: bytes.length, sha256 }))
        )
        expect(yield* digestOf(key(3), 5)).toBe(Sha256.of(text("three")))
        const named = ["a", "x/y/b", "taken", "x/y/b", "taken/below"].map((name, at) => ({
          key: key(at + 1),
          extent: extents[at]!,
          name: safe(name)
        }))
        const outcome = (one: Either.Either<void, { readonly _tag: string; readonly name?: string }>) =>
          Either.match(one, { onLeft: ({ _tag, name }) => `${_tag} ${name}`, onRight: () => "published" })
        const first = (yield* store.publishWhole(named, "exclusive")).map(outcome)
        expect([...first.slice(0, 1), first[2], first[4]]).toEqual(["published", "NameTaken taken", "NameTaken taken"])
        expect([first[1], first[3]].toSorted()).toEqual(["NameTaken x/y/b", "published"])
        // again: what leads to the upload already is left as it is
        expect((yield* store.publishWhole(named, "exclusive")).map(outcome)).toEqual(first)
        expect(yield* shown("a")).toBe("one")
        expect(yield* shown("taken")).toBe("outside")
        expect((yield* store.publishWhole(named.slice(2, 3), "overwrite")).map(outcome)).toEqual(["published"])
        expect(yield* shown("taken")).toBe("three")
        yield* store.dropAll(uploads.map(({ key }) => key))
        yield* store.dropAll([key(1), key(9)])
        expect(yield* store.keys).toEqual([])
        expect(yield* names).toEqual(["a", "taken", "x/y/b"])
      }).pipe(Effect.provide(layer)))

    it.scoped("leaves nothing of many when one cannot be written", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* stage(key(2), "before")
        const uploads = [1, 2, 3].map((at) => ({ key: key(at), bytes: text("new"), sha256: Sha256.of(text("new")) }))
        expect(yield* Effect.flip(store.putWhole(uploads))).toMatchObject({ _tag: "ServerFailure" })
        expect(yield* store.keys).toEqual([key(2)])
        expect(yield* digestOf(key(2), 6)).toBe(Sha256.of(text("before")))
        expect(yield* store.putWhole([])).toEqual([])
        expect(yield* store.publishWhole([], "exclusive")).toEqual([])
        yield* store.dropAll([])
      }).pipe(Effect.provide(layer)))

    it.scoped("gives a name to one upload only, and may be asked again", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const [one, two] = [Effect.succeed(yield* stage(key(1), "one")), Effect.succeed(yield* stage(key(2), "two"))]
        yield* store.publish(key(1), one, safe("a"), "exclusive")
        yield* store.publish(key(1), one, safe("a"), "exclusive")
        expect(yield* Effect.flip(store.publish(key(2), two, safe("a"), "exclusive"))).toMatchObject({
          _tag: "NameTaken",
          name: "a"
        })
        expect(yield* shown("a")).toBe("one")
        yield* store.publish(key(2), two, safe("a"), "overwrite")
        yield* store.publish(key(2), two, safe("a"), "overwrite")
        expect(yield* shown("a")).toBe("two")
        expect(yield* names).toEqual(["a"])
      }).pipe(Effect.provide(layer)))

    it.scoped("gives a contested name to exactly one of many", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const outcomes = yield* Effect.forEach(Array.from({ length: 10 }, (_, at) => at), (at) =>
          Effect.flatMap(stage(key(at), String(at)), (extents) =>
            Effect.either(store.publish(key(at), Effect.succeed(extents), safe("a"), "exclusive"))), {
          concurrency: 10
        })
        const winners = outcomes.flatMap((outcome, at) =>
          Either.isRight(outcome) ? [String(at)] : []
        )
        expect(winners).toEqual([yield* shown("a")])
      }).pipe(Effect.provide(layer)))

    it.scoped("takes a name below a file for taken at that file, and the name of a folder for taken", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const [one, two] = [Effect.succeed(yield* stage(key(1), "one")), Effect.succeed(yield* stage(key(2), "two"))]
        yield* store.publish(key(1), one, safe("x/a"), "exclusive")
        for (const mode of ["exclusive", "overwrite"] as const) {
          for (const [name, taken] of [["x/a/b", "x/a"], ["x/a/b/c", "x/a"], ["x", "x"]] as const) {
            expect(yield* store.holder(key(2), safe(name))).toBe("other")
            expect(yield* store.holder(key(1), safe(name))).toBe("other")
            expect(yield* Effect.flip(store.publish(key(2), two, safe(name), mode))).toMatchObject({
              _tag: "NameTaken",
              name: taken
            })
            expect(yield* store.contentOf(safe(name))).toEqual(Option.none())
          }
        }
        expect(yield* names).toEqual(["x/a"])
        expect(yield* store.holder(key(2), safe("y/z/a"))).toBe("nobody")
      }).pipe(Effect.provide(layer)))

    it.scoped("knows who holds a name", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const files = yield* MemoryFiles
        const extents = Effect.succeed(yield* stage(key(1), "one"))
        yield* stage(key(2), "two")
        expect(yield* store.holder(key(1), safe("a"))).toBe("nobody")
        yield* store.publish(key(1), extents, safe("a"), "exclusive")
        expect(yield* store.holder(key(1), safe("a"))).toBe("upload")
        expect(yield* store.holder(key(2), safe("a"))).toBe("other")
        yield* files.write("a", text("theirs"))
        expect(yield* store.holder(key(1), safe("a"))).toBe("other")
        yield* files.remove("a")
        expect(yield* store.holder(key(1), safe("a"))).toBe("nobody")
      }).pipe(Effect.provide(layer)))

    it.scoped("never writes through a name that somebody else has taken", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const files = yield* MemoryFiles
        const extents = Effect.succeed(yield* stage(key(1), "one"))
        yield* store.publish(key(1), extents, safe("a"), "exclusive")
        yield* files.write("a", text("theirs"))
        yield* store.write({ key: key(1), offset: 3, limit: unlimited }, Body.of(text("more")))
        expect(yield* shown("a")).toBe("theirs")
        expect((yield* Effect.flip(store.publish(key(1), extents, safe("a"), "exclusive")))._tag).toBe("NameTaken")
      }).pipe(Effect.provide(layer)))

    it.scoped("shows what is written after publishing, and what is cut off again", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const extents = Effect.succeed(yield* stage(key(1), "one"))
        yield* store.publish(key(1), extents, safe("a"), "exclusive")
        yield* store.write({ key: key(1), offset: 3, limit: unlimited }, Body.of(text("more")))
        expect(yield* shown("a")).toBe("onemore")
        yield* store.trim(key(1), 5)
        expect(yield* shown("a")).toBe("onemo")
        yield* store.trim(key(1), 9)
        expect(yield* shown("a")).toBe("onemo")
      }).pipe(Effect.provide(layer)))

    it.scoped("takes at most as many bytes as allowed", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* store.reserve(key(1), { size: Option.none() })
        const write = (limit: number) => store.write({ key: key(1), offset: 0, limit }, Body.of(text("ab"), text("cd")))
        expect(yield* Effect.flip(write(3))).toMatchObject({ _tag: "BodyTooLong", limit: 3 })
        expect((yield* write(4)).length).toBe(4)
      }).pipe(Effect.provide(layer)))

    it.scoped("fails on a body that breaks off or is not as long as it said", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* store.reserve(key(1), { size: Option.none() })
        const write = (body: Body.Body) =>
          Effect.map(Effect.flip(store.write({ key: key(1), offset: 0, limit: 10 }, body)), ({ _tag }) => _tag)
        expect(yield* write(cut(undefined, text("ab")))).toBe("BodyCut")
        expect(yield* write({ ...Body.of(text("ab")), length: Option.some(3) })).toBe("BodyCut")
      }).pipe(Effect.provide(layer)))

    it.scoped("writes no more once it was interrupted, even when the body stalls", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const big = new Uint8Array(2 * 1024 * 1024).fill(97)
        yield* store.reserve(key(1), { size: Option.none() })
        const { body, reached } = yield* stalled(big)
        const writing = yield* Effect.fork(store.write({ key: key(1), offset: 0, limit: unlimited }, body))
        yield* reached
        yield* Fiber.interrupt(writing)
        yield* store.write({ key: key(1), offset: 0, limit: unlimited }, Body.of(text("new")))
        expect(yield* digestOf(key(1), 3)).toBe(Sha256.of(text("new")))
      }).pipe(Effect.provide(layer)))

    it.scoped("knows how far an upload reaches, and that it has none", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        expect(yield* store.length(key(1))).toEqual(Option.none())
        yield* stage(key(1), "abc")
        expect(yield* store.length(key(1))).toEqual(Option.some(3))
        yield* store.write({ key: key(1), offset: 5, limit: 9 }, Body.of(text("xy")))
        expect(yield* store.length(key(1))).toEqual(Option.some(7))
        yield* store.trim(key(1), 2)
        expect(yield* store.length(key(1))).toEqual(Option.some(2))
      }).pipe(Effect.provide(layer)))

    it.scoped("reserves a key once", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        yield* stage(key(1), "abc")
        expect((yield* Effect.flip(store.reserve(key(1), { size: Option.none() })))._tag).toBe("ServerFailure")
        expect(
          yield* digestOf(key(1), 3)
        ).toBe(Sha256.of(text("abc")))
      }).pipe(Effect.provide(layer)))

    it.scoped("fails on an upload it does not have", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const attempts: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
          store.write({ key: key(9), offset: 0, limit: 1 }, Body.of(text("a"))),
          store.trim(key(9), 0),
          store.read(key(9), Effect.succeed([]), [0, 1], () => {}),
          store.publish(key(9), Effect.succeed([]), safe("a"), "exclusive")
        ]
        for (const attempt of attempts) expect((yield* Effect.flip(attempt))._tag).toBe("ServerFailure")
      }).pipe(Effect.provide(layer)))

    it.scoped("drops an upload once or twice, but not what was published", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const extents = Effect.succeed(yield* stage(key(1), "abc"))
        yield* store.publish(key(1), extents, safe("a"), "exclusive")
        yield* store.drop(key(1))
        yield* store.drop(key(1))
        expect(yield* shown("a")).toBe("abc")
        expect((yield* Effect.flip(store.trim(key(1), 0)))._tag).toBe("ServerFailure")
        yield* store.reserve(key(1), { size: Option.none() })
        expect(yield* shown("a")).toBe("abc")
      }).pipe(Effect.provide(layer)))

    it.scoped("carries the beginning of one upload over to another", () =>
      Effect.gen(function*() {
        const store = yield* UploadStore
        const [first] = yield* stage(key(1), "abc")
        const second = yield* store.write({ key: key(1), offset: 3, limit: unlimited }, Body.of(text("def")))
        yield* store.reserve(key(2), { size: Option.none() })
        const changed = yield* store.write({ key: key(2), offset: 6, limit: unlimited }, Body.of(text("new")))
        const carried = yield* store.carry(key(1), [first, second], key(2))
        const extents: ReadonlyArray<Extent> = [...carried, changed]
        yield* store.sync(extents.map((extent) => ({ key: key(2), extent })))
        expect(carried.map(({ length, offset }) => [offset, length])).toEqual([[0, 3], [3, 3]])
        yield* store.publish(key(2), Effect.succeed(extents), safe("b"), "exclusive")
        expect(yield* shown("b")).toBe("abcdefnew")
        yield* store.write({ key: key(1), offset: 0, limit: unlimited }, Body.of(text("xyz")))
        expect(yield* shown("b")).toBe("abcdefnew")
      }).pipe(Effect.provide(layer)))

    it.scoped.prop(
      "keeps bodies of any pieces at any offsets apart",
      { bodies: FastCheck.array(FastCheck.array(FastCheck.uint8Array({ maxLength: 9 })), { maxLength: 6 }) },
      ({ bodies }) =>
        Effect.gen(function*() {
          const store = yield* UploadStore
          yield* store.reserve(key(1), { size: Option.none() })
          let offset = 0
          const places = bodies.map((pieces) => {
            const at = offset
            offset += pieces.reduce((sum, piece) => sum + piece.length, 0)
            return { at, pieces }
          })
          yield* Effect.forEach(
            places,
            ({ at, pieces }) => store.write({ key: key(1), offset: at, limit: unlimited }, Body.of(...pieces)),
            { concurrency: "unbounded" }
          )
          expect(yield* digestOf(key(1), bodies.flat().reduce((sum, { length }) => sum + length, 0))).toBe(
            Sha256.of(...bodies.flat())
          )
        }).pipe(Effect.provide(layer)),
      { fastCheck: { numRuns: 30 } }
    )
  })
}
