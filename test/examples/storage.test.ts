import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import * as BucketUploadStore from "../../examples/storage/BucketUploadStore.ts"
import * as EncryptedChunkStore from "../../examples/storage/EncryptedChunkStore.ts"
import * as ChunkStoreModule from "../../src/client/ChunkStore.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { MemoryFiles } from "../../src/server/UploadStore.ts"
import * as ChunkStore from "../contract/ChunkStore.ts"
import * as UploadStore from "../contract/UploadStore.ts"

/** The final names of a bucket, for the contract. */
const files = (bucket: BucketUploadStore.Bucket) =>
  Layer.succeed(MemoryFiles, {
    read: (name) => Effect.map(Effect.promise(() => BucketUploadStore.read(bucket, name)), Option.fromNullable),
    names: Effect.promise(async () => (await bucket.list("names/")).map((name) => name.slice("names/".length))),
    write: (name, bytes) =>
      Effect.promise(async () => {
        await bucket.put(`bytes/theirs-${name}/0000000000000000`, bytes)
        await bucket.put(`names/${name}`, new TextEncoder().encode(`theirs-${name}`))
      }),
    remove: (name) => Effect.promise(() => bucket.remove(`names/${name}`))
  })

UploadStore.suite(
  "example in a bucket",
  Layer.unwrapEffect(Effect.sync(() => {
    const bucket = BucketUploadStore.memory()
    return Layer.merge(BucketUploadStore.layer(bucket), files(bucket))
  }))
)

const key = new Uint8Array(32).fill(7)

ChunkStore.suite("example that encrypts", Layer.provide(EncryptedChunkStore.layer(key), ChunkStoreModule.layerMemory))

describe("EncryptedChunkStore", () => {
  it.effect("keeps no plain bytes", () =>
    Effect.gen(function*() {
      const bytes = ChunkStore.someBytes(100)
      const inner = yield* ChunkStoreModule.ChunkStore
      const { file } = yield* ChunkStore.add("/a", bytes, 7).pipe(Effect.provide(EncryptedChunkStore.layer(key)))
      const kept = yield* inner.read(file, 0, 100)
      expect(kept.sha256).not.toBe(Sha256.of(bytes))
      expect(kept.bytes.filter((byte, at) => byte === bytes[at]).length).toBeLessThan(20)
    }).pipe(Effect.provide(ChunkStoreModule.layerMemory)))
})
