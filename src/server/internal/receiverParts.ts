/**
 * What both revisions of the receiver are made of.
 *
 * @internal
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Chunk } from "../../protocol/ChunkHeaders.ts"
import { Conflict, DigestMismatch, ServerFailure } from "../../protocol/ProtocolError.ts"
import type { Sha256 } from "../../protocol/Sha256.ts"
import { Identifiers, type UploadId } from "../../protocol/UploadId.ts"
import { CompletionHook } from "../CompletionHook.ts"
import { FilenameGenerator } from "../FilenameGenerator.ts"
import * as Metrics from "../Metrics.ts"
import type { ReceiveRequest, ReceiverOptions } from "../Receiver.ts"
import * as SafeName from "../SafeName.ts"
import { type Upload, UploadLedger } from "../UploadLedger.ts"
import { UploadKey, UploadStore } from "../UploadStore.ts"
import * as Acknowledge from "./acknowledge.ts"
import * as Limits from "./limits.ts"
import * as Publish from "./publish.ts"
import * as WholeHash from "./wholeHash.ts"
import * as Writers from "./writers.ts"

/** Nothing of a body was kept whose hash is another one than a header says. */
export const mismatch = (message: string): Effect.Effect<never, DigestMismatch> =>
  Effect.zipRight(
    Metric.increment(Metrics.digestMismatches),
    new DigestMismatch({ message: `${message}; nothing was kept, send it again` })
  )

/** Checks a body against `Content-Digest`, if there was one. */
export const verify = (
  chunk: Chunk,
  body: { readonly length: number; readonly sha256: Sha256 }
): Effect.Effect<void, DigestMismatch> =>
  Effect.gen(function*() {
    yield* Metric.incrementBy(Metrics.receivedBytes, body.length)
    if (Option.isNone(chunk.contentDigest) || chunk.contentDigest.value === body.sha256) return
    return yield* mismatch(`The body's SHA-256 is ${body.sha256}, not what Content-Digest says`)
  })

/** A principal with a folder of its own never gets a name beside that. */
const inFolder = (prefix: string, name: string): string =>
  prefix === "" || prefix.endsWith("/") ? prefix + name : `${prefix}/${name}`

const generated = (request: ReceiveRequest) =>
  Effect.gen(function*() {
    const generator = yield* FilenameGenerator
    const name = yield* generator.generate(request.chunk.fileName, request.chunk.index, request.request).pipe(
      Effect.catchTag("GeneratorFailed", (cause) =>
        Effect.zipRight(
          Effect.logError("The filename generator failed", cause),
          new ServerFailure({ message: "The server found no name for the file", cause })
        ))
    )
    return yield* SafeName.check(inFolder(request.principal.prefix ?? "", name))
  })

