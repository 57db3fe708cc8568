/**
 * The uploading program where answers are lost, contradict each other, or come late.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import type { TransportError } from "../../src/client/Transport.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import type { UploadState } from "../../src/protocol/UploadState.ts"
import * as World from "../support/clientWorld.ts"

const { bytesOf, client, content, losing, lost, receipt, refused, states } = World

describe("Uploader, lost answers", () => {
  it.scoped.each([0, 1, 2])("delivers once when the answer to chunk %i is lost", (at) =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, calls, sends, upload } = yield* client(transport, losing(at))
      yield* add("a", bytesOf(10))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(yield* files.names).toEqual(["a"])
      expect(yield* content(files, "a")).toEqual(bytesOf(10))
      expect(new Set(sends().map(({ id }) => id)).size).toBe(1)
      // with the revision unknown, the server is asked; then the same chunk is a repeat
      expect(calls.map((call) => call._tag === "send" ? call.offset : "ask")).toEqual(
        [[0, "ask", 4, 8], [0, 4, 4, 8], [0, 4, 8, 8]][at]
      )
      if (at === 0) expect(sends()[1]!.headers["if-match"]).toBe("*")
    }))

  it.scoped.each([0, 1])(
    "delivers a file of one chunk once when its answer is lost (%i bytes)",
    (size) =>
      Effect.gen(function*() {
        const { files, transport } = yield* World.server
        const { add, sends, upload } = yield* client(transport, losing(0))
        yield* add("a", bytesOf(size))
        const { outcomes } = yield* upload()
        expect(outcomes.map(({ serverName }) => serverName)).toEqual([Option.some("a")])
        expect(sends().length).toBe(1)
        expect(yield* files.names).toEqual(["a"])
      })
  )

  it.scoped("asks until it gets an answer, when also those to its questions are lost", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, calls, upload } = yield* client(transport, {
        ...losing(0),
        ask: (proceed, number) => number < 3 ? Effect.fail(number === 1 ? refused(502) : lost) : proceed
      })
      yield* add("a", bytesOf(8))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(calls.map(({ _tag }) => _tag)).toEqual(["send", "ask", "ask", "ask", "ask", "send"])
      expect(yield* content(files, "a")).toEqual(bytesOf(8))
    }))

  it.scoped("stops a file when a server that spoke revision 2 answers in revision 1", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* World.server
      const { add, buffered, calls, upload } = yield* client(
        transport,
        receipt(1, ({ actualFilename, chunkIndex, clientFilename, message }) => ({
          actualFilename,
          chunkIndex,
          clientFilename,
          message
        }))
      )
      yield* add("a", bytesOf(12))
      yield* add("b", bytesOf(3))
      expect(states((yield* upload()).outcomes)).toEqual(["failed", "delivered"])
      expect(calls.length).toBe(3)
      expect((yield* buffered).length).toBe(1)
      expect(yield* files.names).toEqual(["b"])
    }))
})

describe("Uploader, what the server says is missing", () => {
  /** A server whose first answer is lost, and that then says this. */
  const says = (more: Partial<UploadState>): World.Script => ({
    send: (proceed, number, { headers, id, out }) =>
      number === 0
        ? Effect.zipRight(proceed, Effect.fail(lost))
        : Effect.succeed({
          limit: {},
          receipt: {
            message: "Chunk received",
            actualFilename: "a",
            chunkIndex: out.chunk.index,
            clientFilename: headers["x-file-name"]!,
            uploadId: id!,
            duplicate: false,
            bytesReceived: 0,
            complete: false
          }
        }),
    ask: (proceed, number) =>
      Effect.map(
        proceed,
        Option.map((state) =>
          number === 0 ? { ...state, ...more } : { ...state, missing: [], state: "complete", complete: true, size: 10 }
        )
      )
  })

  it.scoped.each<readonly [string, Partial<UploadState>, ReadonlyArray<ReadonlyArray<number>>]>([
    ["all behind what it has, when it does not know the size", { size: null, missing: [] }, [[4, 4], [8, 2]]],
    ["the gaps too", { size: null, missing: [[1, 2]], bytesReceived: 3 }, [[1, 1], [4, 4], [8, 2]]],
    ["nothing behind the end of the file", { missing: [[4, 4000]] }, [[4, 4], [8, 2]]]
  ])("sends %s", ([, more, wanted]) =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, sends, upload } = yield* client(transport, says(more))
      yield* add("a", bytesOf(10))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(sends().slice(1).map(({ length, offset }) => [offset, length])).toEqual(wanted)
    }))
})

