/**
 * PROTOCOL.md, "What a 200 promises", against power cuts and killed servers: between any two of write, sync, commit, link,
 * folder sync and mark complete, nothing that was acknowledged is lost and nothing wrong is shown.
 *
 * Each scenario runs once. Before each call that changes the disk or the ledger the moment is kept, and from each moment the
 * clients go on with a new server: after a kill, and after power cuts that different parts of the unsynced survive. While
 * they go on, a second cut may come, and one comes at the end. `INDEXEDCP_SEED` says where chance begins,
 * `INDEXEDCP_CUTS` how many cuts by chance each moment gets (default 1).
 *
 * @module
 */
import { afterAll, describe, expect, it } from "@effect/vitest"
import { Cause, Console, Effect, Layer, Option } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as Body from "../../src/server/Body.ts"
import type { Receiver } from "../../src/server/Receiver.ts"
import { MemoryFiles } from "../../src/server/UploadStore.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import * as PowerCutDisk from "../../src/testing/PowerCutDisk.ts"
import { suite } from "../contract/UploadStore.ts"
import { recover, World } from "../support/powerWorld.ts"
import { type Chance, chance } from "../support/proofRun.ts"
import * as RawReceiver from "../support/rawReceiver.ts"

const seed = Number(process.env["INDEXEDCP_SEED"] ?? 20261)
const cutsByChance = Number(process.env["INDEXEDCP_CUTS"] ?? 1)

/** Bytes that no other seed has. */
const bytesOf = (length: number, of: number): Uint8Array =>
  Uint8Array.from({ length }, (_, at) => (at * 31 + of * 89 + (at >> 8) * 7) % 251)

/** A request that gets no 200. */
const refused = <A, E, R>(request: Effect.Effect<A, E, R>) => Effect.asVoid(Effect.flip(request))

interface Scenario {
  readonly policy?: "rename" | "overwrite" | "reject"
  /** Files that somebody else has there. */
  readonly outside?: Readonly<Record<string, number>>
  /** What the clients do. */
  readonly script: (world: World) => Effect.Effect<unknown, unknown, Receiver>
  /** What somebody else does after the cut. */
  readonly meanwhile?: (world: World) => void
  /** The server has never been started before. */
  readonly isFirst?: boolean
}

interface Moment {
  readonly what: string
  readonly world: World
}

/** Cuts that were made. */
const made = { kills: 0, powerCuts: 0 }

const survivorsOf = (by: Chance) => by.odds(0.3) ? "nothing" as const : by.below(2 ** 32)

/** Runs, and tells where it was when something is not as it should be. */
const at = (where: string, run: Effect.Effect<void>) =>
  Effect.catchAllCause(run, (cause) => Effect.dieMessage(`${where}\n${Cause.pretty(cause)}`))

type Cut = "killed" | PowerCutDisk.Survivors

const cut = (world: World, how: Cut): World => {
  made[how === "killed" ? "kills" : "powerCuts"] += 1
  return how === "killed" ? world.killed() : world.powerCut(how)
}

/** Goes on from a moment after a cut, often with a second one on the way, and with a last one at the end. */
const goOn = (moment: Moment, how: Cut, by: Chance, meanwhile: Scenario["meanwhile"] = () => {}) =>
  Effect.gen(function*() {
    const world = cut(moment.world, how)
    meanwhile(world)
    const second = by.below(40)
    let calls = 0
    let next: Moment | undefined
    world.before = (what) => {
      if (calls++ === second) next = { what, world: cut(world, by.odds(0.5) ? "killed" : survivorsOf(by)) }
    }
    const recovered = (world: World) => recover(world, (world) => cut(world, survivorsOf(by)))
    yield* at(`After a cut before: ${moment.what} (${how})`, recovered(world))
    if (next === undefined) return
    yield* at(`After cuts before: ${moment.what} (${how}); ${next.what}`, recovered(next.world))
  })

/** Cuts at each moment of a script. */
const prove = (scenario: Scenario) =>
  Effect.gen(function*() {
    const by = chance(seed)
    const world = World.make(scenario.policy ?? "rename")
    const moments: Array<Moment> = []
    const keep = (what: string) => void moments.push({ what: `${moments.length} ${what}`, world: world.killed() })
    if (scenario.isFirst === true) world.before = keep
    else yield* world.serve(Effect.void)
    for (const [name, of] of Object.entries(scenario.outside ?? {})) world.put(name, bytesOf(900, of))
    yield* world.serve(Effect.gen(function*() {
      if (scenario.isFirst !== true) world.before = keep
      yield* scenario.script(world)
      keep("the end")
      world.before = () => {}
    }))
    const kinds = ["killed", "nothing", ...Array.from({ length: cutsByChance }, (_, at) => at)] as const
    for (const moment of moments) {
      for (const kind of kinds) {
        yield* goOn(moment, typeof kind === "number" ? by.below(2 ** 32) : kind, by, scenario.meanwhile)
      }
    }
  })

