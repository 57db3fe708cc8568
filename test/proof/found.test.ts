/**
 * What the proofs found, as the few requests that show it.
 */
import { expect, it } from "@effect/vitest"
import { Effect } from "effect"
import type { ReceiverOptions } from "../../src/server/Receiver.ts"
import { layer, layerOver, names, send1, send2, shown } from "../support/rawReceiver.ts"

/** A store that takes its time to make room, as disks do, and each time longer. */
const slowReserve = (options: Partial<ReceiverOptions> = {}) => {
  let calls = 0
  const slower = Effect.suspend(() => Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 10 * ++calls))))
  return layerOver((store) => ({ reserve: (...of) => Effect.andThen(slower, store.reserve(...of)) }), options)
}

it.effect("makes one file of a first chunk of revision 1 that comes twice at once", () =>
  Effect.gen(function*() {
    const answers = yield* Effect.forEach([1, 2, 3], () => Effect.either(send1(0, "ab")), { concurrency: "unbounded" })
    expect(answers.map(({ _tag }) => _tag)).toContain("Right")
    expect(yield* names).toEqual(["a.txt"])
    yield* send1(1, "cd")
    expect(yield* shown("a.txt")).toBe("abcd")
  }).pipe(Effect.provide(slowReserve())))

it.effect("refuses no name to a first chunk that comes again while the first one completes the upload", () =>
  Effect.gen(function*() {
    const sent = Effect.either(send2(0, "ab", { size: 2 }))
    const answers = yield* Effect.all([sent, sent], { concurrency: "unbounded" })
    expect(answers).toMatchObject([{ right: { complete: true } }, { right: { complete: true, duplicate: true } }])
    expect(yield* names).toEqual(["a.txt"])
  }).pipe(Effect.provide(slowReserve({ onConflict: "reject" }))))

it.effect("takes an empty chunk of a complete upload whatever its offset: it touches no bytes", () =>
  Effect.gen(function*() {
    yield* send2(0, "abc", { size: 3 })
    expect(yield* send2(9, "", { size: 3 })).toMatchObject({ duplicate: true, complete: true })
  }).pipe(Effect.provide(layer())))
