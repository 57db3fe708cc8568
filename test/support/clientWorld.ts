/**
 * The client in memory: an uploader over a buffer and a transport whose exchanges are recorded and can be tampered with.
 *
 * @module
 */
import { Chunk, Context, Deferred, Effect, Fiber, Layer, Option, type Scope, Stream, TestClock } from "effect"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as Source from "../../src/client/Source.ts"
import * as Transport from "../../src/client/Transport.ts"
import * as Uploader from "../../src/client/Uploader.ts"
import type * as UploadEvent from "../../src/client/UploadEvent.ts"
import * as ChunkHeaders from "../../src/protocol/ChunkHeaders.ts"
import * as FileName from "../../src/protocol/FileName.ts"
import type { UploadId } from "../../src/protocol/UploadId.ts"
import type { UploadState } from "../../src/protocol/UploadState.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadStore from "../../src/server/UploadStore.ts"
import * as TransportInProcess from "../../src/testing/TransportInProcess.ts"

export type TransportService = Context.Tag.Service<Transport.Transport>
export type StoreService = Context.Tag.Service<ChunkStore.ChunkStore>

export const endpoint = "http://server/upload"

/** Bytes that differ from place to place. */
export const bytesOf = (length: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length }, (_, at) => (at * 31 + seed * 17 + (at >> 8)) % 251)

export const source = (name: string, bytes: Uint8Array): Source.Source => Source.stream(name, Stream.make(bytes))

/** A chunk that was sent. */
export interface Send {
  readonly _tag: "send"
  readonly out: Transport.Outgoing
  /** As they would go over a wire. */
  readonly headers: Readonly<Record<string, string>>
  /** In the file, without what the Python client had sent; of a request of revision 1, `undefined`. */
  readonly offset: number | undefined
  readonly id: UploadId | undefined
  readonly length: number
}

/** A question for an upload's state. */
export interface Ask {
  readonly _tag: "ask"
  readonly id: UploadId
}

/** Milliseconds on the test clock. */
export type Call = (Send | Ask) & { readonly at: number }

type Acknowledging = Effect.Effect<Transport.Acknowledged, Transport.TransportError>
type Telling = Effect.Effect<Option.Option<UploadState>, Transport.TransportError>

/** What becomes of exchanges; `number` counts sends and asks apart, from 0. `proceed` is what the server does. */
export interface Script {
  readonly send?: (proceed: Acknowledging, number: number, send: Send) => Acknowledging
  readonly ask?: (proceed: Telling, number: number) => Telling
}

/** A transport that records and follows the script. */
const scripted = (over: TransportService, script: Script, calls: Array<Call>): TransportService => {
  let sends = 0
  let asks = 0
  return {
    send: (out) =>
      Effect.gen(function*() {
        const upload = Option.getOrUndefined(out.chunk.upload)
        const send: Send = {
          _tag: "send",
          out,
          headers: ChunkHeaders.encode(out.chunk),
          offset: upload?.offset,
          id: upload?.id,
          length: out.body.length
        }
        const number = sends++
        calls.push({ ...send, at: yield* Effect.clockWith((clock) => clock.currentTimeMillis) })
        const proceed = over.send(out)
        return yield* script.send?.(proceed, number, send) ?? proceed
      }),
    sendBatch: over.sendBatch,
    state: (url, id, check) =>
      Effect.gen(function*() {
        const number = asks++
        calls.push({ _tag: "ask", id, at: yield* Effect.clockWith((clock) => clock.currentTimeMillis) })
        const proceed = over.state(url, id, check)
        return yield* script.ask?.(proceed, number) ?? proceed
      }),
    abort: over.abort
  }
}

const layerServer = TransportInProcess.layer().pipe(
  Layer.provideMerge(Receiver.layer()),
  Layer.provideMerge(
    Layer.mergeAll(UploadStore.layerMemory, UploadLedger.layerMemory, FilenameGenerator.layerMemory)
  )
)

/** Our server without disks, and the way to it without sockets. */
export const server = Effect.map(Layer.build(layerServer), (context) => ({
  transport: Context.get(context, Transport.Transport),
  receiver: Context.get(context, Receiver.Receiver),
  files: Context.get(context, UploadStore.MemoryFiles)
}))

/** A revision-1 server: it appends whatever comes to the base name. */
export const legacyServer = () => {
  const files = new Map<string, Uint8Array>()
  const transport: TransportService = {
    send: ({ body, chunk }) =>
      Effect.sync(() => {
        const sent = ChunkHeaders.encode(chunk)["x-file-name"]!
        const name = FileName.base(sent)
        files.set(name, Buffer.concat([files.get(name) ?? new Uint8Array(0), body]))
        return {
          limit: {},
          receipt: {
            message: "Chunk received",
            actualFilename: name,
            chunkIndex: chunk.index,
            clientFilename: sent
          }
        }
      }),
    sendBatch: () => Effect.fail(new Transport.Refused({ status: 404, error: "Not Found", message: "Not Found" })),
    state: () => Effect.fail(new Transport.Refused({ status: 404, error: "Not Found", message: "Not Found" })),
    abort: () => Effect.void
  }
  return { files, transport }
}

export const memoryStore: Effect.Effect<StoreService, never, Scope.Scope> = Effect.map(
  Layer.build(ChunkStore.layerMemory),
  Context.get(ChunkStore.ChunkStore)
)

