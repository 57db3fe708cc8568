/**
 * A real disk whose calls on files can be held, told, and made to fail, one at a time.
 *
 * @module
 */
import { Effect } from "effect"
import * as Fs from "node:fs/promises"
import type { FileSystemCalls } from "../../src/testing/PowerCutDisk.ts"

type Call = "writev" | "datasync" | "truncate"

interface Held {
  /** Until the call is about to be made. */
  readonly reached: Effect.Effect<void>
  /** Lets it be made. */
  readonly go: Effect.Effect<void>
}

export interface SlowDisk {
  readonly calls: FileSystemCalls
  /** The calls that were made, in order. */
  readonly made: Array<Call>
  /** The next call of this kind waits. */
  readonly hold: (call: Call) => Held
  /** The next call of this kind fails with this code and does nothing. */
  readonly fail: (call: Call, code: string) => void
  /** Awaited before each call. */
  pause: (call: Call) => Promise<void>
}

const promise = () => {
  let resolve: () => void = () => {}
  const made = new Promise<void>((done) => {
    resolve = done
  })
  return { made, resolve }
}

export const make = (): SlowDisk => {
  const holds = new Map<Call, () => Promise<void>>()
  const step = async (call: Call) => {
    const hold = holds.get(call)
    holds.delete(call)
    await hold?.()
    await disk.pause(call)
    disk.made.push(call)
  }
  const slow = (handle: Fs.FileHandle): Fs.FileHandle =>
    new Proxy(handle, {
      get: (target, name) => {
        const member = Reflect.get(target, name, target) as unknown
        if (typeof member !== "function") return member
        if (name !== "writev" && name !== "datasync" && name !== "truncate") return member.bind(target) as unknown
        return async (...words: ReadonlyArray<unknown>) => {
          await step(name)
          return member.apply(target, words) as unknown
        }
      }
    })
  const disk: SlowDisk = {
    calls: { ...Fs, open: async (...words: Parameters<typeof Fs.open>) => slow(await Fs.open(...words)) },
    made: [],
    hold: (call) => {
      const reached = promise()
      const going = promise()
      holds.set(call, () => {
        reached.resolve()
        return going.made
      })
      return { reached: Effect.promise(() => reached.made), go: Effect.sync(going.resolve) }
    },
    fail: (call, code) => {
      holds.set(call, () => Promise.reject(Object.assign(new Error(code), { code })))
    },
    pause: () => Promise.resolve()
  }
  return disk
}
