/** A buffer whose bytes are encrypted: a chunk store around another one. */
import { Effect, Layer, Option } from "effect"
import { ChunkStore } from "indexedcp/client"
import { Sha256 } from "indexedcp/protocol"
import { createCipheriv } from "node:crypto"

/** Bytes of a block of AES. */
const block = 16

/**
 * AES-256 in counter mode encrypts and decrypts from any place on, and leaves lengths and offsets as they are. No two files of a
 * buffer have one id, so no two have one key stream; a key is for one buffer.
 */
const cipher = (key: Uint8Array, file: ChunkStore.FileId, at: number) => {
  const counter = Buffer.alloc(block)
  counter.writeBigUInt64BE(BigInt(file), 0)
  counter.writeBigUInt64BE(BigInt(Math.floor(at / block)), 8)
  const stream = createCipheriv("aes-256-ctr", key, counter)
  stream.update(new Uint8Array(at % block))
  return (bytes: Uint8Array): Uint8Array => new Uint8Array(stream.update(bytes))
}

/** The chunk store at hand, which sees no plain bytes. Files that are sent from where they lie are not in it. */
export const layer = (
  key: Uint8Array
): Layer.Layer<ChunkStore.ChunkStore, never, ChunkStore.ChunkStore> =>
  Layer.effect(
    ChunkStore.ChunkStore,
    Effect.map(ChunkStore.ChunkStore, (store) => {
      const ends = new Map<ChunkStore.FileId, number>()
      const outside = new Set<ChunkStore.FileId>()
      const read: ChunkStore.ChunkStore["Type"]["read"] = (file, from, to, into) =>
        outside.has(file)
          ? store.read(file, from, to, into)
          : Effect.map(store.read(file, from, to, into), (piece) => {
            const bytes = cipher(key, file, from)(piece.bytes)
            return { bytes, sha256: Sha256.of(bytes) }
          })
      return ChunkStore.ChunkStore.of({
        ...store,
        begin: (file) =>
          Effect.acquireRelease(
            Effect.tap(store.begin(file), (id) => Effect.sync(() => ends.set(id, 0))),
            (id) => Effect.sync(() => ends.delete(id))
          ),
        append: (file, bytes) =>
          Effect.suspend(() => {
            const at = ends.get(file) ?? 0
            ends.set(file, at + bytes.length)
            return store.append(file, cipher(key, file, at)(bytes))
          }),
        adopt: (file, open) => Effect.tap(store.adopt(file, open), (id) => Effect.sync(() => outside.add(id))),
        adoptAll: (files) =>
          Effect.tap(store.adoptAll(files), (adopted) =>
            Effect.sync(() => adopted.forEach(Option.map(({ id }) => outside.add(id))))),
        read,
        readAll: (files) =>
          Effect.map(
            Effect.forEach(files, ({ id, size }) =>
              Effect.option(read(id, 0, size))),
            (pieces) =>
              new Map(files.flatMap(({ id, sha256 }, at) =>
                Option.match(pieces[at]!, {
                  onNone: () => [],
                  onSome: (piece) => Option.contains(sha256, piece.sha256) ? [[id, piece.bytes] as const] : []
                })
              ))
          )
      })
    })
  )
