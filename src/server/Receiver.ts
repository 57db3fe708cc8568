/**
 * The receiving program: PROTOCOL.md, "3. Promises and rules of a server", in code that knows no HTTP.
 *
 * A chunk's way: its range is claimed in the ledger, its bytes go once from the body to the store and are hashed on the
 * way, `acknowledge` makes them durable and commits them, the receipt goes out. The commit that finds nothing missing
 * publishes the file.
 *
 * @module
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Chunk } from "../protocol/ChunkHeaders.ts"
import {
  type Conflict,
  Forbidden,
  Gone,
  type ProtocolError,
  type ServerFailure,
  type StorageFull,
  UnknownUpload
} from "../protocol/ProtocolError.ts"
import * as Ranges from "../protocol/Ranges.ts"
import type { Receipt } from "../protocol/Receipt.ts"
import type { UploadBatch } from "../protocol/UploadBatch.ts"
import type { UploadId } from "../protocol/UploadId.ts"
import type { UploadLimit } from "../protocol/UploadLimit.ts"
import * as UploadState from "../protocol/UploadState.ts"
import type { Principal, Right } from "./Authenticator.ts"
import type { Body, BodyCut } from "./Body.ts"
import type { FilenameGenerator, GeneratorRequest } from "./FilenameGenerator.ts"
import * as Batch from "./internal/batch.ts"
import * as Parts from "./internal/receiverParts.ts"
import * as Revision1 from "./internal/revision1.ts"
import * as Revision2 from "./internal/revision2.ts"
import * as Upkeep from "./internal/upkeep.ts"
import * as Metrics from "./Metrics.ts"
import type { SafeName } from "./SafeName.ts"
import type { UploadLedger } from "./UploadLedger.ts"
import type { UploadStore } from "./UploadStore.ts"

/** What happens when a final name is taken: `name (1).ext`, replacing the file atomically, or 409. */
export type OnConflict = "rename" | "overwrite" | "reject"

/** What a receiver takes, and how long it remembers. Sizes are bytes. */
export interface ReceiverOptions {
  /** Default `rename`. */
  readonly onConflict: OnConflict
  /** After this long without chunks, index 0 of revision 1 starts a new file whatever its bytes. Default 24 hours. */
  readonly revision1Idle: Duration.DurationInput
  /** How long an answer waits for its upload to be finished; then it says `complete: false`. Default 5 seconds. */
  readonly finishWait: Duration.DurationInput
  /** An unfinished upload of revision 2 is deleted so long after its last chunk. Default 7 days. */
  readonly unfinishedLifetime: Duration.DurationInput
  /** Completed and deleted uploads are remembered so long. Default 30 days. */
  readonly endedLifetime: Duration.DurationInput
  /** An upload of revision 1 can be gone on with so long after its last chunk. Default 365 days. */
  readonly revision1Lifetime: Duration.DurationInput
  /** How often expired uploads are looked for, besides at the start. Default 1 hour. */
  readonly upkeepInterval: Duration.DurationInput
  /** Bytes of one body; more is 413. Default 1 GiB. */
  readonly maxChunkSize: number
  /** Bytes of one file, declared or actual; more is 413. Default 5 TiB. */
  readonly maxFileSize: number
  /** Bytes of a client's name for a file, in UTF-8; more is 400. Default 4096. */
  readonly maxNameLength: number
  /** Unfinished uploads of revision 2 that a principal may have at once; one more is 429. Default 10 000. */
  readonly maxOpenUploads: number
  /**
   * Bytes that a principal may have on record: unfinished uploads, and complete ones as long as they are remembered
   * (`endedLifetime`). More is 507, one file of more 413. Default: no limit.
   */
  readonly maxKeyBytes: number | undefined
  /** Bytes that stay free on the disk of the files; a body that would not leave them is 507. Default 256 MiB. */
  readonly minFreeSpace: number
  /**
   * Bytes of memory that all bodies in flight may hold together before they are written, at least 64 KiB each; with more
   * bodies than that allows, the others wait. Default 64 MiB.
   */
  readonly bodyMemory: number
  /** In so much time of waiting for a client its body has to move, as fast as `minBodyRate`; else it is 408. Default 30 seconds. */
  readonly bodyTimeout: Duration.DurationInput
  /** Bytes a second, on average over `bodyTimeout`. Default 100. */
  readonly minBodyRate: number
}

