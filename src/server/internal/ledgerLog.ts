/**
 * Puts committed transactions on the disk on another thread: SQLite would sync its log on the one that serves everybody.
 *
 * With `synchronous=NORMAL` a commit is in the log (WAL) when it returns, and on the disk after the next sync of the log's
 * file. SQLite itself syncs the log when it begins it anew, and before it carries it over into the database
 * (sqlite.org/wal.html, "Checkpointing"; sqlite.org/pragma.html, "synchronous").
 *
 * A sync that failed may have lost bytes, of which no later sync tells (`syncs.ts`). Nothing counts as durable any more then,
 * until a new start carries the log over into the database.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import { ServerFailure } from "../../protocol/ProtocolError.ts"

export interface LedgerLog {
  /** Something was committed. */
  readonly wrote: () => void
  /** Waits until all that was committed is on the disk; `undefined` when it is. */
  readonly durable: () => Effect.Effect<void, ServerFailure> | undefined
  /** Waits for the sync under way. */
  readonly close: Effect.Effect<void>
}

/** A log that survives the death of the process, and is not asked for more. */
export const unsynced: LedgerLog = { wrote: () => {}, durable: () => undefined, close: Effect.void }

/** `sync` calls back with what it failed with, or `null`. One at a time: each serves all that was committed before it. */
export const make = (sync: (done: (cause: unknown) => void) => void): LedgerLog => {
  let isDirty = false
  let failed: Effect.Effect<never, ServerFailure> | undefined
  let served: ReadonlyArray<() => void> | undefined
  let waiting: Array<() => void> = []

  const start = () => {
    served = waiting
    waiting = []
    isDirty = false
    sync((cause) => {
      if (cause !== null) {
        failed = Effect.fail(
          new ServerFailure({
            message: "The server's ledger could not be synced to its disk; the server has to be started anew",
            cause
          })
        )
      }
      const told = served ?? []
      served = undefined
      if (waiting.length > 0) start()
      told.forEach((tell) => tell())
    })
  }

  const ended = Effect.async<void>((resume) => {
    waiting.push(() => resume(Effect.void))
    if (served === undefined) start()
  })
  const durable = Effect.andThen(ended, Effect.suspend(() => failed ?? Effect.void))

  return {
    wrote: () => {
      isDirty = true
    },
    durable: () => failed ?? (isDirty || served !== undefined ? durable : undefined),
    close: Effect.suspend(() => served === undefined ? Effect.void : ended)
  }
}
