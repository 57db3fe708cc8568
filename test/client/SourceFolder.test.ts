import * as NodeContext from "@effect/platform-node/NodeContext"
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Effect, Either, Stream } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Source from "../../src/client/Source.ts"
import { workIn } from "../support/cli.ts"
import { isWindows } from "../support/platform.ts"
import { temporaryFolder } from "../support/sqliteFiles.ts"

/** `photos` with two folders in it, in a folder of its own. */
const photos = Effect.map(temporaryFolder, (folder) => {
  Fs.mkdirSync(Path.join(folder, "photos/2020/empty"), { recursive: true })
  for (const name of ["b.jpg", "2020/a.jpg", "2020/c.jpg", "z.jpg", ".hidden"]) {
    Fs.writeFileSync(Path.join(folder, "photos", name), name)
  }
  return folder
})

const all = <E, R>(sources: Stream.Stream<Either.Either<Source.Source, Source.SourceError>, E, R>) =>
  Effect.map(Stream.runCollect(sources), Chunk.toReadonlyArray)

const names = (found: ReadonlyArray<Either.Either<Source.Source, Source.SourceError>>) =>
  found.map(Either.match({ onLeft: ({ message }) => message, onRight: ({ name }) => name }))

describe("Source.folder", () => {
  const below = [".hidden", "2020/a.jpg", "2020/c.jpg", "b.jpg", "z.jpg"]
  const inPhotos = below.map((name) => `photos/${name}`)

  it.scopedLive("names files by their paths from the named folder on, sorted", () =>
    Effect.gen(function*() {
      const folder = yield* photos
      yield* workIn(folder)
      for (const path of ["photos", "./photos/", Path.join(folder, "photos"), `../${Path.basename(folder)}/photos`]) {
        expect(names(yield* all(Source.folder(path)))).toEqual(inPhotos)
      }
      expect(names(yield* all(Source.folder("photos", { name: "mine" })))[1]).toBe("mine/2020/a.jpg")
      expect(names(yield* all(Source.folder(".")))).toEqual(inPhotos)
      yield* workIn(Path.join(folder, "photos/2020"))
      expect(names(yield* all(Source.folder("..")))).toEqual(inPhotos)
      yield* workIn(Path.join(folder, "photos"))
      expect(names(yield* all(Source.folder("./")))).toEqual(below)
      yield* workIn(folder)
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("shows the paths as they were typed, and knows the files by where they are", () =>
    Effect.gen(function*() {
      const folder = yield* photos
      yield* workIn(folder)
      const found = yield* all(Source.folder("./photos/2020"))
      expect(found[0]).toMatchObject({
        right: { path: "photos/2020/a.jpg", name: "2020/a.jpg", source: Path.join(folder, "photos/2020/a.jpg") }
      })
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive.skipIf(isWindows)(
    "follows links to files but not to folders, and tells what is no file",
    () =>
      Effect.gen(function*() {
        const folder = yield* temporaryFolder
        const at = (name: string) => Path.join(folder, "x", name)
        Fs.mkdirSync(at("real"), { recursive: true })
        Fs.writeFileSync(at("real/a"), "a")
        Fs.symlinkSync("real/a", at("aLink"))
        Fs.symlinkSync("..", at("real/loop"))
        Fs.symlinkSync("nowhere", at("dangling"))
        execFileSync("mkfifo", [at("pipe")])
        expect(names(yield* all(Source.folder(Path.join(folder, "x"))))).toEqual([
          "x/aLink",
          `File not found: ${at("dangling")}`,
          `${at("pipe")} is a pipe, not a file; its bytes can be read from standard input`,
          "x/real/a",
          `${at("real/loop")} is a link to a folder, which is not followed`
        ])
        expect((yield* Effect.flip(Source.file(at("pipe")))).message).toContain("is a pipe")
      }).pipe(Effect.provide(NodeContext.layer))
  )

  it.scopedLive("is lazy: what comes later is looked at later", () =>
    Effect.gen(function*() {
      const folder = yield* photos
      const found: Array<string> = []
      yield* Stream.runForEach(Source.folder(Path.join(folder, "photos")), (source) =>
        Effect.sync(() => {
          if (found.length === 0) Fs.rmSync(Path.join(folder, "photos/2020"), { recursive: true })
          found.push(...names([source]))
        }))
      expect(found).toEqual([
        "photos/.hidden",
        `File not found: ${Path.join(folder, "photos/2020")}`,
        "photos/b.jpg",
        "photos/z.jpg"
      ])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scopedLive("fails when the named folder is none", () =>
    Effect.gen(function*() {
      const folder = yield* photos
      const missing = Path.join(folder, "missing")
      expect((yield* Effect.flip(all(Source.folder(missing)))).message).toBe(`File not found: ${missing}`)
    }).pipe(Effect.provide(NodeContext.layer)))
})
