/**
 * Deliveries for the proofs: one or two clients, a bad network and a server, any of which may die at any step, until
 * every file has ended one way or the other.
 *
 * @module
 */
import {
  Chunk,
  Context,
  Deferred,
  Effect,
  Exit,
  Fiber,
  FiberId,
  Layer,
  Option,
  Random,
  type Scope,
  Stream
} from "effect"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as Source from "../../src/client/Source.ts"
import * as Transport from "../../src/client/Transport.ts"
import * as Uploader from "../../src/client/Uploader.ts"
import type { Outcome } from "../../src/client/UploadEvent.ts"
import * as FileName from "../../src/protocol/FileName.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { Identifiers } from "../../src/protocol/UploadId.ts"
import { Receiver } from "../../src/server/Receiver.ts"
import * as TransportFaulty from "../../src/testing/TransportFaulty.ts"
import * as TransportInProcess from "../../src/testing/TransportInProcess.ts"
import * as Fuses from "./proofFuse.ts"
import { type Chance, chance, handClock, type Tally } from "./proofRun.ts"
import { bytes, memoryDisk, ProofServer, turns } from "./proofServer.ts"

type Service = Context.Tag.Service<Transport.Transport>

/** What receives: our server, our server as revision 1 sees it, or an old one that appends. */
export type Receiving = "revision 2" | "revision 1" | "appending"

export const deliveryFaults: ReadonlySet<string> = new Set([
  "dropped",
  "cut",
  "flipped",
  "repeated",
  "answer lost",
  "delayed",
  "late",
  "server restart",
  "server killed",
  "server killed within",
  "client restart",
  "client killed within"
])

const kinds: Record<TransportFaulty.Fault["_tag"], string> = {
  Dropped: "dropped",
  Cut: "cut",
  Flipped: "flipped",
  Repeated: "repeated",
  AnswerLost: "answer lost",
  Delayed: "delayed",
  Late: "late"
}

/** An old server cannot tell a repeat or damage, whoever the client is: there the network does neither. */
const odds: Record<1 | 2, Partial<TransportFaulty.Odds>> = {
  1: { dropped: 0.2, cut: 0.04, answerLost: 0.04, delayed: 0.1 },
  2: { dropped: 0.08, cut: 0.06, answerLost: 0.06, delayed: 0.02, flipped: 0.05, repeated: 0.05, late: 0.04 }
}

interface Server {
  readonly transport: Service
  /** Dies or ends, and starts again. */
  readonly restart: (crashes: boolean) => Effect.Effect<void>
  /** Runs an exchange in which the server may die; then there is no answer. */
  readonly fragile: <A>(
    exchange: Effect.Effect<A, Transport.TransportError>,
    fuse: Fuses.Fuse
  ) => Effect.Effect<A, Transport.TransportError>
  readonly visible: Effect.Effect<Record<string, string>>
}

const noAnswer = new Transport.NoAnswer({ message: "The server died" })

/** Our server; each process has its own transport. */
const receiver = (clock: ReturnType<typeof handClock>): Effect.Effect<Server, never, Scope.Scope> =>
  Effect.gen(function*() {
    const server = new ProofServer(yield* memoryDisk, "rename", clock)
    yield* server.start
    yield* Effect.addFinalizer(() => server.stop(false))
    let isUp = true
    let open = 0
    let died = yield* Deferred.make<never, Transport.NoAnswer>()
    const one = yield* Effect.makeSemaphore(1)

    const restart = (crashes: boolean) =>
      one.withPermits(1)(Effect.gen(function*() {
        isUp = false
        // an end in order waits for whom it serves
        if (!crashes) yield* Effect.repeat(turns(1), { until: () => open === 0, times: 100 })
        yield* Deferred.fail(died, noAnswer)
        yield* server.stop(crashes)
        died = yield* Deferred.make<never, Transport.NoAnswer>()
        yield* server.start
        isUp = true
      }))

    const now = <A>(use: (transport: Service) => Effect.Effect<A, Transport.TransportError>) =>
      Effect.suspend((): Effect.Effect<A, Transport.TransportError> => {
        if (!isUp || !server.isAlive) return Effect.fail(new Transport.Unreachable({ message: "The server is down" }))
        const process = server.receiver
        open++
        return Layer.build(
          TransportInProcess.layer({ batches: true }).pipe(Layer.provide(Layer.succeed(Receiver, process)))
        ).pipe(
          Effect.flatMap((context) => use(Context.get(context, Transport.Transport))),
          Effect.scoped,
          // of a process that has died only its defects are left, if anything at all
          Effect.catchAllDefect((defect) =>
            server.isAlive && server.receiver === process ? Effect.die(defect) : Effect.fail(noAnswer)
          ),
          Effect.ensuring(Effect.sync(() => open--)),
          Effect.disconnect,
          Effect.raceFirst(Deferred.await(died))
        )
      })
    return {
      transport: {
        send: (out) => now((transport) => transport.send(out)),
        sendBatch: (batch) => now((transport) => transport.sendBatch(batch)),
        state: (...of) => now((transport) => transport.state(...of)),
        abort: (...of) => now((transport) => transport.abort(...of))
      },
      restart,
      fragile: (exchange, fuse) =>
        Effect.gen(function*() {
          server.light(fuse)
          const exit = yield* Effect.exit(exchange)
          if (server.isAlive) server.light(undefined)
          else yield* restart(true)
          return yield* exit
        }),
      visible: server.visible
    }
  })

