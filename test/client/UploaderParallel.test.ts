/**
 * Several requests and several files at once, and the pace that follows the link.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Clock, Effect, Fiber, Option, Stream, TestClock } from "effect"
import * as World from "../support/clientWorld.ts"

const { bytesOf, client, content, endpoint, lost, refused, states } = World

const KiB = 1024

/** How many exchanges are under way, and how many were at most; each takes as long as it is told to. */
const counting = (millis: (bytes: number, underWay: number) => number) => {
  const count = { now: 0, most: 0 }
  const send: World.Script["send"] = (proceed, _, { length }) =>
    Effect.suspend(() => {
      count.most = Math.max(count.most, ++count.now)
      return Effect.delay(proceed, millis(length, count.now))
    }).pipe(Effect.ensuring(Effect.sync(() => count.now--)))
  return { count, send }
}

describe("Uploader, several at once", () => {
  it.scoped("sends the first chunk alone, then several of one file, each once", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { count, send } = counting(() => 100)
      const { add, sends, upload } = yield* client(transport, { send }, { parallel: 3 })
      yield* add("a", bytesOf(40))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(count.most).toBe(3)
      const [first, second] = sends()
      expect(second!.at - first!.at).toBeGreaterThanOrEqual(100)
      expect(sends().map(({ offset }) => offset).sort((a, b) => a! - b!)).toEqual(
        Array.from({ length: 10 }, (_, at) => at * 4)
      )
      expect(yield* content(files, "a")).toEqual(bytesOf(40))
    }))

  it.scoped("sends several files at once, once the server has shown that it speaks revision 2", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { count, send } = counting(() => 100)
      const { add, sends, upload } = yield* client(transport, { send }, { parallel: 4 })
      for (const name of ["a", "b", "c", "d", "e", "f"]) yield* add(name, bytesOf(3))
      expect(states((yield* upload()).outcomes)).toEqual(Array.from({ length: 6 }, () => "delivered"))
      expect(count.most).toBe(4)
      expect(sends()[1]!.at).toBeGreaterThanOrEqual(100)
      expect((yield* files.names).length).toBe(6)
    }))

  it.scoped("sends strictly one chunk at a time to a revision-1 server", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { count, send } = counting(() => 100)
      const { add, upload } = yield* client(legacy.transport, { send }, { parallel: 4, largestBody: 64 })
      for (const name of ["a", "b", "c"]) yield* add(name, bytesOf(10))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered", "delivered", "delivered"])
      expect(count.most).toBe(1)
      for (const name of ["a", "b", "c"]) expect(World.inFile(legacy, name)).toEqual(bytesOf(10))
    }))

  it.scoped("sends a file in order, also when fewer requests may be in flight than it has begun with", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      // so slow that less is sent at once
      const { add, sends, upload } = yield* client(transport, { send: Effect.delay("11 seconds") }, { parallel: 4 })
      yield* add("a", bytesOf(100))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      const offsets = sends().map(({ offset }) => offset!)
      expect(offsets).toEqual(offsets.toSorted((a, b) => a - b))
    }))

  it.scoped("stops the other requests of a file that is given up", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed, number) => number === 2 ? Effect.fail(refused(409)) : Effect.delay(proceed, 100)
      }, { parallel: 3 })
      yield* add("a", bytesOf(400))
      expect(states((yield* upload()).outcomes)).toEqual(["failed"])
      expect(sends().length).toBeLessThanOrEqual(4)
      expect(yield* files.names).toEqual([])
    }))
})

/** A buffer's file of stored pieces, on a link that takes `millis` for so many bytes. */
const over = (
  millis: (bytes: number, underWay: number) => number,
  size: number,
  options: { readonly chunkSize: number; readonly largestBody: number; readonly parallel?: number }
) =>
  Effect.gen(function*() {
    const { files, transport } = yield* World.server
    const { send } = counting(millis)
    const world = yield* client(transport, { send }, { parallel: 1, ...options })
    yield* world.add("a", bytesOf(size))
    const began = yield* Clock.currentTimeMillis
    const { outcomes } = yield* world.upload()
    expect(states(outcomes)).toEqual(["delivered"])
    expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(size))).toBe(0)
    return { lengths: world.sends().map(({ length }) => length), took: (yield* Clock.currentTimeMillis) - began }
  })

