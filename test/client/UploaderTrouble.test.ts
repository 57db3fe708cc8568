/**
 * What the uploading program makes of each way in which an exchange can fail (PROTOCOL.md, "Errors").
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import type { Acknowledged, Refused, TransportError } from "../../src/client/Transport.ts"
import * as World from "../support/clientWorld.ts"

const { bytesOf, client, content, delays, down, failing, lost, refused, states } = World

describe("Uploader, passing trouble", () => {
  const troubles: ReadonlyArray<readonly [string, TransportError, "ask" | "send"]> = [
    ["a server that is not reached", down, "send"],
    ["no answer", lost, "ask"],
    ["408", refused(408), "ask"],
    ["425", refused(425), "send"],
    ["429", refused(429), "send"],
    ["500", refused(500), "ask"],
    ["502", refused(502), "ask"],
    ["503", refused(503), "ask"],
    ["504", refused(504), "ask"],
    ["507", refused(507), "ask"],
    ["a 5xx nobody knows", refused(599), "ask"]
  ]

  it.scoped.each(troubles)(
    "waits and sends the first chunk again after %s",
    ([, error, next]) =>
      Effect.gen(function*() {
        const { files, transport } = yield* World.server
        const { add, calls, sends, upload } = yield* client(transport, failing(error, 0))
        yield* add("a", bytesOf(6))
        const { events, outcomes } = yield* upload()
        expect(states(outcomes)).toEqual(["delivered"])
        // what the server may have got is asked for, not sent blindly
        expect(calls.map(({ _tag }) => _tag)).toEqual(
          next === "ask" ? ["send", "ask", "send", "send"] : [
            "send",
            "send",
            "send"
          ]
        )
        expect(sends().map(({ headers }) => [headers["x-upload-id"], headers["x-chunk-offset"], headers["if-match"]]))
          .toEqual([0, 0, 4].map((offset) => [sends()[0]!.id, String(offset), offset > 0 ? "*" : undefined]))
        expect(delays(events).length).toBe(1)
        expect(calls[1]!.at).toBeGreaterThanOrEqual(error === troubles[9]![1] ? 60_000 : 800)
        expect(yield* content(files, "a")).toEqual(bytesOf(6))
      })
  )

  it.scoped.each(troubles)("sends a later chunk again after %s", ([, error]) =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, calls, sends, upload } = yield* client(transport, failing(error, 1, 2))
      yield* add("a", bytesOf(6))
      const { events, outcomes } = yield* upload()
      expect(states(outcomes)).toEqual(["delivered"])
      expect(calls.map(({ _tag }) => _tag)).toEqual(["send", "send", "send", "send"])
      expect(sends()[2]!.headers).toEqual(sends()[1]!.headers)
      expect(sends()[3]!.headers).toEqual(sends()[1]!.headers)
      const [first = 0, second = 0] = delays(events)
      expect(sends()[2]!.at - sends()[1]!.at).toBeCloseTo(first, -1)
      expect(sends()[3]!.at - sends()[2]!.at).toBeCloseTo(second, -1)
      if (error !== troubles[9]![1]) expect([first, second].map((delay) => Math.round(delay / 1000))).toEqual([1, 2])
      expect(yield* content(files, "a")).toEqual(bytesOf(6))
    }))

  it.scoped("waits longer each time, but never longer than the longest delay", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const tries = Array.from({ length: 10 }, (_, number) => number)
      const { add, upload } = yield* client(transport, failing(down, ...tries), {
        retry: { initialDelay: "2 seconds", factor: 3, maxDelay: "30 seconds" }
      })
      yield* add("a", bytesOf(3))
      const waited = delays((yield* upload()).events)
      expect(waited.length).toBe(10)
      expect(Math.max(...waited)).toBeLessThanOrEqual(30_000)
      for (const [at, due] of [2000, 6000, 18_000, 25_000, 25_000].entries()) {
        expect(waited[at]).toBeGreaterThanOrEqual(due * 0.8)
        expect(waited[at]).toBeLessThanOrEqual(due * 1.2)
      }
      expect(Math.min(...waited.slice(3))).toBeGreaterThanOrEqual(20_000)
    }))

  it.scoped("begins with short delays again after a success", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, upload } = yield* client(transport, failing(down, 0, 1, 2, 4))
      yield* add("a", bytesOf(8))
      const seconds = delays((yield* upload()).events).map((delay) => Math.round(delay / 1000))
      expect(seconds.slice(0, 2)).toEqual([1, 2])
      expect(seconds[3]).toBe(1)
    }))

  it.scoped.each([429, 503])(
    "obeys Retry-After with %i, also beyond the longest delay",
    (status) =>
      Effect.gen(function*() {
        const { transport } = yield* World.server
        const { add, calls, upload } = yield* client(transport, failing(refused(status, { retryAfter: 300 }), 0, 2))
        yield* add("a", bytesOf(8))
        expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
        const [first, ...others] = calls
        expect(others[0]!.at - first!.at).toBeGreaterThanOrEqual(300_000)
        expect(calls.at(-1)!.at - calls.at(-2)!.at).toBeGreaterThanOrEqual(300_000)
      })
  )

  it.scoped("waits long when the server's disk is full", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, upload } = yield* client(transport, failing(refused(507), 1))
      yield* add("a", bytesOf(8))
      expect(delays((yield* upload()).events)).toEqual([60_000])
    }))

  it.scoped("gives up waiting after so many retries, keeps the file as it is, and goes on with the next", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, buffered, sends, upload } = yield* client(transport, {
        send: (proceed, _, { out }) => out.chunk.fileName === "a" ? Effect.fail(down) : proceed
      }, { retry: { maxRetries: 3 } })
      yield* add("a", bytesOf(8))
      yield* add("b", bytesOf(8))
      const { outcomes } = yield* upload()
      expect(states(outcomes)).toEqual(["waiting", "delivered"])
      expect(sends().filter(({ out }) => out.chunk.fileName === "a").length).toBe(4)
      expect((yield* buffered).map(({ failure, path }) => [path, failure])).toEqual([["a", Option.none()]])
      expect(yield* files.names).toEqual(["b"])
    }))

  it.scoped("gives up after the very first try when no other is allowed, and goes on when asked again", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, calls, upload } = yield* client(transport, failing(refused(507), 0), { retry: { maxRetries: 0 } })
      yield* add("a", bytesOf(8))
      const { events, outcomes } = yield* upload()
      expect(states(outcomes)).toEqual(["waiting"])
      expect(delays(events)).toEqual([])
      expect(calls.map(({ _tag }) => _tag)).toEqual(["send"])
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(yield* files.names).toEqual(["a"])
    }))

  it.scoped("gives up waiting for an answer to its question as well", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, calls, upload } = yield* client(
        transport,
        { ...failing(lost, 0), ask: () => Effect.fail(down) },
        { retry: { maxRetries: 2 } }
      )
      yield* add("a", bytesOf(8))
      expect(states((yield* upload()).outcomes)).toEqual(["waiting"])
      expect(calls.map(({ _tag }) => _tag)).toEqual(["send", "ask", "ask", "ask"])
    }))
})

describe("Uploader, refusals", () => {
  it.scoped.each([400, 402, 405, 407, 409, 410, 415, 418])(
    "gives a file up at %i, and goes on with the others",
    (status) =>
      Effect.gen(function*() {
        const { files, transport } = yield* World.server
        const { add, buffered, sends, upload } = yield* client(transport, failing(refused(status), 1))
        yield* add("a", bytesOf(8))
        yield* add("b", bytesOf(3))
        const { outcomes } = yield* upload()
        expect(states(outcomes)).toEqual(["failed", "delivered"])
        expect(Option.getOrThrow(outcomes[0]!.error)).toContain(String(status))
        expect(sends().length).toBe(3)
        const [kept] = yield* buffered
        expect(kept?.failure).toEqual(outcomes[0]!.error)
        expect(yield* files.names).toEqual(["b"])
        // asked for again, it is sent anew
        expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
        expect(yield* content(files, "a")).toEqual(bytesOf(8))
      })
  )

  it.scoped.each(
    [[401, "KeyRefused"], [403, "KeyRefused"], [404, "WrongEndpoint"]] as const
  )("stops at %i and keeps the buffer", ([status, tag]) =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      for (const at of [0, 1]) {
        const { add, buffered, calls, upload } = yield* client(transport, failing(refused(status), at))
        yield* add(`a${at}`, bytesOf(8))
        yield* add(`b${at}`, bytesOf(8))
        expect((yield* Effect.flip(upload()))._tag).toBe(tag)
        expect(calls.length).toBe(at + 1)
        expect((yield* buffered).map(({ failure }) => failure)).toEqual([Option.none(), Option.none()])
        expect(states((yield* upload()).outcomes)).toEqual(["delivered", "delivered"])
      }
      expect(yield* files.names).toEqual(["a0", "a1", "b0", "b1"])
    }))

  it.scoped("sends a body that arrived damaged again, five times at most", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const four = yield* client(transport, failing(refused(422), 1, 2, 3, 4))
      yield* four.add("a", bytesOf(8))
      expect(states((yield* four.upload()).outcomes)).toEqual(["delivered"])
      expect(four.sends().map(({ offset }) => offset)).toEqual([0, 4, 4, 4, 4, 4])
      const always = yield* client(transport, {
        send: (proceed, _, { out }) => out.chunk.fileName === "b" ? Effect.fail(refused(422)) : proceed
      })
      yield* always.add("b", bytesOf(8))
      yield* always.add("c", bytesOf(8))
      expect(states((yield* always.upload()).outcomes)).toEqual(["failed", "delivered"])
      expect(always.sends().filter(({ out }) => out.chunk.fileName === "b").length).toBe(5)
      expect(yield* files.names).toEqual(["a", "c"])
    }))

  it.scoped("never sends bytes that are damaged in the buffer", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const store = yield* World.memoryStore
      const damaged = yield* client(transport, {}, {
        store: {
          ...store,
          read: (file, from, to) =>
            Effect.flatMap(Effect.orDie(store.get(file)), ({ path }) =>
              path === "a" && from >= 4
                ? new ChunkStore.PieceDamaged({ file, offset: from, message: "damaged" })
                : store.read(file, from, to))
        }
      })
      yield* damaged.add("a", bytesOf(8))
      yield* damaged.add("b", bytesOf(8))
      const { outcomes } = yield* damaged.upload()
      expect(outcomes.map(({ error, state }) => [state, error])).toEqual([
        ["failed", Option.some("damaged")],
        ["delivered", Option.none()]
      ])
      expect(damaged.sends().map(({ out }) => out.chunk.fileName)).toEqual(["a", "b", "b"])
      expect((yield* damaged.buffered).map(({ failure }) => failure)).toEqual([Option.some("damaged")])
      expect(yield* files.names).toEqual(["b"])
    }))

  it.scoped("starts anew under another id when the server forgot the upload", () =>
    Effect.gen(function*() {
      const { files, receiver, transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed, number, { id }) =>
          number === 2 ? Effect.zipRight(Effect.orDie(receiver.abort({ name: "default" }, id!)), proceed) : proceed
      })
      yield* add("a", bytesOf(12))
      const { outcomes } = yield* upload()
      expect(states(outcomes)).toEqual(["delivered"])
      expect(sends().map(({ headers, offset }) => [offset, headers["if-match"]])).toEqual(
        [[0, undefined], [4, "*"], [8, "*"], [0, undefined], [4, "*"], [8, "*"]]
      )
      expect(new Set(sends().map(({ id }) => id)).size).toBe(2)
      expect(sends()[3]!.id).not.toBe(sends()[2]!.id)
      expect(yield* files.names).toEqual(["a"])
      expect(yield* content(files, "a")).toEqual(bytesOf(12))
    }))

  it.scoped("gives a file up when the server forgets it again and again", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed, _, { offset, out }) =>
          out.chunk.fileName === "a" && offset === 4 ? Effect.fail(refused(412)) : proceed
      })
      yield* add("a", bytesOf(8))
      yield* add("b", bytesOf(3))
      expect(states((yield* upload()).outcomes)).toEqual(["failed", "delivered"])
      expect(new Set(sends().map(({ id }) => id)).size).toBe(5)
    }))

  it.scoped("starts anew when a server that had answered no longer knows the upload after a restart", () =>
    Effect.gen(function*() {
      const store = yield* World.memoryStore
      const before = yield* client((yield* World.server).transport, {
        send: (proceed, number) => number < 2 ? proceed : Effect.fail(refused(401))
      }, { store })
      yield* before.add("a", bytesOf(12))
      yield* Effect.flip(before.upload())
      // the same address, but nothing is known there any more
      const { files, transport } = yield* World.server
      const after = yield* client(transport, {}, { store })
      const { events, outcomes } = yield* after.upload()
      expect(states(outcomes)).toEqual(["delivered"])
      expect(yield* content(files, "a")).toEqual(bytesOf(12))
      expect(after.sends().map(({ headers, offset }) => [offset, headers["if-match"]])).toEqual(
        [[0, undefined], [4, "*"], [8, "*"]]
      )
      expect(after.sends()[0]!.id).not.toBe(before.sends()[0]!.id)
      // what is told never falls
      const told = events.flatMap((event) =>
        event._tag === "Started" || event._tag === "Progress" ? event.acknowledged : []
      )
      expect(told).toEqual([8, 8, 8, 8, 12])
    }))
})

describe("Uploader, sizes of bodies", () => {
  const KiB = 1024
  const sized = { chunkSize: 1024 * KiB }
  const limited = (most: number, more: Partial<Refused> = {}): World.Script => ({
    send: (proceed, _, { length }) => length > most ? Effect.fail(refused(413, more)) : proceed
  })

  it.scoped("cuts what is missing smaller until the server takes it", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, limited(200 * KiB), sized)
      yield* add("a", bytesOf(600 * KiB))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(sends().map(({ length }) => length / KiB)).toEqual([600, 300, 150, 150, 150, 150])
      expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(600 * KiB))).toBe(0)
    }))

  it.scoped("asks what is missing before it cuts a later chunk smaller", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, calls, upload } = yield* client(transport, {
        send: (proceed, _, { length, offset }) =>
          offset! > 0 && length > 512 * KiB ? Effect.fail(refused(413)) : proceed
      }, sized)
      yield* add("a", bytesOf(2048 * KiB))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(calls.map((call) => call._tag === "send" ? call.offset! / KiB : "ask")).toEqual([
        0,
        1024,
        "ask",
        1024,
        1536
      ])
      expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(2048 * KiB))).toBe(0)
    }))

  it.scoped("does not cut below 64 KiB, gives the file up then, and goes on with the others", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, buffered, sends, upload } = yield* client(transport, limited(1000), sized)
      yield* add("a", bytesOf(1024 * KiB))
      yield* add("b", bytesOf(1000))
      expect(states((yield* upload()).outcomes)).toEqual(["failed", "delivered"])
      expect(sends().map(({ length }) => length)).toEqual([1024, 512, 256, 128, 64].map((n) => n * KiB).concat(1000))
      expect((yield* buffered).map(({ path }) => path)).toEqual(["a"])
    }))

  it.scoped.each([30 * KiB, 1])("sends what a 413 says would fit: %i bytes", (most) =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const size = Math.min(100 * KiB, most * 10)
      const { add, sends, upload } = yield* client(transport, limited(most, { maxBody: most }), sized)
      yield* add("a", bytesOf(100 * KiB).subarray(0, size))
      const { outcomes } = yield* upload()
      if (most === 1) return expect(states(outcomes)).toEqual(["failed"])
      expect(states(outcomes)).toEqual(["delivered"])
      expect(sends().map(({ length }) => length / KiB)).toEqual([100, 30, 30, 30, 10])
      expect(Buffer.compare((yield* content(files, "a"))!, bytesOf(size))).toBe(0)
    }))

  it.scoped("does not try for ever with a server that says it takes nothing", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, {
        send: (proceed, number, { length }) =>
          number > 20 ? Effect.dieMessage("for ever") : length > 0 ? Effect.fail(refused(413, { maxBody: 0 })) : proceed
      }, sized)
      yield* add("a", bytesOf(100 * KiB))
      expect(states((yield* upload()).outcomes)).toEqual(["failed"])
      expect(sends().length).toBe(2)
    }))

  const limits = (limit: Acknowledged["limit"]): World.Script => ({
    send: (proceed) => Effect.map(proceed, (answer) => ({ ...answer, limit }))
  })

  it.scoped("sends no longer bodies than an answer's Upload-Limit allows", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, limits({ maxAppendSize: 3 }))
      yield* add("a", bytesOf(11))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(sends().map(({ length, offset }) => [offset, length])).toEqual([[0, 4], [4, 3], [7, 1], [8, 3]])
      expect(yield* content(files, "a")).toEqual(bytesOf(11))
    }))

  it.scoped("joins adjacent bytes to bodies as long as an answer's Upload-Limit asks for", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, limits({ minAppendSize: 6 }))
      yield* add("a", bytesOf(21))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(sends().map(({ length, offset }) => [offset, length])).toEqual([[0, 4], [4, 6], [10, 6], [16, 5]])
      expect(yield* content(files, "a")).toEqual(bytesOf(21))
    }))
})
