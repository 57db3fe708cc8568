/**
 * Names in a folder where somebody else puts links, FIFOs, devices and folders, before and during an upload.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Context, Effect, Layer, Option } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as OutputFolder from "../../src/server/OutputFolder.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import { UploadStore } from "../../src/server/UploadStore.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import type { FileSystemCalls } from "../../src/testing/PowerCutDisk.ts"
import { key, safe, stage } from "../contract/UploadStore.ts"
import * as RawDisk from "../support/rawDisk.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { refusal, send1, send2 } from "../support/rawReceiver.ts"

const onLinux = process.platform === "linux"

/** A folder with one outside, and what somebody puts there. */
const place = Effect.gen(function*() {
  const folder = Fs.realpathSync(yield* RawFiles.temporaryFolder)
  const outside = Fs.realpathSync(yield* RawFiles.temporaryFolder)
  Fs.writeFileSync(Path.join(outside, "secret"), "secret")
  const at = (...path: ReadonlyArray<string>) => Path.join(folder, ...path)
  return {
    folder,
    outside,
    at,
    read: (...path: ReadonlyArray<string>) => Fs.readFileSync(at(...path), "utf8"),
    /** Everything outside is as it was. */
    isUntouched: () =>
      Fs.readdirSync(outside).join() === "secret" && Fs.readFileSync(Path.join(outside, "secret"), "utf8") === "secret"
  }
})

const receiver = (outputDir: string, options: Partial<Receiver.ReceiverOptions> = {}, calls?: FileSystemCalls) =>
  Receiver.layer(options).pipe(
    Layer.provideMerge(UploadStoreFileSystem.layer({ outputDir, ...(calls === undefined ? {} : { calls }) })),
    Layer.provideMerge(UploadLedger.layerMemory),
    Layer.provide(FilenameGenerator.layerPathMode("allow-paths"))
  )

const send = (name: string, id = name.replaceAll(/[^a-z0-9]/gi, "_")) =>
  Effect.map(
    send2(0, "ours", { id: UploadId.make(id), name, size: 4 }),
    ({ actualFilename, complete }) => complete ? actualFilename : "not complete"
  )

/** What stands in the way of a file or a folder: how it is made, and whether it may be a folder of a name. */
const obstacles: Readonly<Record<string, (path: string, outside: string) => void>> = {
  "a link to a folder outside": (path, outside) => Fs.symlinkSync(outside, path),
  "a link to a file outside": (path, outside) => Fs.symlinkSync(Path.join(outside, "secret"), path),
  "a broken link": (path, outside) => Fs.symlinkSync(Path.join(outside, "new"), path),
  "a link to itself": (path) => Fs.symlinkSync(path, path),
  "a FIFO": (path) => void execFileSync("mkfifo", [path]),
  "a link to a device": (path) => Fs.symlinkSync("/dev/zero", path),
  "a socket": (path) =>
    void execFileSync(process.execPath, [
      "-e",
      `require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))`,
      path
    ], { stdio: "ignore" })
}

const make = (what: string, path: string, outside: string): void => {
  try {
    obstacles[what]!(path, outside)
  } catch {
    // the process that made the socket has killed itself, to leave it there
  }
  expect(Fs.lstatSync(path).isFile()).toBe(false)
}

const shapeOf = (path: string) => {
  const { ino, mode } = Fs.lstatSync(path)
  return { ino, mode }
}

/** Through open folders, as on Linux, and by paths, as elsewhere. */
const ways: ReadonlyArray<readonly [string, FileSystemCalls | undefined]> = [
  ["through open folders", undefined],
  ["by paths", RawDisk.calls]
]

