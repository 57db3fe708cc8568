/**
 * Cuts what stands still.
 *
 * @internal
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

/** What an exchange tells about itself. */
export interface Progress {
  /** A byte was moved. */
  readonly moved: () => void
  /** All was handed over: what of it still waits in buffers on the way may take as long as the rest has taken. */
  readonly handedOver: () => void
  /** A wait of our own, which is no standstill. */
  readonly held: <A, E, R>(wait: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
}

const looks = 8

/**
 * Runs something that may take as long as it likes, but is interrupted and fails when it does not move for this time, or
 * up to an eighth longer.
 *
 * Looks are counted and not the time between them, so that a process or a machine that slept does not find everything
 * standing still when it wakes up.
 */
export const guard = <A, E, R, E2>(
  timeout: Duration.Duration,
  stalled: () => E2,
  run: (progress: Progress) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | E2, R> =>
  Effect.suspend(() => {
    let moved = false
    let holding = 0
    let looked = 0
    let patience = looks
    const pause = Duration.millis(Math.ceil(Duration.toMillis(timeout) / looks))
    const watch = Effect.gen(function*() {
      for (let still = 0; still < patience; looked++) {
        yield* Effect.sleep(pause)
        still = moved || holding > 0 ? 0 : still + 1
        moved = false
      }
      return yield* Effect.fail(stalled())
    })
    return Effect.raceFirst(
      run({
        moved: () => {
          moved = true
        },
        handedOver: () => {
          patience = Math.max(looks, looked)
        },
        held: (wait) =>
          Effect.acquireUseRelease(
            Effect.sync(() => holding++),
            () => wait,
            () =>
              Effect.sync(() => {
                holding--
                moved = true
              })
          )
      }),
      watch
    )
  })