/** Bytes of a chunk, more than a sector of the disk. */
const piece = 700

const range = (index: number, count = 1): readonly [number, number] => [index * piece, (index + count) * piece]

/** Chunks in an order that is none, one of them twice; the last to come says size and hash. */
const outOfOrder = (world: World, name: string, of: number) =>
  Effect.gen(function*() {
    const upload = world.begin2(name, bytesOf(4 * piece, of))
    for (const index of [2, 0, 2, 3]) yield* world.send2(upload, range(index))
    yield* world.send2(upload, range(1), { last: true })
  })

const inOrder = (world: World, name: string, of: number, address = "10.0.0.1") =>
  Effect.gen(function*() {
    const upload = world.begin1(name, [0, 1, 2].map((index) => bytesOf(piece, of + index)), address)
    for (const index of [0, 1, 2]) yield* world.send1(upload, index)
    return upload
  })

/** A body that ends after one of the bytes it was to have. */
const broken = (length: number): Body.Body => ({ ...Body.of(bytesOf(length, 99)), length: Option.some(length + 1) })

const scenarios: Readonly<Record<string, Scenario>> = {
  "the first start of a server, and a file in two chunks": {
    isFirst: true,
    script: (world) =>
      Effect.gen(function*() {
        const upload = world.begin2("a", bytesOf(2 * piece, 1))
        yield* world.send2(upload, range(0))
        yield* world.send2(upload, range(1), { last: true })
      })
  },
  "chunks out of order and repeated": { script: (world) => outOfOrder(world, "a", 1) },
  "size and hash said before the first byte, the last answer asked for again": {
    script: (world) =>
      Effect.gen(function*() {
        const upload = world.begin2("a", bytesOf(2 * piece, 1))
        yield* world.send2(upload, [0, 0], { last: true })
        yield* world.send2(upload, range(1))
        yield* world.send2(upload, range(0))
        yield* world.send2(upload, range(0))
      })
  },
  "a source of unknown length, closed by an empty chunk": {
    script: (world) =>
      Effect.gen(function*() {
        const upload = world.begin2("a", bytesOf(2 * piece, 1))
        yield* world.send2(upload, range(0, 2))
        yield* world.send2(upload, range(2, 0), { last: true })
      })
  },
  "an empty file": { script: (world) => world.send2(world.begin2("a", bytesOf(0, 1)), [0, 0], { last: true }) },
  "files in new folders": {
    script: (world) => Effect.andThen(outOfOrder(world, "new/sub/a", 1), outOfOrder(world, "new/sub/b", 2))
  },
  "a name that is taken": { outside: { a: 7, "a (1)": 8 }, script: (world) => outOfOrder(world, "a", 1) },
  "a name that is taken, and free after the cut": {
    outside: { a: 7 },
    script: (world) => outOfOrder(world, "a", 1),
    meanwhile: (world) => world.outside.has("a") && world.remove("a")
  },
  "two files of one name": {
    script: (world) => Effect.andThen(outOfOrder(world, "a", 1), outOfOrder(world, "a", 2))
  },
  "a file that is overwritten, twice": {
    policy: "overwrite",
    outside: { a: 7 },
    script: (world) => Effect.andThen(outOfOrder(world, "a", 1), outOfOrder(world, "a", 2))
  },
  "a name that must be free": {
    policy: "reject",
    outside: { b: 7 },
    script: (world) =>
      Effect.gen(function*() {
        yield* outOfOrder(world, "a", 1)
        for (const name of ["a", "b"]) yield* refused(RawReceiver.send2(0, "theirs", { id: UploadId.make(name), name }))
      })
  },
  "bodies that broke off behind the end of the file, or were damaged": {
    script: (world) =>
      Effect.gen(function*() {
        const upload = world.begin2("a", bytesOf(2 * piece, 1))
        const { id, name } = upload
        yield* world.send2(upload, range(0))
        yield* refused(RawReceiver.send2(3 * piece, broken(piece), { id, name }))
        const contentDigest = Sha256.empty
        yield* refused(RawReceiver.send2(piece, Body.of(bytesOf(2 * piece, 98)), { id, name, contentDigest }))
        yield* world.send2(upload, range(1), { last: true })
      })
  },
  "a file that is not what its hash says": {
    script: (world) =>
      Effect.gen(function*() {
        const upload = world.begin2("a", bytesOf(2 * piece, 1), Sha256.of(bytesOf(2 * piece, 2)))
        yield* world.send2(upload, range(1))
        yield* refused(world.send2(upload, range(0), { last: true }))
      })
  },
  "an upload that is deleted": {
    script: (world) =>
      Effect.gen(function*() {
        const upload = world.begin2("a", bytesOf(2 * piece, 1))
        yield* world.send2(upload, range(0))
        yield* world.delete2(upload)
        yield* outOfOrder(world, "a", 2)
      })
  },
  "revision 1: a file of one chunk, in a new folder": {
    script: (world) => world.send1(world.begin1("new/a", [bytesOf(piece, 1)], "10.0.0.1"))
  },
  "revision 1: chunks in order, some of them repeated or broken off": {
    script: (world) =>
      Effect.gen(function*() {
        const upload = world.begin1("a", [0, 1, 2].map((index) => bytesOf(piece, index)), "10.0.0.1")
        for (const index of [0, 0, 1]) yield* world.send1(upload, index)
        yield* refused(RawReceiver.send1(2, broken(2 * piece), upload))
        for (const index of [1, 2, 2, 0]) yield* world.send1(upload, index)
      })
  },
  "revision 1: a name that is taken, and free after the cut": {
    outside: { a: 7 },
    script: (world) => inOrder(world, "a", 1),
    meanwhile: (world) => world.outside.has("a") && world.remove("a")
  },
  "revision 1: files of one name from two addresses, in a new folder": {
    script: (world) => Effect.andThen(inOrder(world, "new/a", 1, "10.0.0.1"), inOrder(world, "new/a", 4, "10.0.0.2"))
  },
  "revision 1: another file of the same name": {
    script: (world) => Effect.andThen(inOrder(world, "a", 1), inOrder(world, "a", 4))
  },
  "revision 1: another file of the same name that begins alike": {
    script: (world) =>
      Effect.gen(function*() {
        const before = yield* inOrder(world, "a", 1)
        yield* world.send1(before, 0)
        const after = world.begin1("a", [before.chunks[0]!, bytesOf(piece, 5), bytesOf(piece, 6)], before.address, 1)
        for (const index of [1, 2]) yield* world.send1(after, index)
      })
  },
  "revision 1: files that are overwritten": {
    policy: "overwrite",
    outside: { a: 7 },
    script: (world) => Effect.andThen(inOrder(world, "a", 1), inOrder(world, "a", 4))
  }
}

