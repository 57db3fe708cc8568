/**
 * Spans, only where a tracer keeps them: Effect's own makes each one and drops it.
 *
 * @internal
 */
import * as Context from "effect/Context"
import * as DefaultServices from "effect/DefaultServices"
import * as Effect from "effect/Effect"
import * as Tracer from "effect/Tracer"

const own = Context.get(DefaultServices.liveServices, Tracer.Tracer)

/** Whether anybody keeps spans. */
export const areKept: Effect.Effect<boolean> = Effect.map(Effect.tracer, (tracer) => tracer !== own)

/** In a span of this name, if spans are kept. */
export const within = <A, E, R>(
  name: string,
  effect: Effect.Effect<A, E, R>,
  attributes: Readonly<Record<string, unknown>> = {}
): Effect.Effect<A, E, R> =>
  Effect.tracerWith((tracer) => tracer === own ? effect : Effect.withSpan(effect, name, { attributes }))
