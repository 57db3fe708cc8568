/**
 * Delivery to a revision-1 server: chunk after chunk in order, each only after the 200 for the one before. Such a server
 * cannot tell a repeat, so a chunk that it may have got is not sent again unless asked for.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as FileName from "../../protocol/FileName.ts"
import type { Range } from "../../protocol/Ranges.ts"
import type { BufferedFile } from "../ChunkStore.ts"
import { isRefused, type Outgoing } from "../Transport.ts"
import * as Delivery from "./delivery.ts"
import { isPassing } from "./retry.ts"

/** The end of the bytes that were acknowledged in order. */
const settledTo = (parts: Delivery.Parts, file: BufferedFile) =>
  Effect.map(parts.store.settled(file.id), ([first]) => first?.[0] === 0 ? first[1] : 0)

/** What happened before. */
export interface Before {
  /** Why it is not known whether the chunk that is marked as on its way arrived. */
  readonly reason: string
  /** This run sent that chunk, with the key that it still has. */
  readonly sentNow: boolean
  /** A chunk had its 200 in this run: the key was right. */
  readonly accepted: boolean
}

/**
 * An empty chunk appends nothing, but a refused key shows. When that key was never right, the chunk before was refused as
 * well, before its body was read, and its answer only was lost: then it may be sent again with another key.
 */
const probeKey = (parts: Delivery.Parts, file: BufferedFile, sent: Outgoing, neverRight: boolean) =>
  Delivery.send(parts, { ...sent, body: new Uint8Array(0), chunk: { ...sent.chunk, contentDigest: Option.none() } })
    .pipe(
      Effect.catchIf(
        (error) => !(isRefused(error) && (error.status === 401 || error.status === 403)),
        () => Effect.void
      ),
      Effect.tapError(() => neverRight ? parts.store.remember(file.id, { sending: Option.none() }) : Effect.void)
    )

const unconfirmed = (index: number, reason: string) =>
  new Delivery.Unconfirmed({
    message:
      `Chunk ${index} may or may not have arrived (${reason}). This server cannot tell, and a chunk sent twice ` +
      "would be in the file twice; the file is kept. Upload with --resend-unconfirmed to send the chunk again"
  })

/** Goes on with a file after what is settled, and returns the server's name for it. */
export const deliver = Effect.fn("Uploader.deliverRevision1")(function*(
  parts: Delivery.Parts,
  file: BufferedFile,
  before: Before
) {
  const { delivery } = yield* parts.store.get(file.id)
  const { name: sentName, sending, serverName, uploadId } = Option.getOrThrow(delivery)
  parts.oldNames.take(sentName)
  yield* parts.pace.speaks(1)
  // a half-sent file of the Python client goes on exactly as that client would
  const upload = file.firstIndex > 0 ? Option.none() : Option.some({ id: uploadId, known: true })
  let name = serverName
  let { accepted } = before
  let resent = false

  const request = (range: Range) => Delivery.outgoing(parts, file, range, upload)
  const chunkAt = (from: number): Range => [from, Math.min(from + file.chunkSize, file.size)]

  let from = yield* settledTo(parts, file)
  // an empty chunk does no harm twice
  let empty = file.size === 0 && Option.isSome(sending)
  while (from < file.size || empty) {
    const range = chunkAt(from)
    const out = yield* request(range)
    const { index } = out.chunk
    if (Option.contains(sending, index) && !empty && !parts.resendUnconfirmed) {
      yield* probeKey(parts, file, out, before.sentNow && !accepted)
      return yield* unconfirmed(index, before.reason)
    }
    const passes = parts.resendUnconfirmed ? isPassing : Delivery.isHarmless
    if (Option.contains(sending, index) && !empty) resent = true
    const exchange = Effect.tapError(Delivery.marked(parts, file, out), (error) =>
      Effect.sync(() => {
        resent ||= parts.resendUnconfirmed && Delivery.isAmbiguous(error)
      }))
    const { receipt } = yield* Delivery.persist(parts, file, passes, exchange).pipe(
      Effect.catchIf(
        Delivery.isAmbiguous,
        (error) => Effect.andThen(probeKey(parts, file, out, !accepted), unconfirmed(index, error.message))
      )
    )
    accepted = true
    yield* parts.store.settle(file.id, ...range)
    if (Option.isNone(name)) {
      name = Option.some(receipt.actualFilename)
      yield* parts.store.remember(file.id, { serverName: name })
    }
    from = range[1]
    empty = false
    yield* Delivery.progress(parts, file, from)
  }
  const sha256 = yield* Delivery.hashOf(parts, file)
  return { serverName: Option.getOrElse(name, () => FileName.base(sentName)), resent, sha256 }
})