describe("Uploader, the end of a file", () => {
  const finishing = (proceed: Effect.Effect<Option.Option<UploadState>, TransportError>) =>
    Effect.map(proceed, Option.map((state) => ({ ...state, state: "finishing" as const, complete: false })))
  const unfinished = receipt(
    1,
    ({ ...receipt }) => ({ ...receipt, complete: false, size: undefined, sha256: undefined })
  )

  it.scoped("asks about an upload that is being finished until it is complete", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, calls, upload } = yield* client(transport, {
        ...unfinished,
        ask: (proceed, number) => number < 4 ? finishing(proceed) : proceed
      })
      yield* add("a", bytesOf(8))
      const { outcomes } = yield* upload()
      expect(states(outcomes)).toEqual(["delivered"])
      const asks = calls.filter(({ _tag }) => _tag === "ask").map(({ at }) => at)
      expect(asks).toEqual([0, 1000, 2000, 3000, 4000])
    }))

  it.scoped("gives a file up when the server says that it failed", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, buffered, upload } = yield* client(transport, {
        ...unfinished,
        ask: Effect.map(Option.map((state) => ({ ...state, state: "failed" as const, complete: false })))
      })
      yield* add("a", bytesOf(8))
      expect(states((yield* upload()).outcomes)).toEqual(["failed"])
      expect((yield* buffered).map(({ failure }) => Option.isSome(failure))).toEqual([true])
    }))

  it.scoped("sends what the server says is missing at the end", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const { add, calls, upload } = yield* client(transport, {
        send: (proceed, number) =>
          number === 2
            ? Effect.map(proceed, (answer) => ({ ...answer, receipt: { ...answer.receipt, complete: false } as never }))
            : proceed,
        ask: (proceed, number) =>
          number === 0
            ? Effect.map(
              proceed,
              Option.map((state) => ({ ...state, state: "receiving" as const, complete: false, missing: [[2, 6]] }))
            )
            : proceed
      })
      yield* add("a", bytesOf(10))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      expect(calls.map((call) => call._tag === "send" ? [call.offset, call.length] : "ask").slice(3, 5)).toEqual(
        ["ask", [2, 2]]
      )
    }))

  it.scoped("closes an upload with an empty chunk when the server lacks nothing but to be told so, and does not hurry", () =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const receiving = Effect.map(
        Option.map((state: UploadState) => ({ ...state, size: null, state: "receiving" as const, complete: false }))
      )
      const { add, calls, upload } = yield* client(transport, {
        send: (proceed, number) =>
          number >= 1 && number <= 4
            ? Effect.map(proceed, (answer) => ({ ...answer, receipt: { ...answer.receipt, complete: false } as never }))
            : proceed,
        ask: (proceed) => receiving(proceed)
      })
      yield* add("a", bytesOf(8))
      expect(states((yield* upload()).outcomes)).toEqual(["delivered"])
      const closings = calls.flatMap((call) => call._tag === "send" && call.offset === 8 ? [call] : [])
      expect(closings.length).toBe(4)
      expect(closings[0]).toMatchObject({ length: 0 })
      expect(closings[0]!.headers).toMatchObject({
        "x-file-size": "8",
        "repr-digest": Sha256.toHeader(Sha256.of(bytesOf(8)))
      })
      expect(closings[3]!.at - closings[0]!.at).toBeGreaterThanOrEqual(3000)
    }))

  it.scoped.each([
    ["size", { size: 7 }],
    ["SHA-256", { sha256: Sha256.empty }]
  ])("never calls a file delivered whose receipt has another %s", ([, wrong]) =>
    Effect.gen(function*() {
      const { transport } = yield* World.server
      const inReceipt = yield* client(transport, receipt(1, (right) => ({ ...right, ...(wrong as object) })))
      yield* inReceipt.add("a", bytesOf(8))
      expect(states((yield* inReceipt.upload()).outcomes)).toEqual(["failed"])
      expect((yield* inReceipt.buffered).length).toBe(1)
      const inState = yield* client(transport, {
        ...unfinished,
        ask: Effect.map(Option.map((state) => ({ ...state, ...(wrong as object) })))
      })
      yield* inState.add("b", bytesOf(8))
      expect(states((yield* inState.upload()).outcomes)).toEqual(["failed"])
      expect((yield* inState.buffered).length).toBe(1)
    }))
})
