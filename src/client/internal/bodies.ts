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

/** Keeps the memory of so many bodies at most. */
export const make = (most: number): Bodies => {
  const free: Array<Uint8Array> = []
  return {
    use: (bytes, exchange) =>
      Effect.suspend(() => {
        const at = free.findIndex(({ length }) => length >= bytes)
        const room = (at < 0 ? undefined : free.splice(at, 1)[0]) ?? new Uint8Array(bytes)
        return Effect.tap(exchange(room), () =>
          Effect.sync(() => {
            free.push(room)
            // the oldest, which is of the shortest when bodies grow
            if (free.length > most) free.shift()
          }))
      })
  }
}
