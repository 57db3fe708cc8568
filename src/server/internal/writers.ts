/**
 * The requests that are writing just now, and how a newer one stops an older one.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import { Busy } from "../../protocol/ProtocolError.ts"
import type { Wanted } from "../Claims.ts"
import type { Claim, UploadLedger } from "../UploadLedger.ts"
import type { UploadKey } from "../UploadStore.ts"

interface Writer {
  readonly key: UploadKey
  readonly fence: number
  /** Where its bytes end, if that was said. */
  readonly to: number | undefined
  /** Its bytes are in the hash of the whole, or it has ended. */
  readonly hashed: Deferred.Deferred<void>
  readonly ended: Deferred.Deferred<void>
  fiber?: Fiber.RuntimeFiber<unknown, unknown>
  /** Why it was stopped, once it was. */
  stopped?: Busy
}

const tookOver = "A newer request for the same bytes took over; only its answer counts"

/** Runs to the end of all the work: who is interrupted interrupts it and waits for its end. */
const run = <A, E, R>(
  writer: Writer,
  work: Effect.Effect<A, E, R>,
  restore: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | Busy, R> =>
  Effect.gen(function*() {
    const fiber = yield* Effect.fork(work)
    writer.fiber = fiber
    if (writer.stopped !== undefined) fiber.unsafeInterruptAsFork(FiberId.none)
    const exit = yield* restore(Fiber.await(fiber)).pipe(Effect.onInterrupt(() => Fiber.interrupt(fiber)))
    return Exit.isFailure(exit) && Cause.isInterrupted(exit.cause) && writer.stopped !== undefined
      ? yield* writer.stopped
      : yield* exit
  })

export const make = (ledger: Context.Tag.Service<UploadLedger>) => {
  const writers = new Map<number, Writer>()

  // a claim and its entry in `writers` are one step: who takes over must find whom to stop
  const one = Effect.unsafeMakeSemaphore(1)

  const take = (key: UploadKey, wanted: Wanted) =>
    Effect.gen(function*() {
      const claim = yield* ledger.claim(key, wanted)
      if (claim._tag === "Repeat") return { claim, writer: undefined, older: undefined }
      const writer: Writer = {
        key,
        fence: claim.fence,
        to: wanted === "whole" ? undefined : Option.getOrUndefined(wanted.to),
        hashed: yield* Deferred.make<void>(),
        ended: yield* Deferred.make<void>()
      }
      const older = writers.get(Option.getOrElse(claim.supersedes, () => -1))
      writers.set(claim.fence, writer)
      return { claim, writer, older }
    })

  /** Not interruptible: who waits for an older writer may be stopped itself, and has not ended before that one has. */
  const stop = (writer: Writer, why: string) =>
    Effect.uninterruptible(Effect.suspend(() => {
      writer.stopped ??= new Busy({ message: why, retryAfter: 1 })
      writer.fiber?.unsafeInterruptAsFork(FiberId.none)
      return Deferred.await(writer.ended)
    }))

  /**
   * Claims a range and runs `use` on it. An older claim of the same range is stopped first, and its last write has ended
   * before `use` begins. Whoever loses its claim to a newer one fails with `Busy`.
   *
   * `use` runs in a fiber of its own, which can be stopped without its request. The claim is given up only when all of it
   * has ended, the disk calls in flight and the clearing up too, whatever ends it: itself, `stop`, or the interruption of a
   * request whose client is gone. (A race would not do: interrupted, it leaves its children to themselves.)
   */
  const claimed = <A, E, R>(
    key: UploadKey,
    wanted: Wanted,
    use: (claim: Claim) => Effect.Effect<A, E, R>
  ) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const { claim, older, writer } = yield* one.withPermits(1)(take(key, wanted))
        if (writer === undefined) return yield* restore(use(claim))
        // the older one is waited for even by who was interrupted before it began: it ends for both
        const working = Effect.andThen(
          older === undefined ? Effect.void : stop(older, tookOver),
          Effect.interruptible(use(claim))
        )
        return yield* Effect.ensuring(
          run(writer, working, restore),
          Effect.andThen(ledger.release(key, writer.fence), () => {
            writers.delete(writer.fence)
            return Effect.zipRight(
              Deferred.succeed(writer.hashed, undefined),
              Deferred.succeed(writer.ended, undefined)
            )
          })
        )
      })
    )

  /** Stops the writers of an upload, or all there are, and waits until the last has ended. */
  const stopAll = (key: UploadKey | undefined, why: string) =>
    Effect.forEach(
      [...writers.values()].filter((writer) => key === undefined || writer.key === key),
      (writer) => stop(writer, why),
      { concurrency: "unbounded", discard: true }
    )

  /** Runs something short unless somebody is writing to the upload; nobody begins to meanwhile. */
  const whenFree = <A, E, R>(key: UploadKey, use: Effect.Effect<A, E, R>) =>
    one.withPermits(1)(
      Effect.suspend(() =>
        [...writers.values()].some((writer) => writer.key === key) ? Effect.void : Effect.asVoid(use)
      )
    )

  /** Tells those that wait for a writer's bytes that they are in the hash of the whole. */
  const hashed = (fence: number): Effect.Effect<void> =>
    Effect.suspend(() => {
      const writer = writers.get(fence)
      return writer === undefined ? Effect.void : Effect.asVoid(Deferred.succeed(writer.hashed, undefined))
    })

  /** Who writes the bytes that end at `offset`, if anybody does, as what waits for them. */
  const before = (key: UploadKey, offset: number): Effect.Effect<Option.Option<Effect.Effect<void>>> =>
    Effect.sync(() =>
      Option.map(
        Option.fromNullable([...writers.values()].find((writer) => writer.key === key && writer.to === offset)),
        ({ ended, hashed }) =>
          // who has told so already and still counts for nothing has failed since
          Effect.if(Deferred.isDone(hashed), {
            onTrue: () => Deferred.await(ended),
            onFalse: () => Deferred.await(hashed)
          })
      )
    )

  return { claimed, stopAll, whenFree, hashed, before }
}

export type Writers = ReturnType<typeof make>
