/**
 * The memory of bodies, used again: fresh memory for each makes the collector the busiest part of a fast upload.
 *
 * @internal
 */
import * as Effect from "effect/Effect"

export interface Bodies {
  /**
   * Runs an exchange with room for so many bytes. It serves the next one only when this one succeeds: otherwise something on
   * the way may still read it, or write to it.
   */
  readonly use: <A, E, R>(
    bytes: number,
    exchange: (into: Uint8Array) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E, R>
}

/** All have room for so many bytes at least: memory that nobody has written to costs nothing, and bodies grow. */
export const make = (largest: number): Bodies => {
  /** What no exchange has in hand: never more than were under way at once. */
  const free: Array<Uint8Array> = []
  return {
    use: (bytes, exchange) =>
      Effect.suspend(() => {
        const last = free.pop()
        const room = last !== undefined && last.length >= bytes ? last : new Uint8Array(Math.max(bytes, largest))
        return Effect.tap(exchange(room), () => Effect.sync(() => void free.push(room)))
      })
  }
}