/** What a proxy that knows revision 1 only lets through; or: our server, were it an old one. */
const asRevision1 = (server: Server): Server => ({
  ...server,
  transport: {
    send: (out) =>
      Effect.map(
        server.transport.send({ ...out, chunk: { ...out.chunk, upload: Option.none() } }),
        ({ limit, receipt: { actualFilename, chunkIndex, clientFilename, message } }) => ({
          limit,
          receipt: { actualFilename, chunkIndex, clientFilename, message }
        })
      ),
    sendBatch: () => Effect.fail(new Transport.Refused({ status: 404, error: "Not Found", message: "Not Found" })),
    state: () => Effect.fail(new Transport.Refused({ status: 404, error: "Not Found", message: "Not Found" })),
    abort: () => Effect.void
  }
})

/** An old server: it appends whatever comes, cut bodies too, and looks at nothing. */
const appending = (): Server => {
  const files: Record<string, string> = {}
  return asRevision1({
    transport: {
      send: ({ body, chunk }) =>
        Effect.gen(function*() {
          const arrives = yield* TransportInProcess.BreaksAfter
          const name = FileName.base(chunk.fileName)
          files[name] = (files[name] ?? "") + new TextDecoder().decode(body.subarray(0, arrives))
          if (arrives < body.length) return yield* noAnswer
          const clientFilename = chunk.fileName
          const receipt = { message: "Chunk received", actualFilename: name, chunkIndex: chunk.index, clientFilename }
          return { limit: {}, receipt }
        }),
      sendBatch: () => Effect.die("not asked"),
      state: () => Effect.die("not asked"),
      abort: () => Effect.void
    },
    restart: () => Effect.void,
    fragile: (exchange, { kind }) =>
      kind === "before" ? Effect.fail(noAnswer) : Effect.andThen(Effect.exit(exchange), noAnswer),
    visible: Effect.sync(() => ({ ...files }))
  })
}

interface Given {
  readonly name: string
  readonly content: string
}

/** What became of a client's files, by the order in which they were added. */
export interface Delivered {
  readonly given: ReadonlyArray<Given>
  readonly outcomes: ReadonlyMap<number, Outcome>
  /** Which files are still in the buffer. */
  readonly left: ReadonlyArray<number>
  /** The names of the files of which an exchange had no answer, and how often the client died. */
  readonly doubts: ReadonlySet<string>
  readonly deaths: number
}

const endpoint = "http://server/upload"