for (const [way, calls] of ways) {
  describe.runIf(onLinux)(`Names in a folder, ${way}`, () => {
    for (const what of Object.keys(obstacles)) {
      for (const onConflict of ["rename", "overwrite"] as const) {
        it.scoped(`leave ${what} alone under ${onConflict}, in the place of a file or of any folder`, () =>
          Effect.gen(function*() {
            const { at, folder, isUntouched, outside, read } = yield* place
            Fs.mkdirSync(at("x", "y"), { recursive: true })
            for (const path of ["a", "x/b", "x/y/c"]) make(what, at(path), outside)
            const before = ["a", "x/b", "x/y/c"].map((path) => shapeOf(at(path)))
            yield* Effect.gen(function*() {
              expect(yield* send("a")).toBe("a (1)")
              expect(yield* send("x/b")).toBe("x/b (1)")
              expect(yield* send("a/secret")).toBe("a (2)/secret")
              expect(yield* send("a/n/m.txt")).toBe("a (2)/n/m.txt")
              expect(yield* send("x/y/c/z/d.txt")).toBe("x/y/c (1)/z/d.txt")
              const store = yield* UploadStore
              for (const name of ["a", "x/b", "a/secret", "x/y/c/z"]) {
                expect(yield* store.holder(key(1), safe(name))).toBe("other")
                expect(yield* store.contentOf(safe(name))).toEqual(Option.none())
              }
            }).pipe(Effect.provide(receiver(folder, { onConflict }, calls)))
            expect(["a", "x/b", "x/y/c"].map((path) => shapeOf(at(path)))).toEqual(before)
            expect(["a (1)", "a (2)/secret", "x/y/c (1)/z/d.txt"].map((path) => read(path))).toEqual([
              "ours",
              "ours",
              "ours"
            ])
            expect(isUntouched()).toBe(true)
          }))
      }
    }

    it.scoped("are refused under reject when a link stands at the beginning of them", () =>
      Effect.gen(function*() {
        const { at, folder, isUntouched, outside } = yield* place
        Fs.symlinkSync(outside, at("a"))
        yield* Effect.gen(function*() {
          for (const name of ["a", "a/secret", "a/new", "a/n/new"]) expect(yield* refusal(send(name))).toBe(409)
          expect(yield* send("b/new")).toBe("b/new")
        }).pipe(Effect.provide(receiver(folder, { onConflict: "reject" }, calls)))
        expect(isUntouched()).toBe(true)
      }))

    for (const [level, link] of [["a", "a"], ["a/b", "a/b"], ["a/b/c.txt", "a/b/c.txt"]] as const) {
      it.scoped(`do not lead through a link that is put at ${level} during the upload`, () =>
        Effect.gen(function*() {
          const { at, folder, isUntouched, outside, read } = yield* place
          const name = "a/b/c.txt"
          const id = UploadId.make("u1")
          yield* Effect.gen(function*() {
            expect(yield* send(name, "before")).toBe(name)
            yield* send2(0, "ab", { id, name, size: 4 })
            Fs.renameSync(at(link), at(`${link} away`))
            Fs.symlinkSync(link === name ? Path.join(outside, "secret") : outside, at(link))
            const { actualFilename } = yield* send2(2, "cd", { id, name, size: 4 })
            expect(actualFilename).toBe(
              { a: "a (1)/b/c.txt", "a/b": "a/b (1)/c.txt", "a/b/c.txt": "a/b/c (1).txt" }[link]
            )
            expect(read(actualFilename)).toBe("abcd")
          }).pipe(Effect.provide(receiver(folder, {}, calls)))
          expect(isUntouched()).toBe(true)
        }))
    }

    it.scoped("that lead through a link now are not read through it, and shown under another name in revision 1", () =>
      Effect.gen(function*() {
        const { at, folder, isUntouched, outside, read } = yield* place
        const name = "a/secret"
        yield* Effect.gen(function*() {
          expect(yield* send1(0, "ab", { name })).toMatchObject({ actualFilename: name })
          Fs.renameSync(at("a"), at("away"))
          Fs.symlinkSync(outside, at("a"))
          expect(yield* (yield* UploadStore).contentOf(safe(name))).toEqual(Option.none())
          expect(yield* send1(1, "cd", { name })).toMatchObject({ actualFilename: "a (1)/secret" })
          expect(read("a (1)", "secret")).toBe("abcd")
        }).pipe(Effect.provide(receiver(folder, {}, calls)))
        expect(isUntouched()).toBe(true)
      }))

    it.scoped("pass by any number of files that stand where folders are needed", () =>
      Effect.gen(function*() {
        const { at, folder } = yield* place
        Fs.writeFileSync(at("a"), "theirs")
        for (let number = 1; number < 30; number++) Fs.writeFileSync(at(`a (${number})`), "theirs")
        yield* Effect.gen(function*() {
          expect(yield* send("a/b.txt", "u1")).toBe("a (30)/b.txt")
          expect(yield* send("a/b.txt", "u2")).toBe("a (30)/b (1).txt")
        }).pipe(Effect.provide(receiver(folder, {}, calls)))
      }))

    it.scoped("may lie below an output folder that is itself a link", () =>
      Effect.gen(function*() {
        const { at, folder, read } = yield* place
        Fs.mkdirSync(at("real"))
        Fs.symlinkSync("real", at("link"))
        yield* Effect.provide(send("x/a"), receiver(Path.join(folder, "link"), {}, calls))
        expect(read("real", "x", "a")).toBe("ours")
      }))

    it.scoped.each([".indexedcp", ".indexedcp/parts"])("need %s to be a real folder", (own) =>
      Effect.gen(function*() {
        const { at, folder, isUntouched, outside } = yield* place
        Fs.mkdirSync(Path.dirname(at(own)), { recursive: true })
        Fs.symlinkSync(outside, at(own))
        const layer = UploadStoreFileSystem.layer({ outputDir: folder, ...(calls === undefined ? {} : { calls }) })
        expect(yield* Effect.flip(Layer.build(layer))).toMatchObject({
          _tag: "ServerFailure",
          message: `${at(own)} must be a folder, not a link or a file; move it away, or choose another output folder`
        })
        expect(isUntouched()).toBe(true)
      }))
  })
}

