/**
 * Group commit: what was written becomes durable, then true, for all that wait at once.
 *
 * @internal
 */
import * as Chunk from "effect/Chunk"
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Conflict } from "../../protocol/ProtocolError.ts"
import type { Superseded } from "../Claims.ts"
import * as Metrics from "../Metrics.ts"
import type { Commit, Committed, LedgerError, UploadLedger } from "../UploadLedger.ts"
import type { StoreError, UploadStore } from "../UploadStore.ts"

type Failure = Conflict | Superseded | StoreError | LedgerError

interface Waiting {
  readonly commit: Commit
  readonly outcome: Deferred.Deferred<Committed, Failure>
}

const newChunks = (batch: ReadonlyArray<Waiting>, outcomes: ReadonlyArray<Either.Either<Committed, unknown>>): number =>
  batch.filter(({ commit }, at) => Option.isSome(commit.written) && Either.isRight(outcomes[at]!)).length

/** So many requests share their syncs and their transaction at most. */
const most = 256

/**
 * `acknowledge` returns when the commit is durable: one sync of the store and one transaction of the ledger serve all that
 * gathered while the previous ones ran. It is not interruptible: once asked, the outcome is known.
 */
export const make = (
  store: Context.Tag.Service<UploadStore>,
  ledger: Context.Tag.Service<UploadLedger>
): Effect.Effect<(commit: Commit) => Effect.Effect<Committed, Failure>, never, Scope.Scope> =>
  Effect.gen(function*() {
    const queue = yield* Queue.unbounded<Waiting>()

    const carryOut = (batch: ReadonlyArray<Waiting>): Effect.Effect<void> =>
      Effect.gen(function*() {
        yield* Metrics.timedSync(store.sync(batch.map(({ commit: { key, written } }) => ({
          key,
          ...Option.match(written, { onNone: () => ({}), onSome: ({ extent }) => ({ extent }) })
        }))))
        const outcomes = yield* ledger.commit(batch.map(({ commit }) => commit))
        yield* Metric.incrementBy(Metrics.chunks, newChunks(batch, outcomes))
        for (const [at, { outcome }] of batch.entries()) Deferred.unsafeDone(outcome, outcomes[at]!)
      }).pipe(
        Effect.catchAll((error) =>
          batch.length === 1
            ? Effect.asVoid(Deferred.fail(batch[0]!.outcome, error))
            // one upload's trouble is not the others': each for itself. Syncing again acknowledges nothing that a failed sync
            // may have lost: of that the store makes no sync good any more (`syncs.ts`)
            : Effect.forEach(batch, (one) => carryOut([one]), { discard: true })
        ),
        Effect.catchAllDefect((defect) =>
          Effect.forEach(batch, ({ outcome }) => Deferred.die(outcome, defect), { discard: true })
        )
      )

    yield* Queue.takeBetween(queue, 1, most).pipe(
      Effect.flatMap((batch) => Effect.uninterruptible(carryOut(Chunk.toReadonlyArray(batch)))),
      Effect.forever,
      Effect.forkScoped
    )

    return (commit) =>
      Effect.gen(function*() {
        const outcome = yield* Deferred.make<Committed, Failure>()
        yield* Queue.offer(queue, { commit, outcome })
        return yield* Deferred.await(outcome)
      }).pipe(Effect.uninterruptible)
  })
