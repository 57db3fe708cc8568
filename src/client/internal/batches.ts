/**
 * Small files on their way to one server, gathered while others are sent, and sent together. Whatever goes wrong with them
 * here is left to the delivery of each by itself, under the same upload id.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Sha256 from "../../protocol/Sha256.ts"
import * as UploadBatch from "../../protocol/UploadBatch.ts"
import * as UploadId from "../../protocol/UploadId.ts"
import type { BufferedFile, ChunkStoreError } from "../ChunkStore.ts"
import type { Found, Source } from "../Source.ts"
import type { TransportError } from "../Transport.ts"
import * as UploadEvent from "../UploadEvent.ts"
import * as Delivery from "./delivery.ts"

/** A file of the buffer, or one that is sent from where it lies and not known to the buffer yet. */
export type Small = BufferedFile | { readonly source: Source; readonly found: Found }

/** Larger files go alone. Bytes. */
export const largest = 256 * 1024

/** So much is worth a request of its own while another one is under way. */
const enough = { files: 128, bytes: 1024 * 1024 }

/** Files read at once. */
const readAtOnce = 8

const isBuffered = (small: Small): small is BufferedFile => "id" in small

interface Job {
  readonly small: Small
  /** {@link bytesOf} it. */
  readonly bytes: number
  /** `None`: it is to be delivered by itself. */
  readonly outcome: Deferred.Deferred<Option.Option<UploadEvent.Outcome>, ChunkStoreError>
}

/** A file that was claimed, and what is sent of it. */
interface Ready {
  readonly job: Job
  readonly file: BufferedFile
  readonly whole: UploadBatch.Whole
}

/** The bytes of a source, and their hash. */
type Read = Pick<UploadBatch.Whole, "bytes" | "sha256">

/** None was delivered. */
const nothing: ReadonlyMap<Job, UploadEvent.Outcome> = new Map()

const sum = (jobs: ReadonlyArray<Job>): number => jobs.reduce((sum, { bytes }) => sum + bytes, 0)

const sizeOf = (small: Small): number => isBuffered(small) ? small.size : small.found.size
const nameOf = (small: Small): string => isBuffered(small) ? small.name : small.source.name

/** What a file adds to a body. Bytes. */
const bytesOf = (small: Small): number => UploadBatch.bytesOf({ clientFilename: nameOf(small), size: sizeOf(small) })

/** Whether nothing is known of the file at any server, nor was it given up. */
const isFresh = (small: Small): boolean =>
  !isBuffered(small) || (Option.isNone(small.delivery) && Option.isNone(small.failure) && small.firstIndex === 0)

