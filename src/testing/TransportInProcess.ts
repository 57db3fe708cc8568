/**
 * A transport that hands chunks straight to a `Receiver` in the same process: the whole path without sockets.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { NoAnswer, Refused, Transport } from "../client/Transport.ts"
import * as ChunkHeaders from "../protocol/ChunkHeaders.ts"
import { type ProtocolError, retryAfter } from "../protocol/ProtocolError.ts"
import * as UploadBatch from "../protocol/UploadBatch.ts"
import * as Body from "../server/Body.ts"
import { Receiver } from "../server/Receiver.ts"

const refused = (error: ProtocolError): Refused => {
  const seconds = retryAfter(error)
  return new Refused({
    status: error.status,
    error: error.error,
    message: error.message,
    ...(seconds === undefined ? {} : { retryAfter: seconds })
  })
}

/** After how many bytes of a body the connection breaks, for a chunk that is sent with this provided. Default: never. */
export class BreaksAfter extends Context.Reference<BreaksAfter>()("indexedcp/testing/BreaksAfter", {
  defaultValue: () => Number.POSITIVE_INFINITY
}) {}

/** A body that is as long as it says, unless the connection breaks. */
const bodyOf = (bytes: Uint8Array, breaksAfter: number): Body.Body =>
  breaksAfter === Number.POSITIVE_INFINITY ? Body.of(bytes) : {
    length: Option.some(bytes.length),
    // oxlint-disable-next-line require-await -- an async iterable is what a body is
    pieces: (async function*() {
      yield bytes.subarray(0, breaksAfter)
      throw new Error("The connection broke")
    })()
  }

const failed = (error: ProtocolError | Body.BodyCut): NoAnswer | Refused =>
  error._tag === "BodyCut" ? new NoAnswer({ message: error.message }) : refused(error)

/** What the server sees of the client, and says of itself. */
export interface InProcessOptions {
  /** By which revision-1 clients are told apart. Default: 127.0.0.1. */
  readonly remoteAddress?: string
  /** Whether the server says that it takes batches, as one does over HTTP. Default: no, so that each file is a request. */
  readonly batches?: boolean
}

/** Chunks of the principal `default` from `remoteAddress`, whatever their endpoint. */
export const layer = (options: InProcessOptions = {}): Layer.Layer<Transport, never, Receiver> =>
  Layer.effect(
    Transport,
    Effect.map(Receiver, (receiver) => {
      const principal = { name: "default" }
      const batch = options.batches === true ? { batch: receiver.batches } : {}
      const told = (endpoint: string) => ({
        method: "POST",
        url: new URL(endpoint).pathname,
        remoteAddress: options.remoteAddress ?? "127.0.0.1",
        keyName: principal.name
      })
      return Transport.of({
        send: ({ body, chunk, endpoint }) =>
          Effect.gen(function*() {
            const headers = ChunkHeaders.encode(chunk)
            const { receipt } = yield* receiver.receive({
              principal,
              // through the headers, as over a wire
              chunk: yield* ChunkHeaders.decode(headers),
              body: bodyOf(body, yield* BreaksAfter),
              request: { ...told(endpoint), headers }
            })
            return { receipt, limit: {}, takesPrefix: true, ...batch }
          }).pipe(Effect.mapError(failed)),
        sendBatch: ({ endpoint, files }) =>
          Effect.gen(function*() {
            const results = yield* receiver.receiveBatch({
              principal,
              body: bodyOf(UploadBatch.toBody(files), yield* BreaksAfter),
              request: { ...told(endpoint), headers: {} }
            })
            return results.map((result) =>
              Either.isRight(result) && "complete" in result.right.receipt && result.right.receipt.complete
                ? Option.some(result.right.receipt.actualFilename)
                : Option.none()
            )
          }).pipe(Effect.mapError(failed)),
        state: (_, id, check) =>
          Effect.asSome(check === "content" ? receiver.content(principal, id) : receiver.state(principal, id)).pipe(
            Effect.catchTag("UnknownUpload", () => Effect.succeedNone),
            Effect.mapError(refused)
          ),
        abort: (_, id) =>
          receiver.abort(principal, id).pipe(
            Effect.catchTag("UnknownUpload", () => Effect.void),
            Effect.mapError(refused)
          )
      })
    })
  )
