/**
 * Lets requests through until it is closed, and then waits for those that are on their way.
 *
 * @internal
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

export interface Gate {
  readonly through: <E, R>(app: HttpApp.Default<E, R>) => HttpApp.Default<E, R>
  /** Waits no longer than that. */
  readonly close: (patience: Duration.DurationInput) => Effect.Effect<void>
}

/** What a closed server says. */
export const closed = { error: "Busy", message: "The server is closed; try again later" }

const refused = HttpServerResponse.unsafeJson(closed, { status: 503, headers: { "retry-after": "5" } })

export const make = (): Gate => {
  let isOpen = true
  let inFlight = 0
  const idle = Effect.unsafeMakeLatch(true)
  const left = Effect.sync(() => {
    if (--inFlight === 0) idle.unsafeOpen()
  })
  return {
    through: <E, R>(app: HttpApp.Default<E, R>): HttpApp.Default<E, R> =>
      Effect.suspend((): HttpApp.Default<E, R> => {
        if (!isOpen) return Effect.succeed(refused)
        if (inFlight++ === 0) idle.unsafeClose()
        return Effect.ensuring(app, left)
      }),
    close: (patience) =>
      Effect.suspend(() => {
        isOpen = false
        return Effect.ignore(Effect.timeout(idle.await, patience))
      })
  }
}
