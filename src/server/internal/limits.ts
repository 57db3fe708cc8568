/**
 * What one chunk, one file, one key and the disk may hold.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { Malformed, StorageFull, TooLarge, TooMany } from "../../protocol/ProtocolError.ts"
import type { UploadBatch } from "../../protocol/UploadBatch.ts"
import type { UploadLimit } from "../../protocol/UploadLimit.ts"
import { type Body, read, type ReadError } from "../Body.ts"
import type { ReceiveRequest, ReceiverOptions } from "../Receiver.ts"
import type { LedgerError, UploadLedger } from "../UploadLedger.ts"
import type { StoreError, UploadStore } from "../UploadStore.ts"
import * as BodyRules from "./bodyRules.ts"

/** Bytes that a body may hold before they are written: at least a piece as the socket gives it, at most what pays. */
const gather = { least: 64 * 1024, most: 1024 * 1024 }

/** Files and bytes of one batch, and the part of the memory for bodies that it may take. */
const batch = { files: 256, bytes: 8 * 1024 * 1024, part: 4 }

/** How long room that was found on the disk is believed to be there still. That there is none is never believed. */
const freeFor = "100 millis"

/** Seconds after which a key with too many open uploads may come again. */
const openRetry = 60

const noRoom = () =>
  new StorageFull({ message: "The server has no room left for this; it will be taken once there is" })

const fileTooLarge = (most: number) =>
  new TooLarge({ message: `A file may have ${most} bytes at most on this server; split it, or ask its operator` })