/** Several clients at once, their chunks in any order and two of each under way. */
const several = (world: World, by: Chance) => {
  const ignoreBusy = <A, E extends { readonly _tag: string }, R>(request: Effect.Effect<A, E, R>) =>
    Effect.catchIf(request, ({ _tag }) => _tag === "Busy", () => Effect.void)
  const send2 = (of: number) =>
    Effect.gen(function*() {
      const count = 1 + by.below(4)
      const upload = world.begin2(by.pick(["a", "b", "new/c"]), bytesOf(count * piece, of))
      const order = Array.from({ length: count + 1 }, (_, at) => at % count).sort(() => by.below(3) - 1)
      if (by.odds(0.5)) yield* world.send2(upload, [0, 0], { last: true })
      yield* Effect.forEach(order, (index) => ignoreBusy(world.send2(upload, range(index))), { concurrency: 2 })
      yield* world.send2(upload, range(count, 0), { last: true })
    })
  return Effect.all([
    ...Array.from({ length: 4 }, (_, of) => send2(of)),
    inOrder(world, "a", 20, "10.0.0.1"),
    inOrder(world, "a", 30, "10.0.0.2")
  ], { concurrency: "unbounded" })
}

/** Cuts at some moments of several uploads at once. */
const proveSeveral = (number: number) =>
  Effect.gen(function*() {
    const by = chance(seed + number)
    const world = World.make("rename", async () => {
      for (let turns = by.below(6); turns > 0; turns--) await undefined
    })
    const moments: Array<Moment> = []
    yield* world.serve(Effect.gen(function*() {
      world.put("a", bytesOf(900, 50))
      let count = 0
      world.before = (what) => {
        if (by.odds(0.1)) moments.push({ what: `${count} ${what}`, world: world.killed() })
        count++
      }
      yield* several(world, by)
      world.before = () => {}
    }))
    for (const moment of moments) {
      yield* goOn(moment, "killed", by)
      yield* goOn(moment, by.below(2 ** 32), by)
    }
  })

