/**
 * A server for the proofs: a receiver that can be restarted, killed at any call it makes, and sent broken bodies.
 *
 * @module
 */
import { Context, Deferred, Effect, Exit, Fiber, Layer, Option, Scope } from "effect"
import type { ProtocolError } from "../../src/protocol/ProtocolError.ts"
import { ServerFailure, StorageFull } from "../../src/protocol/ProtocolError.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import type * as Body from "../../src/server/Body.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadLedgerSqlite from "../../src/server/UploadLedgerSqlite.ts"
import * as UploadStore from "../../src/server/UploadStore.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import type { Chunk, Policy } from "../proof/model.ts"
import * as Fuses from "./proofFuse.ts"
import type { handClock } from "./proofRun.ts"
import * as RawFiles from "./rawFiles.ts"
import * as RawSlowDisk from "./rawSlowDisk.ts"

type Store = Context.Tag.Service<UploadStore.UploadStore>
type Ledger = Context.Tag.Service<UploadLedger.UploadLedger>
type Service = Context.Tag.Service<Receiver.Receiver>

const turn = Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))

/** Lets everything that is ready run. */
export const turns = (count: number): Effect.Effect<void> => Effect.repeatN(turn, count - 1)

/** What outlives a server process. `start` is asked again for each one. */
export interface Disk {
  /** Which calls take a while, so that requests that come at once meet in more ways. */
  slow: "none" | "some" | "all"
  readonly files: Context.Tag.Service<UploadStore.MemoryFiles>
  readonly start: Effect.Effect<{ readonly store: Store; readonly ledger: Ledger }, unknown, Scope.Scope>
}

export const memoryDisk: Effect.Effect<Disk, never, Scope.Scope> = Effect.map(
  Layer.build(Layer.mergeAll(UploadStore.layerMemory, UploadLedger.layerMemory)),
  (context) => {
    const store = Context.get(context, UploadStore.UploadStore)
    let calls = 0
    const slowly = <A, E>(effect: Effect.Effect<A, E>, which: "some" | "all" = "some"): Effect.Effect<A, E> =>
      Effect.suspend(() =>
        (disk.slow === "all" || disk.slow === which) && ++calls % 3 > 0
          // a call under way comes to its end, like one of a real disk
          ? Effect.uninterruptible(Effect.zipRight(turns(calls % 3), Effect.interruptible(effect)))
          : effect
      )
    const disk: Disk = {
      slow: "none",
      files: Context.get(context, UploadStore.MemoryFiles),
      start: Effect.succeed({
        store: {
          ...store,
          reserve: (...of) => slowly(store.reserve(...of)),
          sync: (...of) => slowly(store.sync(...of)),
          publish: (...of) => slowly(store.publish(...of)),
          write: (...of) => slowly(store.write(...of), "all"),
          trim: (...of) => slowly(store.trim(...of), "all"),
          drop: (...of) => slowly(store.drop(...of), "all")
        },
        ledger: Context.get(context, UploadLedger.UploadLedger)
      })
    }
    return disk
  }
)

/** A folder and a SQLite database, opened anew by each process. */
export const realDisk: Effect.Effect<Disk, never, Scope.Scope> = Effect.gen(function*() {
  const outputDir = yield* RawFiles.temporaryFolder
  const files = yield* Layer.build(RawFiles.layer(outputDir))
  const slow = RawSlowDisk.make()
  let calls = 0
  slow.pause = () => Effect.runPromise(disk.slow === "all" ? turns(1 + ++calls % 5) : Effect.void)
  const disk: Disk = {
    slow: "none",
    files: Context.get(files, UploadStore.MemoryFiles),
    start: Effect.map(
      Layer.build(
        UploadLedgerSqlite.layer({ file: `${outputDir}/.indexedcp/ledger.db` }).pipe(
          Layer.provideMerge(UploadStoreFileSystem.layer({ outputDir, calls: slow.calls }))
        )
      ),
      (context) => ({
        store: Context.get(context, UploadStore.UploadStore),
        ledger: Context.get(context, UploadLedger.UploadLedger)
      })
    )
  }
  return disk
})

/** One server process. Once it is dead, nothing it calls has an effect any more. */
interface Process {
  readonly scope: Scope.CloseableScope
  readonly receiver: Service
  /** Past what goes wrong. */
  readonly ledger: Ledger
  readonly isAlive: () => boolean
  readonly light: Fuses.FuseBox["light"]
  readonly kill: Effect.Effect<void>
}