export const make = (parts: Delivery.Parts, chunkSize: number, scope: Scope.Scope) => {
  const { endpoint, pace, store, transport } = parts
  let waiting: Array<Job> = []
  let waitingBytes = 0
  let workers = 0

  /** Whether what waits is worth a request beside one that is under way; less waits for the end of that. */
  const isMuch = (): boolean =>
    waiting.length >= enough.files || waitingBytes >= Math.min(enough.bytes, pace.fitting().max)

  /** Takes what fits into one request. */
  const take = ({ maxFiles, maxSize }: UploadBatch.UploadBatch): ReadonlyArray<Job> => {
    const most = Math.min(maxSize, pace.fitting().max)
    let bytes = 0
    const end = waiting.findIndex((job, at) => at === maxFiles || ((bytes += job.bytes) > most && at > 0))
    const taken = end === -1 ? waiting : waiting.slice(0, end)
    waiting = end === -1 ? [] : waiting.slice(end)
    waitingBytes = sum(waiting)
    return taken
  }

  /** Reads sources and lets the buffer know of them. */
  const adopt = (jobs: ReadonlyArray<Job>) =>
    Effect.gen(function*() {
      const read = yield* Effect.forEach(jobs, (job) =>
        Effect.map(
          isBuffered(job.small) ? Effect.succeedNone : job.small.found.bytes,
          Option.map((bytes) => ({ job, read: { bytes, sha256: Sha256.of(bytes) } }))
        ), { concurrency: readAtOnce })
      const found = read.flatMap(Option.toArray)
      if (found.length === 0) return []
      const files = yield* store.adoptAll(found.flatMap(({ job: { small } }) => {
        if (isBuffered(small)) return []
        const { found: { open, size, version }, source: { name, path, source } } = small
        const [destination, known] = [Option.none(), Option.some(version)]
        return [{ file: { path, name, source, chunkSize, destination, size, version: known }, open }]
      }))
      return files.flatMap((file, at) => Option.isSome(file) ? [{ ...found[at]!, file: file.value }] : [])
    })

  /** Claims files and points them at the server. */
  const start = (
    files: ReadonlyArray<{ readonly job: Job; readonly file: BufferedFile; readonly read?: Read }>
  ) =>
    Effect.gen(function*() {
      const to = yield* Effect.forEach(files, ({ file }) =>
        Effect.map(UploadId.make, (uploadId) => ({
          file: file.id,
          to: { endpoint, name: file.name, uploadId }
        })))
      const started = yield* store.startAll(to)
      const stored = files.filter(({ file, read }) => read === undefined && started.has(file.id))
      const storedBytes: ReadonlyMap<BufferedFile["id"], Uint8Array> = stored.length === 0
        ? new Map()
        : yield* store.readAll(stored.map(({ file }) => file))
      return files.flatMap(({ file, job, read }, at): ReadonlyArray<Ready> => {
        const { name: clientFilename, uploadId } = to[at]!.to
        const { size } = file
        const bytes = read?.bytes ?? storedBytes.get(file.id)
        const sha256 = read?.sha256 ?? Option.getOrUndefined(file.sha256)
        return started.has(file.id) && bytes !== undefined && sha256 !== undefined
          ? [{ job, file, whole: { uploadId, clientFilename, size, sha256, bytes } }]
          : []
      })
    })

  const tell = (
    event: (
      about: Pick<BufferedFile, "path" | "size"> & { readonly file: BufferedFile["id"] }
    ) => UploadEvent.UploadEvent
  ) =>
  (files: ReadonlyArray<Ready>) =>
    Effect.forEach(files, ({ file: { id, path, size } }) => parts.emit(event({ file: id, path, size })), {
      discard: true
    })
  const tellBegun = tell((about) => UploadEvent.Started({ ...about, acknowledged: 0 }))
  const tellSent = tell((about) => UploadEvent.Progress({ ...about, acknowledged: about.size }))

  /** Sends files together; the outcomes of those that are delivered. */
  const deliver = Effect.fn("Uploader.batch")(function*(jobs: ReadonlyArray<Job>) {
    const buffered = jobs.flatMap((job) => isBuffered(job.small) ? [{ job, file: job.small }] : [])
    const files = yield* start([...buffered, ...yield* adopt(jobs)])
    if (files.length === 0) return nothing
    yield* Effect.annotateCurrentSpan({ files: files.length })
    yield* tellBegun(files)
    const names = yield* transport.sendBatch({ endpoint, files: files.map(({ whole }) => whole) })
    const delivered = yield* store.deliveredAll(
      files.flatMap(({ file: { id }, whole: { sha256 } }, at) =>
        Option.match(names[at]!, { onNone: () => [], onSome: (serverName) => [{ file: id, serverName, sha256 }] })
      )
    )
    const done = files.filter(({ file }) => delivered.has(file.id))
    yield* tellSent(done)
    const outcomes = new Map<Job, UploadEvent.Outcome>()
    files.forEach(({ file, job, whole }, at) => {
      if (!delivered.has(file.id)) return
      const { id, path, size } = file
      const known = { error: Option.none(), serverName: names[at]!, sha256: Option.some(whole.sha256) }
      outcomes.set(job, { ...known, file: id, path, size, state: "delivered" })
    })
    return outcomes
  }, Effect.scoped)

  const settle = (
    jobs: ReadonlyArray<Job>,
    exit: Exit.Exit<ReadonlyMap<Job, UploadEvent.Outcome>, ChunkStoreError>
  ) => {
    for (const job of jobs) {
      Deferred.unsafeDone(job.outcome, Exit.map(exit, (outcomes) => Option.fromNullable(outcomes.get(job))))
    }
  }

  /** Sends what has gathered when there is room for a request. */
  const next = Effect.suspend(() => {
    let jobs: ReadonlyArray<Job> = []
    return pace.request(
      () => sum(jobs),
      Effect.suspend(() => {
        const batches = pace.batches()
        // they may have failed since these files came
        jobs = take(batches ?? { maxFiles: Number.POSITIVE_INFINITY, maxSize: Number.POSITIVE_INFINITY })
        if (batches === undefined) return Effect.succeed(nothing)
        return Effect.tap(deliver(jobs), ({ size }) => Effect.sync(() => pace.batchEnded(size > 0)))
      })
    ).pipe(
      Effect.catchIf(
        (error): error is TransportError => error._tag !== "ChunkStoreError",
        (error) =>
          Effect.sync(() => {
            pace.batchEnded(false)
            if (Delivery.isTooLarge(error)) pace.tooLarge(sum(jobs), error)
            return nothing
          })
      ),
      Effect.onExit((exit) => Effect.sync(() => settle(jobs, exit))),
      Effect.ignore
    )
  })

  const work: Effect.Effect<void> = Effect.suspend(() => {
    if (waiting.length > 0) return Effect.zipRight(next, work)
    workers--
    return Effect.void
  })

  return {
    /** Whether a file can go with others: it is small, nothing of it was ever sent, and the server takes batches. */
    takes: (small: Small): boolean => {
      const batches = pace.batches()
      return batches !== undefined && bytesOf(small) <= batches.maxSize &&
        sizeOf(small) <= Math.min(largest, pace.fitting().max) &&
        isFresh(small)
    },

    /** Sends a file with others. `None` when it was not delivered: then it is to be delivered by itself. */
    send: (small: Small): Effect.Effect<Option.Option<UploadEvent.Outcome>, ChunkStoreError> =>
      Effect.suspend(() => {
        const outcome = Deferred.unsafeMake<Option.Option<UploadEvent.Outcome>, ChunkStoreError>(FiberId.none)
        const bytes = bytesOf(small)
        waiting.push({ small, bytes, outcome })
        waitingBytes += bytes
        if (workers > 0 && (workers >= pace.parallel || !isMuch())) return Deferred.await(outcome)
        workers++
        return Effect.zipRight(Effect.forkIn(work, scope), Deferred.await(outcome))
      })
  }
}

export type Batches = ReturnType<typeof make>
