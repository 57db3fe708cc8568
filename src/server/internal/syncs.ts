/**
 * What a sync of a part file proves.
 *
 * fsync(2): the kernel reports that it could not write pages back once, to the first sync after it, and may have dropped
 * those pages as if they were written ("fsyncgate", PostgreSQL 2018; Linux, fs/ext4 and mm/filemap). So a sync that
 * succeeds after one that failed says nothing of bytes that were written before the failure, be they of that request, of
 * another one in the batch, or of one whose body is still coming. They are acknowledged by no later sync: whoever waits
 * for them fails, and the client sends them again, which writes them again.
 *
 * (A folder is another matter: its entries go through the file system's journal, which stops for good at such an error.)
 *
 * @internal
 */
import type * as Fs from "node:fs/promises"
import type { Extent, UploadKey } from "../UploadStore.ts"
import type { Disk } from "./disk.ts"

export const make = (disk: Disk) => {
  /** How many syncs of a part file have failed, where any has, and with what the last one did. */
  const failures = new Map<UploadKey, { readonly count: number; readonly cause: unknown }>()
  /** How many had when the first byte of an extent was written, where any had. */
  const begun = new WeakMap<Extent, number>()
  const synced = new Set<UploadKey>()
  const failed = (key: UploadKey) => failures.get(key)?.count ?? 0

  return {
    /** Called before the first byte is written; what it returns is told which extent that made. */
    begin: (key: UploadKey) => {
      const before = failed(key)
      return (extent: Extent): Extent => {
        if (before > 0) begun.set(extent, before)
        return extent
      }
    },

    /** With what a sync has failed since the first byte of the extent was written, if one has. */
    failureSince: (key: UploadKey, extent: Extent): { readonly cause: unknown } | undefined =>
      (begun.get(extent) ?? 0) < failed(key) ? failures.get(key) : undefined,

    sync: async (key: UploadKey, handle: Fs.FileHandle): Promise<void> => {
      try {
        await disk.syncFile(handle)
        synced.add(key)
      } catch (cause) {
        failures.set(key, { count: failed(key) + 1, cause })
        throw cause
      }
    },

    /** Whether this process has synced it: what a process before it did may not have become durable. */
    isSynced: (key: UploadKey): boolean => synced.has(key),

    forget: (key: UploadKey): void => {
      failures.delete(key)
      synced.delete(key)
    }
  }
}