describe.runIf(onLinux)("Names in a folder", () => {
  it.scoped("need the server's own folder to be a real one before the ledger is opened", () =>
    Effect.gen(function*() {
      const { at, folder, isUntouched, outside } = yield* place
      Fs.symlinkSync(outside, at(".indexedcp"))
      expect(yield* Effect.flip(Layer.build(OutputFolder.layer(folder)))).toMatchObject({
        _tag: "ServerFailure",
        message: expect.stringContaining("must be a folder, not a link or a file")
      })
      expect(isUntouched()).toBe(true)
    }))

  it.scoped("of part files are not followed when they have become links", () =>
    Effect.gen(function*() {
      const { at, folder, isUntouched, outside } = yield* place
      yield* Effect.gen(function*() {
        yield* send2(0, "ab", { id: UploadId.make("u1"), name: "a", size: 4 })
      }).pipe(Effect.provide(receiver(folder)))
      const part = at(".indexedcp", "parts", Fs.readdirSync(at(".indexedcp", "parts"))[0]!)
      Fs.rmSync(part)
      Fs.symlinkSync(Path.join(outside, "secret"), part)
      const context = yield* Layer.build(UploadStoreFileSystem.layer({ outputDir: folder }))
      const store = Context.get(context, UploadStore)
      const upload = (yield* store.keys)[0]!
      expect((yield* Effect.flip(store.trim(upload, 0)))._tag).toBe("ServerFailure")
      expect((yield* Effect.flip(store.publish(upload, Effect.succeed([]), safe("a"), "exclusive")))._tag).toBe(
        "ServerFailure"
      )
      expect(Fs.existsSync(at("a"))).toBe(false)
      expect(isUntouched()).toBe(true)
    }))

  it.scoped("never let a file appear outside while a folder and a link take turns", () =>
    Effect.gen(function*() {
      const { at, folder, isUntouched, outside, read } = yield* place
      Fs.mkdirSync(at("a", "b"), { recursive: true })
      const swapping = new AbortController()
      /** What the server makes in between may be in the way. */
      const perhaps = (change: Promise<unknown>) => change.catch(() => {})
      const swap = async () => {
        for (let turn = 0; !swapping.signal.aborted; turn++) {
          const path = at(turn % 2 === 0 ? "a" : "a/b")
          await perhaps(Fs.promises.rename(path, `${path} away`))
          await perhaps(Fs.promises.symlink(outside, path))
          await perhaps(Fs.promises.unlink(path))
          await perhaps(Fs.promises.rename(path, `${path} made ${turn}`))
          await perhaps(Fs.promises.rename(`${path} away`, path))
        }
      }
      const swapped = swap()
      const names = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, at) => `u${at}`),
        (id) => send("a/b/c.txt", id),
        { concurrency: 8 }
      ).pipe(Effect.provide(receiver(folder)))
      swapping.abort()
      yield* Effect.promise(() => swapped)
      const found = Fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
        entry.isFile() && !entry.parentPath.includes(".indexedcp")
      )
      expect(found.map((entry) => read(Path.relative(folder, entry.parentPath), entry.name))).toEqual(
        names.map(() => "ours")
      )
      expect(isUntouched()).toBe(true)
    }), 30_000)

  it.scoped("leave no descriptors open", () =>
    Effect.gen(function*() {
      const { at, folder, outside } = yield* place
      Fs.symlinkSync(outside, at("link"))
      Fs.writeFileSync(at("file"), "theirs")
      Fs.symlinkSync("/dev/zero", at("zero"))
      /** The folders and files that are open below the folder. */
      const open = () =>
        Fs.readdirSync("/proc/self/fd").flatMap((descriptor) => {
          try {
            return [Fs.readlinkSync(`/proc/self/fd/${descriptor}`)]
          } catch {
            return []
          }
        }).filter((path) => path.startsWith(folder)).map((path) => Path.relative(folder, path)).sort()
      yield* Effect.gen(function*() {
        const store = yield* UploadStore
        const used = Effect.gen(function*() {
          for (const name of ["x/y/a", "link/a", "file/a", "x/y/a/b", "zero", "link", "x", "new/z"]) {
            yield* stage(key(1), "ours")
            yield* Effect.either(store.publish(key(1), Effect.succeed([]), safe(name), "exclusive"))
            yield* Effect.either(store.publish(key(1), Effect.succeed([]), safe(name), "overwrite"))
            yield* store.holder(key(1), safe(name))
            yield* store.holder(key(1), safe(`none/${name}`))
            yield* store.contentOf(safe(name))
            yield* store.drop(key(1))
          }
        })
        const before = open()
        expect(before).toEqual(["", ".indexedcp", ".indexedcp/parts"])
        yield* used
        yield* used
        expect(open()).toEqual(before)
      }).pipe(Effect.provide(UploadStoreFileSystem.layer({ outputDir: folder })))
      expect(open()).toEqual([])
      Fs.rmSync(at(".indexedcp"), { recursive: true })
      Fs.symlinkSync(outside, at(".indexedcp"))
      yield* Effect.flip(Layer.build(UploadStoreFileSystem.layer({ outputDir: folder })))
    }))
})

