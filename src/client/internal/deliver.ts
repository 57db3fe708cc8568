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
import type { UploadState } from "../../protocol/UploadState.ts"
import type { BufferedFile } from "../ChunkStore.ts"
import { Refused } from "../Transport.ts"
import * as UploadEvent from "../UploadEvent.ts"
import * as Revision1 from "./deliverRevision1.ts"
import * as Delivery from "./delivery.ts"
import { delayOf, isPassing } from "./retry.ts"

/** Bodies are not cut smaller than this after a 413 (PROTOCOL.md, "Errors"). */
const smallestBody = 64 * 1024

/** A server may ask for longer bodies than a chunk, but for no longer ones than these: they are held in memory. */
const largestBody = 64 * 1024 * 1024

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

/** Between two questions about an upload that only the server can go on with. */
const pollDelay = "1 second"

const interrupted = "the program ended before the answer came"

const forgotten = new Refused({ status: 412, error: "Unknown upload", message: "The server forgot the upload" })

const whole = (file: BufferedFile): Ranges.Ranges => [[0, file.size]]

const statusIs = (status: number) => (error: { readonly _tag: string }): error is Refused =>
  error._tag === "Refused" && (error as Refused).status === status

/** What the server lacks of the file. Where it has not been told the size, it lists no gap behind what it has. */
const lacking = (file: BufferedFile, state: UploadState): Ranges.Ranges => {
  const end = state.bytesReceived + Ranges.total(state.missing)
  const rest: Ranges.Ranges = state.size === null && state.more !== true ? [[end, file.size]] : []
  return [...state.missing, ...rest].flatMap(([from, to]) =>
    from < Math.min(to, file.size) ? [[from, Math.min(to, file.size)] as const] : []
  )
}

/** Bytes a body may have, and should have at least. */
interface Fitting {
  readonly min: number
  readonly max: number
}

/** A piece of what is missing: within one stored chunk where that is long enough, and not longer than a body may be. */
const cut = (file: BufferedFile, [from, to]: Ranges.Range, { max, min }: Fitting): Ranges.Range => [
  from,
  Math.min(to, from + max, Math.max(from + min, (Math.floor(from / file.chunkSize) + 1) * file.chunkSize))
]

const verified = (file: BufferedFile, done: {
  readonly actualFilename: string
  readonly size?: number | null | undefined
  readonly sha256?: string | undefined
}) =>
  (done.size ?? file.size) === file.size && (done.sha256 ?? file.sha256) === file.sha256
    ? Effect.succeed({ serverName: done.actualFilename, resent: false })
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
  let fitting: Fitting = { min: 1, max: Number.POSITIVE_INFINITY }
  let acknowledged = file.settledBytes

  const attempt = (range: Ranges.Range) =>
    Effect.gen(function*() {
      const out = yield* Delivery.outgoing(parts, file, range, Option.some({ id, known }))
      const { limit, receipt } = yield* Option.isSome(revision)
        ? Delivery.persist(parts, file, isPassing, parts.transport.send(out))
        : Delivery.persist(parts, file, Delivery.isHarmless, Delivery.marked(parts, file, out))
      fitting = {
        min: Math.min(Math.max(fitting.min, limit.minAppendSize ?? 1), largestBody),
        max: Math.max(1, Math.min(fitting.max, limit.maxAppendSize ?? fitting.max))
      }
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
      missing = lacking(file, state.value)
      if (state.value.state === "finishing") yield* Effect.sleep(pollDelay)
      else closing = missing.length === 0
      continue
    }
    const range = closing ? [file.size, file.size] as const : cut(file, missing[0]!, fitting)
    closing = false
    const answer = yield* exchange(range)
    if (Either.isLeft(answer)) {
      const sent = range[1] - range[0]
      if (sent <= smallestBody) return yield* answer.left
      const half = Math.max(smallestBody, Math.floor(sent / 2))
      fitting = { min: 1, max: Math.max(1, Math.min(half, answer.left.maxBody ?? half)) }
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
      return yield* Revision1.deliver(parts, file, { reason: interrupted, sentNow: false, accepted: true })
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
    acknowledged = Math.max(acknowledged, Math.min(receipt.bytesReceived, file.size))
    yield* Delivery.progress(parts, file, acknowledged)
    if (receipt.complete) return yield* verified(file, receipt)
    // the server has everything and was told so: it needs time
    if (range[0] === file.size && file.size > 0) yield* Effect.sleep(pollDelay)
    missing = Ranges.missing(
      Ranges.add(Ranges.missing(missing, file.size), range),
      file.size
    )
  }
})

