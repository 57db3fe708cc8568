import { describe, expect, it } from "@effect/vitest"
import { Chunk, Context, Deferred, Effect, Either, Fiber, Layer, Option, Stream } from "effect"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as Source from "../../src/client/Source.ts"
import { type OutgoingBatch, Transport } from "../../src/client/Transport.ts"
import * as Uploader from "../../src/client/Uploader.ts"
import type * as UploadEvent from "../../src/client/UploadEvent.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import type { UploadId } from "../../src/protocol/UploadId.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadStore from "../../src/server/UploadStore.ts"
import * as TransportInProcess from "../../src/testing/TransportInProcess.ts"
import { opening } from "../contract/ChunkStore.ts"
import { down, endpoint, inTime, lost, memoryStore, refused, source, states } from "../support/clientWorld.ts"

type Service = Context.Tag.Service<Transport>
type Store = Context.Tag.Service<ChunkStore.ChunkStore>

const text = (words: string) => new TextEncoder().encode(words)

/** Our server, which takes batches. */
const server = Effect.map(
  Layer.build(
    TransportInProcess.layer({ batches: true }).pipe(
      Layer.provideMerge(Receiver.layer()),
      Layer.provideMerge(
        Layer.mergeAll(UploadStore.layerMemory, UploadLedger.layerMemory, FilenameGenerator.layerMemory)
      )
    )
  ),
  (context) => ({
    transport: Context.get(context, Transport),
    files: Context.get(context, UploadStore.MemoryFiles)
  })
)

/** What went out: the files of batches, and the names of chunks. */
interface Sent {
  readonly chunks: Array<string>
  readonly asks: Array<UploadId>
  readonly batches: Array<ReadonlyArray<string>>
}

type SendBatch = (
  proceed: ReturnType<Service["sendBatch"]>,
  number: number,
  batch: OutgoingBatch
) => ReturnType<Service["sendBatch"]>

const watched = (over: Service, sent: Sent, sendBatch: SendBatch): Service => ({
  ...over,
  send: (out) =>
    Effect.suspend(() => {
      sent.chunks.push(out.chunk.fileName)
      return over.send(out)
    }),
  state: (...of) =>
    Effect.suspend(() => {
      sent.asks.push(of[1])
      return over.state(...of)
    }),
  sendBatch: (batch) =>
    Effect.suspend(() => {
      const number = sent.batches.push(batch.files.map(({ clientFilename }) => clientFilename)) - 1
      return sendBatch(over.sendBatch(batch), number, batch)
    })
})

const client = (
  over: Service,
  store: Store,
  sendBatch: SendBatch = (proceed) => proceed,
  options: Partial<Uploader.UploaderOptions> = {}
) =>
  Effect.gen(function*() {
    const sent: Sent = { chunks: [], asks: [], batches: [] }
    const context = yield* Layer.build(
      Uploader.layer({ parallel: 1, ...options }).pipe(
        Layer.provide(Layer.succeed(ChunkStore.ChunkStore, store)),
        Layer.provide(Layer.succeed(Transport, watched(over, sent, sendBatch)))
      )
    )
    return { uploader: Context.get(context, Uploader.Uploader), sent }
  }).pipe(Effect.orDie)

const names = (count: number) => Array.from({ length: count }, (_, at) => `${at}.txt`)

/** Files in a buffer, each with its name as its content. */
const filled = (uploader: Context.Tag.Service<Uploader.Uploader>, files: ReadonlyArray<string>) =>
  Effect.forEach(files, (name) => Effect.orDie(uploader.add(source(name, text(name)))), { discard: true })

const collect = <E>(events: Stream.Stream<UploadEvent.UploadEvent, E>) =>
  inTime(Effect.map(Stream.runCollect(events), (all) => {
    const events = Chunk.toReadonlyArray(all)
    return { events, outcomes: events.filter((event) => event._tag === "Finished") }
  }))

const has = (files: Effect.Effect.Success<typeof server>["files"], expected: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    expect(yield* files.names).toEqual(expected.toSorted())
    for (const name of expected) {
      expect(new TextDecoder().decode(Option.getOrThrow(yield* files.read(name)))).toBe(name)
    }
  })

