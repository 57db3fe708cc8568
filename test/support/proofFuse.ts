/**
 * A process that can die at any call it makes. Once it is dead, nothing it calls has an effect any more.
 *
 * @module
 */
import { Effect } from "effect"

/** What is to go wrong at the so-manieth call from now on. */
export interface Fuse {
  readonly call: number
  /** The process dies before or after what was called; or the call fails. */
  readonly kind: "before" | "after" | "failure" | "full"
}

export interface FuseBox {
  /** A service all of whose methods are calls of this process, but for those named. */
  readonly guard: <S extends object>(service: S, ...spared: ReadonlyArray<string>) => S
  readonly light: (fuse: Fuse | undefined) => void
  readonly isAlive: () => boolean
  readonly kill: () => void
}

type Call = Effect.Effect<unknown, unknown>

export const make = (failure: (kind: Fuse["kind"]) => unknown): FuseBox => {
  let alive = true
  let fuse: Fuse | undefined
  const died = Effect.die("the process is dead")

  const call = (run: () => Call): Call =>
    Effect.suspend(() => {
      if (!alive) return died
      if (fuse === undefined || fuse.call > 1) {
        if (fuse !== undefined) fuse = { ...fuse, call: fuse.call - 1 }
        // a body that stalls may outlive the process
        return Effect.tap(run(), () => alive ? Effect.void : died)
      }
      const { kind } = fuse
      fuse = undefined
      if (kind === "failure" || kind === "full") return Effect.fail(failure(kind))
      if (kind === "before") {
        alive = false
        return died
      }
      return Effect.uninterruptible(Effect.zipRight(
        Effect.exit(run()),
        Effect.suspend(() => {
          alive = false
          return died
        })
      ))
    })

  return {
    guard: <S extends object>(service: S, ...spared: ReadonlyArray<string>) =>
      Object.fromEntries(
        Object.entries(service).map(([name, member]: [string, unknown]) => [
          name,
          spared.includes(name)
            ? member
            : Effect.isEffect(member)
            ? call(() => member as Call)
            : typeof member === "function"
            ? (...given: ReadonlyArray<unknown>) => call(() => member(...given) as Call)
            : member
        ])
      ) as S,
    light: (next) => {
      fuse = next
    },
    isAlive: () => alive,
    kill: () => {
      alive = false
    }
  }
}
