import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { world } from "../support/hostile.ts"
import { isWindows } from "../support/platform.ts"
import { authorized, request } from "../support/rawHttp.ts"

/** Everything below a folder but the server's own, links not followed: the paths of plain files. */
const filesIn = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = Path.join(folder, entry.name)
    return entry.name === ".indexedcp" ? [] : entry.isDirectory() ? filesIn(path) : entry.isFile() ? [path] : []
  })

const look = (path: string) => {
  const { ino, mode, mtimeMs, size } = Fs.lstatSync(path)
  return { ino, mode, mtimeMs, size }
}

const whole = (port: number, name: string, id: string) =>
  request(port, "POST", "/upload", {
    ...authorized,
    "x-file-name": name,
    "x-upload-id": id,
    "x-chunk-offset": 0,
    "x-file-size": id.length
  }, id)

const chunk = (port: number, name: string, index: number, body: string) =>
  request(port, "POST", "/upload", { ...authorized, "x-file-name": name, "x-chunk-index": index }, body)

const nameIn = ({ body }: { readonly body: string }): string =>
  (JSON.parse(body) as { readonly actualFilename: string }).actualFilename

describe.skipIf(isWindows)("Somebody else in the output folder", () => {
  it.scopedLive.each(["rename", "overwrite"] as const)(
    "who swaps folders with links out while uploads are published leads none of them out (%s)",
    (onConflict) =>
      Effect.gen(function*() {
        const hostile = yield* world({ pathMode: "allow-paths", onConflict })
        const { folder, port } = hostile
        const at = (name: string) => Path.join(folder, name)
        const outside = Path.join(folder, "..", "outside")
        const there = filesIn(folder)
        let turns = 0
        const perhaps = (change: () => void) => {
          try {
            change()
          } catch {
            // what the server makes in between is in the way
          }
        }
        const swap = Effect.forever(Effect.andThen(
          Effect.sync(() => {
            const path = at(["race", "race/deep", "race/deep/file.txt"][turns++ % 3]!)
            const leads = turns % 3 === 0 ? Path.join(outside, "file") : outside
            perhaps(() => Fs.renameSync(path, at(`moved ${turns}`)))
            perhaps(() => Fs.symlinkSync(leads, path))
          }),
          // publishing goes on in between
          Effect.zipRight(
            Effect.promise(() => new Promise((resolve) => setImmediate(resolve))),
            Effect.sync(() => {
              for (const name of ["race", "race/deep", "race/deep/file.txt"]) {
                perhaps(() => {
                  if (Fs.lstatSync(at(name)).isSymbolicLink()) Fs.unlinkSync(at(name))
                })
              }
            })
          )
        ))
        const swapping = yield* Effect.fork(swap)
        const answers = yield* Effect.forEach(
          Array.from({ length: 150 }, (_, n) => `race-${n}`),
          (id) => whole(port, "race/deep/file.txt", id),
          { concurrency: 8 }
        )
        yield* Fiber.interrupt(swapping)
        expect(turns).toBeGreaterThan(10)
        expect(answers.filter(({ status }) => status !== 200)).toEqual([])
        const found = filesIn(folder).filter((path) => !there.includes(path)).map((path) =>
          Fs.readFileSync(path, "utf8")
        )
        // under rename each of them is somewhere; what was overwritten is one of them all the same
        if (onConflict === "rename") expect([...found].sort()).toEqual(answers.map((_, n) => `race-${n}`).sort())
        else found.forEach((text) => expect(text).toMatch(/^race-\d+$/))
        for (const name of Fs.readdirSync(folder).filter((name) => /^(race|moved)/.test(name))) {
          Fs.rmSync(at(name), { recursive: true, force: true })
        }
        yield* hostile.check([], { statuses: [] })
      }),
    60_000
  )

  it.scopedLive("who puts a link in the place of a file between its chunks has none of them written through it", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const { folder, port } = hostile
      const at = (name: string) => Path.join(folder, name)
      const targets = [
        "../passwd",
        "../outside",
        "../outside/new",
        "there.txt",
        "pipe",
        ".indexedcp/ledger.db",
        "/dev/null",
        "link.txt"
      ]
      for (const [turn, target] of targets.entries()) {
        const name = target === "link.txt" ? "link.txt" : `file ${turn}.txt`
        const first = yield* chunk(port, name, 0, "abc")
        expect(nameIn(first)).toBe(name)
        Fs.rmSync(at(name))
        Fs.symlinkSync(target, at(name))
        const second = yield* chunk(port, name, 1, "def")
        expect([target, second.status]).toEqual([target, 200])
        const now = nameIn(second)
        expect([target, now === name]).toEqual([target, false])
        expect([target, Fs.lstatSync(at(now)).isFile(), Fs.readFileSync(at(now), "utf8")]).toEqual([
          target,
          true,
          "abcdef"
        ])
        // theirs is as they have put it
        expect(Fs.readlinkSync(at(name))).toBe(target)
        Fs.rmSync(at(name))
        yield* hostile.check([second], { statuses: [200], appears: [now] })
      }
      expect(Fs.existsSync(Path.join(folder, "../outside/new"))).toBe(false)
    }))

  it.scopedLive("who puts things in the place of a planned name has them left alone", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const { folder, port } = hostile
      const path = Path.join(folder, "plan.txt")
      const things: ReadonlyArray<readonly [string, () => void]> = [
        ["a link out", () => Fs.symlinkSync("../passwd", path)],
        ["a link to nothing", () => Fs.symlinkSync("../outside/new", path)],
        ["a folder", () => Fs.mkdirSync(path)],
        ["a file", () => Fs.writeFileSync(path, "theirs")],
        ["another name of a file outside", () => Fs.linkSync(Path.join(folder, "../x"), path)]
      ]
      for (const [thing, put] of things) {
        const id = `plan-${thing.replaceAll(" ", "-")}`
        const send = (offset: number) =>
          request(port, "POST", "/upload", {
            ...authorized,
            "x-file-name": "plan.txt",
            "x-upload-id": id,
            "x-chunk-offset": offset,
            "x-file-size": 6
          }, "abc")
        expect(nameIn(yield* send(0))).toBe("plan.txt")
        put()
        const before = look(path)
        const last = yield* send(3)
        expect([thing, nameIn(last)]).toEqual([thing, "plan (1).txt"])
        expect(look(path)).toEqual(before)
        Fs.rmSync(path, { recursive: true })
        yield* hostile.check([last], { statuses: [200], appears: ["plan (1).txt"] })
      }
    }))
})
