/**
 * Part files that are open: one handle a file, shared by all that use it at once, and kept open a little longer.
 *
 * @internal
 */
import type * as Fs from "node:fs/promises"

interface Open {
  readonly handle: Promise<Fs.FileHandle>
  users: number
  /** No longer the file of its name: closed when its last user has gone. */
  isStale: boolean
  timer: ReturnType<typeof setTimeout> | undefined
}

/** What a user of a file holds until it calls `release`. */
export interface Held {
  readonly handle: Fs.FileHandle
  readonly release: () => Promise<void>
}

export interface Handles<Key> {
  readonly acquire: (key: Key) => Promise<Held>
  /** The file is gone: its handle is closed as soon as nobody uses it. */
  readonly forget: (key: Key) => Promise<void>
  readonly closeAll: () => Promise<void>
}

/** `idle` is the milliseconds for which a file stays open that nobody uses. */
export const make = <Key>(open: (key: Key) => Promise<Fs.FileHandle>, idle: number): Handles<Key> => {
  const all = new Map<Key, Open>()

  const close = async (opened: Open) => {
    clearTimeout(opened.timer)
    await (await opened.handle).close()
  }
  const retire = async (key: Key, opened: Open) => {
    if (all.get(key) === opened) all.delete(key)
    opened.isStale = true
    if (opened.users === 0) await close(opened)
  }
  const release = async (key: Key, opened: Open) => {
    opened.users--
    if (opened.users > 0) return
    if (opened.isStale) return close(opened)
    opened.timer = setTimeout(() => void retire(key, opened).catch(() => {}), idle)
    opened.timer.unref()
  }

  return {
    acquire: async (key) => {
      let opened = all.get(key)
      if (opened === undefined) {
        opened = { handle: open(key), users: 0, isStale: false, timer: undefined }
        all.set(key, opened)
      }
      const mine = opened
      mine.users++
      clearTimeout(mine.timer)
      try {
        const handle = await mine.handle
        return { handle, release: () => release(key, mine) }
      } catch (cause) {
        if (all.get(key) === mine) all.delete(key)
        throw cause
      }
    },
    forget: async (key) => {
      const opened = all.get(key)
      if (opened !== undefined) await retire(key, opened)
    },
    closeAll: async () => {
      await Promise.all([...all].map(([key, opened]) => retire(key, opened)))
    }
  }
}
