/**
 * Sending the files of a buffer: which of them go where, several at once, and what becomes of each.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { BufferedFile, ChunkStore, ChunkStoreError, FileId, NotBuffered } from "../ChunkStore.ts"
import type { Found, Source } from "../Source.ts"
import type { Transport } from "../Transport.ts"
import * as UploadEvent from "../UploadEvent.ts"
import * as Batches from "./batches.ts"
import * as Bodies from "./bodies.ts"
import * as Deliver from "./deliver.ts"
import * as Delivery from "./delivery.ts"
import * as OldNames from "./oldNames.ts"
import * as Pace from "./pace.ts"
import type { RetryOptions } from "./retry.ts"

export type Emit = (event: UploadEvent.UploadEvent) => Effect.Effect<void>

/** What every upload of an uploader shares. */
export interface Sending {
  readonly store: Context.Tag.Service<ChunkStore>
  readonly transport: Context.Tag.Service<Transport>
  readonly options: {
    readonly chunkSize: number
    readonly largestBody: number
    readonly parallel: number
    readonly freeEarly: boolean
    readonly retry: RetryOptions
  }
}

/** What one upload was asked for. */
export interface Asked {
  readonly endpoint?: string | undefined
  readonly destined?: boolean | undefined
  readonly resendUnconfirmed?: boolean
}

/** Files in hand at most: most of them wait until the server takes what it has refused for now. */
const inHand = 512

export const endpointFor = (
  { destined = false, endpoint }: Pick<Asked, "endpoint" | "destined">,
  { destination }: Pick<BufferedFile, "destination">
): string | undefined => {
  const own = Option.getOrUndefined(destination)
  if (endpoint === undefined || own === endpoint) return own
  return own === undefined && !destined ? endpoint : undefined
}

/** An endpoint of an upload. */
interface Route extends Delivery.Parts {
  readonly batches: Batches.Batches
  /** Nothing more can be sent there. */
  stopped: boolean
  toldOfStop: boolean
  toldOfFolders: boolean
}

/** The parts for each endpoint of one upload, made when the first file goes there. */
const makeParts = ({ options, store, transport }: Sending, asked: Asked, emit: Emit) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const one = yield* Effect.makeSemaphore(1)
    const made = new Map<string, Route>()
    return (endpoint: string) =>
      one.withPermits(1)(Effect.gen(function*() {
        const before = made.get(endpoint)
        if (before !== undefined) return before
        const { chunkSize, freeEarly, largestBody, parallel, retry } = options
        const pace = yield* Pace.make({ body: chunkSize, largestBody, parallel })
        const parts: Delivery.Parts = {
          store,
          transport,
          emit,
          retry,
          endpoint,
          freeEarly,
          pace,
          bodies: Bodies.make(largestBody),
          oldNames: yield* OldNames.make(store, endpoint, pace),
          resendUnconfirmed: asked.resendUnconfirmed ?? false
        }
        const route: Route = {
          ...parts,
          batches: Batches.make(parts, chunkSize, scope),
          stopped: false,
          toldOfStop: false,
          toldOfFolders: false
        }
        made.set(endpoint, route)
        return route
      }))
  })

/** Progress never falls, also when a file has to be begun anew. */
const rising = (emit: Emit): Emit => {
  let most = 0
  return (event) => {
    if (event._tag !== "Started" && event._tag !== "Progress") return emit(event)
    most = Math.max(most, event.acknowledged)
    return emit({ ...event, acknowledged: most })
  }
}

/** What a program ends with, of the outcomes that leave the file in the buffer. */
type Kept = Exclude<UploadEvent.OutcomeState, "delivered">

/** Sends one file; everything that concerns it alone becomes its outcome. `None` when it is no longer in the buffer. */
const one = (parts: Route, file: BufferedFile): Effect.Effect<
  Option.Option<UploadEvent.Outcome>,
  Delivery.StopError | ChunkStoreError