describe("Names in a folder that takes A for a", () => {
  const folding = (folder: string, options: Partial<Receiver.ReceiverOptions>) =>
    receiver(folder, options, RawDisk.folding)

  it.scoped("get a number under overwrite when only their case differs, and are overwritten when nothing does", () =>
    Effect.gen(function*() {
      const { folder, read } = yield* place
      yield* Effect.gen(function*() {
        expect(yield* send("Report.txt", "u1")).toBe("Report.txt")
        expect(yield* send("report.txt", "u2")).toBe("report (1).txt")
        expect(yield* send("Report.txt", "u3")).toBe("Report.txt")
        expect(yield* send("X/a", "u4")).toBe("X/a")
        expect(yield* send("x/a", "u5")).toBe("x/a (1)")
        expect(yield* send("X/a", "u6")).toBe("X/a")
      }).pipe(Effect.provide(folding(folder, { onConflict: "overwrite" })))
      expect(Fs.readdirSync(folder).sort()).toEqual([".indexedcp", "Report.txt", "X", "report (1).txt"])
      expect(Fs.readdirSync(Path.join(folder, "X")).sort()).toEqual(["a", "a (1)"])
      expect(read("report (1).txt")).toBe("ours")
    }))

  it.scoped("get a number under overwrite when they come at once", () =>
    Effect.gen(function*() {
      const { folder } = yield* place
      const names = yield* Effect.forEach(["name", "NAME", "Name", "nAmE"], (name) => send(name), { concurrency: 4 })
        .pipe(Effect.provide(folding(folder, { onConflict: "overwrite" })))
      expect(new Set(names.map((name) => name.toLowerCase())).size).toBe(4)
      expect(Fs.readdirSync(folder).sort()).toEqual([".indexedcp", ...names].sort())
    }))

  it.scoped("are refused under reject, and get a number under rename", () =>
    Effect.gen(function*() {
      const { folder } = yield* place
      yield* Effect.gen(function*() {
        expect(yield* send("a", "u1")).toBe("a")
        expect(yield* refusal(send("A", "u2"))).toBe(409)
      }).pipe(Effect.provide(folding(folder, { onConflict: "reject" })))
      expect(yield* Effect.provide(send("A", "u3"), folding(folder, { onConflict: "rename" }))).toBe("A (1)")
    }))
})

describe("Names in a folder that tells A from a", () => {
  it.scoped("are files of their own, whichever normal form they came in", () =>
    Effect.gen(function*() {
      const { folder } = yield* place
      yield* Effect.gen(function*() {
        expect(yield* send("a", "u1")).toBe("a")
        expect(yield* send("A", "u2")).toBe("A")
        expect(yield* send("\u00e9", "u3")).toBe("\u00e9")
        expect(yield* send("e\u0301", "u4")).toBe("\u00e9 (1)")
      }).pipe(Effect.provide(receiver(folder)))
    }))
})