export interface Client {
  readonly uploader: Context.Tag.Service<Uploader.Uploader>
  readonly store: StoreService
  readonly calls: Array<Call>
  readonly sends: () => ReadonlyArray<Send & { readonly at: number }>
  readonly add: (name: string, bytes: Uint8Array) => Effect.Effect<ChunkStore.BufferedFile>
  readonly buffered: Effect.Effect<ReadonlyArray<ChunkStore.BufferedFile>>
  /** Uploads all there is, however long it takes on the test clock. */
  readonly upload: (
    options?: Partial<Uploader.UploadOptions>
  ) => Effect.Effect<
    { readonly events: ReadonlyArray<UploadEvent.UploadEvent>; readonly outcomes: ReadonlyArray<UploadEvent.Outcome> },
    Uploader.UploadError
  >
}

/** A client whose chunks have 4 bytes unless it is told otherwise. */
export const client = (
  over: TransportService,
  script: Script = {},
  options: Partial<Uploader.UploaderOptions> & { readonly store?: StoreService } = {}
): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function*() {
    const calls: Array<Call> = []
    const store = options.store ?? (yield* memoryStore)
    const context = yield* Layer.build(
      Uploader.layer({ chunkSize: 4, largestBody: 4, parallel: 1, ...options }).pipe(
        Layer.provide(Layer.succeed(ChunkStore.ChunkStore, store)),
        Layer.provide(Layer.succeed(Transport.Transport, scripted(over, script, calls)))
      )
    )
    const uploader = Context.get(context, Uploader.Uploader)
    const client: Client = {
      uploader,
      store,
      calls,
      sends: () => calls.filter((call) => call._tag === "send"),
      add: (name, bytes) => Effect.map(uploader.add(source(name, bytes)), ({ file }) => file).pipe(Effect.orDie),
      buffered: Effect.map(Stream.runCollect(store.list), Chunk.toReadonlyArray).pipe(Effect.orDie),
      upload: (asked) =>
        inTime(Effect.map(Stream.runCollect(uploader.upload({ endpoint, ...asked })), (all) => {
          const events = Chunk.toReadonlyArray(all)
          return { events, outcomes: events.filter((event) => event._tag === "Finished") }
        }))
    }
    return client
  }).pipe(Effect.orDie)

/** Runs to the end, letting as much time pass on the test clock as is waited for. */
export const inTime = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(effect)
    while (Option.isNone(yield* Fiber.poll(fiber))) yield* TestClock.adjust("10 minutes")
    return yield* Fiber.join(fiber)
  })

export const refused = (status: number, more: Partial<Transport.Refused> = {}) =>
  new Transport.Refused({ status, error: "No", message: `The server answered ${status}`, ...more })
export const lost = new Transport.NoAnswer({ message: "The connection broke" })
export const down = new Transport.Unreachable({ message: "The server cannot be reached" })

export const content = (files: Effect.Effect.Success<typeof server>["files"], name: string) =>
  Effect.map(files.read(name), (found) => Option.getOrUndefined(Option.map(found, (bytes) => Uint8Array.from(bytes))))

export const delays = (events: ReadonlyArray<UploadEvent.UploadEvent>) =>
  events.flatMap((event) => event._tag === "Waiting" ? [event.delay] : [])

export const states = (outcomes: ReadonlyArray<{ readonly state: string }>) => outcomes.map(({ state }) => state)

/** Fails the sends with these numbers, before or after the server has got them. */
export const failing = (error: Transport.TransportError, ...numbers: ReadonlyArray<number>): Script => ({
  send: (proceed, number) => numbers.includes(number) ? Effect.fail(error) : proceed
})
export const losing = (...numbers: ReadonlyArray<number>): Script => ({
  send: (proceed, number) => numbers.includes(number) ? Effect.zipRight(proceed, Effect.fail(lost)) : proceed
})

/** Changes the receipt of the send with this number. */
export const receipt = (
  at: number,
  change: (acknowledged: Transport.Acknowledged["receipt"]) => object
): Script => ({
  send: (proceed, number) =>
    number === at
      ? Effect.map(
        proceed,
        (answer) => ({ ...answer, receipt: change(answer.receipt) as Transport.Acknowledged["receipt"] })
      )
      : proceed
})

/** Dies before or after one of the steps that change something: exchanges and writes to the buffer. */
export const dying = (at: number, when: "before" | "after") =>
  Effect.gen(function*() {
    const dead = yield* Deferred.make<void>()
    let number = 0
    const here = Effect.zipRight(Deferred.succeed(dead, undefined), Effect.never)
    const step = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.suspend(() => number++ !== at ? effect : when === "before" ? here : Effect.zipRight(effect, here))
    const over = (store: StoreService): StoreService => ({
      ...store,
      claim: (file) => Effect.zipLeft(store.claim(file), step(Effect.void)),
      startDelivery: (...args) => step(store.startDelivery(...args)),
      settle: (...args) => step(store.settle(...args)),
      remember: (...args) => step(store.remember(...args)),
      delivered: (...args) => step(store.delivered(...args)),
      drop: (...args) => step(store.drop(...args))
    })
    const script: Script = { send: step, ask: step }
    return { dead: Deferred.await(dead), over, script }
  })

export const inFile = (legacy: ReturnType<typeof legacyServer>, name: string) =>
  legacy.files.has(name) ? Uint8Array.from(legacy.files.get(name)!) : undefined
