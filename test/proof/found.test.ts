/**
 * What the proofs found, as the few requests that show it.
 */
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { layer, layerOver, names, send1, send2, shown } from "../support/rawReceiver.ts"

/** A store that takes its time to make room, as disks do. */
const slowReserve = layerOver((store) => ({
  reserve: (...of) => Effect.andThen(Effect.promise(() => new Promise(setImmediate)), store.reserve(...of))
}))

it.effect("makes one file of a first chunk of revision 1 that comes twice at once", () =>
  Effect.gen(function*() {
    const answers = yield* Effect.forEach([1, 2, 3], () => Effect.either(send1(0, "ab")), { concurrency: "unbounded" })
    expect(answers.map(({ _tag }) => _tag)).toContain("Right")
    expect(yield* names).toEqual(["a.txt"])
    yield* send1(1, "cd")
    expect(yield* shown("a.txt")).toBe("abcd")
  }).pipe(Effect.provide(slowReserve)))

it.effect("takes an empty chunk of a complete upload whatever its offset: it touches no bytes", () =>
  Effect.gen(function*() {
    yield* send2(0, "abc", { size: 3 })
    expect(yield* send2(9, "", { size: 3 })).toMatchObject({ duplicate: true, complete: true })
  }).pipe(Effect.provide(layer())))
