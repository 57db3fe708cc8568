/**
 * Group commit over a disk that fails: nobody is told 200 for bytes that a failed sync may have lost, and all are answered.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, LogLevel } from "effect"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { refusal, send1, send2, shown, state } from "../support/rawReceiver.ts"
import * as RawSlowDisk from "../support/rawSlowDisk.ts"

const make = Effect.gen(function*() {
  const disk = RawSlowDisk.make()
  const folder = yield* RawFiles.temporaryFolder
  const context = yield* Layer.build(
    Receiver.layer().pipe(
      Layer.provide(UploadLedger.layerMemory),
      Layer.provide(UploadStoreFileSystem.layer({ outputDir: folder, calls: disk.calls })),
      Layer.provide(FilenameGenerator.layer),
      Layer.provideMerge(RawFiles.layer(folder))
    )
  )
  return { disk, run: Effect.provide(context) }
})

/** An answer must come, be it an error: who is forgotten would wait for ever. */
const soon = Effect.timeoutFail({ duration: "3 seconds", onTimeout: () => ({ status: "no answer" as const }) })

describe("a sync that fails", () => {
  it.scopedLive("is answered 500 or 507, once for each who waits, and the chunks are taken when they come again", () =>
    Effect.gen(function*() {
      const { disk, run } = yield* make
      yield* run(
        Effect.gen(function*() {
          for (const [code, status] of [["EIO", 500], ["ENOSPC", 507]] as const) {
            disk.fail("datasync", code)
            expect(yield* soon(refusal(send1(0, "abc", { name: code })))).toBe(status)
            expect(yield* soon(send1(0, "abc", { name: code }))).toMatchObject({ actualFilename: code })
          }
        }).pipe(Logger.withMinimumLogLevel(LogLevel.None))
      )
    }))

  for (const [code, status] of [["EIO", 500], ["ENOSPC", 507]] as const) {
    it.scopedLive(`fails all of the batch, whose bytes no later sync makes good of: ${code}`, () =>
      Effect.gen(function*() {
        const { disk, run } = yield* make
        yield* run(
          Effect.gen(function*() {
            yield* send2(0, "", { size: 12 })
            const held = disk.hold("datasync")
            yield* Effect.addFinalizer(() => held.go)
            const first = yield* Effect.fork(send2(0, "abcd"))
            yield* held.reached
            // they gather while the first is being synced
            const others = yield* Effect.fork(
              Effect.forEach([4, 8], (offset) => soon(refusal(send2(offset, "efgh"))), { concurrency: "unbounded" })
            )
            yield* Effect.sleep("50 millis")
            disk.fail("datasync", code)
            yield* held.go
            yield* Fiber.join(first)
            expect(yield* Fiber.join(others)).toEqual([status, status])
            expect(yield* state()).toMatchObject({ missing: [[4, 12]] })
            yield* send2(4, "efgh")
            expect(yield* send2(8, "ijkl")).toMatchObject({ complete: true })
            expect(yield* shown("a.txt")).toBe("abcdefghijkl")
          }).pipe(Logger.withMinimumLogLevel(LogLevel.None))
        )
      }))
  }
})