/** What holds where an option is not given. */
export const defaults: ReceiverOptions = {
  onConflict: "rename",
  revision1Idle: "24 hours",
  finishWait: "5 seconds",
  unfinishedLifetime: "7 days",
  endedLifetime: "30 days",
  revision1Lifetime: "365 days",
  upkeepInterval: "1 hour",
  maxChunkSize: 1024 ** 3,
  maxFileSize: 5 * 1024 ** 4,
  maxNameLength: 4096,
  maxOpenUploads: 10_000,
  maxKeyBytes: undefined,
  minFreeSpace: 256 * 1024 ** 2,
  bodyMemory: 64 * 1024 ** 2,
  bodyTimeout: "30 seconds",
  minBodyRate: 100
}

/** One chunk, its headers decoded and its body unread. */
export interface ReceiveRequest {
  /** Whose upload it is. */
  readonly principal: Principal
  /** As `ChunkHeaders.decode` returns it. */
  readonly chunk: Chunk
  /** Read once, and not at all when the chunk is refused. */
  readonly body: Body
  /** For the filename generator; `remoteAddress` also tells revision-1 clients apart. */
  readonly request: GeneratorRequest
}

/** Many whole files in one body, unread. */
export interface BatchRequest {
  readonly principal: Principal
  readonly body: Body
  /** For the filename generator. */
  readonly request: GeneratorRequest
}

/** A receipt to be sent. */
export interface Received {
  /** The body of the 200. */
  readonly receipt: Receipt
  /** The upload has all its bytes and is not published yet: ask again later. */
  readonly finishing: boolean
}

/**
 * The receiving program over the storage, ledger and filename generator at hand. `HttpApp` puts it behind HTTP; whoever
 * has another way for chunks to arrive calls it directly.
 */
export class Receiver extends Context.Tag("indexedcp/Receiver")<Receiver, {
  /** Takes one chunk. When it returns, what the receipt says is durable. A body it fails on may be unread in part. */
  readonly receive: (request: ReceiveRequest) => Effect.Effect<Received, ProtocolError | BodyCut>

  /**
   * Takes many whole files, each as `receive` would take it as its only chunk: what it returns is in the order of the files.
   * Fails where the request as a whole does; then nothing of it was kept.
   */
  readonly receiveBatch: (
    request: BatchRequest
  ) => Effect.Effect<ReadonlyArray<Either.Either<Received, ProtocolError | BodyCut>>, ProtocolError | BodyCut>

  /** What it takes, for clients to know beforehand. */
  readonly limits: UploadLimit

  /** What `receiveBatch` takes. */
  readonly batches: UploadBatch

  /** Whether chunks can be taken now: the disk can be written and has room, the ledger answers. */
  readonly ready: Effect.Effect<void, StorageFull | ServerFailure>

  /** What has arrived of an upload. */
  readonly state: (
    principal: Principal,
    id: UploadId
  ) => Effect.Effect<UploadState.UploadState, Forbidden | UnknownUpload | StorageFull | ServerFailure>

  /** {@link state}, and for a complete upload the hash of the published file as it is now; `Gone` when there is none. */
  readonly content: (
    principal: Principal,
    id: UploadId
  ) => Effect.Effect<UploadState.UploadState, Forbidden | UnknownUpload | Gone | StorageFull | ServerFailure>

  /** Deletes an unfinished upload and its bytes; `Conflict` once it is complete. */
  readonly abort: (
    principal: Principal,
    id: UploadId
  ) => Effect.Effect<void, Forbidden | UnknownUpload | Conflict | StorageFull | ServerFailure>
}>() {}

/** What a principal's key may not do is `Forbidden`. */
const may = ({ can }: Principal, right: Right): Effect.Effect<void, Forbidden> =>
  can === undefined || can.includes(right)
    ? Effect.void
    : new Forbidden({ message: `This key may not ${right}; ask the server's operator for one that may` })

const unknown = new UnknownUpload({ message: "This key has no upload with that id here" })

/** How long a disk and a ledger that answered are believed: whoever asks costs the disk no more than this. */
const readyFor = "1 second"

