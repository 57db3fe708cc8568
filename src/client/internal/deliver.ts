/**
 * Delivery of one file: which revision the server speaks, what it lacks, and sending that until the file is complete.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Ranges from "../../protocol/Ranges.ts"
import type { Receipt } from "../../protocol/Receipt.ts"
import * as UploadId from "../../protocol/UploadId.ts"
import type { UploadState } from "../../protocol/UploadState.ts"
import type { BufferedFile, Delivery as Sent, ReadOptions } from "../ChunkStore.ts"
import { isTransportError, Refused, type TransportError } from "../Transport.ts"
import * as UploadEvent from "../UploadEvent.ts"
import * as Revision1 from "./deliverRevision1.ts"
import * as Delivery from "./delivery.ts"
import { smallestAfter413 } from "./pace.ts"
import { isPassing, patience, type Wait } from "./retry.ts"
import { pieceLength } from "./storing.ts"

/** How often a body that arrives damaged is sent. */
const mostDamaged = 5

/** How often a file whose upload the server forgot is begun anew. */
const mostAnew = 3

/** Bytes of bodies whose hash is worth waiting for all that come before them. */
const longBody = 2 * 1024 * 1024

/** Milliseconds. A server of revision 2 is asked what it has: not each answer is worth a transaction. */
const recordPause = 1000

/** What was found out about the server's side of the file. */
interface Known {
  /** `None` until an answer has shown it. */
  readonly revision: Option.Option<2>
  /** A 200 or a GET has shown that the server knows the upload. */
  readonly known: boolean
  readonly missing: Ranges.Ranges
  /** What was sent without an answer, as it was cut. */
  readonly unsure?: Ranges.Ranges
}

/** Between two questions about an upload that only the server can go on with. */
const pollDelay = "1 second"

const interrupted = "the program ended before the answer came"

const forgotten = new Refused({ status: 412, error: "Unknown upload", message: "The server forgot the upload" })

/** An old server has another file under the name of this one, of which it has nothing. */
class NameTaken extends Data.TaggedError("NameTaken") {}

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
  /** That a body may grow to. */
  readonly largest: number
}

/**
 * A part of what is missing, not longer than a body may be: up to the end of a stored piece, which need not be hashed again,
 * or else of a chunk, where one is in reach.
 */
const cut = (file: BufferedFile, [from, to]: Ranges.Range, { largest, max, min }: Fitting): Ranges.Range => {
  const { chunkSize } = file
  const ends = [pieceLength(chunkSize, largest), chunkSize].map((length) => Math.floor((from + max) / length) * length)
  const inside = ends.find((end) => end > from) ?? Math.min(from + max, (Math.floor(from / chunkSize) + 1) * chunkSize)
  return [from, Math.min(to, Math.max(from + min, inside))]
}

/** Whether a range lies within one of others. */
const covers = (ranges: Ranges.Ranges, [from, to]: Ranges.Range): boolean =>
  ranges.some(([start, end]) => start <= from && to <= end)

/** What is missing but for these ranges. */
const without = (file: BufferedFile, missing: Ranges.Ranges, ranges: Ranges.Ranges): Ranges.Ranges =>
  ranges.length === 0
    ? missing
    : Ranges.missing(ranges.reduce(Ranges.add, Ranges.missing(missing, file.size)), file.size)

const verified = (parts: Delivery.Parts, file: BufferedFile, done: {
  readonly actualFilename: string
  readonly size?: number | null | undefined
  readonly sha256?: string | undefined
}) =>
  Effect.flatMap(Delivery.hashOf(parts, file), (sha256) =>
    done.size === file.size && (done.sha256 ?? sha256) === sha256
      ? Effect.succeed({ serverName: done.actualFilename, resent: false, sha256 })
      : Effect.fail(
        new Delivery.GivenUp({
          message: `The server's file ${done.actualFilename} is not the one that was sent ` +
            `(${done.size} bytes, SHA-256 ${done.sha256}); the file is kept`
        })
      ))

/** Asks the server for the upload; `None` when it does not know it. */
const ask = (parts: Delivery.Parts, file: BufferedFile, id: UploadId.UploadId, wait?: Wait) =>
  Effect.tap(
    Delivery.persist(
      parts,
      file,
      isPassing,
      parts.pace.request(0, parts.transport.state(parts.endpoint, id)),
      wait
    ),
    () => parts.pace.speaks(2)
  )

/** What changed the course of a round of requests. */
type Turn =
  | { readonly _tag: "Receipt"; readonly receipt: Receipt }
  /** The body of `sent` bytes was over a limit. */
  | { readonly _tag: "TooLarge"; readonly error: Refused; readonly sent: number }
  /** The server has bytes of the range that were cut in another way. */
  | { readonly _tag: "Touched"; readonly error: Refused; readonly range: Ranges.Range }
  /** Passing trouble. */
  | { readonly _tag: "Trouble"; readonly error: TransportError }