/** One client: adds its files and uploads until each has ended, through as many deaths as there are. */
const client = (
  given: ReadonlyArray<Given>,
  server: Server,
  receiving: Receiving,
  luck: Chance,
  tally: Tally
): Effect.Effect<Delivered, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const store = Context.get(yield* Layer.build(ChunkStore.layerMemory), ChunkStore.ChunkStore)
    const scope = yield* Effect.scope
    const doubts = new Set<string>()
    let deaths = 0
    let current = ""
    let interrupt: () => void = () => {}

    // every request may be met by a death of the server, or be the last thing that this client's process did
    const door = <A>(exchange: Effect.Effect<A, Transport.TransportError>) =>
      Effect.gen(function*() {
        tally.add("request")
        const what = luck.weighted({ well: 84, restart: 3, killed: 3, within: 5, before: 1, during: 2, after: 2 })
        if (what === "before" || what === "during" || what === "after") {
          tally.add("client restart")
          deaths++
          if (what === "during") yield* Effect.forkIn(exchange, scope)
          if (what === "after") yield* Effect.exit(exchange)
          interrupt()
          return yield* Effect.never
        }
        if (what === "restart" || what === "killed") {
          tally.add(`server ${what}`)
          yield* server.restart(what === "killed")
        }
        if (what !== "within") return yield* exchange
        tally.add("server killed within")
        doubts.add(current)
        return yield* server.fragile(exchange, {
          call: 1 + luck.below(14),
          kind: luck.pick(["before", "after", "failure"])
        })
      })
    const network = TransportFaulty.layerFrom(() =>
      Effect.map(
        TransportFaulty.draw(odds[receiving === "revision 2" ? 2 : 1]),
        Option.map((fault) => {
          tally.add(kinds[fault._tag])
          if (fault._tag === "Cut" || fault._tag === "AnswerLost") doubts.add(current)
          return fault
        })
      )
    ).pipe(
      Layer.provide(Layer.succeed(Transport.Transport, {
        send: (out) => door(server.transport.send(out)),
        sendBatch: (batch) => door(server.transport.sendBatch(batch)),
        state: (...of) => door(server.transport.state(...of)),
        abort: (...of) => door(server.transport.abort(...of))
      }))
    )
    // requests that are late outlive the process that sent them
    const bad = Context.get(yield* Layer.buildWithScope(network, scope), Transport.Transport)
    const transport: Service = {
      ...bad,
      send: (out) =>
        Effect.suspend(() => {
          current = out.chunk.fileName
          return bad.send(out)
        })
    }

    const chunkSize = 1 + luck.below(8)
    const launch = (fuses: Fuses.FuseBox) =>
      Effect.map(
        Layer.build(
          Uploader.layer({ chunkSize, retry: { maxRetries: 30 } }).pipe(
            Layer.provide(Layer.succeed(ChunkStore.ChunkStore, fuses.guard(store))),
            Layer.provide(Layer.succeed(Transport.Transport, transport))
          )
        ),
        Context.get(Uploader.Uploader)
      )
    const fuseBox = () => Fuses.make(() => new ChunkStore.ChunkStoreError({ message: "the buffer failed" }))

    const files: Array<number> = []
    const first = yield* Effect.scoped(Effect.flatMap(launch(fuseBox()), (uploader) =>
      Effect.forEach(given, ({ content, name }, at) =>
        Effect.map(
          uploader.add({
            ...Source.stream(name, Stream.make(bytes(content))),
            source: `file ${at}`
          }),
          ({ file }) => file.id
        ))))
    files.push(...first)

    const outcomes = new Map<number, Outcome>()
    const keep = (outcome: Outcome) =>
      void outcomes.set(files.indexOf(outcome.file), outcome)
    const buffered = Effect.map(
      Stream.runCollect(store.list),
      (list) => Chunk.toReadonlyArray(list).map(({ id }) => files.indexOf(id))
    )
    const isOver = (left: ReadonlyArray<number>) =>
      left.every((at) => receiving !== "revision 2" && outcomes.get(at)?.state === "unconfirmed")

    for (let round = 0; round < 60 && !isOver(yield* buffered); round++) {
      const fuses = fuseBox()
      const fiber = yield* Effect.forkDaemon(Effect.scoped(Effect.flatMap(launch(fuses), (uploader) =>
        Stream.runForEach(uploader.upload({ endpoint }), (event) =>
          Effect.sync(() =>
            event._tag === "Finished" ? keep(event) : undefined
          )))))
      interrupt = () => {
        fuses.kill()
        fiber.unsafeInterruptAsFork(FiberId.none)
      }
      if (luck.odds(0.3)) {
        tally.add("client killed within")
        deaths++
        fuses.light({ call: 1 + luck.below(60), kind: luck.pick(["before", "after"]) })
      }
      const exit = yield* Fiber.await(fiber)
      // who died of anything else than we wanted has a bug
      if (Exit.isFailure(exit) && fuses.isAlive()) {
        return yield* Effect.failCause(exit.cause)
      }
    }
    return { given, outcomes, left: yield* buffered, doubts, deaths }
  })

const names = ["a.txt", "a.txt", "b", "dir/a.txt"]

