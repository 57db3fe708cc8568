/**
 * The client's buffer: writing and reading, each beside a plain file.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import type { Bench } from "../support/contest.ts"
import type * as Report from "../support/report.ts"
import { KiB, MiB } from "../support/settings.ts"
import { type Part, report, timed } from "./part.ts"

/** What the uploader reads at once when bodies have grown. */
const body = 4 * MiB

const write = (
  store: ChunkStore.ChunkStore["Type"],
  name: string,
  pieces: ReadonlyArray<Uint8Array>,
  sha256: Sha256.Sha256
) =>
  Effect.scoped(Effect.gen(function*() {
    const file = yield* store.begin({
      path: name,
      source: `/${name}`,
      name,
      chunkSize: MiB,
      destination: Option.none(),
      version: Option.none()
    })
    for (const bytes of pieces) yield* store.append(file, bytes)
    yield* store.seal(file, { size: pieces.reduce((sum, { length }) => sum + length, 0), sha256 })
    return file
  }))

/** Runs something over a new buffer and times what it says to time. */
const withStore = <E>(
  folder: string,
  use: (store: ChunkStore.ChunkStore["Type"]) => Effect.Effect<number, E>
): Promise<number> =>
  Effect.runPromise(
    Effect.flatMap(ChunkStore.ChunkStore, use).pipe(
      Effect.provide(ChunkStoreSqlite.layer({ file: Path.join(folder, "buffer.db") }))
    )
  )

const seconds = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<number, E> =>
  Effect.suspend(() => {
    const from = performance.now()
    return Effect.map(effect, () => (performance.now() - from) / 1000)
  })

export const buffer = (bench: Bench): Promise<Report.CaseReport> => {
  const amount = bench.settings.quick ? 8 : 256
  const files = bench.settings.quick ? 20 : 500
  const piece = Crypto.randomBytes(MiB)
  const pieces = Array.from({ length: amount }, () => piece)
  const whole = Sha256.of(...pieces)
  const small = [Crypto.randomBytes(10 * KiB)]
  const smallHash = Sha256.of(...small)
  const parts: ReadonlyArray<Part> = [
    {
      name: "writing a file, pieces of 1 MiB, durable at the end",
      amount,
      unit: "MiB",
      run: (folder) => withStore(folder, (store) => seconds(write(store, "a", pieces, whole)))
    },
    {
      name: "the same into a plain file: write, fdatasync",
      amount,
      unit: "MiB",
      run: (folder) =>
        timed(() => {
          const handle = Fs.openSync(Path.join(folder, "plain"), "w")
          for (const bytes of pieces) Fs.writeSync(handle, bytes)
          Fs.fdatasyncSync(handle)
          Fs.closeSync(handle)
        })
    },
    {
      name: "writing files of 10 KiB, each durable",
      amount: files,
      unit: "files",
      run: (folder) =>
        withStore(folder, (store) =>
          seconds(
            Effect.forEach(
              Array.from({ length: files }, (_, at) => `${at}`),
              (name) => write(store, name, small, smallHash),
              { discard: true }
            )
          ))
    },
    {
      name: "reading and checking it, 4 MiB at once",
      amount,
      unit: "MiB",
      run: (folder) =>
        withStore(
          folder,
          (store) =>
            Effect.flatMap(write(store, "a", pieces, whole), (file) =>
              seconds(Effect.gen(function*() {
                for (let from = 0; from < amount * MiB; from += body) {
                  yield* store.read(file, from, Math.min(from + body, amount * MiB))
                }
              })))
        )
    }
  ]
  return report(bench, "buffer", "Buffer", parts)
}
