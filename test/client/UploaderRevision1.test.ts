/**
 * The uploading program against a revision-1 server in memory, on the test clock.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Chunk, Effect, Fiber, Option, Stream } from "effect"
import type * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as World from "../support/clientWorld.ts"

const {
  bytesOf,
  client,
  content,
  delays,
  down,
  dying,
  endpoint,
  failing,
  inFile,
  losing,
  lost,
  refused,
  states
} = World

const resent = (store: World.StoreService) =>
  Effect.map(
    Stream.runCollect(store.receipts),
    (receipts) => Chunk.toReadonlyArray(receipts).map(({ resent }) => resent)
  )

describe("Uploader, to a revision-1 server", () => {
  it.scoped.each([0, 3, 4, 8, 9])(
    "delivers a file of %i bytes in order, each chunk after the 200 for the one before",
    (size) =>
      Effect.gen(function*() {
        const legacy = World.legacyServer()
        let atOnce = 0
        const { add, buffered, calls, sends, upload } = yield* client(legacy.transport, {
          send: (proceed) =>
            Effect.suspend(() => {
              expect(++atOnce).toBe(1)
              return Effect.zipRight(Effect.sleep("1 second"), proceed)
            }).pipe(Effect.ensuring(Effect.sync(() => --atOnce)))
        })
        yield* add("dir/a.bin", bytesOf(size))
        const { events, outcomes } = yield* upload()
        expect(outcomes.map(({ serverName, state }) => [state, serverName])).toEqual([[
          "delivered",
          Option.some("a.bin")
        ]])
        expect(inFile(legacy, "a.bin")).toEqual(bytesOf(size))
        expect(calls.length).toBe(Math.max(1, Math.ceil(size / 4)))
        // the headers of both revisions
        expect(sends().map(({ headers, offset }) => [headers["x-chunk-index"], offset])).toEqual(
          calls.map((_, index) => [String(index), index * 4])
        )
        expect(events.filter((event) => event._tag === "Progress").at(-1)?.acknowledged).toBe(size)
        expect(yield* buffered).toEqual([])
      })
  )

  it.scoped("takes the name of the first answer", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { add, upload } = yield* client(legacy.transport, {
        send: (proceed, number) =>
          Effect.map(proceed, (answer) => ({
            ...answer,
            receipt: { ...answer.receipt, actualFilename: `name-${number}` }
          }))
      })
      yield* add("a", bytesOf(12))
      expect((yield* upload()).outcomes.map(({ serverName }) => serverName)).toEqual([Option.some("name-0")])
    }))

  it.scoped.each([[down, 1], [refused(425), 1], [refused(429, { retryAfter: 90 }), 90]] as const)(
    "sends again what the server has certainly not got: %s",
    ([error, seconds]) =>
      Effect.gen(function*() {
        const legacy = World.legacyServer()
        const { add, calls, upload } = yield* client(legacy.transport, failing(error, 0, 2))
        yield* add("a", bytesOf(8))
        const { events, outcomes } = yield* upload()
        expect(states(outcomes)).toEqual(["delivered"])
        expect(inFile(legacy, "a")).toEqual(bytesOf(8))
        expect(calls.map(({ _tag }) => _tag)).toEqual(["send", "send", "send", "send"])
        expect(delays(events).map((delay) => Math.round(delay / 1000))).toEqual([seconds, seconds])
      })
  )

  const doubtful = [lost, refused(408), refused(500), refused(502), refused(503), refused(504), refused(507)]

  for (const at of [0, 1, 2]) {
    it.scoped.each(doubtful)(
      `calls chunk ${at} unconfirmed, and does not send it again, after %s`,
      (error) =>
        Effect.gen(function*() {
          const legacy = World.legacyServer()
          const { add, buffered, sends, upload } = yield* client(legacy.transport, {
            send: (proceed, number) => number === at ? Effect.zipRight(proceed, Effect.fail(error)) : proceed
          })
          yield* add("a", bytesOf(12))
          yield* add("b", bytesOf(3))
          const { outcomes } = yield* upload()
          expect(new Set(states(outcomes))).toEqual(new Set(["unconfirmed", "delivered"]))
          expect(Option.getOrThrow(outcomes.find(({ path }) => path === "a")!.error)).toContain(
            `Chunk ${at} may or may not have arrived`
          )
          expect((yield* buffered).map(({ failure, path }) => [path, failure])).toEqual([["a", Option.none()]])
          const bodies = () => sends().filter(({ length, out }) => length > 0 && out.chunk.fileName === "a").length
          expect(bodies()).toBe(at + 1)
          // nor in a later run
          expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
          expect(bodies()).toBe(at + 1)
          expect(inFile(legacy, "a")).toEqual(bytesOf(12).subarray(0, (at + 1) * 4))
        })
    )
  }

  it.scoped.each([0, 1])(
    "sends an unconfirmed chunk %i again when asked to, and goes on",
    (at) =>
      Effect.gen(function*() {
        const legacy = World.legacyServer()
        const { add, sends, store, upload } = yield* client(legacy.transport, failing(lost, at))
        yield* add("a", bytesOf(10))
        expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
        const before = sends().length
        expect(states((yield* upload({ resendUnconfirmed: true })).outcomes)).toEqual(["delivered"])
        expect(yield* resent(store)).toEqual([true])
        expect(inFile(legacy, "a")).toEqual(bytesOf(10))
        expect(sends().slice(before).map(({ offset }) => offset)).toEqual([0, 4, 8].slice(at))
      })
  )

  it.scoped("says in the receipt that it sent a chunk again, only when it did", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { add, store, upload } = yield* client(legacy.transport, World.losing(1))
      yield* add("a", bytesOf(10))
      yield* upload({ resendUnconfirmed: true })
      yield* add("b", bytesOf(10))
      yield* upload({ resendUnconfirmed: true })
      expect(yield* resent(store)).toEqual([true, false])
      expect(inFile(legacy, "a")!.length).toBe(14)
    }))

  it.scoped("still calls a chunk unconfirmed after a try to send it again that reached nobody", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { add, sends, upload } = yield* client(legacy.transport, {
        send: (proceed, number, { length, out }) =>
          number === 1
            ? Effect.zipRight(proceed, Effect.fail(lost))
            : out.chunk.index === 1 && length > 0
            ? Effect.fail(down)
            : proceed
      }, { retry: { maxRetries: 1 } })
      yield* add("a", bytesOf(12))
      expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
      expect(states((yield* upload({ resendUnconfirmed: true })).outcomes)).toEqual(["waiting"])
      const before = sends().length
      expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
      expect(sends().slice(before).every(({ length }) => length === 0)).toBe(true)
      expect(inFile(legacy, "a")).toEqual(bytesOf(8))
    }))

  it.scoped("sends an empty file again, which does no harm", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { add, upload } = yield* client(legacy.transport, losing(0))
      yield* add("a", bytesOf(0))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(inFile(legacy, "a")).toEqual(bytesOf(0))
    }))

  it.scoped.each([0, 1])(
    "finds a key that was never right though the answer to chunk %i is lost, and goes on with another",
    (at) =>
      Effect.gen(function*() {
        const legacy = World.legacyServer()
        let key: "stopped" | "wrong" | "right" = "stopped"
        const { add, buffered, sends, upload } = yield* client(legacy.transport, {
          send: (proceed, number, { length }) =>
            number < at || key === "right"
              ? proceed
              : Effect.fail(length === 0 || key === "stopped" ? refused(401) : lost)
        })
        yield* add("a", bytesOf(10))
        yield* add("b", bytesOf(10))
        // an earlier run had come to this chunk
        yield* Effect.flip(upload())
        key = "wrong"
        const before = sends().length
        expect((yield* Effect.flip(upload()))._tag).toBe("KeyRefused")
        expect(sends().slice(before).map(({ length }) => length)).toEqual([4, 0])
        expect((yield* buffered).length).toBe(2)
        key = "right"
        expect(states((yield* upload()).outcomes)).toEqual(["delivered", "delivered"])
        expect(inFile(legacy, "a")).toEqual(bytesOf(10))
        expect(inFile(legacy, "b")).toEqual(bytesOf(10))
      })
  )

  it.scoped("does not take a chunk for refused when the key was right before", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      let keyIsRight = false
      const { add, upload } = yield* client(legacy.transport, {
        send: (proceed, number) =>
          number === 1
            ? Effect.zipRight(proceed, Effect.fail(lost))
            : number === 0 || keyIsRight
            ? proceed
            : Effect.fail(refused(401))
      })
      yield* add("a", bytesOf(12))
      expect((yield* Effect.flip(upload()))._tag).toBe("KeyRefused")
      keyIsRight = true
      expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
      expect(inFile(legacy, "a")).toEqual(bytesOf(8))
    }))

  it.scoped("does not take a chunk of an earlier run for refused because the key is refused now", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      let keyIsRight = true
      const { add, upload } = yield* client(legacy.transport, {
        send: (proceed, number) =>
          number === 1
            ? Effect.zipRight(proceed, Effect.fail(lost))
            : keyIsRight
            ? proceed
            : Effect.fail(refused(401))
      })
      yield* add("a", bytesOf(12))
      expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
      keyIsRight = false
      expect((yield* Effect.flip(upload()))._tag).toBe("KeyRefused")
      keyIsRight = true
      expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
      expect(inFile(legacy, "a")).toEqual(bytesOf(8))
    }))

  for (const when of ["before", "after"] as const) {
    it.scoped.each([0, 3, 10])(
      `never doubles a byte when it died ${when} any step (%i bytes)`,
      (size) =>
        Effect.gen(function*() {
          for (let at = 0;; at++) {
            const legacy = World.legacyServer()
            const store = yield* World.memoryStore
            const { dead, over, script } = yield* dying(at, when)
            const first = yield* client(legacy.transport, script, { store: over(store) })
            yield* first.add("a", bytesOf(size))
            const running = yield* Effect.fork(first.upload())
            const ended = yield* Effect.race(Effect.as(dead, false), Effect.as(Effect.exit(Fiber.join(running)), true))
            if (ended) {
              expect(at).toBeGreaterThan(size === 10 ? 10 : 4)
              break
            }
            yield* Fiber.interrupt(running)
            const had = inFile(legacy, "a") ?? new Uint8Array(0)
            expect(had).toEqual(bytesOf(size).subarray(0, had.length))
            const second = yield* client(legacy.transport, {}, { store })
            const [outcome] = (yield* second.upload()).outcomes
            const has = inFile(legacy, "a")
            if (outcome === undefined || outcome.state === "delivered") {
              expect(has).toEqual(bytesOf(size))
              expect(yield* second.buffered).toEqual([])
            } else {
              expect(outcome.state).toBe("unconfirmed")
              expect(size).toBeGreaterThan(0)
              expect(has ?? had).toEqual(had)
              // sent again on request, it is right if it had not arrived, and is one chunk too long if it had
              const settled = (yield* second.buffered)[0]!.settledBytes
              expect(states((yield* second.upload({ resendUnconfirmed: true })).outcomes)).toEqual(["delivered"])
              expect(inFile(legacy, "a")?.length).toBe(size + had.length - settled)
            }
          }
        })
    )
  }

  it.scoped("goes on from the chunk that was not sent after a restart", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { add, sends, upload } = yield* client(legacy.transport, failing(refused(401), 2))
      yield* add("a", bytesOf(16))
      expect((yield* Effect.flip(upload()))._tag).toBe("KeyRefused")
      const { outcomes } = yield* upload()
      expect(outcomes.map(({ serverName }) => serverName)).toEqual([Option.some("a")])
      expect(sends().map(({ offset }) => offset)).toEqual([0, 4, 8, 8, 12])
      expect(inFile(legacy, "a")).toEqual(bytesOf(16))
    }))

  it.scoped("goes on after a refusal without sending again what was acknowledged", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { add, upload } = yield* client(legacy.transport, failing(refused(400), 1))
      yield* add("a", bytesOf(12))
      expect(states((yield* upload()).outcomes)).toEqual(["failed"])
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(inFile(legacy, "a")).toEqual(bytesOf(12))
    }))

  it.scoped("starts anew when the server has become one of revision 2", () =>
    Effect.gen(function*() {
      const legacy = World.legacyServer()
      const { files, transport } = yield* World.server
      const store = yield* World.memoryStore
      const before = yield* client(legacy.transport, failing(refused(401), 2), { store })
      yield* before.add("a", bytesOf(12))
      yield* Effect.flip(before.upload())
      const after = yield* client(transport, {}, { store })
      expect(states((yield* after.upload()).outcomes)).toEqual(["delivered"])
      expect(yield* content(files, "a")).toEqual(bytesOf(12))
    }))
})

describe("Uploader, a file that the Python client had half sent", () => {
  /** A buffer in which the chunks before `firstIndex` are gone. */
  const halfSent = (firstIndex: number, size: number) =>
    Effect.gen(function*() {
      const store = yield* World.memoryStore
      const whole = (file: ChunkStore.BufferedFile) => ({ ...file, firstIndex, name: "/home/me/ü.bin" })
      const legacy: World.StoreService = {
        ...store,
        list: Stream.map(store.list, whole),
        get: (file) => Effect.map(store.get(file), whole)
      }
      return { store: legacy, bytes: bytesOf(size) }
    })

  it.scoped("goes on in revision 1 under its stored name, without headers of revision 2", () =>
    Effect.gen(function*() {
      const server = World.legacyServer()
      const { bytes, store } = yield* halfSent(3, 10)
      const { add, sends, upload } = yield* client(server.transport, {}, { store })
      yield* add("ü.bin", bytes)
      const { events, outcomes } = yield* upload()
      expect(outcomes.map(({ serverName, state }) => [state, serverName])).toEqual([[
        "delivered",
        Option.some("ü.bin")
      ]])
      expect(events.map((event) => event._tag).slice(0, 2)).toEqual(["Started", "Notice"])
      expect(sends().map(({ headers }) => [headers["x-chunk-index"], headers["x-file-name"]])).toEqual(
        [3, 4, 5].map((index) => [String(index), "/home/me/ü.bin"])
      )
      for (const { headers } of sends()) {
        for (const name of ["x-upload-id", "x-chunk-offset", "x-file-size", "x-file-name-encoding", "repr-digest"]) {
          expect(headers[name]).toBe(undefined)
        }
        expect(headers["if-match"]).toBe(undefined)
      }
      expect(inFile(server, "ü.bin")).toEqual(bytes)
    }))

  it.scoped("goes on at our server, which knows the chunks before", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const before = yield* client(transport)
      for (const index of [0, 1]) {
        yield* before.uploader.sendChunk({
          endpoint,
          bytes: bytesOf(4, 7 + index),
          index,
          fileName: "/home/me/ü.bin"
        })
      }
      const { bytes, store } = yield* halfSent(2, 6)
      const { add, upload } = yield* client(transport, {}, { store })
      yield* add("ü.bin", bytes)
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(yield* content(files, "ü.bin")).toEqual(Uint8Array.from([...bytesOf(4, 7), ...bytesOf(4, 8), ...bytes]))
    }))

  it.scoped("is given up, and not begun anew, when the server does not know it", () =>
    Effect.gen(function*() {
      const { bytes, store } = yield* halfSent(2, 8)
      const server = World.legacyServer()
      const { add, buffered, sends, upload } = yield* client(server.transport, failing(refused(412), 1), { store })
      yield* add("ü.bin", bytes)
      expect(states((yield* upload()).outcomes)).toEqual(["failed"])
      expect(sends().length).toBe(2)
      expect((yield* buffered)[0]).toMatchObject({ settledBytes: 4 })
      expect(inFile(server, "ü.bin")).toEqual(bytes.subarray(0, 4))
    }))

  it.scoped("is unconfirmed like any other after a lost answer", () =>
    Effect.gen(function*() {
      const { bytes, store } = yield* halfSent(2, 8)
      const server = World.legacyServer()
      const { add, upload } = yield* client(server.transport, losing(0), { store })
      yield* add("ü.bin", bytes)
      const { outcomes } = yield* upload()
      expect(states(outcomes)).toEqual(["unconfirmed"])
      expect(Option.getOrThrow(outcomes[0]!.error)).toContain("Chunk 2 ")
      expect(states((yield* upload()).outcomes)).toEqual(["unconfirmed"])
      expect(inFile(server, "ü.bin")).toEqual(bytes.subarray(0, 4))
    }))
})