const launch = (disk: Disk, policy: Policy): Effect.Effect<Process, unknown> =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const { ledger, store } = yield* Scope.extend(disk.start, scope)
    const fences: Array<readonly [UploadStore.UploadKey, number]> = []
    const fuses = Fuses.make((kind) =>
      kind === "full" ? new StorageFull({ message: "disk full" }) : new ServerFailure({ message: "disk failed" })
    )
    // claims live in the memory of the process: they go with it
    const claiming: Ledger = {
      ...ledger,
      claim: (key, wanted) =>
        Effect.tap(ledger.claim(key, wanted), (claim) => {
          if (claim._tag === "Claimed") fences.push([key, claim.fence])
        })
    }
    const context = yield* Layer.buildWithScope(
      Receiver.layer({ onConflict: policy }).pipe(
        Layer.provide(Layer.succeed(UploadStore.UploadStore, fuses.guard(store))),
        Layer.provide(Layer.succeed(UploadLedger.UploadLedger, fuses.guard(claiming, "release"))),
        Layer.provide(FilenameGenerator.layer)
      ),
      scope
    )
    return {
      scope,
      receiver: Context.get(context, Receiver.Receiver),
      ledger,
      isAlive: fuses.isAlive,
      light: fuses.light,
      kill: Effect.suspend(() => {
        fuses.kill()
        return Effect.forEach(fences, ([key, fence]) => ledger.release(key, fence), { discard: true })
      })
    }
  })

/** A body under way, whose rest is sent or lost later. */
interface Stalled {
  readonly fiber: Fiber.RuntimeFiber<unknown, ProtocolError | Body.BodyCut>
  readonly go: (breaks: boolean) => void
}

export type Answered = Exit.Exit<unknown, ProtocolError | Body.BodyCut>

const encoder = new TextEncoder()
export const bytes = (text: string): Uint8Array => encoder.encode(text)

/** A body in up to three pieces; `gate` stands before the last byte. */
const bodyOf = (chunk: Chunk, gate?: { readonly reached: () => void; readonly go: Promise<boolean> }): Body.Body => {
  const all = bytes(chunk.body)
  const arrives = Math.min(chunk.arrives ?? all.length, all.length)
  const at = Math.floor(arrives / 2)
  return {
    length: chunk.sized || all.length === 0 ? Option.some(all.length) : Option.none(),
    pieces: (async function*() {
      if (at > 0) yield all.subarray(0, at)
      if (gate !== undefined) {
        if (at === 0 && all.length > 1) yield all.subarray(0, 1)
        gate.reached()
        if (await gate.go) throw new Error("ECONNRESET")
        yield all.subarray(Math.max(at, all.length > 1 ? 1 : 0))
        return
      }
      if (at < arrives) yield all.subarray(at, arrives)
      // a connection that ends early shows in the length, or as a reset
      if (arrives < all.length && (!chunk.sized || all[0]! % 2 === 0)) throw new Error("ECONNRESET")
    })()
  }
}

const requestOf = (chunk: Chunk, body: Body.Body): Receiver.ReceiveRequest => {
  const digest = (text: string | undefined) => Option.map(Option.fromNullable(text), (text) => Sha256.of(bytes(text)))
  return {
    principal: { name: chunk.principal },
    chunk: {
      index: chunk.index,
      fileName: chunk.name,
      sentName: chunk.name,
      contentDigest: digest(chunk.digest),
      upload: chunk.revision === 1 ? Option.none() : Option.some({
        id: UploadId.make(chunk.id),
        offset: chunk.offset,
        size: Option.fromNullable(chunk.size),
        sha256: digest(chunk.whole),
        prefixDigest: chunk.digest === undefined ? digest(chunk.prefix) : Option.none(),
        known: chunk.known
      })
    },
    body,
    request: {
      headers: {},
      method: "POST",
      url: "/upload",
      remoteAddress: chunk.revision === 1 ? chunk.address : "10.0.0.9",
      keyName: chunk.principal
    }
  }
}

/** The server under test: its disk and whichever process runs on it. */
export class ProofServer {
  readonly disk: Disk
  private readonly policy: Policy
  private readonly clock: ReturnType<typeof handClock>
  private process: Process | undefined
  readonly stalled = new Map<number, Stalled>()

  constructor(disk: Disk, policy: Policy, clock: ReturnType<typeof handClock>) {
    this.disk = disk
    this.policy = policy
    this.clock = clock
  }

  private get running(): Process {
    return this.process!
  }

  get receiver(): Service {
    return this.running.receiver
  }

  /** What goes wrong at a call from now on. */
  light(fuse: Fuses.Fuse | undefined): void {
    this.running.light(fuse)
  }

  get isAlive(): boolean {
    return this.running.isAlive()
  }

