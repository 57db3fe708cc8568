/**
 * PROTOCOL.md, "Many files in one request": whole files that become durable, true and visible together, as one of them would
 * alone. What is not new takes the way of a chunk.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import type { ChunkUpload } from "../../protocol/ChunkHeaders.ts"
import { Malformed, type ProtocolError } from "../../protocol/ProtocolError.ts"
import * as Sha256 from "../../protocol/Sha256.ts"
import * as UploadBatch from "../../protocol/UploadBatch.ts"
import * as Body from "../Body.ts"
import * as Metrics from "../Metrics.ts"
import type { BatchRequest, Received, ReceiveRequest } from "../Receiver.ts"
import type { SafeName } from "../SafeName.ts"
import type { Upload } from "../UploadLedger.ts"
import type { Extent, UploadKey } from "../UploadStore.ts"
import { type Parts, verify } from "./receiverParts.ts"
import { receipt } from "./revision2.ts"

/** What became of one file. */
type Result = Either.Either<Received, ProtocolError | Body.BodyCut>

/** A file of a batch as the chunk that it would be alone. */
interface File {
  readonly at: number
  readonly request: ReceiveRequest
  readonly chunk: ChunkUpload
  readonly bytes: Uint8Array
  readonly sha256: Sha256.Sha256
}

/** A file that can be stored under a name. */
interface Named extends File {
  readonly key: UploadKey
  readonly plannedName: SafeName
}

/** Files that take the way of a chunk at once. */
const atOnce = 8

const fileOf = ({ principal, request }: BatchRequest) => (whole: UploadBatch.Whole, at: number): File => {
  const { bytes, clientFilename, sha256, size, uploadId } = whole
  const chunk = {
    id: uploadId,
    offset: 0,
    size: Option.some(size),
    sha256: Option.some(sha256),
    prefixDigest: Option.none(),
    known: false
  }
  return {
    at,
    chunk,
    bytes,
    sha256,
    request: {
      principal,
      request,
      body: Body.of(bytes),
      chunk: {
        index: 0,
        fileName: clientFilename,
        sentName: clientFilename,
        contentDigest: Option.some(sha256),
        upload: Option.some(chunk)
      }
    }
  }
}

export const make = (
  parts: Parts,
  receiveChunk: (
    request: ReceiveRequest,
    chunk: ChunkUpload
  ) => Effect.Effect<Received, ProtocolError | Body.BodyCut>
) => {
  const { expiresAt, finishWhole, ledger, limits, nameOf, newKey, options, store } = parts

  /** Names that have to be free, and bytes that count, are looked at one by one. */
  const isOneByOne = options.onConflict === "reject" || options.maxKeyBytes !== undefined

  /** What can be stored under a name. */
  const named = (file: File): Effect.Effect<Named, ProtocolError> =>
    Effect.andThen(
      limits.check(file.request),
      Effect.zipWith(nameOf(file.request), newKey, (plannedName, key) => ({ ...file, plannedName, key }))
    )

  /** Stores and records files; those whose id is known are left out. */
  const keep = Effect.fnUntraced(function*({ principal, request }: BatchRequest, files: ReadonlyArray<Named>) {
    const extents = yield* Metrics.timedSync(store.putWhole(files))
    const uploads = files.map(({ chunk, key, plannedName, request: { chunk: { fileName } }, sha256 }, at) => ({
      key,
      plannedName,
      sha256,
      id: chunk.id,
      principal: principal.name,
      clientName: fileName,
      address: request.remoteAddress,
      extent: extents[at]!
    }))
    const drop = (keys: ReadonlyArray<UploadKey>) => Effect.ignoreLogged(store.dropAll(keys))
    const { finished, recorded } = yield* finishWhole(
      new Map(uploads.map(({ extent, key }): [UploadKey, Extent] => [key, extent])),
      limits.open(principal.name, ledger.createWhole(uploads), uploads.length)
    ).pipe(Effect.onError(() => drop(uploads.map(({ key }) => key))))
    yield* Metric.incrementBy(Metrics.chunks, recorded.length)
    const uploadOf = new Map(recorded.map((upload) => [upload.key, upload]))
    const known = files.filter(({ key }) => !uploadOf.has(key))
    if (known.length > 0) yield* drop(known.map(({ key }) => key))
    return { finished, uploadOf }
  }, Effect.uninterruptible)

  const answer = (file: Named, upload: Upload): Received =>
    receipt(file.request, upload, file.chunk, false, expiresAt(upload))

  return Effect.fn("Receiver.batch")(function*(asked: BatchRequest, body: Uint8Array) {
    const whole = yield* UploadBatch.fromBody(body)
    if (whole.length > limits.batches.maxFiles) {
      return yield* new Malformed({ message: `A batch may have ${limits.batches.maxFiles} files at most` })
    }
    yield* Effect.annotateCurrentSpan({ files: whole.length, bytes: body.length })
    const files = whole.map(fileOf(asked))
    const results: Array<Result> = []
    const one = (file: File) =>
      Effect.map(Effect.either(receiveChunk(file.request, file.chunk)), (result) => {
        results[file.at] = result
      })
    const byOne = (some: ReadonlyArray<File>) => Effect.forEach(some, one, { concurrency: atOnce, discard: true })

    if (isOneByOne) {
      yield* byOne(files)
      return results
    }
    const intact: Array<File> = []
    for (const file of files) {
      const body = { length: file.bytes.length, sha256: Sha256.of(file.bytes) }
      const checked = yield* Effect.either(verify(file.request.chunk, body))
      if (Either.isRight(checked)) intact.push(file)
      else results[file.at] = Either.left(checked.left)
    }
    const ready: Array<Named> = []
    yield* Effect.forEach(intact, (file) =>
      Effect.match(named(file), {
        onFailure: (error) => void (results[file.at] = Either.left(error)),
        onSuccess: (file) => void ready.push(file)
      }), { discard: true })
    if (ready.length === 0) return results
    const { finished, uploadOf } = yield* keep(asked, ready)
    // what is not finished in time is told as it stands
    const ended = yield* Effect.timeoutTo(finished, {
      duration: options.finishWait,
      onSuccess: (outcomes) => outcomes,
      onTimeout: () => undefined
    })
    const known: Array<Named> = []
    for (const file of ready) {
      const upload = uploadOf.get(file.key)
      if (upload === undefined) known.push(file)
      else {
        results[file.at] = Either.map(ended?.get(file.key) ?? Either.right(upload), (upload) => answer(file, upload))
      }
    }
    yield* byOne(known)
    return results
  })
}
