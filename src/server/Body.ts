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
import * as Flow from "./internal/flow.ts"

/** A body that is still to be read. A request, a value or anything iterable can be one. */
export interface Body {
  /** Bytes, when the request said so. */
  readonly length: Option.Option<number>
  /** The bytes, once. They throw when the connection breaks; or, as `TooLarge` and `TooSlow`, when the sender overdoes it. */
  readonly pieces: AsyncIterable<Uint8Array>
  /** How many bytes may be held before they are written. Default: 1 MiB. */
  readonly gather?: () => number
  /** What is said to be its hash, and looked at when its bytes are stored: on their way there they are not hashed. */
  readonly said?: Sha256.Sha256
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
  /** Of all of them; or what was {@link Body.said}. */
  readonly sha256: Sha256.Sha256
}

/** Bytes held before they are written, unless the body says otherwise. */
const gather = 1024 * 1024

/** How a body is consumed. */
export interface ConsumeOptions<E> {
  /** Bytes; one more and it fails with {@link BodyTooLong}, after at most `limit` of them were written. */
  readonly limit: number
  /** Takes pieces that belong together, from `at` on: bytes from the body's start. */
  readonly write: (pieces: ReadonlyArray<Uint8Array>, at: number) => Promise<void>
  /** Maps what `write` threw. */
  readonly onWriteError: (cause: unknown) => E
}

/** {@link consume} without a hash: each piece is passed on as it comes. Returns how many bytes there were. */
const drain = <E>(
  body: Body,
  options: ConsumeOptions<E>,
  pass: (piece: Uint8Array) => void
): Effect.Effect<number, ReadError | BodyTooLong | E> =>
  Effect.async((resume) => {
    let gathered: Array<Uint8Array> = []
    let gatheredBytes = 0
    /** Bytes that were handed to `write`. */
    let given = 0
    let writing: { readonly bytes: number; readonly ended: Promise<void> } | undefined
    let isShut = false
    let hasEnded = false
    let outcome: Effect.Effect<number, ReadError | BodyTooLong | E> | undefined

    const settle = (found: NonNullable<typeof outcome>) => {
      if (outcome !== undefined) return
      outcome = found
      valve.stop()
      if (writing === undefined) resume(found)
    }
    const write = () => {
      const [pieces, at, bytes] = [gathered, given, gatheredBytes]
      given += bytes
      gathered = []
      gatheredBytes = 0
      const ended = new Promise<void>((resolve) => resolve(options.write(pieces, at))).then(goOn, (cause: unknown) => {
        writing = undefined
        if (outcome === undefined) settle(Effect.fail(options.onWriteError(cause)))
        else resume(outcome)
      })
      writing = { bytes, ended }
    }
    const goOn = () => {
      writing = undefined
      if (outcome !== undefined) return resume(outcome)
      look()
    }
    /** What is to be done with what is held. */
    const look = () => {
      const most = body.gather?.() ?? gather
      if (writing === undefined && gatheredBytes > 0 && (hasEnded || 2 * gatheredBytes >= most)) write()
      if (hasEnded) return writing === undefined ? settle(whole()) : undefined
      const isFull = gatheredBytes + (writing?.bytes ?? 0) >= most
      if (isFull === isShut) return
      isShut = isFull
      if (isFull) valve.shut()
      else valve.open()
    }
    const whole = () =>
      Option.isSome(body.length) && body.length.value !== given
        ? new BodyCut({ message: `The body ended after ${given} of ${body.length.value} bytes` })
        : Effect.succeed(given)

    const valve = Flow.of(body.pieces).start({
      take: (piece) => {
        if (given + gatheredBytes + piece.length > options.limit) {
          return settle(
            new BodyTooLong({ limit: options.limit, message: `The body has more than ${options.limit} bytes` })
          )
        }
        pass(piece)
        gathered.push(piece)
        gatheredBytes += piece.length
        look()
      },
      end: (broken) => {
        if (broken !== undefined) return settle(Effect.fail(readError(broken.cause)))
        hasEnded = true
        look()
      }
    })
    return Effect.suspend(() => {
      valve.stop()
      outcome ??= Effect.interrupt
      return Effect.promise(() => writing?.ended ?? Promise.resolve())
    })
  })

/**
 * Takes a body to its end, hashing it unless its hash is said, and hands it to `write` in pieces together (`at` counts from the body's start): half
 * of what may be held is written while the other half is gathered, and when all of that is full, no more is read.
 *
 * It ends, and can be interrupted, only when the write under way has ended; `write` is not called again. A body that
 * stalls is left alone, it need not answer.
 */
export const consume = <E>(
  body: Body,
  options: ConsumeOptions<E>
): Effect.Effect<Consumed, ReadError | BodyTooLong | E> =>
  Effect.suspend(() => {
    const { said } = body
    if (said !== undefined) return Effect.map(drain(body, options, () => {}), (length) => ({ length, sha256: said }))
    const hasher = Sha256.make()
    return Effect.map(drain(body, options, hasher.update), (length) => ({ length, sha256: hasher.digest() }))
  })

/** A body that goes on behind the length it said counts as cut. */
const tooLongIsCut = <A>(effect: Effect.Effect<A, ReadError | BodyTooLong>): Effect.Effect<A, ReadError> =>
  Effect.catchTag(effect, "BodyTooLong", ({ message }) => Effect.fail(new BodyCut({ message })))

/** All of a body that has so many bytes. */
export const read = (body: Body, length: number): Effect.Effect<Uint8Array, ReadError> =>
  Effect.suspend(() => {
    const bytes = Buffer.allocUnsafeSlow(length)
    return drain(body, {
      limit: length,
      write: (pieces, at) => {
        for (const piece of pieces) {
          bytes.set(piece, at)
          at += piece.length
        }
        return Promise.resolve()
      },
      onWriteError: broken
    }, () => {}).pipe(Effect.as(bytes), tooLongIsCut)
  })

/** Hashes a body without keeping it. */
export const hash = (body: Body): Effect.Effect<Consumed, ReadError> =>
  consume(body, {
    limit: Option.getOrElse(body.length, () => Number.MAX_SAFE_INTEGER),
    write: () => Promise.resolve(),
    onWriteError: broken
  }).pipe(tooLongIsCut)
