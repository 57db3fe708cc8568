/**
 * Plays commands to a server and to the model, and compares all that can be seen.
 *
 * Where the protocol leaves open what is kept (the process died within a request, requests raced) the model has several
 * worlds; each thing seen later rules some out, and one must remain.
 *
 * @module
 */
import { Cause, Effect, Exit, type Scope } from "effect"
import type { Receipt2 } from "../../src/protocol/Receipt.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import type { UploadState } from "../../src/protocol/UploadState.ts"
import type { Received } from "../../src/server/Receiver.ts"
import * as Model from "../proof/model.ts"
import { type Command, Commands, isAwaited } from "./proofCommands.ts"
import { type Chance, chance, handClock, type Tally } from "./proofRun.ts"
import { type Answered, bytes, type Disk, ProofServer, turns } from "./proofServer.ts"

/** What was seen of one command. */
interface Seen {
  readonly answers: ReadonlyArray<Answered | undefined>
  readonly stopped: ReadonlyMap<number, Answered>
}

/** One way it may have gone. */
interface Way {
  readonly answers: ReadonlyArray<Model.Answer | undefined>
  readonly stopped: ReadonlyArray<number>
  readonly world: Model.World
}

interface Unexpected {
  readonly expected: unknown
  readonly found: unknown
}

/** A server that is not what the model says, and the commands that show it. */
export interface Difference extends Unexpected {
  readonly commands: ReadonlyArray<Command>
}

const hash = (text: string) => Sha256.of(bytes(text))

const errorOf = (exit: Answered) =>
  Exit.isFailure(exit)
    ? Cause.squash(exit.cause) as { readonly _tag?: string; readonly status?: number; readonly message?: string }
    : undefined

/** What the receipt must be. Of requests at once the receipt may tell how it was a moment before. */
const receiptFits = ({ receipt: found }: Received, expected: Model.Receipt, atOnce: boolean): boolean => {
  const told = found as Receipt2
  const isCommon = told.message === "Chunk received" && told.chunkIndex === expected.chunkIndex &&
    told.clientFilename === expected.clientFilename
  if (expected.uploadId === undefined) {
    return isCommon && told.actualFilename === expected.actualFilename && !("uploadId" in told)
  }
  if (!isCommon || told.uploadId !== expected.uploadId || told.duplicate !== expected.duplicate) return false
  if (atOnce) return true
  return told.actualFilename === expected.actualFilename && told.bytesReceived === expected.bytesReceived &&
    told.complete === expected.complete &&
    told.size === expected.file?.length &&
    told.sha256 === (expected.file === undefined ? undefined : hash(expected.file)) &&
    (expected.expiresAt === undefined) === (told.expiresAt === undefined) &&
    (told.expiresAt === undefined || Date.parse(told.expiresAt) === expected.expiresAt)
}

const answerFits = (found: Answered | undefined, expected: Model.Answer | undefined, atOnce = false): boolean => {
  if (found === undefined || expected === undefined) return found === expected
  // who races may be told to come again, unless bytes were taken from it
  const mayBeBusy = expected.status !== 200 || expected.receipt.duplicate === true
  if (atOnce && mayBeBusy && errorOf(found)?.status === 503) return true
  if (expected.status === 200) {
    return Exit.isSuccess(found) && receiptFits(found.value as Received, expected.receipt, atOnce)
  }
  if (expected.status === 204) return Exit.isSuccess(found)
  const error = errorOf(found)
  if (expected.status === 0) return error?._tag === "BodyCut"
  return error?.status === expected.status &&
    (expected.names === undefined || error.message?.includes(`${expected.names};`) === true)
}

const stateFits = (found: Exit.Exit<UploadState, unknown>, expected: Model.State | undefined): boolean => {
  if (Exit.isFailure(found) || expected === undefined) {
    return expected === undefined && Exit.isFailure(found) && errorOf(found as Answered)?.status === 404
  }
  const { value } = found
  return value.actualFilename === expected.actualFilename && value.clientFilename === expected.clientFilename &&
    value.size === expected.size && value.bytesReceived === expected.bytesReceived &&
    JSON.stringify(value.missing) === JSON.stringify(expected.missing) &&
    value.state === expected.state && value.complete === (expected.state === "complete")
}

const sameFiles = (a: Record<string, string>, b: Record<string, string>): boolean => {
  const names = Object.keys(a)
  return names.length === Object.keys(b).length && names.every((name) => a[name] === b[name])
}

/** What a value looks like as a text, made once: none of them changes. */
const textOf = <A extends object>(make: (value: A) => string): (value: A) => string => {
  const texts = new WeakMap<A, string>()
  return (value) => {
    const before = texts.get(value)
    if (before !== undefined) return before
    const text = make(value)
    texts.set(value, text)
    return text
  }
}

