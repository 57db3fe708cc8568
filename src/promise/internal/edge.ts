/**
 * Where Effects become Promises: one runtime for each object, which is made at its first use and ends when it is closed.
 *
 * @internal
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as LogLevel from "effect/LogLevel"
import * as ManagedRuntime from "effect/ManagedRuntime"
import { IndexCPError } from "../Errors.ts"
import * as Failure from "./failure.ts"

/** Work that goes on. */
export interface Running<A> {
  /** Rejects with an {@link IndexCPError}. */
  readonly done: Promise<A>
  /** Interrupts it, and resolves when it has ended. */
  readonly stop: () => Promise<void>
}

export interface Edge<R> {
  /** Starts work that keeps the process alive as long as it goes on. */
  readonly start: <A, E>(effect: Effect.Effect<A, E, R>) => Running<A>
  readonly run: <A, E>(effect: Effect.Effect<A, E, R>) => Promise<A>
  readonly isClosed: () => boolean
  /** Does this last, if there was any use, then stops what is still running and lets go of everything. */
  readonly close: (last?: Effect.Effect<void, never, R>) => Promise<void>
}

/** The longest that a timer can be set for. Milliseconds. */
const longest = 2 ** 31 - 1

/** Keeps the process alive until a promise has settled. */
const awaited = <A>(promise: Promise<A>): Promise<A> => {
  const timer = setInterval(() => {}, longest)
  return promise.finally(() => clearInterval(timer))
}

const live = Clock.make()

/** The clock of what goes on in the background, like heartbeats: a program that has nothing else to do ends all the same. */
const clock: Clock.Clock = {
  [Clock.ClockTypeId]: Clock.ClockTypeId,
  currentTimeMillis: live.currentTimeMillis,
  currentTimeNanos: live.currentTimeNanos,
  unsafeCurrentTimeMillis: () => live.unsafeCurrentTimeMillis(),
  unsafeCurrentTimeNanos: () => live.unsafeCurrentTimeNanos(),
  sleep: (duration) =>
    Effect.async((resume) => {
      const millis = Duration.toMillis(duration)
      if (millis > longest) return
      const timer = setTimeout(() => resume(Effect.void), millis)
      timer.unref()
      return Effect.sync(() => clearTimeout(timer))
    })
}

/** Errors with their stacks and what is behind them, which the logger would leave out. */
const logger = Logger.mapInput(
  Logger.logfmtLogger,
  (message: unknown) =>
    Arr.ensure(message).map((part) =>
      part instanceof Error ? Cause.pretty(Cause.fail(part), { renderErrorCause: true }) : part
    )
)

/** Warnings and errors go to stderr. */
export const surroundings = Layer.mergeAll(
  Layer.setClock(clock),
  Logger.replace(Logger.defaultLogger, Logger.withConsoleError(logger)),
  Logger.minimumLogLevel(LogLevel.Warning)
)

export const closed = (): IndexCPError => new IndexCPError({ code: "CLOSED", message: "It was closed; make a new one" })

export const make = <R, E>(layer: Layer.Layer<R, E>): Edge<R> => {
  let runtime: ManagedRuntime.ManagedRuntime<R, E> | undefined
  let closing: Promise<void> | undefined
  const running = new Set<Fiber.RuntimeFiber<unknown, unknown>>()

  /** What could not be made is made anew when it is asked for again. */
  const open = Effect.suspend(() => {
    const made = runtime ??= ManagedRuntime.make(Layer.provide(layer, surroundings))
    return Effect.tapErrorCause(made.runtimeEffect, () => {
      if (runtime === made) runtime = undefined
      return made.disposeEffect
    })
  })

  const fork = <A, E2>(effect: Effect.Effect<A, E2, R>): Fiber.RuntimeFiber<A, E | E2> =>
    Effect.runFork(Effect.flatMap(open, (runtime) => Effect.provide(effect, runtime)))

  const start = <A, E2>(effect: Effect.Effect<A, E2, R>): Running<A> => {
    const fiber: Fiber.RuntimeFiber<A, unknown> = closing === undefined
      ? fork(effect)
      : Effect.runFork(Effect.failSync(closed))
    running.add(fiber)
    const ended = Effect.runPromise(Fiber.await(fiber)).then((exit) => {
      running.delete(fiber)
      if (Exit.isFailure(exit)) throw Failure.ofCause(exit.cause)
      return exit.value
    })
    return { done: awaited(ended), stop: () => awaited(Effect.runPromise(Effect.asVoid(Fiber.interrupt(fiber)))) }
  }

  const end = async (last: Effect.Effect<void, never, R>) => {
    if (runtime === undefined) return
    await Effect.runPromise(Fiber.await(fork(last)))
    await Effect.runPromise(Fiber.interruptAll(running))
    await runtime?.dispose()
  }

  return {
    start,
    run: (effect) => start(effect).done,
    isClosed: () => closing !== undefined,
    close: (last = Effect.void) => closing ??= awaited(end(last))
  }
}
