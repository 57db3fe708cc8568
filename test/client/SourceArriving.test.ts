import * as NodeContext from "@effect/platform-node/NodeContext"
import * as FileSystem from "@effect/platform/FileSystem"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Stream, TestClock } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Source from "../../src/client/Source.ts"
import { temporaryFolder } from "../support/sqliteFiles.ts"

/** A folder that is looked at on the test clock, and what has arrived from it. */
const watched = (options?: Source.ArrivingOptions) =>
  Effect.gen(function*() {
    const folder = yield* temporaryFolder
    const arrived: Array<string> = []
    const fileSystem = yield* FileSystem.FileSystem
    let busy = 0
    const counted = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.suspend(() => {
        busy++
        return Effect.ensuring(effect, Effect.sync(() => busy--))
      })
    yield* Source.arriving(folder, options).pipe(
      Stream.runForEach(({ name, path }) =>
        Effect.sync(() => void arrived.push(path === Path.join(folder, name) ? name : path))
      ),
      Effect.provideService(FileSystem.FileSystem, {
        ...fileSystem,
        access: (...words) => counted(fileSystem.access(...words)),
        readDirectory: (...words) => counted(fileSystem.readDirectory(...words)),
        readLink: (...words) => counted(fileSystem.readLink(...words)),
        stat: (...words) => counted(fileSystem.stat(...words))
      }),
      Effect.forkScoped
    )
    /** Lets real file operations come to rest. */
    const rest = Effect.promise(async () => {
      for (let quiet = 0; quiet < 3; quiet = busy === 0 ? quiet + 1 : 0) {
        await new Promise((resolve) => setTimeout(resolve, 1))
      }
    })
    // the first look is over: it has seen nothing
    yield* rest
    return {
      folder,
      write: (name: string, text: string) => Fs.writeFileSync(Path.join(folder, name), text),
      /** What has arrived in so many seconds. */
      after: (seconds: number) =>
        Effect.gen(function*() {
          const from = arrived.length
          yield* rest
          for (let second = 0; second < seconds; second++) {
            yield* TestClock.adjust("1 second")
            yield* rest
          }
          return arrived.slice(from)
        })
    }
  })

describe("Source.arriving", () => {
  it.scoped("emits a file once it has not changed for two seconds, and never again", () =>
    Effect.gen(function*() {
      const { after, write } = yield* watched()
      write("a", "1")
      expect(yield* after(2)).toEqual([])
      expect(yield* after(1)).toEqual(["a"])
      expect(yield* after(5)).toEqual([])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("waits for as long as a file grows", () =>
    Effect.gen(function*() {
      const { after, write } = yield* watched()
      for (let length = 1; length < 6; length++) {
        write("a", "x".repeat(length))
        expect(yield* after(1)).toEqual([])
      }
      expect(yield* after(3)).toEqual(["a"])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("emits a file again when it has changed, or was replaced", () =>
    Effect.gen(function*() {
      const { after, folder, write } = yield* watched()
      write("a", "1")
      expect(yield* after(4)).toEqual(["a"])
      write("a", "22")
      expect(yield* after(4)).toEqual(["a"])
      write(".new", "33")
      const { atime, mtime } = Fs.statSync(Path.join(folder, "a"))
      Fs.utimesSync(Path.join(folder, ".new"), atime, mtime)
      Fs.renameSync(Path.join(folder, ".new"), Path.join(folder, "a"))
      expect(yield* after(4)).toEqual(["a"])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("takes the time to settle that it is given", () =>
    Effect.gen(function*() {
      const { after, write } = yield* watched({ settle: "5 seconds" })
      write("a", "1")
      expect(yield* after(5)).toEqual([])
      expect(yield* after(1)).toEqual(["a"])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("passes over what is hidden or not finished, in every folder", () =>
    Effect.gen(function*() {
      const { after, folder, write } = yield* watched()
      Fs.mkdirSync(Path.join(folder, "in/deep"), { recursive: true })
      Fs.mkdirSync(Path.join(folder, ".git"))
      for (const name of [".git/x", ".a", "a~", "a.part", "a.PARTIAL", "a.tmp", "a.crdownload"]) write(name, "x")
      for (const name of ["in/deep/b", "apart", "tmp"]) write(name, "x")
      expect(yield* after(4)).toEqual(["apart", "in/deep/b", "tmp"])
      Fs.renameSync(Path.join(folder, "a.part"), Path.join(folder, "a"))
      expect(yield* after(4)).toEqual(["a"])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("survives files and folders that vanish, and emits what comes back", () =>
    Effect.gen(function*() {
      const { after, folder, write } = yield* watched()
      write("a", "1")
      write("b", "1")
      yield* after(1)
      Fs.rmSync(Path.join(folder, "a"))
      expect(yield* after(3)).toEqual(["b"])
      Fs.renameSync(folder, `${folder}-away`)
      expect(yield* after(3)).toEqual([])
      Fs.renameSync(`${folder}-away`, folder)
      expect(yield* after(3)).toEqual([])
      write("a", "2")
      expect(yield* after(4)).toEqual(["a"])
    }).pipe(Effect.provide(NodeContext.layer)))

  it.scoped("fails at once where there is no folder", () =>
    Effect.gen(function*() {
      const missing = Path.join(yield* temporaryFolder, "missing")
      const error = yield* Effect.flip(Stream.runDrain(Source.arriving(missing)))
      expect(error.message).toBe(`File not found: ${missing}`)
    }).pipe(Effect.provide(NodeContext.layer)))
})