const uploadText = textOf((upload: Model.Upload) => JSON.stringify({ ...upload, key: 0 }))

/** A world as a text, in which uploads are numbered anew: their keys are nobody's business. */
const canonical = textOf(({ flights, names, uploads }: Model.World) => {
  const numbers = new Map(uploads.map(({ key }, at) => [key, at]))
  return [
    ...uploads.map(uploadText),
    ...Object.entries(names)
      .map(([name, there]) => JSON.stringify([name, typeof there === "number" ? numbers.get(there) : there]))
      .sort(),
    ...flights.map((flight) => JSON.stringify({ ...flight, key: numbers.get(flight.key) }))
  ].join("\n")
})

/** Each world once. */
const distinct = (worlds: ReadonlyArray<Model.World>): ReadonlyArray<Model.World> =>
  worlds.length <= 1 ? worlds : [...new Map(worlds.map((world) => [canonical(world), world])).values()]

/**
 * All ways in which requests that come at once may take their turns: each begins once and ends once. One of revision 1 may
 * also be stopped half-way; then what it did so far stays.
 */
const interleavings = (world: Model.World, chunks: ReadonlyArray<Model.Chunk>): ReadonlyArray<Way> => {
  const ways: Array<Way> = []
  const busy: Model.Answer = { status: 503 }
  // where there are many turns, many lead to the same
  const hasHalves = chunks.some(({ revision }) => revision === 1)
  const been = new Set<string>()
  const slotOf = (at: number) => -2 - at
  const go = (world: Model.World, answers: ReadonlyArray<Model.Answer | undefined>, begun: ReadonlySet<number>) => {
    if (hasHalves) {
      const here = JSON.stringify([canonical(world), answers, [...begun].sort()])
      if (been.has(here)) return
      been.add(here)
    }
    if (answers.every((answer) => answer !== undefined)) ways.push({ answers, stopped: [], world })
    chunks.forEach((chunk, at) => {
      if (answers[at] !== undefined) return
      const { answer, passed, world: after } = begun.has(at)
        ? Model.resume(world, slotOf(at), false)
        : Model.receive(world, chunk, slotOf(at))
      const turn = (world: Model.World, own: Model.Answer | undefined) => {
        const isStopped = (other: number) =>
          begun.has(other) && world.flights.every(({ slot }) => slot !== slotOf(other))
        const next = answers.map((answer, other) =>
          other === at ? own : answer ?? (isStopped(other) ? busy : undefined)
        )
        go(world, next, new Set([...begun, at]))
      }
      turn(after, answer)
      if (chunk.revision !== 1) return
      for (const half of passed.slice(1, -1)) {
        turn({ ...half, flights: half.flights.filter(({ slot }) => slot !== slotOf(at)) }, busy)
      }
    })
  }
  go(world, chunks.map(() => undefined), new Set())
  return ways
}

const single = ({ answer, stopped, world }: Model.Outcome): Way => ({ answers: [answer], stopped, world })

/** Runs one server and the model side by side. */
class Play {
  private readonly server: ProofServer
  private readonly clock: ReturnType<typeof handClock>
  worlds: ReadonlyArray<Model.World>

  constructor(server: ProofServer, clock: ReturnType<typeof handClock>, policy: Model.Policy) {
    this.server = server
    this.clock = clock
    this.worlds = [Model.empty(policy)]
  }

  private pass(milliseconds: number): void {
    this.clock.pass(milliseconds)
    this.worlds = this.worlds.map((world) => Model.pass(world, milliseconds))
  }

  /** Compares what was seen with the ways it may have gone; what fits is what may be now. */
  private judge(
    seen: Seen,
    ways: (world: Model.World) => ReadonlyArray<Way>,
    fits: typeof answerFits = answerFits
  ): Effect.Effect<Unexpected | undefined> {
    return Effect.gen(this, function*() {
      const all = this.worlds.flatMap(ways)
      const visible = yield* this.server.visible
      const isSlot = (slots: ReadonlyArray<number>) =>
        slots.length === seen.stopped.size &&
        slots.every((slot) => errorOf(seen.stopped.get(slot) ?? Exit.void as never)?.status === 503)
      const fitting = all.filter((way) =>
        way.answers.every((answer, at) => fits(seen.answers[at], answer)) && isSlot(way.stopped) &&
        sameFiles(Model.visible(way.world), visible)
      )
      this.worlds = distinct(fitting.map(({ world }) => world))
      if (this.worlds.length > 0) return undefined
      const shown = (answer: Answered | undefined) =>
        answer === undefined || Exit.isSuccess(answer) ? answer?.value : errorOf(answer)
      return {
        expected: all.slice(0, 3).map((way) => ({
          ...way,
          world: Model.visible(way.world),
          uploads: way.world.uploads
        })),
        found: {
          answers: seen.answers.map((answer) => String(JSON.stringify(shown(answer)))),
          stopped: [...seen.stopped].map(([slot, answer]) => [slot, String(JSON.stringify(shown(answer)))]),
          visible
        }
      }
    })
  }

