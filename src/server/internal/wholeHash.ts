/**
 * The SHA-256 of whole uploads, computed from their stored bytes while more are still arriving, so that finishing is quick.
 * After a restart it begins again at the first byte.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Sha256 from "../../protocol/Sha256.ts"
import type { LedgerError, Upload, UploadLedger } from "../UploadLedger.ts"
import type { StoreError, UploadKey, UploadStore } from "../UploadStore.ts"

interface Running {
  readonly hasher: Sha256.Hasher
  /** So many bytes from the start are in the hash. */
  at: number
  readonly one: Effect.Semaphore
  following: boolean
}

/** Bytes hashed before somebody else has a turn. */
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

  const of = (key: UploadKey): Running => {
    const known = all.get(key)
    if (known !== undefined) return known
    const fresh = { hasher: Sha256.make(), at: 0, one: Effect.unsafeMakeSemaphore(1), following: false }
    all.set(key, fresh)
    return fresh
  }

  /** Hashes on to the end of what is here without a gap. */
  const catchUp = (key: UploadKey, running: Running): Effect.Effect<void, StoreError | LedgerError> =>
    running.one.withPermits(1)(
      Effect.gen(function*() {
        for (;;) {
          const end = yield* ledger.contiguous(key, running.at)
          if (end === running.at) return
          while (running.at < end) {
            const to = Math.min(end, running.at + step)
            yield* turns.withPermits(1)(
              store.read(key, ledger.extents(key), [running.at, to], running.hasher.update)
            )
            running.at = to
          }
        }
      }).pipe(
        // a hash that was fed in part is of no use any more
        Effect.onError(() => Effect.sync(() => all.delete(key)))
      )
    )

  return {
    /** More bytes are here: hash them, in the background. Of a file that came in one chunk the hash is known. */
    follow: (key: UploadKey, upload: Upload): Effect.Effect<void> =>
      Effect.suspend(() => {
        if (upload.state !== "receiving" && upload.chunks === 1) return Effect.void
        const running = of(key)
        if (running.following) return Effect.void
        running.following = true
        return catchUp(key, running).pipe(
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
        yield* catchUp(key, running)
        all.delete(key)
        return running.hasher.digest()
      }),

    inherit: (key: UploadKey): Effect.Effect<void> => Effect.sync(() => void inherited.add(key)),

    /** Whether stored bytes are those that came, each extent for itself. Those that came to this process are believed. */
    isIntact: (key: UploadKey): Effect.Effect<boolean, StoreError | LedgerError> =>
      Effect.gen(function*() {
        if (!inherited.has(key)) return true
        const extents = yield* ledger.extents(key)
        for (const { length, offset, sha256 } of extents) {
          const hasher = Sha256.make()
          yield* turns.withPermits(1)(
            store.read(key, Effect.succeed(extents), [offset, offset + length], hasher.update)
          )
          if (hasher.digest() !== sha256) return false
        }
        return true
      }),

    /** The upload is done with, or has other bytes now. */
    forget: (key: UploadKey): Effect.Effect<void> => Effect.sync(() => void all.delete(key))
  }
}

export type WholeHash = ReturnType<typeof make>
