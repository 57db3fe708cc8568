/**
 * The SHA-256 of whole uploads, computed from their stored bytes while more are still arriving, so that finishing is quick.
 * After a restart it begins again at the first byte.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Sha256 from "../../protocol/Sha256.ts"
import type { LedgerError, Upload, UploadLedger } from "../UploadLedger.ts"
import type { Extent, StoreError, UploadKey, UploadStore } from "../UploadStore.ts"

interface Running {
  hasher: Sha256.Hasher
  /** So many bytes from the start are in the hash. */
  at: number
  /** Done when that becomes more. */
  moved: Deferred.Deferred<void>
  readonly one: Effect.Semaphore
  following: boolean
}

const move = (running: Running, at: number): void => {
  const { moved } = running
  running.at = at
  running.moved = Deferred.unsafeMake(FiberId.none)
  Deferred.unsafeDone(moved, Exit.void)
}

const end = ({ length, offset }: Extent): number => offset + length

/** Bytes hashed before somebody else has a turn, and those that are worth it while more are arriving. */
const step = 8 * 1024 * 1024

export const make = (
  store: Context.Tag.Service<UploadStore>,
  ledger: Context.Tag.Service<UploadLedger>,
  scope: Scope.Scope
) => {
  const all = new Map<UploadKey, Running>()
  /** Uploads with bytes that came before this process began. */
  const inherited = new Set<UploadKey>()
  const turns = Effect.unsafeMakeSemaphore(2)
  /** How many wait for more bytes in the hash of an upload. */
  const watched = new Map<UploadKey, number>()

  const of = (key: UploadKey): Running => {
    const known = all.get(key)
    if (known !== undefined) return known
    const fresh: Running = {
      hasher: Sha256.make(),
      at: 0,
      moved: Deferred.unsafeMake(FiberId.none),
      one: Effect.unsafeMakeSemaphore(1),
      following: false
    }
    all.set(key, fresh)
    return fresh
  }

  /** Hashes on to the end of what is committed without a gap. */
  const catchUp = (key: UploadKey, running: Running): Effect.Effect<void, StoreError | LedgerError> =>
    Effect.gen(function*() {
      for (;;) {
        const end = yield* ledger.contiguous(key, running.at)
        if (end === running.at) return
        while (running.at < end) {
          const to = Math.min(end, running.at + step)
          yield* turns.withPermits(1)(
            store.read(key, ledger.extents(key), [running.at, to], running.hasher.update)
          )
          move(running, to)
        }
      }
    }).pipe(
      // a hash that was fed in part is of no use any more
      Effect.onError(() => Effect.sync(() => all.delete(key)))
    )

  /** The hash of one extent's own bytes. */
  const hashOf = (key: UploadKey, extent: Extent): Effect.Effect<Sha256.Sha256, StoreError> =>
    Effect.suspend(() => {
      const hasher = Sha256.make()
      const read = store.read(key, Effect.succeed([extent]), [extent.offset, end(extent)], hasher.update)
      return Effect.map(turns.withPermits(1)(read), hasher.digest)
    })

  return {
    /** More bytes are here: hash them, in the background. Of a file that came in one chunk the hash is known. */
    follow: (key: UploadKey, upload: Upload): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (upload.state !== "receiving" && upload.chunks === 1) return Effect.void
        const running = of(key)
        const isWorthIt = watched.has(key) || upload.received - running.at >= step
        if (running.following || !isWorthIt) return Effect.void
        running.following = true
        return running.one.withPermits(1)(catchUp(key, running)).pipe(
          Effect.ensuring(Effect.sync(() => {
            running.following = false
          })),
          Effect.ignoreLogged,
          Effect.forkIn(scope),
          Effect.asVoid
        )
      }),

    /** The hash of an upload that is here as a whole. */
    digest: (key: UploadKey): Effect.Effect<Sha256.Sha256, StoreError | LedgerError> =>
      Effect.gen(function*() {
        // one chunk that came to this process was hashed when it came
        if (!inherited.has(key) && !all.has(key)) {
          const extents = yield* ledger.extents(key)
          if (extents.length === 1 && extents[0]!.offset === 0) return extents[0]!.sha256
        }
        const running = of(key)
        yield* running.one.withPermits(1)(catchUp(key, running))
        all.delete(key)
        return running.hasher.digest()
      }),

    /**
     * Adds an extent that is not committed yet, if its hash is that of all bytes up to its end: whether it is. `None` when
     * the bytes before it are not all here. Whoever then does not commit it has to `retract` it.
     */
    extend: (key: UploadKey, extent: Extent): Effect.Effect<Option.Option<boolean>, StoreError | LedgerError> =>
      Effect.suspend(() => {
        const running = of(key)
        return running.one.withPermits(1)(
          Effect.gen(function*() {
            yield* catchUp(key, running)
            if (running.at !== extent.offset) return Option.none()
            const hasher = running.hasher.copy()
            yield* turns.withPermits(1)(
              store.read(key, Effect.succeed([extent]), [extent.offset, end(extent)], hasher.update)
            )
            if (hasher.copy().digest() !== extent.sha256) return Option.some(false)
            running.hasher = hasher
            move(running, end(extent))
            return Option.some(true)
          })
        )
      }),

    /** Runs `use` with what waits until more bytes are in the hash than there are now. Meanwhile those that come are hashed at once. */
    watching: <A, E>(key: UploadKey, use: (moved: Effect.Effect<void>) => Effect.Effect<A, E>): Effect.Effect<A, E> =>
      Effect.acquireUseRelease(
        Effect.sync(() => {
          watched.set(key, (watched.get(key) ?? 0) + 1)
          return of(key).moved
        }),
        (moved) => use(Deferred.await(moved)),
        () =>
          Effect.sync(() => {
            const left = (watched.get(key) ?? 0) - 1
            if (left > 0) watched.set(key, left)
            else watched.delete(key)
          })
      ),

    /** An extent is not committed: a hash that it is in is of no use any more. */
    retract: (key: UploadKey, { offset }: Extent): Effect.Effect<void> =>
      Effect.sync(() => {
        if ((all.get(key)?.at ?? 0) > offset) all.delete(key)
      }),

    hashOf,

    inherit: (key: UploadKey): Effect.Effect<void> => Effect.sync(() => void inherited.add(key)),

    /** Whether stored bytes are those that came, each extent for itself. Those that came to this process are believed. */
    isIntact: (key: UploadKey): Effect.Effect<boolean, StoreError | LedgerError> =>
      Effect.gen(function*() {
        if (!inherited.has(key)) return true
        const extents = yield* ledger.extents(key)
        // only an extent that came with it is compared with the hash of all bytes up to its end
        const prefix = extents.some(({ isPrefix }) => isPrefix === true) ? Sha256.make() : undefined
        for (const extent of extents) {
          const own = extent.isPrefix === true ? undefined : Sha256.make()
          yield* turns.withPermits(1)(
            store.read(key, Effect.succeed(extents), [extent.offset, end(extent)], (bytes) => {
              prefix?.update(bytes)
              own?.update(bytes)
            })
          )
          if ((own ?? prefix?.copy())?.digest() !== extent.sha256) return false
        }
        return true
      }),

    /** The upload is done with, or has other bytes now. */
    forget: (key: UploadKey): Effect.Effect<void> => Effect.sync(() => void all.delete(key))
  }
}

export type WholeHash = ReturnType<typeof make>