  private seen(...answers: ReadonlyArray<Answered | undefined>): Effect.Effect<Seen> {
    return Effect.map(this.server.stopped, (stopped) => ({ answers, stopped }))
  }

  /** Where there are several worlds, GET tells most of them apart. */
  get tellApart(): Effect.Effect<Unexpected | undefined> {
    return Effect.gen(this, function*() {
      const ids = new Map(
        this.worlds.flatMap(({ uploads }) =>
          uploads.flatMap(({ id, principal }) => id === undefined ? [] : [[`${principal} ${id}`, { principal, id }]])
        )
      )
      for (const { id, principal } of ids.values()) {
        const states = new Set(this.worlds.map((world) => JSON.stringify(Model.state(world, principal, id) ?? null)))
        if (states.size === 1) continue
        const unexpected = yield* this.look(principal, id)
        if (unexpected !== undefined) return unexpected
      }
      return undefined
    })
  }

  private look(principal: string, id: string): Effect.Effect<Unexpected | undefined> {
    return Effect.gen(this, function*() {
      const { server } = this
      const state = yield* Effect.exit(
        Effect.withClock(server.receiver.state({ name: principal }, UploadId.make(id)), this.clock.clock)
      )
      if (Exit.isSuccess(state) && state.value.state === "finishing") yield* server.settle
      return yield* this.judge(
        yield* this.seen(state as Answered),
        (world) =>
          stateFits(state, Model.state(world, principal, id))
            ? [{ answers: [], stopped: [], world: Model.look(world, principal, id).world }]
            : []
      )
    })
  }

  /** Plays a command; returns what is not as it must be. */
  play(command: Command): Effect.Effect<Unexpected | undefined> {
    return Effect.gen(this, function*() {
      const { server } = this
      this.pass(1)
      switch (command._tag) {
        case "send":
          return yield* this.judge(
            yield* this.seen(yield* server.send(command.chunk)),
            (world) => [single(Model.receive(world, command.chunk))]
          )
        case "sendInto": {
          if (server.stalled.size > 0) return undefined
          const { died, exit } = yield* server.sendInto(command.chunk, command.fuse)
          const outcome = (world: Model.World) => Model.receive(world, command.chunk)
          const error = errorOf(exit)
          if (died) {
            yield* server.stop(true)
            yield* server.start
            // a 200 that went out holds; with no answer any world on the way may be
            return yield* this.judge({ answers: [exit], stopped: new Map() }, (world) => {
              const { answer, passed, world: after } = outcome(world)
              return Exit.isSuccess(exit)
                ? [{ answers: [answer], stopped: [], world: Model.crash(after) }]
                : passed.map((one) => ({
                  answers: [],
                  stopped: [],
                  world: Model.crash(one)
                }))
            })
          }
          const isFailed = error?.status === 500 || error?.status === 507
          return yield* this.judge(yield* this.seen(exit), (world) =>
            isFailed
              ? Model.failed(outcome(world).passed).map((one) => ({ answers: [], stopped: [], world: one }))
              : [single(outcome(world))])
        }
        case "begin": {
          if (!this.worlds.every((world) => isAwaited(world, command.chunk))) return undefined
          const answer = yield* server.begin(command.chunk, command.slot)
          return yield* this.judge(
            yield* this.seen(answer),
            (world) => [single(Model.receive(world, command.chunk, command.slot))]
          )
        }
        case "end": {
          if (!server.stalled.has(command.slot)) return undefined
          const answer = yield* server.end(command.slot, command.how)
          const breaks = command.how !== "goes on"
          return yield* this.judge(
            yield* this.seen(command.how === "leaves" ? Exit.fail({ _tag: "BodyCut" } as never) : answer),
            (world) => [single(Model.resume(world, command.slot, breaks))]
          )
        }
        case "burst": {
          if (server.stalled.size > 0) return undefined
          server.disk.slow = "some"
          const answers = yield* Effect.forEach(command.chunks, (chunk) => server.send(chunk), {
            concurrency: "unbounded"
          })
          server.disk.slow = "none"
          return yield* this.judge(
            yield* this.seen(...answers),
            (world) => interleavings(world, command.chunks),
            (found, expected) => answerFits(found, expected, true)
          )
        }
        case "abandon": {
          if (server.stalled.size > 0) return undefined
          const answer = yield* server.abandon(command.chunk, command.turns)
          // the first came to any of the worlds on its way, as if it had failed there, and the second finds that; or it was
          // the later one to claim its range, and the second was told to come again
          return yield* this.judge(
            yield* this.seen(answer),
            (world) =>
              distinct(Model.failed(Model.receive(world, command.chunk).passed))
                .flatMap((one) => [
                  single(Model.receive(one, command.chunk)),
                  { answers: [{ status: 503 }], stopped: [], world: one }
                ]),
            (found, expected) => answerFits(found, expected, true)
          )
        }
        case "look":
          return yield* this.look(command.principal, command.id)
        case "abort": {
          const answer = yield* Effect.exit(
            Effect.withClock(
              server.receiver.abort({ name: command.principal }, UploadId.make(command.id)),
              this.clock.clock
            )
          )
          return yield* this.judge(
            yield* this.seen(answer as Answered),
            (world) => [single(Model.abort(world, command.principal, command.id))]
          )
        }
        case "restart": {
          yield* server.stop(command.crashes)
          yield* server.start
          return yield* this.judge({ answers: [], stopped: new Map() }, (world) => [{
            answers: [],
            stopped: [],
            world: command.crashes ? Model.crash(world) : Model.restart(world)
          }])
        }
        case "outside": {
          yield* server.outside(command.name, command.bytes)
          this.worlds = this.worlds.map((world) => Model.outside(world, command.name, command.bytes))
          return undefined
        }
        case "pass": {
          this.pass(command.milliseconds)
          yield* turns(10)
          return undefined
        }
      }
    })
  }
}

