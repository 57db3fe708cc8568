/**
 * What can be added to the buffer.
 *
 * @module
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Effect, Stream } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Source from "../../src/client/Source.ts"
import { bytesOf } from "../support/clientWorld.ts"
import { temporaryFolder } from "../support/sqliteFiles.ts"

const pieces = (source: Source.Source, chunkSize: number) =>
  Effect.map(Stream.runCollect(source.bytes(chunkSize)), Chunk.toReadonlyArray)

describe("Source.file", () => {
  it.scopedLive("names a file by its path and reads it in pieces of the chunk size", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryFolder, "a b.bin")
      Fs.writeFileSync(path, bytesOf(25))
      const source = yield* Source.file(path)
      expect(source).toMatchObject({ path, source: path, name: "a b.bin" })
      const read = yield* pieces(source, 10)
      expect(read.map(({ length }) => length)).toEqual([10, 10, 5])
      expect(Uint8Array.from(read.flatMap((piece) => [...piece]))).toEqual(bytesOf(25))
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("is the same source by whatever path", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryFolder, "a.bin")
      Fs.writeFileSync(path, "")
      const relative = Path.relative(process.cwd(), path)
      const source = yield* Source.file(relative)
      expect(source).toMatchObject({ path: relative, source: path })
      expect(yield* pieces(source, 10)).toEqual([])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("has the name that it is given", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryFolder, "a.bin")
      Fs.writeFileSync(path, "")
      expect(yield* Source.file(path, { name: "b/c.bin" })).toMatchObject({ path, source: path, name: "b/c.bin" })
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("says at once what cannot be read", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const missing = Path.join(folder, "missing")
      expect((yield* Effect.flip(Source.file(missing))).message).toBe(`File not found: ${missing}`)
      expect((yield* Effect.flip(Source.file(folder))).message).toBe(`${folder} is a folder, not a file`)
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("fails when the file is gone by the time it is read", () =>
    Effect.gen(function*() {
      const path = Path.join(yield* temporaryFolder, "a.bin")
      Fs.writeFileSync(path, "abc")
      const source = yield* Source.file(path)
      Fs.rmSync(path)
      expect(yield* Effect.flip(pieces(source, 10))).toMatchObject({ _tag: "SourceError", path })
    }).pipe(Effect.provide(NodeContext.layer)))
})

describe("Source.stream", () => {
  it.effect("passes its bytes on, and tells its failure", () =>
    Effect.gen(function*() {
      const source = Source.stream("logs/a", Stream.make(bytesOf(3), bytesOf(0), bytesOf(2)))
      expect(source).toMatchObject({ path: "logs/a", name: "logs/a" })
      expect((yield* pieces(source, 10)).map(({ length }) => length)).toEqual([3, 0, 2])
      const failing = Source.stream("a", Stream.fail({ _tag: "Torn", message: "the tape is torn" }))
      const error = yield* Effect.flip(pieces(failing, 10))
      expect(error).toMatchObject({ _tag: "SourceError", path: "a" })
      expect(error.message).toContain("the tape is torn")
    }))

  it.effect("takes any async iterable", () =>
    Effect.gen(function*() {
      const source = Source.asyncIterable(
        "a",
        (async function*() {
          yield bytesOf(3)
          yield bytesOf(2)
        })()
      )
      expect((yield* pieces(source, 10)).map(({ length }) => length)).toEqual([3, 2])
      const torn = Source.asyncIterable(
        "a",
        (async function*() {
          yield bytesOf(1)
          throw new Error("the tape is torn")
        })()
      )
      expect((yield* Effect.flip(pieces(torn, 10))).message).toBe("The stream for a failed: the tape is torn")
    }))

  it.effect("never is the same source as a file of that name", () =>
    Effect.sync(() => {
      expect(Path.isAbsolute(Source.stream("/a", Stream.empty).source)).toBe(false)
    }))
})