> => {
  const { store } = parts
  const outcome = { file: file.id, path: file.path, size: file.size, sha256: file.sha256 }
  const ended = (state: Kept, cause: { readonly message: string }): UploadEvent.Outcome => ({
    ...outcome,
    state,
    error: Option.some(cause.message),
    cause,
    serverName: Option.none()
  })
  /** Records something about a file, which somebody may have removed. */
  const note = (effect: Effect.Effect<void, NotBuffered | ChunkStoreError>) =>
    Effect.catchTag(effect, "NotBuffered", () => Effect.void)
  const changed = (error: { readonly message: string }) =>
    Effect.gen(function*() {
      const now = yield* Effect.option(store.get(file.id))
      if (Option.isSome(now)) yield* Delivery.forsake(parts.transport, now.value)
      yield* store.drop(file.id)
      return ended("failed", error)
    })
  /** A file that is sent from where it lies is read anew when it is asked for again: its record may be what is wrong. */
  const givenUp = (error: { readonly message: string }) =>
    Effect.flatMap(store.adopted(file.source), (adopted) =>
      Option.exists(adopted, ({ id }) => id === file.id)
        ? changed(error)
        : Effect.as(note(store.setFailure(file.id, Option.some(error.message))), ended("failed", error)))
  const left = (state: Kept) => (error: { readonly message: string }) =>
    Effect.as(
      note(store.setTrouble(file.id, { reason: error.message, nextTry: Option.none() })),
      ended(state, error)
    )
  const delivery = Effect.gen(function*() {
    const done = yield* Deliver.deliver({ ...parts, emit: rising(parts.emit) }, file.id)
    yield* store.delivered(file.id, done)
    return {
      ...outcome,
      state: "delivered" as const,
      error: Option.none(),
      serverName: Option.some(done.serverName),
      sha256: Option.some(done.sha256)
    }
  }).pipe(
    Effect.catchTags({
      NotBuffered: () =>
        Effect.succeed(ended("failed", { message: "It was removed from the buffer while it was being sent" })),
      Unconfirmed: left("unconfirmed"),
      GaveUpWaiting: left("waiting"),
      GivenUp: givenUp,
      PieceDamaged: givenUp,
      SourceError: givenUp,
      SourceChanged: changed,
      Unreachable: givenUp,
      NoAnswer: givenUp
    })
  )
  const claimed = Effect.scoped(Effect.andThen(store.claim(file.id), delivery))
  return Effect.asSome(claimed).pipe(
    Effect.catchTags({
      AlreadyClaimed: (error) => Effect.succeedSome(ended("claimed", error)),
      // it was delivered or removed by somebody else since it was listed
      NotBuffered: () => Effect.succeedNone
    }),
    Effect.withSpan("Uploader.file", { attributes: { size: file.size } }),
    Effect.annotateLogs({ file: file.path })
  )
}

/** A small source that the buffer does not know of yet, and how it comes to; `None` when it cannot. */
export interface Unadmitted {
  readonly source: Source
  readonly found: Found
  readonly admit: Effect.Effect<Option.Option<BufferedFile>, ChunkStoreError>
}

export type Item = BufferedFile | Unadmitted

const isUnadmitted = (item: Item): item is Unadmitted => "admit" in item

/** Sends a file, with others where that can be, else by itself when it is its turn. */
const deliver = (parts: Route, item: Item): ReturnType<typeof one> => {
  const { batches, pace } = parts
  const admitted = isUnadmitted(item) ? item.admit : Effect.succeedSome(item)
  const alone = Effect.suspend((): ReturnType<typeof one> =>
    parts.stopped ? Effect.succeedNone : Effect.flatMap(
      admitted,
      Option.match({ onNone: () => Effect.succeedNone, onSome: (file) => one(parts, file) })
    )
  ).pipe(
    // before it is the turn of the next
    Effect.tapError(() => Effect.sync(() => void (parts.stopped = true)))
  )
  const together = Effect.flatMap(
    batches.send(item),
    (outcome) => Option.isSome(outcome) ? Effect.succeed(outcome) : pace.inTurn(alone)
  )
  const takes = () => !parts.stopped && batches.takes(item)
  return Effect.suspend(() =>
    takes()
      ? together
      // what the server takes may have become known by then
      : Effect.flatten(
        pace.inTurn(Effect.suspend(() => takes() ? Effect.succeed(together) : Effect.map(alone, Effect.succeed)))
      )
  )
}

/**
 * Runs for each, {@link inHand} at once; the first failure ends all. (`Stream.mapEffect` does the same, for half a
 * millisecond of CPU each.)
 */