export const make = Effect.fnUntraced(function*(
  options: ReceiverOptions,
  store: Context.Tag.Service<UploadStore>,
  ledger: Context.Tag.Service<UploadLedger>
) {
  const { maxFileSize, maxKeyBytes, maxNameLength, maxOpenUploads, minFreeSpace } = options
  const { maxPiece, minPiece } = store.limits
  const maxChunkSize = Math.min(options.maxChunkSize, maxPiece)
  const window = Duration.toMillis(options.bodyTimeout)
  // with as many bodies as this in flight, all of them gather the least
  const most = Math.max(1, Math.floor(options.bodyMemory / gather.least))
  const places = Effect.unsafeMakeSemaphore(most)
  let bodies = 0
  const share = () =>
    Math.min(gather.most, Math.max(gather.least, Math.floor(options.bodyMemory / Math.max(1, bodies))))

  const [found, forget] = yield* Effect.cachedInvalidateWithTTL(store.free, freeFor)
  // that a disk did not answer once is not believed
  const free = Effect.tapError(found, () => forget)
  /** Between looking at a key's bytes and counting more nobody else may do so. */
  const one = yield* Effect.makeSemaphore(1)
  const opens = yield* Effect.makeSemaphore(1)
  /** Bytes that a key's bodies in flight may still add. */
  const adding = new Map<string, number>()

  const hasRoom = (bytes: number): Effect.Effect<void, StoreError> => {
    const fits = Effect.map(free, (free) => !Option.exists(free, (free) => free - bytes < minFreeSpace))
    return Effect.flatMap(fits, (isRoom) =>
      isRoom ? Effect.void : Effect.flatMap(
        Effect.zipRight(forget, fits),
        (isRoom) => isRoom ? Effect.void : Effect.fail(noRoom())
      ))
  }

  const left = (principal: string): Effect.Effect<number, LedgerError> =>
    maxKeyBytes === undefined
      ? Effect.succeed(Number.MAX_SAFE_INTEGER)
      : Effect.map(ledger.bytesOf(principal), (held) => maxKeyBytes - held - (adding.get(principal) ?? 0))

  const keyFull = () =>
    new StorageFull({
      message:
        `This key may have ${maxKeyBytes} bytes on this server, and has; delete unfinished uploads, or ask its operator`
    })

  const add = (principal: string, bytes: number): void => {
    const sum = (adding.get(principal) ?? 0) + bytes
    if (sum === 0) adding.delete(principal)
    else adding.set(principal, sum)
  }

  const mayOpen = (principal: string, more = 1): Effect.Effect<void, TooMany | LedgerError> =>
    Effect.flatMap(
      ledger.open(Option.some(principal)),
      (open) =>
        open + more <= maxOpenUploads ? Effect.void : new TooMany({
          message: `This key has ${maxOpenUploads} unfinished uploads; finish or delete some first`,
          retryAfter: openRetry
        })
    )

  const held = (body: Body): Body =>
    BodyRules.hold(body, {
      maxBytes: maxChunkSize,
      window,
      leastBytes: Math.max(1, Math.floor(options.minBodyRate * window / 1000))
    })

  const batches: UploadBatch = {
    maxFiles: batch.files,
    maxSize: Math.min(batch.bytes, maxChunkSize, Math.floor(options.bodyMemory / batch.part))
  }

  return {
    /** What a client can be told of it beforehand. */
    told: {
      maxSize: maxFileSize,
      maxAppendSize: maxChunkSize,
      ...(minPiece > 1 ? { minAppendSize: Math.min(minPiece, maxChunkSize) } : {}),
      maxAge: Duration.toMillis(options.unfinishedLifetime) / 1000
    } satisfies UploadLimit,

    /** Refuses what is too large by what its headers say. Nothing of the body is read. */
    check: ({ body, chunk }: ReceiveRequest): Effect.Effect<void, Malformed | TooLarge> => {
      const length = Option.getOrElse(body.length, () => 0)
      const name = new TextEncoder().encode(chunk.fileName).length
      const end = Option.match(chunk.upload, {
        onNone: () => length,
        onSome: ({ offset, size }) => Math.max(offset + length, Option.getOrElse(size, () => 0))
      })
      return name > maxNameLength
        ? new Malformed({
          message: `The name has ${name} bytes, more than ${maxNameLength}; send a shorter X-File-Name`
        })
        : length > maxChunkSize
        ? BodyRules.chunkTooLarge(maxChunkSize)
        : end > maxFileSize
        ? fileTooLarge(maxFileSize)
        : Effect.void
    },

    /** Whether a principal may open one more upload, and the server has room for it as far as its size is known. */
    opening: (
      { body, chunk, principal: { name: principal } }: ReceiveRequest
    ): Effect.Effect<void, TooMany | TooLarge | StoreError | LedgerError> =>
      Effect.gen(function*() {
        yield* mayOpen(principal)
        const size = Option.flatMap(chunk.upload, (upload) => upload.size)
        const bytes = Option.getOrElse(Option.orElse(size, () => body.length), () => 0)
        if (maxKeyBytes !== undefined && bytes > maxKeyBytes) {
          return yield* new TooLarge({ message: `A key may have ${maxKeyBytes} bytes in all on this server` })
        }
        if (bytes > (yield* left(principal))) return yield* keyFull()
        yield* hasRoom(bytes)
      }),

    /** Records new uploads if their principal may still open them: between the look and the record nobody else opens any. */
    open: <A, E>(
      principal: string,
      record: Effect.Effect<A, E>,
      uploads = 1
    ): Effect.Effect<A, E | TooMany | LedgerError> =>
      opens.withPermits(1)(Effect.andThen(mayOpen(principal, uploads), record)),

    /**
     * Makes sure that there is room for a body that adds bytes at an offset, before it is read, and counts it as long as the
     * scope is open. Returns how long it may become at most (`free` bytes are free there), and why it may not be longer.
     */
    writing: (
      { body, principal }: ReceiveRequest,
      offset: number,
      free: number
    ): Effect.Effect<
      { readonly limit: number; readonly beyond: Option.Option<() => TooLarge | StorageFull> },
      TooLarge | StoreError | LedgerError,
      Scope.Scope
    > =>
      Effect.gen(function*() {
        const length = Option.getOrElse(body.length, () => 0)
        if (offset + length > maxFileSize) return yield* fileTooLarge(maxFileSize)
        yield* hasRoom(length)
        const most = Math.min(free, maxFileSize - offset)
        const beyond = most < free ? Option.some(() => fileTooLarge(maxFileSize)) : Option.none()
        if (maxKeyBytes === undefined) return { limit: most, beyond }
        const counted = yield* Effect.acquireRelease(
          one.withPermits(1)(Effect.flatMap(left(principal.name), (quota) => {
            if (quota <= 0 || length > quota) return Effect.fail(keyFull())
            const bytes = Option.getOrElse(body.length, () => Math.min(most, quota, maxChunkSize))
            return Effect.sync(() => {
              add(principal.name, bytes)
              return { quota, bytes }
            })
          })),
          ({ bytes }) => Effect.sync(() => add(principal.name, -bytes))
        )
        return counted.quota < most ? { limit: counted.quota, beyond: Option.some(keyFull) } : { limit: most, beyond }
      }),

    /** Runs `use` with the body held to the limits, when there is memory for one more. */
    withBody: <A, E, R>(body: Body, use: (body: Body) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
      places.withPermits(1)(Effect.acquireUseRelease(
        Effect.sync(() => bodies++),
        () => use({ ...held(body), gather: share }),
        () => Effect.sync(() => bodies--)
      )),

    /** Files and bytes that one batch may have. */
    batches,

    /** Reads a batch into memory, when there is room for that, and keeps it counted while it is used. */
    withBatch: <A, E, R>(
      body: Body,
      use: (bytes: Uint8Array) => Effect.Effect<A, E, R>
    ): Effect.Effect<A, E | Malformed | TooLarge | ReadError | StoreError, R> =>
      Effect.suspend((): Effect.Effect<A, E | Malformed | TooLarge | ReadError | StoreError, R> => {
        if (Option.isNone(body.length)) {
          return new Malformed({ message: "Send a batch with Content-Length" })
        }
        const length = body.length.value
        if (length > batches.maxSize) {
          return new TooLarge({
            message: `A batch may have ${batches.maxSize} bytes at most; send fewer files at once`
          })
        }
        const shares = Math.max(1, Math.ceil(length / gather.least))
        return places.withPermits(shares)(Effect.acquireUseRelease(
          Effect.sync(() => bodies += shares),
          () => Effect.andThen(hasRoom(length), Effect.flatMap(read(held(body), length), use)),
          () => Effect.sync(() => bodies -= shares)
        ))
      }),

    /** Whether a body could be taken now. */
    hasRoom: hasRoom(0)
  }
})

export type Limits = Effect.Effect.Success<ReturnType<typeof make>>