describe("Uploader, bodies", () => {
  it.scoped("grow, up to the largest, where each request costs a long way there and back", () =>
    Effect.gen(function*() {
      const { lengths } = yield* over((bytes) => 200 + bytes / 100, 1000 * KiB, {
        chunkSize: 16 * KiB,
        largestBody: 128 * KiB
      })
      expect(Math.max(...lengths)).toBe(128 * KiB)
      expect(lengths.slice(0, 3)).toEqual([16 * KiB, 16 * KiB, 16 * KiB])
    }))

  it.scoped("grow at once while they take no time worth mentioning, whatever longer ones bring", () =>
    Effect.gen(function*() {
      const { lengths } = yield* over((bytes) => bytes / 1000, 1008 * KiB, {
        chunkSize: 16 * KiB,
        largestBody: 512 * KiB
      })
      // the server's first answer shows that they may
      expect(lengths.slice(0, 4)).toEqual([16, 32, 64, 128].map((length) => length * KiB))
    }))

  it.scoped("stay as they are where longer ones bring nothing", () =>
    Effect.gen(function*() {
      const { lengths } = yield* over((bytes) => bytes / 10, 1000 * KiB, {
        chunkSize: 16 * KiB,
        largestBody: 1000 * KiB
      })
      expect(Math.max(...lengths)).toBeLessThanOrEqual(32 * KiB)
    }))

  it.scoped("shrink below the stored pieces on a link that breaks within seconds, and get through", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      // 10 KiB a second, cut after ten
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed, _, { length }) =>
          length > 100 * KiB ? Effect.delay(Effect.fail(lost), "10 seconds") : Effect.delay(proceed, length / 10)
      }, { chunkSize: 400 * KiB, largestBody: 4000 * KiB, parallel: 2 })
      yield* add("a", bytesOf(1000 * KiB))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(1000 * KiB))).toBe(0)
      const lengths = sends().map(({ length }) => length)
      expect(lengths[0]).toBe(400 * KiB)
      // most of what is sent arrives
      expect(lengths.filter((length) => length > 100 * KiB).length).toBeLessThan(lengths.length / 2)
    }))

  it.scoped("become fewer and shorter on a slow link, until a request takes some seconds", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      // 16 KiB a second, shared by what is in flight
      const { send } = counting((bytes, underWay) => bytes / 16 * underWay / KiB * 1000)
      const { add, sends, upload } = yield* client(transport, { send }, {
        chunkSize: 1024 * KiB,
        largestBody: 4096 * KiB,
        parallel: 4
      })
      yield* add("a", bytesOf(9000 * KiB))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      const lengths = sends().map(({ length }) => length)
      expect(lengths[0]).toBe(1024 * KiB)
      expect(lengths.filter((length) => length <= 160 * KiB).length).toBeGreaterThan(lengths.length * 0.8)
      expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(9000 * KiB))).toBe(0)
    }))

  it.scoped("go again as they were cut where a half-dead connection still claims their bytes", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      let claimed = true
      const { add, calls, upload } = yield* client(transport, {
        send: (proceed, number, { length, offset }) => {
          if (number === 1 || number === 2) return Effect.fail(lost)
          if (offset === 64 * KiB && length === 64 * KiB) claimed = false
          return claimed && offset! >= 64 * KiB ? Effect.fail(refused(503, { retryAfter: 1 })) : proceed
        }
      }, { chunkSize: 64 * KiB, largestBody: 64 * KiB })
      yield* add("a", bytesOf(128 * KiB))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(calls.map((call) => call._tag === "ask" ? "ask" : [call.offset! / KiB, call.length / KiB])).toEqual([
        [0, 64],
        [64, 64],
        [64, 64],
        "ask",
        [64, 16],
        [64, 64]
      ])
      expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(128 * KiB))).toBe(0)
    }))

  it.scoped("fit through a proxy with a limit, whatever the pieces in the buffer, and stay below it", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed, _, { length }) => length > 1000 * KiB ? Effect.fail(refused(413)) : proceed
      }, { chunkSize: 5000 * KiB, largestBody: 5000 * KiB, parallel: 4 })
      yield* add("a", bytesOf(12_000 * KiB))
      yield* add("b", bytesOf(3000 * KiB, 2))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered", "delivered"])
      expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(12_000 * KiB))).toBe(0)
      // found out once, for all files
      expect(sends().filter(({ length }) => length > 1000 * KiB).length).toBeLessThanOrEqual(4)
    }))

  it.scoped("of stored pieces smaller than what the server wants are joined", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed) => Effect.map(proceed, (answer) => ({ ...answer, limit: { minAppendSize: 100 } }))
      })
      yield* add("a", bytesOf(404))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(sends().map(({ length }) => length)).toEqual([4, 100, 100, 100, 100])
      expect(yield* content(files, "a")).toEqual(bytesOf(404))
    }))
})

