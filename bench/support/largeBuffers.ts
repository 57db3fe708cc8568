/**
 * Buffers that are large before the clock starts.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as Files from "./files.ts"
import { GiB, MiB } from "./settings.ts"

/** Where a client with this home has its buffer. */
const fileOf = (home: string): string => Path.join(home, ".indexcp", "indexcp.db")

const newFile = (name: string): ChunkStore.NewFile => ({
  path: name,
  source: `/made/for/the/bench/${name}`,
  name,
  chunkSize: MiB,
  destination: Option.none(),
  version: Option.none()
})

const add = (name: string, pieces: ReadonlyArray<Uint8Array>, sha256: Sha256.Sha256) =>
  Effect.scoped(Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const file = yield* store.begin(newFile(name))
    for (const bytes of pieces) yield* store.append(file, bytes)
    yield* store.seal(file, { size: pieces.reduce((sum, { length }) => sum + length, 0), sha256 })
  }))

const fill = <E>(database: string, program: Effect.Effect<void, E, ChunkStore.ChunkStore>): Promise<void> =>
  Effect.runPromise(Effect.provide(program, ChunkStoreSqlite.layer({ file: database })))

/** A place where a sync costs nothing, so that filling takes seconds instead of minutes; the file is moved afterwards. */
const quickPlace = (folder: string, bytes: number): string => {
  const memory = "/dev/shm"
  const fits = Fs.existsSync(memory) && Files.room(memory) > bytes + 512 * MiB
  return Fs.mkdtempSync(Path.join(fits ? memory : folder, "indexedcp-bench-"))
}

/** A buffer of so many files of a few bytes. */
export const ofFiles = async (home: string, count: number): Promise<void> => {
  const place = quickPlace(Path.dirname(home), GiB)
  const remove = () => Fs.rmSync(place, { recursive: true, force: true })
  process.on("exit", remove)
  try {
    const database = Path.join(place, "indexcp.db")
    await fill(
      database,
      Effect.gen(function*() {
        for (let at = 0; at < count; at++) {
          const bytes = new TextEncoder().encode(`file ${at}`)
          yield* add(`files/${at}.txt`, [bytes], Sha256.of(bytes))
        }
      })
    )
    Fs.mkdirSync(Path.dirname(fileOf(home)), { recursive: true, mode: 0o700 })
    Fs.copyFileSync(database, fileOf(home))
  } finally {
    remove()
    process.off("exit", remove)
  }
}

/** A buffer of one file of so many bytes. */
export const ofBytes = (home: string, size: number): Promise<void> =>
  fill(
    fileOf(home),
    Effect.suspend(() => {
      const piece = new Uint8Array(MiB).fill(7)
      const pieces = Array.from({ length: Math.ceil(size / MiB) }, () => piece)
      return add("large.bin", pieces, Sha256.of(...pieces))
    })
  )