describe("Uploader, small files", () => {
  it.scoped("sends the first alone and the others together, and tells of each", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* server
      const store = yield* memoryStore
      const { sent, uploader } = yield* client(transport, store)
      yield* filled(uploader, names(40))
      const { events, outcomes } = yield* collect(uploader.upload({ endpoint }))
      expect(sent.chunks).toEqual(["0.txt"])
      expect(sent.batches.flat().toSorted()).toEqual(names(40).slice(1).toSorted())
      expect(sent.batches.length).toBeLessThan(5)
      yield* has(files, names(40))
      for (const name of names(40)) {
        const about = events.flatMap((event) => "path" in event && event.path === name ? [event] : [])
        expect(about.map(({ _tag }) => _tag)).toEqual(["Started", "Progress", "Finished"])
        expect(about[1]).toMatchObject({ acknowledged: text(name).length })
        expect(about[2]).toMatchObject({
          state: "delivered",
          serverName: Option.some(name),
          size: text(name).length,
          sha256: Option.some(Sha256.of(text(name))),
          error: Option.none()
        })
      }
      expect(outcomes).toHaveLength(40)
      expect(yield* Stream.runCount(uploader.list)).toBe(0)
      const receipts = Chunk.toReadonlyArray(yield* Stream.runCollect(uploader.receipts))
      expect(receipts.map(({ path }) => path).toSorted()).toEqual(names(40).toSorted())
      expect(receipts.every(({ endpoint: at, revision }) => at === endpoint && revision === 2)).toBe(true)
    }))

  it.scoped("sends no batches where no server has said that it takes them", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* server
      const silent: Service = {
        ...transport,
        send: (out) => Effect.map(transport.send(out), ({ limit, receipt }) => ({ limit, receipt }))
      }
      const { sent, uploader } = yield* client(silent, yield* memoryStore)
      yield* filled(uploader, names(5))
      yield* collect(uploader.upload({ endpoint }))
      expect(sent.batches).toEqual([])
      yield* has(files, names(5))
    }))

  it.scoped("keeps to what the server takes, in files and in bytes", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* server
      const narrow = (maxFiles: number, maxSize: number): Service => ({
        ...transport,
        send: (out) => Effect.map(transport.send(out), (answer) => ({ ...answer, batch: { maxFiles, maxSize } }))
      })
      const one = yield* client(narrow(3, 1e6), yield* memoryStore)
      yield* filled(one.uploader, names(20))
      yield* collect(one.uploader.upload({ endpoint }))
      expect(Math.max(...one.sent.batches.map((batch) => batch.length))).toBe(3)
      yield* has(files, names(20))
      const sizes: Array<number> = []
      const two = yield* client(narrow(100, 1500), yield* memoryStore, (proceed, _, batch) => {
        sizes.push(batch.files.reduce((sum, { size }) => sum + size, 0))
        return proceed
      })
      yield* filled(two.uploader, [...names(30).map((name) => `again ${name}`), "x".repeat(2000)])
      yield* collect(two.uploader.upload({ endpoint }))
      expect(Math.max(...sizes)).toBeLessThan(1500)
      expect(two.sent.chunks).toContain("x".repeat(2000))
    }))

  it.scoped.each(
    [
      ["no answer, and nothing arrived", () => Effect.fail(down)],
      ["no answer, and all arrived", (proceed: ReturnType<Service["sendBatch"]>) => Effect.zipRight(proceed, lost)],
      ["a server that is busy", () => refused(503)],
      ["a server that is full", () => refused(507)],
      ["a server that knows no batches any more", () => refused(404)],
      ["a body too large", () => refused(413)],
      ["a malformed body", () => refused(400)],
      [
        "an answer that says nothing of any file",
        (proceed: ReturnType<Service["sendBatch"]>) => Effect.map(proceed, (all) => all.map(() => Option.none()))
      ],
      [
        "an answer that says nothing of some",
        (proceed: ReturnType<Service["sendBatch"]>) =>
          Effect.map(proceed, (all) => all.map((name, at) => at % 2 === 0 ? name : Option.none()))
      ]
    ] as const
  )("delivers each file once after %s", ([, first]) =>
    Effect.gen(function*() {
      const { files, transport } = yield* server
      const { sent, uploader } = yield* client(
        transport,
        yield* memoryStore,
        (proceed, number) => number === 0 ? first(proceed) : proceed
      )
      yield* filled(uploader, names(12))
      const { outcomes } = yield* collect(uploader.upload({ endpoint }))
      expect(states(outcomes)).toEqual(names(12).map(() => "delivered"))
      yield* has(files, names(12))
      // each goes on under the id that it had, so it is asked for first
      expect(new Set(sent.asks).size).toBeGreaterThan(0)
    }))

  /** Adds a file, and the next one when it has ended, until there were so many. */
  const oneByOne = (uploader: Context.Tag.Service<Uploader.Uploader>, count: number) =>
    Effect.gen(function*() {
      const ended = yield* Deferred.make<void>()
      let next = 1
      yield* filled(uploader, names(1))
      const watching = yield* Effect.fork(
        Stream.runForEach(uploader.watch({ endpoint }), (event) =>
          event._tag !== "Finished"
            ? Effect.void
            : next < count
            ? filled(uploader, [`${next++}.txt`])
            : Deferred.succeed(ended, undefined))
      )
      yield* inTime(Deferred.await(ended))
      yield* Fiber.interrupt(watching)
    })

  it.scoped("sends a file that comes alone at once", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* server
      const { sent, uploader } = yield* client(transport, yield* memoryStore)
      yield* oneByOne(uploader, 3)
      expect(sent.batches).toEqual([["1.txt"], ["2.txt"]])
      yield* has(files, names(3))
    }))

  it.scoped("gives up on batches that never get through, and delivers each file by itself", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* server
      const { sent, uploader } = yield* client(transport, yield* memoryStore, () => refused(400))
      yield* oneByOne(uploader, 6)
      expect(sent.batches).toEqual([["1.txt"], ["2.txt"], ["3.txt"]])
      yield* has(files, names(6))
    }))

  it.scoped("stops with a key that is refused", () =>
    Effect.gen(function*() {
      const { transport } = yield* server
      let refuses = false
      const { uploader } = yield* client(
        { ...transport, state: () => refused(401), send: (out) => refuses ? refused(401) : transport.send(out) },
        yield* memoryStore,
        () => {
          refuses = true
          return refused(401)
        }
      )
      yield* filled(uploader, names(5))
      expect(yield* Effect.flip(collect(uploader.upload({ endpoint })))).toMatchObject({ _tag: "KeyRefused" })
      const left = Chunk.toReadonlyArray(yield* Stream.runCollect(uploader.list))
      expect(left).toHaveLength(4)
      expect(left.every(({ held }) => !held)).toBe(true)
    }))

  it.scoped("goes on after its death at any point, and each file arrives once", () =>
    Effect.gen(function*() {
      for (const when of ["before", "after"] as const) {
        for (let at = 0; at < 4; at++) {
          const { files, transport } = yield* server
          const store = yield* memoryStore
          const dead = yield* Deferred.make<void>()
          let number = 0
          const here = Effect.zipRight(Deferred.succeed(dead, undefined), Effect.never)
          const step = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
            Effect.suspend(() => number++ !== at ? effect : when === "before" ? here : Effect.zipRight(effect, here))
          const dying: Store = {
            ...store,
            startAll: (files) => step(store.startAll(files)),
            readAll: (files) => step(store.readAll(files)),
            deliveredAll: (files) => step(store.deliveredAll(files))
          }
          const one = yield* client(transport, dying, (proceed) => step(proceed))
          yield* filled(one.uploader, names(8))
          const run = yield* Effect.fork(Stream.runDrain(one.uploader.upload({ endpoint })))
          yield* Deferred.await(dead)
          yield* Fiber.interrupt(run)
          const two = yield* client(transport, store)
          yield* collect(two.uploader.upload({ endpoint }))
          yield* has(files, names(8))
          expect(yield* Stream.runCount(two.uploader.list)).toBe(0)
        }
      }
    }))

  it.scoped("sends sources from where they lie, and those alone that are no longer what they were", () =>
    Effect.gen(function*() {
      const { files, transport } = yield* server
      const store = yield* memoryStore
      const { sent, uploader } = yield* client(transport, store)
      const found = (name: string, reads: "well" | "changed" | "never"): Source.Source => {
        const bytes = text(name)
        const external: Source.External = {
          size: bytes.length,
          version: "v1",
          open: opening(bytes)
        }
        const looked = { ...external, bytes: reads === "well" ? Effect.succeedSome(bytes) : Effect.succeedNone }
        return {
          ...source(name, bytes),
          found: looked,
          external: reads === "never"
            ? Effect.fail(new Source.SourceError({ path: name, message: "gone" }))
            : Effect.succeed(external)
        }
      }
      const all = [
        ...names(6).map((name) => found(name, "well")),
        found("changed", "changed"),
        found("never", "never"),
        found("last", "well")
      ]
      const { events, outcomes } = yield* collect(
        uploader.bufferAndUpload(Stream.fromIterable(all).pipe(Stream.map(Either.right)), { endpoint })
      )
      expect(states(outcomes)).toEqual(Array.from({ length: 8 }, () => "delivered"))
      expect(events.filter(({ _tag }) => _tag === "Skipped")).toMatchObject([{ path: "never", message: "gone" }])
      expect(sent.chunks.toSorted()).toEqual(["0.txt", "changed"])
      yield* has(files, [...names(6), "changed", "last"])
      expect(Chunk.size(yield* Stream.runCollect(uploader.receipts))).toBe(8)
    }))
})
