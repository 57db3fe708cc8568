/**
 * A request's body on its only way: from the socket, past the hash, to wherever it is written.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { TooLarge, TooSlow } from "../protocol/ProtocolError.ts"
import * as Sha256 from "../protocol/Sha256.ts"

/** A body that is still to be read. A request, a value or anything iterable can be one. */
export interface Body {
  /** Bytes, when the request said so. */
  readonly length: Option.Option<number>
  /** The bytes, once. They throw when the connection breaks; or, as `TooLarge` and `TooSlow`, when the sender overdoes it. */
  readonly pieces: AsyncIterable<Uint8Array>
  /** How many bytes may be held before they are written. Default: 1 MiB. */
  readonly gather?: () => number
}

/** The body of a value at hand. */
export const of = (...pieces: ReadonlyArray<Uint8Array>): Body => ({
  length: Option.some(pieces.reduce((sum, piece) => sum + piece.length, 0)),
  // oxlint-disable-next-line require-await -- an async iterable is what a body is
  pieces: (async function*() {
    yield* pieces
  })()
})

/** A body whose length is unknown, its first bytes awaited: an empty one is known to be empty from then on. */
export const peek = (body: Body): Effect.Effect<Body, ReadError> =>
  Effect.suspend(() => {
    const iterator = body.pieces[Symbol.asyncIterator]()
    return Effect.map(Effect.tryPromise({ try: () => iterator.next(), catch: readError }), (first) =>
      first.done === true ? of() : {
        ...body,
        pieces: (async function*() {
          yield first.value
          yield* {
            [Symbol.asyncIterator]: () =>
              iterator
          }
        })()
      })
  })

/** The connection broke, or the body was shorter than its length: nobody is left to answer. */
export class BodyCut extends Schema.TaggedError<BodyCut>("indexedcp/BodyCut")("BodyCut", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect)
}) {}

const broken = (cause: unknown) => new BodyCut({ message: "The connection broke while the body was sent", cause })

/** Why a body could not be read to its end. */
export type ReadError = BodyCut | TooSlow | TooLarge

const readError = (cause: unknown): ReadError =>
  cause instanceof BodyCut || cause instanceof TooSlow || cause instanceof TooLarge ? cause : broken(cause)

/** The body goes on after the bytes it may have. */
export class BodyTooLong extends Schema.TaggedError<BodyTooLong>("indexedcp/BodyTooLong")("BodyTooLong", {
  limit: Schema.Number,
  message: Schema.String
}) {}

/** What became of a body. */
export interface Consumed {
  /** Bytes. */
  readonly length: number
  /** Of all of them. */
  readonly sha256: Sha256.Sha256
}

/** Bytes gathered before they are written at once, unless the body says otherwise. */
const gather = 1024 * 1024

class WriteFailure {
  readonly cause: unknown
  constructor(cause: unknown) {
    this.cause = cause
  }
}

/**
 * Takes a body to its end, hashing it, and hands it to `write` about 1 MiB at a time (`at` counts from the body's start).
 *
 * Interrupted, it waits only for the write under way: when it has ended, `write` is not called again. A body that stalls
 * is left alone, it need not answer.
 */
export const consume = <E>(body: Body, options: {
  /** Bytes; one more and it fails with {@link BodyTooLong}, after at most `limit` of them were written. */
  readonly limit: number
  readonly write: (pieces: ReadonlyArray<Uint8Array>, at: number) => Promise<void>
  /** Maps what `write` threw. */
  readonly onWriteError: (cause: unknown) => E
}): Effect.Effect<Consumed, ReadError | BodyTooLong | E> =>
  Effect.suspend(() => {
    let ended: Promise<unknown> = Promise.resolve()
    const run = async (signal: AbortSignal): Promise<Consumed> => {
      const hasher = Sha256.make()
      const stopped = new Promise<never>((_, reject) =>
        signal.addEventListener("abort", () => reject(new BodyCut({ message: "stopped" })), { once: true })
      )
      stopped.catch(() => {})
      const iterator = body.pieces[Symbol.asyncIterator]()
      let held: Array<Uint8Array> = []
      let heldBytes = 0
      let written = 0
      const flush = async () => {
        const pieces = held
        const at = written
        written += heldBytes
        held = []
        heldBytes = 0
        try {
          await options.write(pieces, at)
        } catch (cause) {
          throw new WriteFailure(cause)
        }
      }
      for (;;) {
        const next = await Promise.race([iterator.next(), stopped])
        if (next.done === true) break
        if (written + heldBytes + next.value.length > options.limit) {
          throw new BodyTooLong({ limit: options.limit, message: `The body has more than ${options.limit} bytes` })
        }
        hasher.update(next.value)
        held.push(next.value)
        heldBytes += next.value.length
        if (heldBytes >= (body.gather?.() ?? gather)) await flush()
        if (signal.aborted) await stopped
      }
      if (heldBytes > 0) await flush()
      if (Option.isSome(body.length) && body.length.value !== written) {
        throw new BodyCut({ message: `The body ended after ${written} of ${body.length.value} bytes` })
      }
      return { length: written, sha256: hasher.digest() }
    }
    return Effect.tryPromise({
      try: (signal) => {
        const running = run(signal)
        ended = running.catch(() => {})
        return running
      },
      catch: (cause) =>
        cause instanceof WriteFailure
          ? options.onWriteError(cause.cause)
          : cause instanceof BodyTooLong
          ? cause
          : readError(cause)
    }).pipe(Effect.onInterrupt(() => Effect.promise(() => ended)))
  })

/** Hashes a body without keeping it. */
export const hash = (body: Body): Effect.Effect<Consumed, ReadError> =>
  consume(body, {
    limit: Option.getOrElse(body.length, () => Number.MAX_SAFE_INTEGER),
    write: () => Promise.resolve(),
    onWriteError: broken
  }).pipe(Effect.catchTag("BodyTooLong", ({ message }) => Effect.fail(new BodyCut({ message }))))