  get start(): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.flatMap(launch(this.disk, this.policy), (process) => {
        this.process = process
        return this.settle
      })
    ).pipe(Effect.orDie, Effect.withClock(this.clock.clock))
  }

  /** Ends the process: in order, or as a crash that clears nothing up. Open connections are gone either way. */
  stop(crashes: boolean): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      if (crashes) yield* this.running.kill
      yield* Fiber.interruptAll([...this.stalled.values()].map(({ fiber }) => fiber))
      this.stalled.clear()
      yield* Scope.close(this.running.scope, Exit.void)
    })
  }

  send(chunk: Chunk): Effect.Effect<Answered> {
    return Effect.exit(
      Effect.withClock(this.receiver.receive(requestOf(chunk, bodyOf(chunk))), this.clock.clock)
    )
  }

  /** Sends, leaves after so many turns, and at once sends the same again; that answer is returned. */
  abandon(chunk: Chunk, after: number): Effect.Effect<Answered> {
    return Effect.gen(this, function*() {
      this.disk.slow = "all"
      const first = yield* Effect.forkDaemon(this.send(chunk))
      if (after > 0) yield* turns(after)
      yield* Fiber.interruptFork(first)
      const answer = yield* this.send(chunk)
      yield* Fiber.await(first)
      this.disk.slow = "none"
      yield* this.settle
      return answer
    })
  }

  /** Sends with something that goes wrong on the way. */
  sendInto(chunk: Chunk, fuse: Fuses.Fuse): Effect.Effect<{ readonly exit: Answered; readonly died: boolean }> {
    return Effect.gen(this, function*() {
      this.running.light(fuse)
      const exit = yield* this.send(chunk)
      this.running.light(undefined)
      return { exit, died: !this.running.isAlive() }
    })
  }

  /** Begins to send; an answer that comes before the end of the body is returned. */
  begin(chunk: Chunk, slot: number): Effect.Effect<Answered | undefined> {
    return Effect.gen(this, function*() {
      const reached = yield* Deferred.make<void>()
      let go: (breaks: boolean) => void = () => {}
      const gate = {
        reached: () => Deferred.unsafeDone(reached, Effect.void),
        go: new Promise<boolean>((resolve) => {
          go = resolve
        })
      }
      const fiber = yield* Effect.forkDaemon(
        Effect.withClock(this.receiver.receive(requestOf(chunk, bodyOf(chunk, gate))), this.clock.clock)
      )
      const first = yield* Effect.raceFirst(
        Effect.as(Deferred.await(reached), undefined),
        Fiber.await(fiber)
      )
      if (first === undefined) this.stalled.set(slot, { fiber, go })
      return first
    })
  }

  /** The answer to a request that was in flight, whose body goes on, breaks, or whose client leaves. */
  end(slot: number, how: "goes on" | "breaks" | "leaves"): Effect.Effect<Answered> {
    return Effect.suspend(() => {
      const { fiber, go } = this.stalled.get(slot)!
      this.stalled.delete(slot)
      if (how === "leaves") return Fiber.interrupt(fiber)
      go(how === "breaks")
      return Fiber.await(fiber)
    })
  }

  /** The requests in flight that somebody stopped, and their answers. */
  get stopped(): Effect.Effect<ReadonlyMap<number, Answered>> {
    return Effect.gen(this, function*() {
      const ended = new Map<number, Answered>()
      if (this.stalled.size > 0) yield* turns(1)
      for (const [slot, { fiber }] of this.stalled) {
        const exit = yield* Fiber.poll(fiber)
        if (Option.isNone(exit)) continue
        ended.set(slot, exit.value)
        this.stalled.delete(slot)
      }
      return ended
    })
  }

  /** Waits until what goes on in the background has ended. */
  get settle(): Effect.Effect<void> {
    return Effect.gen(this, function*() {
      for (let waited = 0; waited < 2000; waited++) {
        yield* waited < 10 ? turns(2) : Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 2)))
        const open = yield* this.running.ledger.unsettled
        if (open.every(({ state }) => state !== "finishing")) return
      }
    }).pipe(Effect.orDie)
  }

  /** The visible files. */
  get visible(): Effect.Effect<Record<string, string>> {
    return Effect.gen(this, function*() {
      const found: Record<string, string> = {}
      for (const name of yield* this.disk.files.names) {
        found[name] = new TextDecoder().decode(Option.getOrThrow(yield* this.disk.files.read(name)))
      }
      return found
    })
  }

  outside(name: string, text: string | undefined): Effect.Effect<void> {
    return Effect.flatMap(this.disk.files.names, (names) =>
      text !== undefined
        ? this.disk.files.write(name, bytes(text))
        : names.includes(name)
        ? this.disk.files.remove(name)
        : Effect.void)
  }
}
