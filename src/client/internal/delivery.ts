/**
 * What the delivery of one file is made of: its parts, and the ways it can end without being delivered.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { ChunkUpload } from "../../protocol/ChunkHeaders.ts"
import type { Range } from "../../protocol/Ranges.ts"
import type { ApiKeyMissing } from "../ApiKey.ts"
import type { BufferedFile, ChunkStore, ReadOptions } from "../ChunkStore.ts"
import {
  isRefused,
  isTransportError,
  type NoAnswer,
  type Outgoing,
  type Refused,
  type Transport,
  type TransportError
} from "../Transport.ts"
import * as UploadEvent from "../UploadEvent.ts"
import type { Bodies } from "./bodies.ts"
import type { OldNames } from "./oldNames.ts"
import type { Pace } from "./pace.ts"
import * as Retry from "./retry.ts"

/** This file is given up; it stays in the buffer with the reason. */
export class GivenUp extends Schema.TaggedError<GivenUp>("indexedcp/GivenUp")("GivenUp", {
  message: Schema.String,
  /** The server's refusal, if that was the reason. */
  cause: Schema.optional(Schema.Defect)
}) {}

/** A revision-1 server may or may not have got a chunk. */
export class Unconfirmed extends Schema.TaggedError<Unconfirmed>("indexedcp/Unconfirmed")("Unconfirmed", {
  message: Schema.String
}) {}

/** 401 or 403: no file can be sent with this key. */
export class KeyRefused extends Schema.TaggedError<KeyRefused>("indexedcp/KeyRefused")("KeyRefused", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

/** 404: there is no IndexedCP server at this URL. */
export class WrongEndpoint extends Schema.TaggedError<WrongEndpoint>("indexedcp/WrongEndpoint")("WrongEndpoint", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

export interface Parts {
  readonly store: Context.Tag.Service<ChunkStore>
  readonly transport: Context.Tag.Service<Transport>
  readonly emit: (event: UploadEvent.UploadEvent) => Effect.Effect<void>
  readonly endpoint: string
  readonly retry: Retry.RetryOptions
  /** Shared by all files that go to the endpoint. */
  readonly pace: Pace
  readonly bodies: Bodies
  readonly oldNames: OldNames
  /** Free bytes as they are acknowledged. */
  readonly freeEarly: boolean
  /** Send again to a revision-1 server what it may have got already. */
  readonly resendUnconfirmed: boolean
}

/** Whether the server may have got the bytes all the same. */
export const isAmbiguous = (error: { readonly _tag: string }): error is NoAnswer | Refused =>
  error._tag === "NoAnswer" ||
  (error._tag === "Refused" && ((error as Refused).status === 408 || (error as Refused).status >= 500))

/** Whether a body was over a limit. */
export const isTooLarge = (error: { readonly _tag: string }): error is Refused =>
  error._tag === "Refused" && (error as Refused).status === 413

/** Whether it passes and the server has certainly not got the bytes. */
export const isHarmless = (error: TransportError): boolean => Retry.isPassing(error) && !isAmbiguous(error)

/** How long a server is waited for to be told that it may delete an upload of no more interest. */
export const patienceForAbort = "3 seconds"

/** Tells the server of a half-sent file that it may forget it; nothing depends on it. */
export const forsake = (transport: Context.Tag.Service<Transport>, { delivery }: BufferedFile): Effect.Effect<void> =>
  Option.match(delivery, {
    onNone: () => Effect.void,
    onSome: ({ endpoint, revision, uploadId }) =>
      Option.contains(revision, 1)
        ? Effect.void
        : transport.abort(endpoint, uploadId).pipe(Effect.timeout(patienceForAbort), Effect.ignore)
  })

/** Sends a chunk once, when there is room for one more request. */
export const send = ({ pace, transport }: Parts, out: Outgoing) => pace.request(out.body.length, transport.send(out))

/**
 * Sends with a durable mark that a chunk is on its way. The mark stays when the outcome is not known, also because the
 * program died; and when it was there before, it stays whatever becomes of this try.
 */
export const marked = (parts: Parts, file: BufferedFile, out: Outgoing) =>
  Effect.gen(function*() {
    const sending = Option.some(out.chunk.index)
    const { delivery } = yield* parts.store.get(file.id)
    const before = Option.flatMap(delivery, ({ sending }) => sending)
    if (Option.contains(before, out.chunk.index)) return yield* send(parts, out)
    yield* parts.store.remember(file.id, { sending })
    return yield* Effect.tapError(send(parts, out), (error) =>
      isAmbiguous(error) ? Effect.void : parts.store.remember(file.id, { sending: Option.none() }))
  })

/**
 * Sends a whole file as its first chunk to a server that has just shown, with another file, that it can tell a repeat. When
 * the program dies meanwhile, the same is sent again, so no mark is needed before; it is set when the outcome is not known,
 * in case that another server has taken its place.
 */
export const unmarked = (parts: Parts, file: BufferedFile, out: Outgoing) =>
  Effect.tapError(send(parts, out), (error) =>
    isAmbiguous(error)
      ? parts.store.remember(file.id, { sending: Option.some(out.chunk.index) })
      : Effect.void)

/** What a refusal that does not pass means for the file or for all of them. */
export const refusal = (error: Refused): GivenUp | KeyRefused | WrongEndpoint => {
  const { message } = error
  switch (error.status) {
    case 401:
    case 403:
      return new KeyRefused({ message: `${message}. Check the API key`, cause: error })
    case 404:
      return new WrongEndpoint({ message: `${message}. Check the URL: servers take uploads at /upload`, cause: error })
    default:
      return new GivenUp({ message, cause: error })
  }
}

/** Turns refusals that nobody caught before into what they mean. */
export const settled = <A, E>(
  effect: Effect.Effect<A, E | Refused>
): Effect.Effect<A, Exclude<E, Refused> | GivenUp | KeyRefused | WrongEndpoint> =>
  Effect.mapError(effect, (error) => isRefused(error) ? refusal(error) : error as Exclude<E, Refused>)

/**
 * Waits before the next try, and tells so. What a server refuses may concern this file alone, so another one is sent
 * meanwhile; when there is no connection, others would fail too.
 */
export const pause = (parts: Parts, file: BufferedFile): Retry.Pause => (error, delay) =>
  Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    yield* parts.emit(UploadEvent.Waiting({ file: file.id, path: file.path, reason: error.message, delay }))
    yield* Effect.ignore(
      parts.store.setTrouble(file.id, { reason: error.message, nextTry: Option.some(Math.ceil(now + delay)) })
    )
    const wait = Effect.sleep(delay)
    yield* error._tag === "Refused" ? parts.pace.aside(wait) : wait
  })