type Run = { readonly done: ReadonlyArray<Command>; readonly difference: Unexpected | undefined }

/** Plays to a fresh server: commands at hand, or as many as `draw` gives. */
const run = (
  disk: Effect.Effect<Disk, never, Scope.Scope>,
  policy: Model.Policy,
  draw: (world: Model.World, at: number) => Command | undefined
): Effect.Effect<Run> =>
  Effect.scoped(Effect.gen(function*() {
    const clock = handClock()
    const server = new ProofServer(yield* disk, policy, clock)
    const play = new Play(server, clock, policy)
    yield* server.start
    const done: Array<Command> = []
    for (;;) {
      const command = draw(play.worlds[0]!, done.length)
      if (command === undefined) break
      done.push(command)
      const difference = (yield* play.play(command)) ?? (yield* play.tellApart)
      if (difference !== undefined) {
        yield* server.stop(false)
        return { done, difference }
      }
    }
    yield* server.stop(false)
    return { done, difference: undefined }
  }))

/** Leaves out commands as long as the rest still shows a difference. */
const shrink = (disk: Effect.Effect<Disk, never, Scope.Scope>, policy: Model.Policy, first: Run) =>
  Effect.gen(function*() {
    let best = first
    for (let size = Math.ceil(best.done.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = best.done.length - size; at >= 0; at -= size) {
        const fewer = best.done.toSpliced(at, size)
        const again = yield* run(disk, policy, (_, at) => fewer[at])
        if (again.difference !== undefined) best = again
      }
    }
    return best
  })

const policies: ReadonlyArray<Model.Policy> = ["rename", "rename", "overwrite", "reject"]

/**
 * Plays sequences of 50 to 90 commands, each to a server of its own, until so many steps are done. Returns the first
 * difference, made short.
 */
export const prove = (
  disk: Effect.Effect<Disk, never, Scope.Scope>,
  options: { readonly steps: number; readonly seed: number; readonly tally: Tally }
): Effect.Effect<(Difference & { readonly policy: Model.Policy; readonly sequence: number }) | undefined> =>
  Effect.gen(function*() {
    const { seed, steps, tally } = options
    for (let sequence = 0; tally.steps < steps; sequence++) {
      const luck: Chance = chance(seed + Math.imul(sequence, 0x9e3779b1))
      const policy = luck.pick(policies)
      const commands = new Commands(luck)
      const length = 50 + luck.below(41)
      const found = yield* run(disk, policy, (world, at) => at < length ? commands.next(world) : undefined)
      for (const command of found.done) {
        if (command.kind !== "") tally.add(command.kind, command._tag === "burst" ? command.chunks.length : 1)
      }
      if (found.difference !== undefined) {
        const short = yield* shrink(disk, policy, found)
        return { policy, sequence, commands: short.done, ...short.difference! }
      }
    }
    return undefined
  }).pipe(Effect.withTracerEnabled(false))