export const make = (options: ReceiverOptions) =>
  Effect.gen(function*() {
    const store = yield* UploadStore
    const ledger = yield* UploadLedger
    const identifiers = yield* Identifiers
    const generator = yield* FilenameGenerator
    const hook = yield* CompletionHook
    const scope = yield* Scope.Scope
    const limits = yield* Limits.make(options, store, ledger)
    const acknowledge = yield* Acknowledge.make(store, ledger)
    const writers = Writers.make(ledger)
    // whose connections were closed may be writing still; storage and ledger close after us
    yield* Effect.addFinalizer(() => writers.stopAll(undefined, "The server is shutting down; send it again"))
    const wholeHash = WholeHash.make(store, ledger, scope)
    const publisher = Publish.make(store, ledger, writers, wholeHash, scope, options.onConflict, hook)
    const newKey = Effect.map(identifiers.next, (id) => UploadKey.make(id))
    const exclusiveName = options.onConflict === "reject"

    const nameOf = (request: ReceiveRequest) => Effect.provideService(generated(request), FilenameGenerator, generator)

    /** A new upload under a name that passed the check; under `reject` the name must be free. */
    const open = (fresh: Pick<Upload, "key" | "principal" | "id" | "clientName" | "plannedName" | "address">) =>
      Effect.gen(function*() {
        const name = fresh.plannedName as SafeName.SafeName
        if (exclusiveName && (yield* store.holder(fresh.key, name)) !== "nobody") {
          // the file may be this very upload's, which another first chunk has opened and finished meanwhile
          const there = Option.isSome(fresh.id)
            ? yield* ledger.find(fresh.principal, fresh.id.value)
            : Option.none<Upload>()
          if (Option.isSome(there)) return there.value
          return yield* new Conflict({ message: `There is a file ${name} already; send another X-File-Name` })
        }
        return yield* ledger.create({ ...fresh, exclusiveName })
      })

    /** The upload of a first chunk: asks for its name, makes room, records it. */
    const create = (request: ReceiveRequest, id: Option.Option<UploadId>) =>
      Effect.gen(function*() {
        // one of revision 1 is never open: what came of it stands under its name
        if (Option.isSome(id)) yield* limits.opening(request)
        const plannedName = yield* nameOf(request)
        const recorded = record(request, id, plannedName)
        return yield* Effect.uninterruptible(
          Option.isSome(id) ? limits.open(request.principal.name, recorded) : recorded
        )
      })

    const record = (request: ReceiveRequest, id: Option.Option<UploadId>, plannedName: SafeName.SafeName) =>
      Effect.gen(function*() {
        const key = yield* newKey
        yield* store.reserve(key, { size: Option.flatMap(request.chunk.upload, (chunk) => chunk.size) })
        const upload = yield* open({
          key,
          principal: request.principal.name,
          id,
          clientName: request.chunk.fileName,
          plannedName,
          address: request.request.remoteAddress
        }).pipe(Effect.onError(() => Effect.ignore(store.drop(key))))
        // two first chunks at once: the other one's record came first
        if (upload.key !== key) yield* store.drop(key)
        return upload
      })

    /**
     * Writes a body at an offset where so many bytes are free, if the limits leave room for it, and checks its digest.
     * `BodyTooLong` when it goes on past what is free. What it adds counts as long as the scope is open.
     */
    const write = (request: ReceiveRequest, key: UploadKey, offset: number, free: number) =>
      Effect.flatMap(limits.writing(request, offset, free), ({ beyond, limit }) =>
        store.write({ key, offset, limit }, request.body).pipe(
          Effect.catchTag("BodyTooLong", (error) =>
            Effect.fail(Option.match(beyond, {
              onNone: () =>
                error,
              onSome: (why) => why()
            }))),
          Effect.tap((extent) => verify(request.chunk, extent))
        ))

    /** Finishes the upload whether or not anybody waits for it. */
    const finishInBackground = (upload: Upload) =>
      Effect.forkIn(publisher.finish(upload.key), scope)

    /** Waits for an upload to be finished, but not for long: then it is returned as it is, `finishing`. */
    const finish = (upload: Upload, finishing = publisher.finish(upload.key)) =>
      Effect.timeoutTo(finishing, {
        duration: options.finishWait,
        onSuccess: (done): Upload => done,
        onTimeout: (): Upload => ({ ...upload, state: "finishing" })
      })

    /** When an unfinished upload expires if nothing more arrives (RFC 3339). */
    const expiresAt = (upload: Upload): string | undefined =>
      upload.state === "receiving"
        ? DateTime.formatIso(DateTime.unsafeMake(upload.touchedAt + Duration.toMillis(options.unfinishedLifetime)))
        : undefined

    return {
      expiresAt,
      store,
      ledger,
      options,
      limits,
      acknowledge,
      writers,
      wholeHash,
      publish: publisher.publish,
      heldBytes: publisher.heldBytes,
      finish,
      finishInBackground,
      finishWhole: publisher.finishWhole,
      nameOf,
      newKey,
      open,
      create,
      write
    }
  })

export type Parts = Effect.Effect.Success<ReturnType<typeof make>>