describe("Uploader, bytes freed early", () => {
  it.scoped("are gone from the buffer when they are acknowledged, and the rest goes on after a restart", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const store = yield* World.memoryStore
      const first = yield* client(transport, {
        send: (proceed, number) => number === 2 ? Effect.never : proceed
      }, { store, freeEarly: true })
      const { id } = yield* first.add("a", bytesOf(20))
      const fiber = yield* Effect.fork(Stream.runDrain(first.uploader.upload({ endpoint })))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      expect((yield* store.get(id)).freed).toBe(true)
      expect((yield* Effect.flip(store.read(id, 0, 4)))._tag).toBe("PieceDamaged")
      const second = yield* client(transport, {}, { store, freeEarly: true })
      expect(states((yield* second.upload()).outcomes)).toEqual(["delivered"])
      expect(second.sends()[0]!.offset).toBe(8)
      expect(yield* content(files, "a")).toEqual(bytesOf(20))
    }))

  it.scoped("cannot be sent to a server that forgot them, or to another one: the file is given up, and says why", () =>
    Effect.gen(function*() {
      const store = yield* World.memoryStore
      const before = yield* client((yield* World.server).transport, {
        send: (proceed, number) => number === 1 ? Effect.fail(refused(400)) : proceed
      }, { store, freeEarly: true })
      yield* before.add("a", bytesOf(12))
      yield* before.upload()
      const after = yield* client((yield* World.server).transport, {}, { store, freeEarly: true })
      for (const to of [endpoint, "http://other/upload"]) {
        const [outcome] = (yield* after.upload({ endpoint: to })).outcomes
        expect(outcome!.state).toBe("failed")
        expect(Option.getOrThrow(outcome!.error)).toContain("freed early")
      }
      expect(yield* after.buffered).toHaveLength(1)
    }))
})

describe("Uploader, destinations", () => {
  it.scoped("send each file where it was added for, and with a URL only what has no other", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { buffered, sends, uploader } = yield* client(transport)
      const source = (name: string) => World.source(name, bytesOf(3))
      yield* uploader.add(source("nowhere"))
      yield* uploader.add(source("here"), { to: endpoint })
      yield* uploader.add(source("there"), { to: "http://there" })
      const sent = () => sends().map(({ out }) => [out.chunk.fileName, out.endpoint])
      yield* Stream.runDrain(uploader.upload({ endpoint, destined: true }))
      expect(sent()).toEqual([["here", endpoint]])
      yield* Stream.runDrain(uploader.upload({ endpoint }))
      expect(sent().slice(1)).toEqual([["nowhere", endpoint]])
      yield* uploader.add(source("nowhere"))
      yield* Stream.runDrain(uploader.upload({}))
      expect(sent().slice(2)).toEqual([["there", "http://there/upload"]])
      expect((yield* buffered).map(({ path }) => path)).toEqual(["nowhere"])
      expect((yield* Effect.flip(uploader.add(source("x"), { to: "there" })))._tag).toBe("InvalidEndpoint")
    }))

  it.scoped("a refused key at one of them is told, and the files for the others go on before that fails", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { sends, uploader } = yield* client(transport, {
        send: (proceed, _, { out }) => out.endpoint.includes("closed") ? Effect.fail(refused(401)) : proceed
      })
      for (const name of ["a", "b"]) yield* uploader.add(World.source(name, bytesOf(3)), { to: "http://closed" })
      for (const name of ["c", "d"]) yield* uploader.add(World.source(name, bytesOf(3)), { to: "http://open" })
      const events: Array<string> = []
      const error = yield* Effect.flip(
        Stream.runForEach(uploader.upload({}), (event) => Effect.sync(() => events.push(event._tag)))
      )
      expect(error._tag).toBe("KeyRefused")
      expect(events.filter((tag) => tag === "Warning").length).toBe(1)
      expect(yield* files.names).toEqual(["c", "d"])
      expect(sends().filter(({ out }) => out.endpoint.includes("closed")).length).toBe(1)
    }))

  it.scoped("are warned of once when the server keeps no folders", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, upload } = yield* client(transport)
      yield* add("photos/a", bytesOf(3))
      yield* add("photos/b", bytesOf(3))
      const { events } = yield* upload()
      const warnings = events.flatMap((event) => event._tag === "Warning" ? [event.message] : [])
      expect(warnings.length).toBe(1)
      expect(warnings[0]).toContain("--path-mode allow-paths")
    }))
})