/** Sends to a server of revision 2, or one that has still to show what it speaks, until the file is complete there. */
const deliver2 = Effect.fn("Uploader.deliver")(function*(
  parts: Delivery.Parts,
  file: BufferedFile,
  id: UploadId.UploadId,
  start: Known
) {
  const { freeEarly, oldNames, pace, store } = parts
  const { reset, wait } = patience(parts.retry, Delivery.pause(parts, file))
  let { known, missing, revision } = start
  // what is sent again, and what comes after, is checked by itself: the server may have to go through all bytes before it
  let isSmooth = !known
  let most = file.settledBytes
  let unrecorded = Ranges.empty
  let recordedAt = Number.NEGATIVE_INFINITY

  /** Sends a range, again when it arrives damaged. */
  const exchange = (range: Ranges.Range) =>
    Effect.suspend(() => {
      const bytes = range[1] - range[0]
      const prefix = isSmooth && bytes >= longBody && pace.prefix()
      const outgoing = (options: ReadOptions) =>
        Delivery.outgoing(parts, file, range, Option.some({ id, known }), options)
      return Option.isSome(revision)
        ? parts.bodies.use(bytes, (into) => Effect.flatMap(outgoing({ into, prefix }), parts.transport.send))
        : Effect.flatMap(outgoing({ prefix }), (out) =>
          // a part of a file may be cut in another way when it is sent again, which a server does not take
          pace.spoken() === 2 && out.body.length === file.size
            ? Delivery.unmarked(parts, file, out)
            : Delivery.marked(parts, file, out))
    }).pipe(
      Effect.tapError((error) => Effect.sync(() => void (isSmooth &&= !statusIs(422)(error)))),
      Effect.retry({ times: mostDamaged - 1, while: statusIs(422) }),
      Effect.map(({ batch, limit, receipt, takesPrefix = false }) => {
        pace.limited(limit)
        pace.takesPrefix(takesPrefix)
        if (batch !== undefined) pace.takesBatches(batch)
        return receipt
      })
    )

  const record = Effect.suspend(() => {
    const ranges = unrecorded
    unrecorded = Ranges.empty
    return Effect.forEach(ranges, (range) => store.settle(file.id, ...range, { free: freeEarly }), { discard: true })
  })

  /** Records a 200 now or soon; the first one at once, with what it shows. */
  const accept = (range: Ranges.Range, receipt: Receipt) =>
    Effect.gen(function*() {
      const speaks = "uploadId" in receipt ? 2 : 1
      if (speaks === 1 && Option.isSome(revision)) {
        return yield* new Delivery.GivenUp({
          message: "The server no longer answers as it did when the upload began; the file is kept"
        })
      }
      if (Option.isNone(revision)) {
        yield* store.settle(file.id, ...range, {
          free: freeEarly && speaks === 2,
          known: {
            revision: Option.some(speaks),
            serverName: Option.some(receipt.actualFilename),
            sending: Option.none()
          }
        })
        yield* pace.speaks(speaks)
      } else {
        unrecorded = Ranges.add(unrecorded, range)
        const now = yield* Clock.currentTimeMillis
        if (freeEarly || now - recordedAt >= recordPause) {
          recordedAt = now
          yield* record
        }
      }
      if ("uploadId" in receipt) {
        revision = Option.some(2)
        known = true
      }
      most = Math.max(most, "uploadId" in receipt ? Math.min(receipt.bytesReceived, file.size) : range[1])
      yield* Delivery.progress(parts, file, most)
    })

  /**
   * Sends ranges, several requests at once, until one says something that changes the course; those in flight end. What is
   * `exact` goes as it is, before the rest of what is missing.
   */
  const send = (exact: Ranges.Ranges, ranges: Ranges.Ranges, isAlone: boolean) =>
    Effect.gen(function*() {
      const again = [...exact]
      const queue = [...without(file, ranges, exact)]
      const acknowledged: Array<Ranges.Range> = []
      const unsure: Array<Ranges.Range> = []
      let turn: Turn | undefined
      const next = (): Ranges.Range | undefined => {
        if (turn !== undefined) return undefined
        const range = again.shift()
        if (range !== undefined) return range
        const rest = queue.shift()
        if (rest === undefined) return undefined
        const first = cut(file, rest, pace.fitting())
        if (first[1] < rest[1]) queue.unshift([first[1], rest[1]])
        return first
      }
      // a receipt says more than what went wrong beside it
      const turns = (to: Turn): undefined => {
        if (turn === undefined || to._tag === "Receipt") turn = to
        return undefined
      }
      /**
       * Sends the next range when there is room to send it. It is cut and read no earlier: bodies go in order, for the server
       * waits for the bytes before them, and those that wait fill memory.
       */
      const step = Effect.suspend(() => {
        const taken: { range: Ranges.Range | undefined } = { range: undefined }
        const length = () => taken.range === undefined ? 0 : taken.range[1] - taken.range[0]
        const exchanged = Effect.suspend(() => {
          const range = taken.range = next()
          return range === undefined
            ? Effect.succeed(undefined)
            : Effect.map(exchange(range), (receipt) => ({ range, receipt }))
        })
        return (Option.isSome(revision) ? pace.request(length, exchanged) : exchanged).pipe(
          Effect.catchAll((error) => {
            if (Delivery.isTooLarge(error)) return Effect.succeed(turns({ _tag: "TooLarge", error, sent: length() }))
            if (Option.isSome(revision) && taken.range !== undefined && statusIs(409)(error)) {
              return Effect.succeed(turns({ _tag: "Touched", error, range: taken.range }))
            }
            const passes = Option.isSome(revision) ? isPassing : Delivery.isHarmless
            if (taken.range === undefined || !isTransportError(error) || !passes(error)) return Effect.fail(error)
            if (Delivery.isAmbiguous(error) || exact.includes(taken.range)) unsure.push(taken.range)
            return Effect.succeed(turns({ _tag: "Trouble", error }))
          })
        )
      })
      const work = Effect.gen(function*() {
        for (let sent = yield* step; sent !== undefined; sent = yield* step) {
          const { range, receipt } = sent
          yield* accept(range, receipt)
          acknowledged.push(range)
          reset()
          if (isAlone || !("uploadId" in receipt) || receipt.complete) turns({ _tag: "Receipt", receipt })
        }
      })
      yield* Effect.all(Array.from({ length: isAlone ? 1 : pace.parallel }, () => work), {
        concurrency: "unbounded",
        discard: true
      })
      return { acknowledged, turn, unsure: [...unsure, ...again] }
    })

  // a file that is delivered has no record any more
  yield* Effect.addFinalizer((exit) => Exit.isSuccess(exit) ? Effect.void : Effect.ignore(record))

  // the first request of a file goes alone, and the first one after trouble
  let isAlone = !known || Option.isNone(revision)
  // what may be at the server, or on its way: bytes that it has may only be sent again as they were cut before
  let unsure: Ranges.Ranges = start.unsure ?? []
  // what was given up as it was cut, while the server may still wait for the rest of it on a connection that is half dead
  let claimed: Ranges.Ranges = []
  for (let closing = false;;) {
    if (missing.length === 0 && !closing) {
      const state = yield* ask(parts, file, id, wait)
      if (Option.isNone(state)) return yield* forgotten
      if (state.value.complete) return yield* verified(parts, file, state.value)
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
    // while this one waited, perhaps
    if (Option.isNone(revision) && Option.exists(file.delivery, ({ name }) => oldNames.has(name))) {
      return yield* new NameTaken()
    }
    const again = unsure
    const { acknowledged, turn, ...round } = yield* (closing
      ? send([[file.size, file.size]], [], isAlone)
      : send(again, missing, isAlone))
    unsure = closing ? [] : round.unsure
    if (acknowledged.length > 0) claimed = []
    // of an empty file, the empty range stays until it was acknowledged
    missing = without(file, missing, acknowledged)
    isAlone = !known
    if (turn?._tag === "Receipt") {
      const { receipt } = turn
      if (!("uploadId" in receipt)) {
        return yield* Revision1.deliver(parts, file, { reason: interrupted, sentNow: false, accepted: true })
      }
      if (receipt.complete) return yield* verified(parts, file, receipt)
    } else if (turn?._tag === "TooLarge") {
      if (turn.sent <= smallestAfter413) return yield* turn.error
      pace.tooLarge(turn.sent, turn.error)
      if (known) missing = unsure = []
    } else if (turn?._tag === "Touched") {
      // what a program sent that has died since, or a connection that was given up, may arrive after all
      const state = yield* ask(parts, file, id, wait)
      if (Option.isNone(state)) return yield* (known ? forgotten : turn.error)
      known = true
      missing = lacking(file, state.value)
      if (covers(missing, turn.range)) return yield* turn.error
      unsure = unsure.filter((range) => covers(missing, range))
      isSmooth = false
    } else if (turn?._tag === "Trouble") {
      yield* wait(turn.error)
      isAlone = true
      isSmooth = false
      const { max } = pace.fitting()
      if (claimed.length > 0 && statusIs(503)(turn.error)) {
        // it does: only the very same range takes over from that connection
        unsure = claimed
        claimed = []
      } else if (again.some(([from, to]) => to - from > max) && acknowledged.length === 0) {
        // as it was cut it does not get through, twice: once the server has told what is missing, it may be cut anew
        claimed = again
        missing = unsure = []
      }
    }
    if (closing && acknowledged.length > 0) {
      closing = false
      // the server has everything and was told so: it needs time
      if (file.size > 0) yield* Effect.sleep(pollDelay)
    }
  }
}, Effect.scoped)

/** Goes on with an upload of revision 2 where the server says that it stands. */
const resume2 = (
  parts: Delivery.Parts,
  file: BufferedFile,
  id: UploadId.UploadId,
  state: Option.Option<UploadState>,
  sent?: Ranges.Range
) => {
  const missing = Option.match(state, { onNone: () => whole(file), onSome: (state) => lacking(file, state) })
  return deliver2(parts, file, id, {
    revision: Option.some(2),
    known: Option.isSome(state),
    missing,
    unsure: sent !== undefined && covers(missing, sent) ? [sent] : []
  })
}

/** Something was sent and no answer came: what answers to GET tells the revision, and what has arrived. */
const discover = (
  parts: Delivery.Parts,
  file: BufferedFile,
  id: UploadId.UploadId,
  reason: string,
  sent: Ranges.Range
) =>
  Effect.gen(function*() {
    const answer = yield* ask(parts, file, id).pipe(
      Effect.map(Either.right),
      Effect.catchIf(statusIs(404), (error) => Effect.succeed(Either.left(error)))
    )
    yield* parts.store.remember(file.id, { revision: Option.some(Either.isRight(answer) ? 2 : 1) })
    return Either.isRight(answer)
      ? yield* resume2(parts, file, id, answer.right, sent)
      : yield* Revision1.deliver(parts, file, { reason, sentNow: reason !== interrupted, accepted: false })
  })

/** Whether the server may have something of the file under its name. */
const mayBeThere = ({ revision, sending }: Sent): boolean => Option.isSome(revision) || Option.isSome(sending)

/** The file, pointed at the endpoint: under the upload id it has, or a new one where that would lead nowhere. */
const prepare = (parts: Delivery.Parts, id: BufferedFile["id"], anew: boolean) =>
  Effect.gen(function*() {
    const { store } = parts
    const file = yield* store.get(id)
    const here = Option.filter(file.delivery, ({ endpoint }) => endpoint === parts.endpoint)
    // what a revision-1 server has acknowledged is never sent to it twice
    const is1 = file.firstIndex > 0 || Option.exists(here, ({ revision }) => Option.contains(revision, 1))
    const begins = Option.isNone(here) || anew || (Option.isSome(file.failure) && !is1)
    if (begins && file.freed) {
      const where = Option.match(file.delivery, { onNone: () => "its server", onSome: ({ endpoint }) => endpoint })
      return yield* new Delivery.GivenUp({
        message: `Bytes of ${file.path} were freed early and only ${where} has them, so it cannot be sent from its ` +
          "beginning. Remove it, and add it again from its source"
      })
    }
    if (begins) {
      if (!anew) yield* Delivery.forsake(parts.transport, file)
      yield* store.startDelivery(id, {
        endpoint: parts.endpoint,
        name: Option.match(Option.filter(here, mayBeThere), {
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
    const first = cut(file, [0, file.size], parts.pace.fitting())
    if (Option.isSome(sending)) return yield* discover(parts, file, uploadId, interrupted, first)
    return yield* deliver2(parts, file, uploadId, { revision: Option.none(), known: false, missing: whole(file) }).pipe(
      Effect.catchIf(Delivery.isAmbiguous, (error) =>
        Effect.gen(function*() {
          yield* patience(parts.retry, Delivery.pause(parts, file)).wait(error)
          return yield* discover(parts, file, uploadId, error.message, first)
        }))
    )
  })

type Delivered = ReturnType<typeof once> extends Effect.Effect<infer A, infer E> ?
  Effect.Effect<A, Exclude<E, NameTaken>>
  : never

/** Delivers a claimed file and returns the server's name for it. */
export const deliver = (parts: Delivery.Parts, file: BufferedFile["id"]) => {
  const from = (begun: number): Delivered =>
    once(parts, file, begun > 0).pipe(
      Effect.catchTag("NameTaken", () => from(begun + 1)),
      Effect.catchIf(
        (error) => statusIs(412)(error) && begun < mostAnew,
        // no server of revision 1 says that
        () => Effect.zipRight(parts.pace.speaks(2), from(begun + 1))
      )
    )
  return Delivery.settled(from(0))
}
