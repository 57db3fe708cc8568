/**
 * A bad network over any transport: requests that are dropped, cut, damaged, repeated, delayed or late, and answers that are
 * lost.
 *
 * What the caller is told is what a real network would tell: `Unreachable` when nothing was sent, `NoAnswer` when the
 * server may have got something, else the server's own answer. Chance comes from Effect's `Random`, time from its `Clock`,
 * so a test repeats what it saw.
 *
 * @example
 * ```ts
 * const network = TransportFaulty.layer({ dropped: 0.1, cut: 0.1, answerLost: 0.1 }).pipe(
 *   Layer.provide(TransportInProcess.layer())
 * )
 * program.pipe(Effect.provide(network), Effect.withRandom(Random.make("seed 7")))
 * ```
 *
 * @module
 */
import type * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import {
  NoAnswer,
  type Outgoing,
  type OutgoingBatch,
  Transport,
  type TransportError,
  Unreachable
} from "../client/Transport.ts"
import * as UploadBatch from "../protocol/UploadBatch.ts"
import * as TransportInProcess from "./TransportInProcess.ts"

/** One thing that goes wrong with one exchange. `at` is a place in the body, from 0 to below 1. */
export type Fault = Data.TaggedEnum<{
  /** Nothing is sent: `Unreachable`. */
  Dropped: {}
  /**
   * The connection breaks within the body: `NoAnswer`. A transport that is not the in-process one delivers the body whole,
   * and its answer is lost.
   */
  Cut: { readonly at: number }
  /** One bit of the body arrives as the other one. */
  Flipped: { readonly at: number }
  /** The request arrives twice, one after the other; the second answer counts. */
  Repeated: {}
  /** The server answers, and the answer is lost: `NoAnswer`. */
  AnswerLost: {}
  /** The request waits on its way. */
  Delayed: { readonly by: Duration.DurationInput }
  /** `NoAnswer` at once; the request arrives all the same, later than what is sent meanwhile. */
  Late: { readonly by: Duration.DurationInput }
}>

const faults = Data.taggedEnum<Fault>()

/** The server answers, and the answer is lost. */
export const AnswerLost = faults.AnswerLost

/** The connection breaks within the body. */
export const Cut = faults.Cut

/** The request waits on its way. */
export const Delayed = faults.Delayed

/** Nothing is sent. */
export const Dropped = faults.Dropped

/** One bit of the body arrives as the other one. */
export const Flipped = faults.Flipped

/** The request arrives when its sender has long been told that there is no answer. */
export const Late = faults.Late

/** The request arrives twice. */
export const Repeated = faults.Repeated

/** How likely each fault is, from 0 to 1; together at most 1. What is not named does not happen. */
export interface Odds {
  readonly dropped: number
  readonly cut: number
  readonly flipped: number
  readonly repeated: number
  readonly answerLost: number
  readonly delayed: number
  readonly late: number
  /** The longest delay. Default 1 minute. */
  readonly longest: Duration.DurationInput
}

/** What is about to be exchanged. */
export type Exchange = "send" | "batch" | "state" | "abort"

const flip = (body: Uint8Array, at: number): Uint8Array => {
  const flipped = body.slice()
  const bit = Math.floor(at * body.length * 8)
  if (flipped.length > 0) flipped[bit >> 3]! ^= 1 << (bit & 7)
  return flipped
}

const lost = new NoAnswer({ message: "The answer was lost on the way" })