/** What is not as it must be; `undefined` when all is well. */
const judge = (
  receiving: Receiving,
  visible: Record<string, string>,
  clients: ReadonlyArray<Delivered>
): string | undefined => {
  if (receiving === "revision 2") {
    const given = clients.flatMap((client) => client.given.map(({ content }) => content)).sort()
    if (clients.some(({ left }) => left.length > 0)) return "a buffer is not empty"
    if (JSON.stringify(Object.values(visible).sort()) !== JSON.stringify(given)) return "not each file once, whole"
    for (const { given, outcomes } of clients) {
      for (const [at, { serverName, sha256, state }] of outcomes) {
        if (state !== "delivered") continue
        const { content } = given[at]!
        if (
          Option.isNone(serverName) || visible[serverName.value] !== content ||
          !Option.contains(sha256, Sha256.of(bytes(content)))
        ) {
          return "a file is not where the client was told"
        }
      }
    }
    return undefined
  }
  // one client; its names are all different
  const { deaths, doubts, given, left, outcomes } = clients[0]!
  // the empty chunk that tries the key makes an empty new version where our server takes it for an old one
  const extra = Object.entries(visible).filter(([name, there]) => there !== "" || !/ \(\d+\)$/.test(name))
  if (extra.length > given.length) return "a file is there twice"
  for (const [at, { content, name }] of given.entries()) {
    const there = visible[name] ?? ""
    if (!content.startsWith(there)) return `${name} is not a beginning of what was sent`
    const state = left.includes(at) ? outcomes.get(at)?.state : "delivered"
    if (state === "delivered" && there !== content) return `${name} was freed and is not whole`
    if (state !== "delivered" && state !== "unconfirmed") return `${name} ended as ${state}`
  }
  const doubted = left.filter((at) => !doubts.has(given[at]!.name))
  return doubted.length > deaths ? "unconfirmed, though every answer came" : undefined
}

/** Plays one delivery to its end. Returns what is wrong with it. */
const deliver = (receiving: Receiving, seed: number, tally: Tally) =>
  Effect.gen(function*() {
    const luck = chance(seed)
    const clock = handClock()
    let last = 0
    const program = Effect.scoped(Effect.gen(function*() {
      const own = receiving === "appending" ? appending() : yield* receiver(clock)
      const server = receiving === "revision 1" ? asRevision1(own) : own
      const count = receiving === "revision 2" ? 1 + luck.below(2) : 1
      const inputs = Array.from({ length: count }, () =>
        Array.from({ length: 1 + luck.below(4) }, (_, at): Given => ({
          name: receiving === "revision 2" ? luck.pick(names) : `file${at}`,
          content: luck.text(luck.odds(0.1) ? 0 : luck.below(50))
        })))
      const clients = yield* Effect.forEach(inputs, (given) => client(given, server, receiving, luck, tally), {
        concurrency: "unbounded"
      })
      // what is late arrives
      yield* Effect.sleep("10 minutes")
      const visible = yield* server.visible
      const wrong = judge(receiving, visible, clients)
      return wrong === undefined
        ? undefined
        : { wrong, visible, clients: clients.map((one) => ({ ...one, outcomes: [...one.outcomes] })) }
    })).pipe(
      Effect.provideService(Identifiers, { next: Effect.sync(() => (++last).toString(16).padStart(32, "0")) }),
      Effect.withRandom(Random.make(seed)),
      Effect.withClock(clock.clock)
    )
    const fiber = yield* Effect.forkDaemon(program)
    // time passes only when nobody has anything to do
    for (let idle = 0; Option.isNone(yield* Fiber.poll(fiber));) {
      yield* turns(1)
      if (++idle < 3) continue
      idle = 0
      const next = clock.next()
      if (next !== undefined) clock.pass(next)
    }
    return yield* Fiber.join(fiber)
  })

/** Plays deliveries until so many steps are done; returns the first that went wrong. */
export const proveDeliveries = (
  receiving: Receiving,
  options: { readonly steps: number; readonly seed: number; readonly tally: Tally }
) =>
  Effect.gen(function*() {
    for (let at = 0; options.tally.steps < options.steps; at++) {
      const seed = (options.seed + Math.imul(at, 0x9e3779b1)) >>> 0
      const exit = yield* Effect.exit(deliver(receiving, seed, options.tally))
      if (Exit.isFailure(exit)) return { seed, wrong: String(exit.cause) }
      if (exit.value !== undefined) return { seed, ...exit.value }
    }
    return undefined
  }).pipe(Effect.withTracerEnabled(false))