/** Goes on with an upload of revision 2 where the server says that it stands. */
const resume2 = (
  parts: Delivery.Parts,
  file: BufferedFile,
  id: UploadId.UploadId,
  state: Option.Option<UploadState>
) =>
  deliver2(parts, file, id, {
    revision: Option.some(2),
    known: Option.isSome(state),
    missing: Option.match(state, { onNone: () => whole(file), onSome: (state) => lacking(file, state) })
  })

/** Something was sent and no answer came: what answers to GET tells the revision, and what has arrived. */
const discover = (parts: Delivery.Parts, file: BufferedFile, id: UploadId.UploadId, reason: string) =>
  Effect.gen(function*() {
    const answer = yield* ask(parts, file, id).pipe(
      Effect.map(Either.right),
      Effect.catchIf(statusIs(404), (error) => Effect.succeed(Either.left(error)))
    )
    yield* parts.store.remember(file.id, { revision: Option.some(Either.isRight(answer) ? 2 : 1) })
    return Either.isRight(answer)
      ? yield* resume2(parts, file, id, answer.right)
      : yield* Revision1.deliver(parts, file, { reason, sentNow: reason !== interrupted, accepted: false })
  })

/** The file, pointed at the endpoint: under the upload id it has, or a new one where that would lead nowhere. */
const prepare = (parts: Delivery.Parts, id: BufferedFile["id"], anew: boolean) =>
  Effect.gen(function*() {
    const { store } = parts
    const file = yield* store.get(id)
    const here = Option.filter(file.delivery, ({ endpoint }) => endpoint === parts.endpoint)
    // what a revision-1 server has acknowledged is never sent to it twice
    const is1 = file.firstIndex > 0 || Option.exists(here, ({ revision }) => Option.contains(revision, 1))
    if (Option.isNone(here) || anew || (Option.isSome(file.failure) && !is1)) {
      yield* store.startDelivery(id, {
        endpoint: parts.endpoint,
        name: Option.match(here, {
          onNone: () => file.firstIndex > 0 ? file.name : parts.oldNames.free(file.name),
          onSome: ({ name }) => name
        }),
        uploadId: yield* UploadId.make
      })
    } else if (Option.isSome(file.failure)) {
      yield* store.setFailure(id, Option.none())
    }
    return yield* store.get(id)
  })

const once = (parts: Delivery.Parts, id: BufferedFile["id"], anew: boolean) =>
  Effect.gen(function*() {
    const file = yield* prepare(parts, id, anew)
    const { revision, sending, serverName, uploadId } = Option.getOrThrow(file.delivery)
    const earlier = { reason: interrupted, sentNow: false, accepted: false }
    const about = { file: file.id, path: file.path }
    yield* parts.emit(UploadEvent.Started({ ...about, size: file.size, acknowledged: file.settledBytes }))
    if (file.firstIndex > 0) {
      const message = `was half sent by the Python client; it goes on in revision 1 from chunk ${file.firstIndex}`
      yield* parts.emit(UploadEvent.Notice({ ...about, message }))
      yield* parts.store.remember(file.id, { revision: Option.some(1) })
      // a refusal is final: its first bytes are not here to begin anew with
      return yield* Delivery.settled(Revision1.deliver(parts, file, earlier))
    }
    if (Option.contains(revision, 1)) return yield* Revision1.deliver(parts, file, earlier)
    if (Option.contains(revision, 2)) {
      const state = yield* ask(parts, file, uploadId)
      // after a 200 the id is spent; without one its first chunk may still be on its way
      if (Option.isNone(state) && Option.isSome(serverName)) return yield* forgotten
      return yield* resume2(parts, file, uploadId, state)
    }
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