const forEachInHand = <A, E, E2>(
  all: Stream.Stream<A, E>,
  run: (one: A) => Effect.Effect<void, E2>
): Effect.Effect<void, E | E2> =>
  Effect.scoped(Effect.gen(function*() {
    const scope = yield* Effect.scope
    const failed = yield* Deferred.make<never, E2>()
    const hands = yield* Effect.makeSemaphore(inHand)
    const take = (one: A) =>
      Effect.zipRight(
        hands.take(1),
        run(one).pipe(
          Effect.catchAllCause((cause) => Deferred.failCause(failed, cause)),
          Effect.ensuring(hands.release(1)),
          Effect.forkIn(scope)
        )
      )
    yield* Stream.runForEach(all, take).pipe(
      // all of them are free again when the last has ended
      Effect.zipRight(hands.take(inHand)),
      Effect.raceFirst(Deferred.await(failed))
    )
  }))

const hasFolders = (name: string) => name.includes("/")

/**
 * Sends files, several at once. What stops the upload to the endpoint that was asked for fails; where each file goes to its
 * own, the files for the others go on before that.
 */
export const send = <E>(
  sending: Sending,
  asked: Asked,
  files: Stream.Stream<Item, E>,
  emit: Emit,
  onOutcome: (outcome: UploadEvent.Outcome) => Effect.Effect<void> = () => Effect.void
): Effect.Effect<void, E | Delivery.StopError | ChunkStoreError> =>
  Effect.gen(function*() {
    const partsFor = yield* makeParts(sending, asked, emit)
    let stop: Delivery.StopError | undefined
    yield* forEachInHand(files, (file) =>
      Effect.gen(function*() {
        const endpoint = isUnadmitted(file) ? asked.endpoint : endpointFor(asked, file)
        if (endpoint === undefined) return
        const parts = yield* partsFor(endpoint)
        const { name } = isUnadmitted(file) ? file.source : file
        const stops = (error: Delivery.StopError): Effect.Effect<void, Delivery.StopError> => {
          if (asked.endpoint !== undefined) return Effect.fail(error)
          const isFirst = !parts.toldOfStop
          parts.toldOfStop = true
          stop ??= error
          return isFirst ? emit(UploadEvent.Warning({ message: `${endpoint}: ${error.message}` })) : Effect.void
        }
        yield* Effect.flatMap(
          deliver(parts, file),
          Option.match({
            onNone: () => Effect.void,
            onSome: (outcome) =>
              Effect.gen(function*() {
                if (
                  !parts.toldOfFolders && hasFolders(name) &&
                  Option.exists(outcome.serverName, (name) => !hasFolders(name))
                ) {
                  parts.toldOfFolders = true
                  yield* emit(UploadEvent.Warning({
                    message: `The server keeps no folders: ${name} is ${Option.getOrThrow(outcome.serverName)} ` +
                      "there. It keeps them when it is started with --path-mode allow-paths"
                  }))
                }
                yield* emit(UploadEvent.Finished(outcome))
                yield* onOutcome(outcome)
              })
          })
        ).pipe(Effect.catchTags({ KeyRefused: stops, WrongEndpoint: stops, ApiKeyMissing: stops }))
      }))
    if (stop !== undefined) return yield* stop
  }).pipe(Effect.scoped)

/** A program that died in the middle of a file leaves no sign: its files are looked for so often. */
const lookAgain = Duration.seconds(30)

/** Sends what is in the buffer, and what comes, without end. */
export const watch = (sending: Sending, asked: Asked, emit: Emit) =>
  Effect.gen(function*() {
    const { store } = sending
    const inWork = new Set<FileId>()
    // not again before so many milliseconds since 1970
    const resting = new Map<FileId, number>()
    const isDue = (file: BufferedFile, now: number) =>
      Option.isNone(file.failure) && !file.held && !inWork.has(file.id) && (resting.get(file.id) ?? 0) <= now
    const files = Stream.merge(store.arrivals, Stream.drop(Stream.tick(lookAgain), 1)).pipe(
      Stream.flatMap(() => store.list),
      Stream.filterEffect((file) => Effect.map(Clock.currentTimeMillis, (now) => isDue(file, now))),
      Stream.tap(({ id }) => Effect.sync(() => inWork.add(id)))
    )
    yield* send(sending, asked, files, emit, ({ file, state }) =>
      Effect.map(Clock.currentTimeMillis, (now) => {
        inWork.delete(file)
        if (state === "unconfirmed") resting.set(file, Number.POSITIVE_INFINITY)
        else if (state === "waiting") resting.set(file, now + Duration.toMillis(sending.options.retry.maxDelay))
        else resting.delete(file)
      }))
  })
