/**
 * Delivery of one file: which revision the server speaks, what it lacks, and sending that until the file is complete.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Ranges from "../../protocol/Ranges.ts"
import * as UploadId from "../../protocol/UploadId.ts"
import type { BufferedFile } from "../ChunkStore.ts"
import { Refused } from "../Transport.ts"
import * as UploadEvent from "../UploadEvent.ts"
import * as Revision1 from "./deliverRevision1.ts"
import * as Delivery from "./delivery.ts"
import { delayOf, isPassing } from "./retry.ts"

/** Bodies are not cut smaller than this after a 413 (PROTOCOL.md, "Errors"). */
const smallestBody = 64 * 1024

/** How often a body that arrives damaged is sent, and how often a file whose upload the server forgot is begun anew. */
const most = { damaged: 5, anew: 3 }

/** What was found out about the server's side of the file. */
interface Known {
  /** `None` until an answer has shown it. */
  readonly revision: Option.Option<2>
  /** A 200 or a GET has shown that the server knows the upload. */
  readonly known: boolean
  readonly missing: Ranges.Ranges
}

const forgotten = new Refused({ status: 412, error: "Unknown upload", message: "The server forgot the upload" })

const whole = (file: BufferedFile): Ranges.Ranges => [[0, file.size]]

const statusIs = (status: number) => (error: { readonly _tag: string }): error is Refused =>
  error._tag === "Refused" && (error as Refused).status === status

/** A piece of what is missing: within one stored chunk, and not longer than a body may be. */
const cut = (file: BufferedFile, [from, to]: Ranges.Range, maxBody: number): Ranges.Range => [
  from,
  Math.min(to, from + maxBody, (Math.floor(from / file.chunkSize) + 1) * file.chunkSize)
]

const verified = (file: BufferedFile, done: {
  readonly actualFilename: string
  readonly size?: number | null | undefined
  readonly sha256?: string | undefined
}) =>
  (done.size ?? file.size) === file.size && (done.sha256 ?? file.sha256) === file.sha256
    ? Effect.succeed(done.actualFilename)
    : Effect.fail(
      new Delivery.GivenUp({
        message: `The server's file ${done.actualFilename} is not the one that was sent ` +
          `(${done.size} bytes, SHA-256 ${done.sha256}); the file is kept`
      })
    )

/** Asks the server for the upload; `None` when it does not know it. */
const ask = (parts: Delivery.Parts, file: BufferedFile, id: UploadId.UploadId) =>
  Delivery.persist(parts, file, isPassing, parts.transport.state(parts.endpoint, id))

/** Sends to a server of revision 2, or one that has still to show what it speaks, until the file is complete there. */
const deliver2 = Effect.fn("Uploader.deliver")(function*(
  parts: Delivery.Parts,
  file: BufferedFile,
  id: UploadId.UploadId,
  start: Known
) {
  const { store } = parts
  let { known, missing, revision } = start
  let maxBody = Number.POSITIVE_INFINITY

  const attempt = (range: Ranges.Range) =>
    Effect.gen(function*() {
      const out = yield* Delivery.outgoing(parts, file, range, Option.some({ id, known }))
      const { limit, receipt } = yield* Option.isSome(revision)
        ? Delivery.persist(parts, file, isPassing, parts.transport.send(out))
        : Delivery.persist(parts, file, Delivery.isHarmless, Delivery.marked(parts, file, out))
      maxBody = Math.min(maxBody, Math.max(1, limit.maxAppendSize ?? maxBody))
      return receipt
    })

  /** Sends a range; a body over the server's limit is an answer too. */
  const exchange = (range: Ranges.Range) =>
    attempt(range).pipe(
      Effect.retry({ times: most.damaged - 1, while: statusIs(422) }),
      Effect.map(Either.right),
      Effect.catchIf(statusIs(413), (error) => Effect.succeed(Either.left(error)))
    )

  for (let closing = false;;) {
    if (missing.length === 0 && !closing) {
      const state = yield* ask(parts, file, id)
      if (Option.isNone(state)) return yield* forgotten
      if (state.value.complete) return yield* verified(file, state.value)
      if (state.value.state === "failed") {
        return yield* new Delivery.GivenUp({
          message: "The server says that the whole file is not what its hash says, and did not publish it"
        })
      }
      missing = state.value.missing
      if (state.value.state === "finishing") yield* Effect.sleep("1 second")
      else closing = missing.length === 0
      continue
    }
    const range = closing ? [file.size, file.size] as const : cut(file, missing[0]!, maxBody)
    closing = false
    const answer = yield* exchange(range)
    if (Either.isLeft(answer)) {
      const sent = range[1] - range[0]
      if (sent <= smallestBody) return yield* answer.left
      maxBody = Math.min(Math.max(smallestBody, Math.floor(sent / 2)), answer.left.maxBody ?? Number.POSITIVE_INFINITY)
      if (known) missing = []
      continue
    }
    const receipt = answer.right
    yield* store.settle(file.id, ...range)
    if (!("uploadId" in receipt)) {
      if (Option.isSome(revision)) {
        return yield* new Delivery.GivenUp({
          message: "The server no longer answers as it did when the upload began; the file is kept"
        })
      }
      yield* store.remember(file.id, {
        revision: Option.some(1),
        serverName: Option.some(receipt.actualFilename),
        sending: Option.none()
      })
      yield* Delivery.progress(parts, file, range[1])
      return yield* Revision1.deliver(parts, file, "the program ended before the answer came")
    }
    if (Option.isNone(revision)) {
      yield* store.remember(file.id, {
        revision: Option.some(2),
        serverName: Option.some(receipt.actualFilename),
        sending: Option.none()
      })
    }
    revision = Option.some(2)
    known = true
    yield* Delivery.progress(parts, file, Math.min(receipt.bytesReceived, file.size))
    if (receipt.complete) return yield* verified(file, receipt)
    missing = Ranges.missing(
      Ranges.add(Ranges.missing(missing, file.size), range),
      file.size
    )
  }
})