/** Asks for the fault of each exchange, in the order they begin. */
export const layerFrom = (
  choose: (exchange: Exchange) => Effect.Effect<Option.Option<Fault>>
): Layer.Layer<Transport, never, Transport> =>
  Layer.scoped(
    Transport,
    Effect.gen(function*() {
      const over = yield* Transport
      const scope = yield* Effect.scope

      /** `deliver` is one delivery; what concerns bodies alone has been dealt with. */
      const through = <A>(
        deliver: Effect.Effect<A, TransportError>,
        fault: Fault
      ): Effect.Effect<A, TransportError> => {
        switch (fault._tag) {
          case "Dropped":
            return Effect.fail(new Unreachable({ message: "The request was dropped on its way" }))
          case "Repeated":
            return Effect.andThen(Effect.exit(deliver), deliver)
          case "AnswerLost":
            return Effect.andThen(Effect.exit(deliver), lost)
          case "Delayed":
            return Effect.delay(deliver, fault.by)
          case "Late":
            return Effect.exit(Effect.delay(deliver, fault.by)).pipe(Effect.forkIn(scope), Effect.andThen(lost))
          case "Cut":
          case "Flipped":
            return deliver
        }
      }

      const breaking = <A>(exchange: Effect.Effect<A, TransportError>, after: number) =>
        Effect.andThen(
          Effect.exit(Effect.provideService(exchange, TransportInProcess.BreaksAfter, Math.floor(after))),
          new NoAnswer({ message: "The connection broke while the body was sent" })
        )

      const send = (out: Outgoing, fault: Fault): ReturnType<Context.Tag.Service<Transport>["send"]> =>
        fault._tag === "Cut"
          ? breaking(over.send(out), fault.at * out.body.length)
          : through(over.send(fault._tag === "Flipped" ? { ...out, body: flip(out.body, fault.at) } : out), fault)

      /** A bit of the first file that has any is the other one. */
      const sendBatch = (
        batch: OutgoingBatch,
        fault: Fault
      ): ReturnType<Context.Tag.Service<Transport>["sendBatch"]> => {
        if (fault._tag === "Cut") {
          return breaking(over.sendBatch(batch), fault.at * UploadBatch.toBody(batch.files).length)
        }
        const struck = fault._tag === "Flipped" ? batch.files.findIndex(({ size }) => size > 0) : -1
        const files = batch.files.map((file, at) =>
          at === struck && fault._tag === "Flipped" ? { ...file, bytes: flip(file.bytes, fault.at) } : file
        )
        return through(over.sendBatch({ ...batch, files }), fault)
      }

      const faulty = <A>(
        exchange: Exchange,
        well: Effect.Effect<A, TransportError>,
        badly: (fault: Fault) => Effect.Effect<A, TransportError>
      ) => Effect.flatMap(choose(exchange), Option.match({ onNone: () => well, onSome: badly }))

      return Transport.of({
        send: (out) => faulty("send", over.send(out), (fault) => send(out, fault)),
        sendBatch: (batch) => faulty("batch", over.sendBatch(batch), (fault) => sendBatch(batch, fault)),
        state: (...of) => faulty("state", over.state(...of), (fault) => through(over.state(...of), fault)),
        abort: (...of) => faulty("abort", over.abort(...of), (fault) => through(over.abort(...of), fault))
      })
    })
  )

/** Draws a fault by its odds; `None` when all goes well. */
export const draw = (odds: Partial<Odds>): Effect.Effect<Option.Option<Fault>> =>
  Effect.gen(function*() {
    const at = yield* Random.next
    const by = Duration.times(odds.longest ?? "1 minute", yield* Random.next)
    const faults: ReadonlyArray<readonly [number | undefined, Fault]> = [
      [odds.dropped, Dropped()],
      [odds.cut, Cut({ at })],
      [odds.flipped, Flipped({ at })],
      [odds.repeated, Repeated()],
      [odds.answerLost, AnswerLost()],
      [odds.delayed, Delayed({ by })],
      [odds.late, Late({ by })]
    ]
    let left = yield* Random.next
    for (const [probability = 0, fault] of faults) {
      left -= probability
      if (left < 0) return Option.some(fault)
    }
    return Option.none()
  })

/** Faults by chance. */
export const layer = (odds: Partial<Odds>): Layer.Layer<Transport, never, Transport> => layerFrom(() => draw(odds))

/** Faults by plan: one entry an exchange, `undefined` where all goes well, as it does when the plan has ended. */
export const layerPlan = (plan: Iterable<Fault | undefined>): Layer.Layer<Transport, never, Transport> =>
  Layer.unwrapEffect(Effect.sync(() => {
    const left = plan[Symbol.iterator]()
    return layerFrom(() => Effect.sync(() => Option.fromNullable(left.next().value as Fault | undefined)))
  }))
