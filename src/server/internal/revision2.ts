/**
 * PROTOCOL.md, "Revision 2: repeats, conflicts, races": a chunk known by its offset and length.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type { ChunkUpload } from "../../protocol/ChunkHeaders.ts"
import { Busy, Conflict, type DigestMismatch, UploadGone } from "../../protocol/ProtocolError.ts"
import * as Receipt from "../../protocol/Receipt.ts"
import * as Body from "../Body.ts"
import * as Metrics from "../Metrics.ts"
import type { Received, ReceiveRequest } from "../Receiver.ts"
import type { Claim, Commit, LedgerError, Upload } from "../UploadLedger.ts"
import type { Extent, StoreError } from "../UploadStore.ts"
import { differs } from "./publish.ts"
import { mismatch, type Parts, verify } from "./receiverParts.ts"
import * as Spans from "./spans.ts"

/** What a chunk is answered whose upload is now as given. */
export const receipt = (
  request: ReceiveRequest,
  upload: Upload,
  chunk: ChunkUpload,
  duplicate: boolean,
  expiresAt: string | undefined
): Received => ({
  finishing: upload.state === "finishing",
  receipt: {
    message: Receipt.message,
    actualFilename: upload.name,
    chunkIndex: request.chunk.index,
    clientFilename: request.chunk.sentName,
    uploadId: chunk.id,
    duplicate,
    bytesReceived: upload.received,
    complete: upload.state === "complete",
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(upload.state === "complete" ? { size: upload.received } : {}),
    ...(upload.state === "complete" && Option.isSome(upload.sha256) ? { sha256: upload.sha256.value } : {})
  }
})

interface Settled {
  readonly upload: Upload
  readonly duplicate: boolean
  /** Nothing is missing any more, and the upload is being finished. */
  readonly finishing?: ReturnType<Parts["finish"]>
}

/** The body with the hash that its header says, if that is looked at only when it is stored. */
const saying = (body: Body.Body, { prefixDigest }: ChunkUpload): Body.Body =>
  Option.match(prefixDigest, { onNone: () => body, onSome: (said) => ({ ...body, said }) })

/** How long bytes are waited for that nobody has begun to send. */
const patienceForBefore = "5 seconds"

const missing = (offset: number) =>
  new Busy({
    message: `Bytes before ${offset} are missing, so Prefix-Digest says nothing; send them first, or Content-Digest`,
    retryAfter: 1
  })

const contradicts = <A>(known: Option.Option<A>, said: Option.Option<A>) =>
  Option.isSome(known) && Option.isSome(said) && known.value !== said.value