const layerOn = (disk: PowerCutDisk.PowerCutDisk) =>
  Layer.merge(
    UploadStoreFileSystem.layer({ outputDir: "/files", calls: disk.calls }),
    Layer.succeed(MemoryFiles, {
      read: (name) => Effect.sync(() => Option.fromNullable(disk.files("/files").get(name))),
      names: Effect.sync(() =>
        [...disk.files("/files").keys()].filter((name) => !name.startsWith(".indexedcp")).sort()
      ),
      write: (name, bytes) => Effect.sync(() => disk.put(`/files/${name}`, bytes)),
      remove: (name) => Effect.sync(() => disk.remove(`/files/${name}`))
    })
  )

suite("power-cut disk", Layer.suspend(() => layerOn(PowerCutDisk.make())))

describe("PowerCutDisk", () => {
  const bytes = bytesOf(3000, 1)
  const other = bytesOf(3000, 2)
  const sync = async ({ calls }: PowerCutDisk.PowerCutDisk, path: string) => (await calls.open(path, "r")).sync()
  const names = (disk: PowerCutDisk.PowerCutDisk) => [...disk.files("/").keys()]

  it("loses what was not synced, a name or bytes, and keeps what was", async () => {
    const disk = PowerCutDisk.make()
    const file = await disk.calls.open("/a", "wx")
    await file.write(bytes, 0, 3000, 0)
    expect(names(disk.powerCut("nothing"))).toEqual([])
    await sync(disk, "/")
    expect(disk.powerCut("nothing").files("/")).toEqual(new Map([["a", new Uint8Array(0)]]))
    await file.datasync()
    await file.write(other, 0, 3000, 0)
    await file.truncate(100)
    expect(disk.powerCut("nothing").files("/")).toEqual(new Map([["a", bytes]]))
    expect(disk.powerCut("everything").files("/")).toEqual(new Map([["a", other.slice(0, 100)]]))
    expect(disk.files("/")).toEqual(new Map([["a", other.slice(0, 100)]]))
  })

  it("keeps writes whole, in part or not at all, and their growth of the file or not", async () => {
    const disk = PowerCutDisk.make()
    const file = await disk.calls.open("/a", "wx")
    await sync(disk, "/")
    await file.writev([bytes.subarray(0, 10), bytes.subarray(10)], 0)
    const found = Array.from({ length: 200 }, (_, seed) => disk.powerCut(seed).files("/").get("a")!)
    const sectors = (at: Uint8Array) => Array.from({ length: 6 }, (_, of) => at[of * 512 + 1] === bytes[of * 512 + 1])
    const full = found.filter((at) => at.length === 3000).map((at) => sectors(at).filter(Boolean).length)
    expect(new Set(found.map((at) => at.length))).toEqual(new Set([0, 3000]))
    expect(new Set(full)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]))
  })

  it("never loses both names of a file that was renamed, and keeps links to one file", async () => {
    const disk = PowerCutDisk.make()
    disk.put("/a", bytes)
    await disk.calls.mkdir("/sub")
    await sync(disk, "/")
    await disk.calls.rename("/a", "/sub/b")
    const found = Array.from({ length: 100 }, (_, seed) => names(disk.powerCut(seed)).join())
    expect(new Set(found)).toEqual(new Set(["a", "a,sub/b", "sub/b"]))
    await disk.calls.link("/sub/b", "/c")
    const both = disk.copy()
    await (await both.calls.open("/c", "r+")).write(other, 0, 3000, 0)
    expect(both.files("/sub").get("b")).toEqual(other)
    expect(disk.files("/sub").get("b")).toEqual(bytes)
  })

  it("takes the same seed for the same cut", async () => {
    const disk = PowerCutDisk.make()
    for (const name of ["a", "b", "c", "d"]) await disk.calls.open(`/${name}`, "wx")
    expect(names(disk.powerCut(7))).toEqual(names(disk.powerCut(7)))
    expect(new Set(Array.from({ length: 50 }, (_, seed) => names(disk.powerCut(seed)).join())).size).toBeGreaterThan(8)
  })
})

describe("what a 200 promises", () => {
  afterAll(() => Effect.runPromise(Console.log(`Power cuts: ${made.powerCuts}, and ${made.kills} kills, seed ${seed}`)))

  for (const [what, scenario] of Object.entries(scenarios)) {
    it.effect(`holds through a cut at any moment: ${what}`, () => prove(scenario), 30_000 * (1 + cutsByChance))
  }

  it.effect(
    "holds for several uploads at once through cuts by chance",
    () => Effect.forEach(Array.from({ length: 4 * cutsByChance }, (_, at) => at), proveSeveral, { discard: true }),
    30_000 * (1 + cutsByChance)
  )
})
