/**
 * Run as `node bufferChild.js <file> <what>`, bundled. `add`: begins a file, stores two pieces, says so and waits to
 * be killed. `claim`: claims the first file, says so and waits. `open`: says so, opens the buffer, says how many files, and ends. A third word
 * is the length from which on pieces get files of their own.
 *
 * @module
 */
import { Chunk, Effect, Logger, LogLevel, Option, Stream } from "effect"
import type { Scope } from "effect"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"

const [file, what, longPiece] = process.argv.slice(2)
const say = (text: string) => Effect.sync(() => process.stdout.write(text))

const add = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  const id = yield* store.begin({
    path: "c",
    source: "/c",
    name: "c",
    chunkSize: 1024,
    destination: Option.none(),
    version: Option.none()
  })
  yield* store.append(id, new Uint8Array(1024))
  yield* store.append(id, new Uint8Array(1024))
  yield* say("adding")
  return yield* Effect.never
})

const claim = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  const [first] = Chunk.toReadonlyArray(yield* Stream.runCollect(store.list))
  yield* store.claim(first!.id)
  yield* say("claimed")
  return yield* Effect.never
})

const open = Effect.gen(function*() {
  const store = yield* ChunkStore.ChunkStore
  yield* say(`${Chunk.size(yield* Stream.runCollect(store.list))} files`)
})

if (what === "open") await Effect.runPromise(say("opening, "))
const alive = setInterval(() => {}, 1000)
const chosen: Effect.Effect<void, unknown, ChunkStore.ChunkStore | Scope.Scope> = what === "add"
  ? add
  : what === "claim"
  ? claim
  : open
await Effect.runPromise(
  Effect.scoped(chosen).pipe(
    Effect.provide(
      ChunkStoreSqlite.layer({ file: file!, ...longPiece === undefined ? {} : { longPiece: Number(longPiece) } })
    ),
    Logger.withMinimumLogLevel(LogLevel.None)
  )
)
clearInterval(alive)