describe("Uploader, watching", () => {
  it.scoped("sends what is there and what comes, and what was given up only after retry", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      let broken = true
      const { add, buffered, uploader } = yield* client(transport, {
        send: (proceed, _, { out }) => broken && out.chunk.fileName === "bad" ? Effect.fail(refused(409)) : proceed
      })
      yield* add("a", bytesOf(5))
      const finished: Array<string> = []
      const fiber = yield* Effect.fork(
        Stream.runForEach(uploader.watch({ endpoint }), (event) =>
          Effect.sync(() => {
            if (event._tag === "Finished") finished.push(`${event.path} ${event.state}`)
          }))
      )
      yield* TestClock.adjust("1 second")
      expect(finished).toEqual(["a delivered"])
      yield* add("bad", bytesOf(5))
      yield* add("b", bytesOf(6))
      yield* TestClock.adjust("1 second")
      expect(new Set(finished)).toEqual(new Set(["a delivered", "bad failed", "b delivered"]))
      yield* TestClock.adjust("1 hour")
      expect(finished.length).toBe(3)
      broken = false
      yield* uploader.retry()
      yield* TestClock.adjust("1 second")
      expect(finished[3]).toBe("bad delivered")
      yield* Fiber.interrupt(fiber)
      expect(yield* files.names).toEqual(["a", "b", "bad"])
      expect(yield* buffered).toEqual([])
    }))

  it.scoped("takes a file that another upload lets go", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const store = yield* World.memoryStore
      const first = yield* client(transport, { send: () => Effect.never }, { store })
      const second = yield* client(transport, {}, { store })
      yield* first.add("a", bytesOf(5))
      const stuck = yield* Effect.fork(Stream.runDrain(first.uploader.upload({ endpoint })))
      yield* TestClock.adjust("1 second")
      const events: Array<string> = []
      const watching = yield* Effect.fork(
        Stream.runForEach(second.uploader.watch({ endpoint }), ({ _tag }) => Effect.sync(() => events.push(_tag)))
      )
      yield* TestClock.adjust("5 minutes")
      expect(events).toEqual([])
      yield* Fiber.interrupt(stuck)
      yield* TestClock.adjust("1 minute")
      expect(yield* files.names).toEqual(["a"])
      yield* Fiber.interrupt(watching)
    }))

  it.scoped("ends with a refused key", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, uploader } = yield* client(transport, { send: () => Effect.fail(refused(401)) })
      yield* add("a", bytesOf(5))
      expect((yield* Effect.flip(Stream.runDrain(uploader.watch({ endpoint }))))._tag).toBe("KeyRefused")
    }))
})

describe("Uploader, removing", () => {
  it.scoped("tells servers that hold parts", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, buffered, sends, uploader } = yield* client(transport)
      const half = yield* add("half", bytesOf(12))
      const other = yield* add("other", bytesOf(3))
      yield* Stream.runDrain(Stream.takeUntil(uploader.upload({ endpoint }), (event) => event._tag === "Progress"))
      const { id } = sends()[0]!
      expect(Option.isSome(yield* transport.state(endpoint, id!))).toBe(true)
      yield* uploader.remove([half.id])
      expect(yield* transport.state(endpoint, id!)).toEqual(Option.none())
      expect((yield* buffered).map(({ id }) => id)).toEqual([other.id])
      expect(Chunk.size(yield* Stream.runCollect(uploader.list))).toBe(1)
    }))
})