/** Tries until it succeeds, or fails for a reason that does not pass. */
export const persist = <A, E>(
  parts: Parts,
  file: BufferedFile,
  passes: (error: TransportError) => boolean,
  exchange: Effect.Effect<A, TransportError | E>,
  wait: Retry.Wait = Retry.patience(parts.retry, pause(parts, file)).wait
): Effect.Effect<A, TransportError | E | Retry.GaveUpWaiting> =>
  Retry.persist(exchange, (error): error is TransportError => isTransportError(error) && passes(error), wait)

/** The request for a range of a file, read from the buffer and checked against its hashes. */
export const outgoing = (
  parts: Parts,
  file: BufferedFile,
  [from, to]: Range,
  upload: Option.Option<Pick<ChunkUpload, "id" | "known">>,
  options?: ReadOptions
) =>
  Effect.map(parts.store.read(file.id, from, to, options), ({ bytes, isPrefix = false, sha256, whole }): Outgoing => ({
    endpoint: parts.endpoint,
    body: bytes,
    chunk: {
      index: file.firstIndex + Math.floor(from / file.chunkSize),
      fileName: Option.match(file.delivery, { onNone: () => file.name, onSome: ({ name }) => name }),
      contentDigest: isPrefix ? Option.none() : Option.some(sha256),
      upload: Option.map(upload, ({ id, known }) => ({
        id,
        known,
        offset: from,
        size: Option.some(file.size),
        prefixDigest: isPrefix ? Option.some(sha256) : Option.none(),
        sha256: to === file.size ? Option.orElse(file.sha256, () => Option.fromNullable(whole)) : Option.none()
      }))
    }
  }))

/** The hash of the whole file, which may have to be read for it. */
export const hashOf = ({ store }: Parts, { id, sha256, size }: BufferedFile) =>
  Option.match(sha256, {
    onSome: Effect.succeed,
    onNone: () =>
      Effect.flatMap(
        store.read(id, size, size),
        ({ whole }) =>
          whole === undefined ? Effect.dieMessage("the end of a file without its hash") : Effect.succeed(whole)
      )
  })

/** Progress, in bytes that a server has acknowledged. */
export const progress = (parts: Parts, file: BufferedFile, acknowledged: number) =>
  parts.emit(UploadEvent.Progress({ file: file.id, path: file.path, size: file.size, acknowledged }))

export type StopError = KeyRefused | WrongEndpoint | ApiKeyMissing
