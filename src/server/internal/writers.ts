/**
 * The requests that are writing just now, and how a newer one stops an older one.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Busy } from "../../protocol/ProtocolError.ts"
import type { Wanted } from "../Claims.ts"
import type { Claim, UploadLedger } from "../UploadLedger.ts"
import type { UploadKey } from "../UploadStore.ts"

interface Writer {
  readonly key: UploadKey
  readonly stop: Deferred.Deferred<never, Busy>
  readonly ended: Deferred.Deferred<void>
}

export const make = (ledger: Context.Tag.Service<UploadLedger>) => {
  const writers = new Map<number, Writer>()

  // a claim and its entry in `writers` are one step: who takes over must find whom to stop
  const one = Effect.unsafeMakeSemaphore(1)

  /** Not interruptible: who waits for an older writer may be stopped itself, and has not ended before that one has. */
  const stop = (writer: Writer, why: string) =>
    Effect.uninterruptible(Effect.andThen(
      Deferred.fail(writer.stop, new Busy({ message: why, retryAfter: 1 })),
      Deferred.await(writer.ended)
    ))

  /**
   * Claims a range and runs `use` on it. An older claim of the same range is stopped first, and its last write has ended
   * before `use` begins. Whoever loses its claim this way fails with `Busy`.
   */
  const claimed = <A, E, R>(
    key: UploadKey,
    wanted: Wanted,
    use: (claim: Claim) => Effect.Effect<A, E, R>
  ) =>
    Effect.acquireUseRelease(
      one.withPermits(1)(Effect.gen(function*() {
        const claim = yield* ledger.claim(key, wanted)
        if (claim._tag === "Repeat") return { claim, writer: undefined, older: undefined }
        const writer: Writer = {
          key,
          stop: yield* Deferred.make<never, Busy>(),
          ended: yield* Deferred.make<void>()
        }
        const older = writers.get(Option.getOrElse(claim.supersedes, () => -1))
        writers.set(claim.fence, writer)
        return { claim, writer, older }
      })),
      ({ claim, older, writer }) =>
        writer === undefined
          ? use(claim)
          // interruptible wherever it is called from: a stalled body must be stoppable
          : Effect.interruptible(Effect.raceFirst(
            Effect.andThen(
              older === undefined
                ? Effect.void
                : stop(older, "A newer request for the same bytes took over; only its answer counts"),
              use(claim)
            ),
            Deferred.await(writer.stop)
          )),
      ({ claim, writer }) =>
        claim._tag === "Repeat" || writer === undefined
          ? Effect.void
          : Effect.andThen(ledger.release(key, claim.fence), () => {
            writers.delete(claim.fence)
            return Deferred.succeed(writer.ended, undefined)
          })
    )

  /** Stops every writer of an upload and waits until the last has ended. */
  const stopAll = (key: UploadKey, why: string) =>
    Effect.forEach([...writers.values()].filter((writer) => writer.key === key), (writer) => stop(writer, why), {
      discard: true
    })

  return { claimed, stopAll }
}

export type Writers = ReturnType<typeof make>
