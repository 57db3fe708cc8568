import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import * as Plan from "../../src/cli/Plan.ts"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as Transport from "../../src/client/Transport.ts"
import * as Uploader from "../../src/client/Uploader.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import { add, someBytes } from "../contract/ChunkStore.ts"

const here = "http://here/upload"
const there = "http://there/upload"

/** Nobody asks a server. */
const offline = Layer.succeed(Transport.Transport, {} as never)

const layer = Uploader.layer().pipe(Layer.provide(offline), Layer.provideMerge(ChunkStore.layerMemory))

/** Two files of 1 and 2 bytes for no server, three of 4, 8 and 16 for another one, and one of 32 that was given up. */
const filled = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  const destination = Option.some(there)
  const added = [
    yield* add("/a", someBytes(1)),
    yield* add("/b", someBytes(2)),
    yield* add("/c", someBytes(4), 4, { destination }),
    yield* add("/d", someBytes(8), 4, { destination }),
    yield* add("/e", someBytes(16), 4, { destination }),
    yield* add("/f", someBytes(32))
  ].map(({ file }) => file)
  const send = (at: number, endpoint: string, bytes: number) =>
    Effect.zipRight(
      store.startDelivery(added[at]!, { endpoint, name: "x", uploadId: UploadId.make(`u${at}`) }),
      store.settle(added[at]!, 0, bytes)
    )
  yield* send(1, there, 2)
  yield* send(4, there, 4)
  yield* send(5, here, 8)
  yield* store.setFailure(added[5]!, Option.some("refused"))
  return added
})

describe("Plan", () => {
  it.effect("counts what goes to the server that is named, and what stays", () =>
    Effect.gen(function*() {
      const added = yield* filled
      const plan = yield* Plan.make({ endpoint: here, destined: false, endless: false })
      // what another server has of b counts for nothing
      expect(plan.start).toEqual({ files: 3, size: 35, acknowledged: 8, newest: added[5] })
      expect(plan.others).toBe(3)
      expect([...plan.endpoints]).toEqual([here])
    }).pipe(Effect.provide(layer)))

  it.effect("leaves alone what was given up, when it goes on without end", () =>
    Effect.gen(function*() {
      yield* filled
      const { start } = yield* Plan.make({ endpoint: here, destined: false, endless: true })
      expect(start).toMatchObject({ files: 2, size: 3, acknowledged: 0 })
    }).pipe(Effect.provide(layer)))

  it.effect("sends each where it was added for, without a server that is named", () =>
    Effect.gen(function*() {
      yield* filled
      const plan = yield* Plan.make({ endpoint: undefined, destined: false, endless: false })
      expect(plan).toMatchObject({ start: { files: 3, size: 28, acknowledged: 4 }, others: 3 })
      expect([...plan.endpoints]).toEqual([there])
    }).pipe(Effect.provide(layer)))
})
