/**
 * What every `ApiKeys` does, wherever it keeps its keys.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, type Layer, Option, Redacted, TestClock } from "effect"
import { ApiKeys } from "../../src/server/ApiKeys.ts"
import type * as NamedKey from "../../src/server/NamedKey.ts"

export const add = (key: NamedKey.NewKey) => Effect.flatMap(ApiKeys, (keys) => keys.add(key))
export const list = Effect.flatMap(ApiKeys, (keys) => keys.list)
export const revoke = (nameOrId: string) => Effect.flatMap(ApiKeys, (keys) => keys.revoke(nameOrId))
export const find = (key: Redacted.Redacted) => Effect.flatMap(ApiKeys, (keys) => keys.find(key))

/** The name behind a key, or `none`. */
export const nameOf = (key: Redacted.Redacted) =>
  Effect.map(find(key), Option.match({ onNone: () => "none", onSome: ({ name }) => name }))

export const suite = <E>(kind: string, layer: Layer.Layer<ApiKeys, E>): void => {
  const test = (name: string, body: Effect.Effect<void, unknown, ApiKeys>) =>
    it.effect(name, () => Effect.provide(body, layer))

  describe(`ApiKeys, ${kind}`, () => {
    test(
      "finds whose a key is, what it may do and where its files go",
      Effect.gen(function*() {
        const alice = yield* add({ name: "alice" })
        const bob = yield* add({ name: "bob", can: ["abort", "upload"], prefix: "scans/2026" })
        expect(Redacted.value(alice.key)).toMatch(/^[0-9a-f]{64}$/)
        expect(Redacted.value(bob.key)).not.toBe(Redacted.value(alice.key))
        expect(yield* find(alice.key)).toEqual(Option.some({ name: "alice", can: ["upload", "read", "abort"] }))
        expect(yield* find(bob.key)).toEqual(
          Option.some({ name: "bob", can: ["upload", "abort"], prefix: "scans/2026/" })
        )
      })
    )

    test(
      "finds nobody behind what only resembles a key",
      Effect.gen(function*() {
        const { id, key } = yield* add({ name: "alice" })
        const text = Redacted.value(key)
        const last = text.endsWith("0") ? "1" : "0"
        const others = ["", "alice", id, text.slice(1), `${text}0`, text.toUpperCase(), text.slice(0, -1) + last]
        for (const other of others.filter((other) => other !== text)) {
          expect([other, yield* nameOf(Redacted.make(other))]).toEqual([other, "none"])
        }
      })
    )

    test(
      "lists what is known of the keys, the oldest first, and nothing of what they are",
      Effect.gen(function*() {
        yield* TestClock.setTime(1000)
        const { key: _, ...alice } = yield* add({ name: "alice", expiresAt: 5000 })
        yield* TestClock.setTime(2000)
        const { key: __, ...bob } = yield* add({ name: "bob", prefix: "b/" })
        expect(yield* list).toEqual([alice, bob])
        expect(alice).toEqual({
          id: expect.stringMatching(/^[0-9a-f]{8}$/),
          name: "alice",
          can: ["upload", "read", "abort"],
          prefix: Option.none(),
          createdAt: 1000,
          expiresAt: Option.some(5000)
        })
        expect(bob).toMatchObject({ prefix: Option.some("b/"), createdAt: 2000, expiresAt: Option.none() })
        expect(bob.id).not.toBe(alice.id)
      })
    )

    test(
      "takes a key up to the moment at which it expires, and still lists it then",
      Effect.gen(function*() {
        const { key } = yield* add({ name: "alice", expiresAt: 60_000 })
        yield* TestClock.adjust(Duration.millis(59_999))
        expect(yield* nameOf(key)).toBe("alice")
        yield* TestClock.adjust(Duration.millis(1))
        expect(yield* nameOf(key)).toBe("none")
        expect(yield* list).toMatchObject([{ name: "alice" }])
        expect(yield* revoke("alice")).toBe(1)
      })
    )

    test(
      "revokes one key by its id, so that another of the name takes over, or all by their name",
      Effect.gen(function*() {
        const old = yield* add({ name: "alice" })
        const rotated = yield* add({ name: "alice" })
        const bob = yield* add({ name: "bob" })
        expect(yield* revoke(old.id)).toBe(1)
        expect([yield* nameOf(old.key), yield* nameOf(rotated.key)]).toEqual(["none", "alice"])
        const third = yield* add({ name: "alice" })
        expect(yield* revoke("alice")).toBe(2)
        expect([yield* nameOf(rotated.key), yield* nameOf(third.key), yield* nameOf(bob.key)]).toEqual([
          "none",
          "none",
          "bob"
        ])
        expect(yield* revoke("alice")).toBe(0)
        expect(yield* list).toMatchObject([{ name: "bob" }])
      })
    )

    test(
      "refuses what makes no sense, says what to do, and keeps nothing of it",
      Effect.gen(function*() {
        yield* TestClock.setTime(1000)
        const long = "x".repeat(65)
        const cases: ReadonlyArray<readonly [NamedKey.NewKey, string]> = [
          ...["", long, "a b", "a/b", "ä", "a\n"].map((name) => [{ name }, "characters"] as const),
          [{ name: "a", can: [] }, "allow it"],
          [{ name: "a", expiresAt: 1000 }, "in the future"],
          [{ name: "a", expiresAt: Number.NaN }, "in the future"],
          [{ name: "a", expiresAt: 1e300 }, "in the future"],
          ...["", "/", "/etc/", "../", "a/../b/", "a//", "./", ".indexedcp/", ".INDEXEDCP/x", "a\u0000/", "a\\b/"].map(
            (prefix) => [{ name: "a", prefix }, "write one like"] as const
          ),
          [{ name: "a", prefix: "a/".repeat(600) }, "write one like"]
        ]
        for (const [asked, advice] of cases) {
          expect([asked, yield* Effect.flip(add(asked))]).toMatchObject([asked, {
            _tag: "InvalidKey",
            message: expect.stringContaining(advice)
          }])
        }
        expect(yield* list).toEqual([])
        for (const name of ["a", "x".repeat(64), "a.b_c@d-e", "20261126"]) yield* add({ name, prefix: ".a/ä" })
        expect(yield* list).toHaveLength(4)
      })
    )
  })
}