/** Goes on with an upload of revision 2 where the server says that it stands. */
const resume2 = (parts: Delivery.Parts, file: BufferedFile, id: UploadId.UploadId) =>
  Effect.flatMap(ask(parts, file, id), (state) =>
    deliver2(parts, file, id, {
      revision: Option.some(2),
      known: Option.isSome(state),
      missing: Option.match(state, { onNone: () => whole(file), onSome: ({ missing }) => missing })
    }))

/** Something was sent and no answer came: what answers to GET tells the revision, and what has arrived. */
const discover = (parts: Delivery.Parts, file: BufferedFile, id: UploadId.UploadId, reason: string) =>
  Effect.gen(function*() {
    const revision = yield* ask(parts, file, id).pipe(
      Effect.as(2 as const),
      Effect.catchIf(statusIs(404), () => Effect.succeed(1 as const))
    )
    yield* parts.store.remember(file.id, { revision: Option.some(revision) })
    return revision === 2 ? yield* resume2(parts, file, id) : yield* Revision1.deliver(parts, file, reason)
  })

const interrupted = "the program ended before the answer came"

/** The file, pointed at the endpoint: under the upload id it has, or a new one where that would lead nowhere. */
const prepare = (parts: Delivery.Parts, id: BufferedFile["id"], anew: boolean) =>
  Effect.gen(function*() {
    const { store } = parts
    const file = yield* store.get(id)
    const here = Option.filter(file.delivery, ({ endpoint }) => endpoint === parts.endpoint)
    // what a revision-1 server has acknowledged is never sent to it twice
    const is1 = file.firstIndex > 0 || Option.exists(here, ({ revision }) => Option.contains(revision, 1))
    if (Option.isNone(here) || anew || (Option.isSome(file.failure) && !is1)) {
      yield* store.startDelivery(id, { endpoint: parts.endpoint, uploadId: yield* UploadId.make })
    } else if (Option.isSome(file.failure)) {
      yield* store.setFailure(id, Option.none())
    }
    return yield* store.get(id)
  })

const once = (parts: Delivery.Parts, id: BufferedFile["id"], anew: boolean) =>
  Effect.gen(function*() {
    const file = yield* prepare(parts, id, anew)
    const { revision, sending, uploadId } = Option.getOrThrow(file.delivery)
    const about = { file: file.id, path: file.path }
    yield* parts.emit(UploadEvent.Started({ ...about, size: file.size, acknowledged: file.settledBytes }))
    if (file.firstIndex > 0) {
      const message = `was half sent by the Python client; it goes on in revision 1 from chunk ${file.firstIndex}`
      yield* parts.emit(UploadEvent.Notice({ ...about, message }))
    }
    if (file.firstIndex > 0 || Option.contains(revision, 1)) {
      return yield* Revision1.deliver(parts, file, interrupted)
    }
    if (Option.contains(revision, 2)) return yield* resume2(parts, file, uploadId)
    if (Option.isSome(sending)) return yield* discover(parts, file, uploadId, interrupted)
    return yield* deliver2(parts, file, uploadId, { revision: Option.none(), known: false, missing: whole(file) }).pipe(
      Effect.catchIf(Delivery.isAmbiguous, (error) =>
        Effect.gen(function*() {
          const delay = yield* delayOf(error, 0, parts.retry)
          yield* parts.emit(UploadEvent.Waiting({ ...about, reason: error.message, delay }))
          yield* Effect.sleep(delay)
          return yield* discover(parts, file, uploadId, error.message)
        }))
    )
  })

/** Delivers a claimed file and returns the server's name for it. */
export const deliver = (parts: Delivery.Parts, file: BufferedFile["id"]) => {
  const from = (begun: number): ReturnType<typeof once> =>
    Effect.catchIf(
      once(parts, file, begun > 0),
      (error) => statusIs(412)(error) && begun < most.anew,
      () => from(begun + 1)
    )
  return Delivery.settled(from(0))
}