export const make = (
  { acknowledge, create, expiresAt, finish, finishInBackground, ledger, limits, wholeHash, write, writers }: Parts
) => {
  const find = Effect.fnUntraced(function*(request: ReceiveRequest, chunk: ChunkUpload) {
    const known = yield* ledger.find(request.principal.name, chunk.id)
    const found = Option.isSome(known) && known.value.state === "finishing"
      ? Option.some(yield* finish(known.value))
      : known
    if (Option.isSome(found) && found.value.state !== "deleted") return found.value
    if (Option.isSome(found) || chunk.known) {
      return yield* new UploadGone({
        message: "This server does not know the upload any more; send the file again from the start under a new id"
      })
    }
    return yield* create(request, Option.some(chunk.id))
  })

  /** Makes true what a request said. The upload it completes is finished even when its client has gone. */
  const settle = (commit: Commit, duplicate: boolean): Effect.Effect<Settled, Conflict | Busy | LedgerError> =>
    acknowledge(commit).pipe(
      Effect.flatMap(({ finish, upload }): Effect.Effect<Settled> =>
        finish
          ? Effect.map(finishInBackground(upload), (fiber) => ({ upload, duplicate, finishing: Fiber.join(fiber) }))
          : Effect.succeed({ upload, duplicate })
      ),
      Effect.uninterruptible,
      Effect.catchTag("Superseded", ({ message }) => new Busy({ message, retryAfter: 1 }))
    )

  /** Bytes that are here already: they are read and compared, never written. */
  const repeat = Effect.fnUntraced(function*(
    request: ReceiveRequest,
    chunk: ChunkUpload,
    upload: Upload,
    extent: Extent
  ) {
    const isPrefix = extent.isPrefix === true && Option.isSome(chunk.prefixDigest)
    const body = yield* Body.hash(isPrefix ? saying(request.body, chunk) : request.body)
    yield* verify(request.chunk, body)
    const here = extent.isPrefix === true && !isPrefix ? yield* wholeHash.hashOf(upload.key, extent) : extent.sha256
    if (body.length !== extent.length || body.sha256 !== here) {
      return yield* new Conflict({
        message: "Other bytes are here at this offset; a changed file is a new upload under a new id"
      })
    }
    const news = upload.state === "receiving" &&
      ((Option.isNone(upload.size) && Option.isSome(chunk.size)) ||
        (Option.isNone(upload.sha256) && Option.isSome(chunk.sha256)))
    return news
      ? yield* settle(said(request, chunk, upload, Option.none()), true)
      : { upload, duplicate: true }
  })

  const said = (
    request: ReceiveRequest,
    chunk: ChunkUpload,
    upload: Upload,
    written: Commit["written"]
  ): Commit => ({
    key: upload.key,
    written,
    size: chunk.size,
    sha256: chunk.sha256,
    address: request.request.remoteAddress
  })

  /**
   * Puts stored bytes that came with a `Prefix-Digest` into the hash of the whole, behind all before them. Those may be on
   * their way still, or about to come on another connection.
   */
  const join = (
    upload: Upload,
    claim: { readonly fence: number },
    extent: Extent
  ): Effect.Effect<void, DigestMismatch | Busy | StoreError | LedgerError> =>
    wholeHash.watching(upload.key, (moved) =>
      Effect.gen(function*() {
        // looked for first: who ends meanwhile has committed them
        const before = yield* writers.before(upload.key, extent.offset)
        const isRight = yield* wholeHash.extend(upload.key, extent)
        if (Option.isSome(isRight)) {
          return yield* isRight.value ? Effect.as(writers.hashed(claim.fence), true) : mismatch(
            `The SHA-256 of the bytes up to ${extent.offset + extent.length} is not what Prefix-Digest says`
          )
        }
        if (Option.isSome(before)) return yield* Effect.as(before.value, false)
        const hasMoved = Option.isSome(yield* Effect.timeoutOption(moved, patienceForBefore))
        const isComing = hasMoved || Option.isSome(yield* writers.before(upload.key, extent.offset))
        return isComing ? false : yield* missing(extent.offset)
      })).pipe(
        Effect.repeat({ until: (hasJoined) => hasJoined }),
        Effect.asVoid
      )

  const receiveBody = (request: ReceiveRequest, chunk: ChunkUpload, upload: Upload) => (claim: Claim) =>
    claim._tag === "Repeat"
      ? repeat(request, chunk, upload, claim.extent)
      : Effect.scoped(Effect.gen(function*() {
        const isPrefix = Option.isSome(chunk.prefixDigest)
        const extent = yield* Effect.catchTag(
          write({ ...request, body: saying(request.body, chunk) }, upload.key, chunk.offset, claim.limit),
          "BodyTooLong",
          ({ message }) => new Conflict({ message: `${message} that are free at offset ${chunk.offset}` })
        )
        if (extent.length === 0) return yield* settle(said(request, chunk, upload, Option.none()), false)
        const written = Option.some({ fence: claim.fence, extent, isPrefix })
        const settled = settle(said(request, chunk, upload, written), false)
        return yield* isPrefix
          ? Effect.onError(
            Effect.zipRight(join(upload, claim, extent), settled),
            () => wholeHash.retract(upload.key, extent)
          )
          : settled
      }))

  /** Looks whether a body of unknown length is empty. It is not read before there is room for what it may add. */
  const begin = Effect.fnUntraced(function*(request: ReceiveRequest, chunk: ChunkUpload) {
    const there = yield* ledger.find(request.principal.name, chunk.id)
    if (Option.isNone(there)) {
      if (!chunk.known) yield* limits.opening(request)
    } else if (there.value.state === "receiving" && Option.isNone(yield* ledger.chunk(there.value.key, chunk.offset))) {
      yield* Effect.scoped(limits.writing(request, chunk.offset, Number.MAX_SAFE_INTEGER))
    }
    return { ...request, body: yield* Body.peek(request.body) }
  })

  /** A chunk of an upload that has all its bytes: compared where it can be, never written. */
  const after = Effect.fnUntraced(function*(request: ReceiveRequest, chunk: ChunkUpload, upload: Upload) {
    const { length } = request.body
    if (Option.contains(length, 0)) return { upload, duplicate: true }
    if (chunk.offset + Option.getOrElse(length, () => 0) > upload.received) {
      return yield* new Conflict({ message: `The upload is complete with ${upload.received} bytes; these lie behind` })
    }
    const there = yield* ledger.chunk(upload.key, chunk.offset)
    const isComparable = (extent: Extent) =>
      Option.getOrElse(length, () => extent.length) === extent.length &&
      // the bytes themselves may have left staging
      (extent.isPrefix !== true || Option.isSome(chunk.prefixDigest))
    return Option.isSome(there) && isComparable(there.value)
      ? yield* repeat(request, chunk, upload, there.value)
      : { upload, duplicate: true }
  })

  const receive = Effect.fnUntraced(function*(asked: ReceiveRequest, chunk: ChunkUpload) {
    const request = Option.isNone(asked.body.length) ? yield* begin(asked, chunk) : asked
    const upload = yield* find(request, chunk)
    if (contradicts(upload.size, chunk.size) || contradicts(upload.sha256, chunk.sha256)) {
      return yield* new Conflict({
        message: "The upload has another size or Repr-Digest; a changed file is a new upload under a new id"
      })
    }
    if (upload.state === "failed") return yield* new Conflict({ message: differs })
    const settled: Settled = upload.state !== "receiving"
      ? yield* after(request, chunk, upload)
      : Option.contains(request.body.length, 0)
      ? yield* Effect.andThen(
        verify(request.chunk, yield* Body.hash(request.body)),
        settle(said(request, chunk, upload, Option.none()), false)
      )
      : yield* writers.claimed(
        upload.key,
        { from: chunk.offset, to: Option.map(request.body.length, (length) => chunk.offset + length) },
        receiveBody(request, chunk, upload)
      )
    if (settled.duplicate) yield* Metric.increment(Metrics.duplicateChunks)
    else if (Option.isNone(chunk.prefixDigest)) yield* wholeHash.follow(upload.key, settled.upload)
    // the claim has ended: finishing waits for whoever still writes
    const now = settled.finishing === undefined ? settled.upload : yield* finish(settled.upload, settled.finishing)
    return receipt(request, now, chunk, settled.duplicate, expiresAt(now))
  })

  return (asked: ReceiveRequest, chunk: ChunkUpload) =>
    Spans.within("Receiver.revision2", receive(asked, chunk), {
      upload: chunk.id,
      file: asked.chunk.fileName,
      offset: chunk.offset
    })
}