const make = (options: ReceiverOptions) =>
  Effect.gen(function*() {
    const parts = yield* Parts.make(options)
    const { finish, ledger, limits, store, writers } = parts
    const receive1 = Revision1.make(parts)
    const receive2 = Revision2.make(parts)
    const batch = Batch.make(parts, receive2)

    const find = (principal: Principal, id: UploadId) =>
      Effect.flatMap(
        ledger.find(principal.name, id),
        Option.match({
          onNone: () => Effect.fail(unknown),
          onSome: (upload) => upload.state === "deleted" ? Effect.fail(unknown) : Effect.succeed(upload)
        })
      )

    yield* Upkeep.settle(parts)
    yield* Upkeep.expire(parts).pipe(
      Effect.ignoreLogged,
      Effect.repeat(Schedule.spaced(options.upkeepInterval)),
      Effect.forkScoped
    )

    const ready = yield* Effect.cachedWithTTL(
      Effect.all([store.probe, ledger.isEmpty, limits.hasRoom], { discard: true }),
      readyFor
    )

    const state = Effect.fn("Receiver.state")(function*(principal: Principal, id: UploadId) {
      yield* may(principal, "read")
      const upload = yield* find(principal, id)
      if (upload.state === "finishing") yield* parts.finishInBackground(upload)
      const received = yield* ledger.received(upload.key)
      const size = Option.getOrElse(upload.size, () => received.at(-1)?.[1] ?? 0)
      const missing = upload.state === "complete" ? [] : Ranges.missing(received, size)
      const expiresAt = parts.expiresAt(upload)
      return {
        uploadId: id,
        clientFilename: upload.clientName,
        actualFilename: upload.name,
        size: Option.getOrNull(upload.size),
        bytesReceived: upload.received,
        missing: missing.slice(0, UploadState.maxRanges),
        ...(missing.length > UploadState.maxRanges ? { more: true } : {}),
        state: upload.state === "deleted" ? "failed" as const : upload.state,
        complete: upload.state === "complete",
        ...(expiresAt === undefined ? {} : { expiresAt }),
        ...(upload.state === "complete" && Option.isSome(upload.sha256) ? { sha256: upload.sha256.value } : {})
      }
    })

    return Receiver.of({
      receive: (asked) =>
        may(asked.principal, "upload").pipe(
          Effect.andThen(limits.check(asked)),
          Effect.andThen(limits.withBody(asked.body, (body) => {
            const request = { ...asked, body }
            return Option.match(asked.chunk.upload, {
              onNone: () => Effect.map(receive1(request), (receipt) => ({ receipt, finishing: false })),
              onSome: (chunk) => receive2(request, chunk)
            })
          })),
          Effect.annotateLogs({ file: asked.chunk.fileName, chunk: asked.chunk.index }),
          Metrics.inFlight
        ),
      receiveBatch: (asked) =>
        may(asked.principal, "upload").pipe(
          Effect.andThen(limits.withBatch(asked.body, (bytes) => batch(asked, bytes))),
          Metrics.inFlight
        ),
      limits: limits.told,
      batches: limits.batches,
      ready,
      state,
      content: Effect.fn("Receiver.content")(function*(principal, id) {
        const found = yield* state(principal, id)
        if (!found.complete) return found
        const contentSha256 = yield* store.contentOf(found.actualFilename as SafeName)
        return Option.isSome(contentSha256)
          ? { ...found, contentSha256: contentSha256.value }
          : yield* new Gone({ message: `The file ${found.actualFilename} is no longer on the server` })
      }),
      abort: Effect.fn("Receiver.abort")(function*(principal, id) {
        yield* may(principal, "abort")
        const upload = yield* find(principal, id)
        // one that turns out to have failed can be deleted
        if (upload.state === "finishing") yield* Effect.catchTag(finish(upload), "Conflict", () => Effect.void)
        yield* Effect.uninterruptible(Effect.gen(function*() {
          yield* ledger.remove(upload.key)
          yield* writers.stopAll(upload.key, "The upload was deleted")
          yield* parts.wholeHash.forget(upload.key)
          yield* store.drop(upload.key)
        }))
      })
    })
  })

/** A receiver over the storage, ledger and filename generator at hand. */
export const layer = (
  options: Partial<ReceiverOptions> = {}
): Layer.Layer<Receiver, StorageFull | ServerFailure, UploadStore | UploadLedger | FilenameGenerator> =>
  Layer.scoped(Receiver, make({ ...defaults, ...options }))
