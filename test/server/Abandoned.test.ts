/**
 * Requests whose clients are gone: what they have begun has ended before anybody else writes the same bytes.
 */
import { describe, expect, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Logger, LogLevel, Option, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as Body from "../../src/server/Body.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import type { MemoryFiles } from "../../src/server/UploadStore.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import { stalled } from "../contract/UploadStore.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { authorized, eventually, leave, request, running } from "../support/rawHttp.ts"
import { send1, send2, shown } from "../support/rawReceiver.ts"
import * as RawSlowDisk from "../support/rawSlowDisk.ts"

type Ledger = UploadLedger.UploadLedger["Type"]

/** A receiver on a folder, and its disk and ledger, which can be held. */
const make = Effect.gen(function*() {
  const disk = RawSlowDisk.make()
  const folder = yield* RawFiles.temporaryFolder
  const before: { commit: Effect.Effect<void> } = { commit: Effect.void }
  const after: { commit: Effect.Effect<void>; claim: Effect.Effect<void> } = { commit: Effect.void, claim: Effect.void }
  const ledger = Layer.effect(
    UploadLedger.UploadLedger,
    Effect.map(UploadLedger.UploadLedger, (ledger): Ledger => ({
      ...ledger,
      claim: (...of) => Effect.zipLeft(ledger.claim(...of), Effect.suspend(() => after.claim)),
      commit: (many) =>
        Effect.suspend(() => before.commit).pipe(
          Effect.andThen(ledger.commit(many)),
          Effect.zipLeft(Effect.suspend(() => after.commit))
        )
    }))
  ).pipe(Layer.provide(UploadLedger.layerMemory))
  const context = yield* Layer.build(
    Receiver.layer().pipe(
      Layer.provide(ledger),
      Layer.provide(UploadStoreFileSystem.layer({ outputDir: folder, calls: disk.calls })),
      Layer.provide(FilenameGenerator.layer),
      Layer.provideMerge(RawFiles.layer(folder))
    )
  )
  const run = <A, E>(effect: Effect.Effect<A, E, Receiver.Receiver | MemoryFiles | Scope.Scope>) =>
    Effect.provide(effect, context).pipe(Logger.withMinimumLogLevel(LogLevel.Error))
  return { disk, before, after, run }
})

const aWhile = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 30)))

/** Where a request is when its client leaves. */
const hold = (
  { after, before, disk }: Effect.Effect.Success<typeof make>,
  where: "writev" | "datasync" | "before the commit" | "after the commit" | "after the claim"
) =>
  Effect.gen(function*() {
    if (where === "writev" || where === "datasync") {
      const held = disk.hold(where)
      // also when the test fails: else its scope never closes
      yield* Effect.addFinalizer(() => held.go)
      return held
    }
    const reached = yield* Deferred.make<void>()
    const go = yield* Deferred.make<void>()
    const wait = (reset: () => void) =>
      Effect.suspend(() => {
        reset()
        return Effect.andThen(Deferred.succeed(reached, undefined), Deferred.await(go))
      })
    if (where === "after the claim") {
      after.claim = wait(() => {
        after.claim = Effect.void
      })
    } else {
      const at = where === "before the commit" ? before : after
      at.commit = wait(() => {
        at.commit = Effect.void
      })
    }
    yield* Effect.addFinalizer(() => Deferred.succeed(go, undefined))
    return { reached: Deferred.await(reached), go: Deferred.succeed(go, undefined) }
  })

const places = ["writev", "datasync", "before the commit", "after the commit"] as const

describe("an abandoned request", () => {
  for (const where of places) {
    for (const revision of [1, 2] as const) {
      for (const index of [0, 1]) {
        it.scopedLive(`has ended before its bytes come again: revision ${revision}, chunk ${index}, ${where}`, () =>
          Effect.gen(function*() {
            const made = yield* make
            const send = (index: number, body: string | Body.Body) =>
              revision === 1
                ? Effect.asVoid(send1(index, body))
                : Effect.asVoid(send2(index * 4, body, { size: 12 }))
            yield* made.run(Effect.gen(function*() {
              if (index === 1) yield* send(0, "abcd")
              const held = yield* hold(made, where)
              // bytes that were committed are compared with what comes again; others are written anew
              const isCommitted = where === "after the commit"
              const older = yield* Effect.fork(send(index, isCommitted ? "efgh" : "OLD!"))
              yield* held.reached
              yield* Fiber.interruptFork(older)
              yield* Effect.yieldNow()
              const calls = made.disk.made.length
              const newer = yield* Effect.fork(send(index, "efgh"))
              yield* aWhile
              expect(made.disk.made.slice(calls)).toEqual([])
              yield* held.go
              yield* Fiber.join(newer)
              yield* Fiber.await(older)
              if (index === 0) yield* send(1, "IJKL")
              yield* send(2, "mnop")
              const all = index === 0 ? "efghIJKLmnop" : "abcdefghmnop"
              expect(yield* shown("a.txt")).toBe(all)
            }))
          }))
      }
    }
  }

  it.scopedLive("is waited for even when the request that took over from it was abandoned before it began", () =>
    Effect.gen(function*() {
      const made = yield* make
      yield* made.run(Effect.gen(function*() {
        const writing = yield* hold(made, "writev")
        const oldest = yield* Effect.fork(send2(0, "OLD!", { size: 4 }))
        yield* writing.reached
        const claiming = yield* hold(made, "after the claim")
        const older = yield* Effect.fork(send2(0, "old?", { size: 4 }))
        yield* claiming.reached
        yield* Fiber.interruptFork(older)
        yield* claiming.go
        const newest = yield* Effect.fork(send2(0, "abcd", { size: 4 }))
        yield* aWhile
        expect(made.disk.made).toEqual([])
        yield* writing.go
        yield* Fiber.join(newest)
        yield* Effect.all([Fiber.await(oldest), Fiber.await(older)])
        expect(yield* shown("a.txt")).toBe("abcd")
      }))
    }))

  it.scopedLive("does not undo a new version that it has committed", () =>
    Effect.gen(function*() {
      const made = yield* make
      yield* made.run(Effect.gen(function*() {
        yield* send1(0, "old")
        const held = yield* hold(made, "after the commit")
        const older = yield* Effect.fork(send1(0, "new"))
        yield* held.reached
        yield* Fiber.interruptFork(older)
        const newer = yield* Effect.fork(send1(0, "new"))
        yield* aWhile
        yield* held.go
        expect(yield* Fiber.join(newer)).toMatchObject({ actualFilename: "a (1).txt" })
        yield* Fiber.await(older)
        expect(yield* send1(1, ", more")).toMatchObject({ actualFilename: "a (1).txt" })
        expect([yield* shown("a.txt"), yield* shown("a (1).txt")]).toEqual(["old", "new, more"])
      }))
    }))

  it.scopedLive("shows the file that its chunk completed, though nobody asks again", () =>
    Effect.gen(function*() {
      const made = yield* make
      yield* made.run(Effect.gen(function*() {
        const held = yield* hold(made, "after the commit")
        const sent = yield* Effect.fork(send2(0, "abcd", { size: 4 }))
        yield* held.reached
        yield* Fiber.interruptFork(sent)
        yield* held.go
        yield* Fiber.await(sent)
        yield* aWhile
        expect(yield* shown("a.txt")).toBe("abcd")
      }))
    }))

  it.scopedLive("is taken over within 250 ms when it only hangs", () =>
    Effect.gen(function*() {
      const made = yield* make
      yield* made.run(Effect.gen(function*() {
        for (const send of [send1, send2]) {
          const { body, reached } = yield* stalled(new TextEncoder().encode("wx"))
          const hanging = yield* Effect.fork(send(0, { ...body, length: Option.some(4) }))
          yield* reached
          const [time] = yield* Effect.timed(send(0, "abcd"))
          expect(Duration.toMillis(time)).toBeLessThan(250)
          expect(yield* Effect.flip(Fiber.join(hanging))).toMatchObject({ _tag: "Busy" })
        }
      }))
    }))

  it.scopedLive("has ended before the storage closes", () =>
    Effect.gen(function*() {
      const disk = RawSlowDisk.make()
      const folder = yield* RawFiles.temporaryFolder
      const events: Array<string> = []
      const held = disk.hold("writev")
      const serving = yield* Effect.fork(Effect.scoped(Effect.gen(function*() {
        yield* Effect.addFinalizer(() => Effect.sync(() => events.push("closed")))
        const context = yield* Layer.build(
          Receiver.layer().pipe(
            Layer.provide(UploadLedger.layerMemory),
            Layer.provide(UploadStoreFileSystem.layer({ outputDir: folder, calls: disk.calls })),
            Layer.provide(FilenameGenerator.layer)
          )
        )
        yield* Effect.forkDaemon(Effect.provide(
          Effect.ensuring(send2(0, "abcd"), Effect.sync(() => events.push("answered"))),
          context
        ))
        yield* held.reached
      })))
      yield* held.reached
      yield* aWhile
      expect(events).toEqual([])
      yield* held.go
      yield* Fiber.join(serving)
      expect(events).toEqual(["answered", "closed"])
    }))
})

describe("connections closed right after the body, the chunk sent again at once", () => {
  for (const how of ["FIN", "RST"] as const) {
    it.scopedLive(`lose nothing (${how})`, () =>
      Effect.gen(function*() {
        const { folder, port } = yield* running
        const size = 64 * 1024
        const chunks = [1, 2, 3].map((of) => Uint8Array.from({ length: size }, (_, at) => (at * of + (at >> 8)) % 251))
        const send = (file: number) =>
          Effect.gen(function*() {
            const name = `${file}.bin`
            for (const [index, body] of chunks.entries()) {
              const headers = { ...authorized, "x-file-name": name, "x-chunk-index": index }
              for (let times = (file + index) % 3; times > 0; times--) {
                yield* leave(port, headers, body, how)
                yield* Effect.sleep(`${(file * 7 + index * 3 + times) % 10} millis`)
              }
              for (;;) {
                const { body: answer, status } = yield* request(port, "POST", "/upload", headers, body)
                if (status === 503) continue
                expect([status, answer]).toEqual([200, expect.stringContaining(name)])
                break
              }
              const found = Fs.readFileSync(Path.join(folder, name))
              expect(found.equals(Buffer.concat(chunks.slice(0, index + 1)))).toBe(true)
            }
          })
        yield* Effect.forEach(Array.from({ length: 60 }, (_, file) => file), send, { concurrency: 4, discard: true })
        const names = () => Fs.readdirSync(folder).filter((name) => name.endsWith(".bin"))
        yield* eventually(() => names().length === 60)
        for (const name of names()) {
          expect(Fs.readFileSync(Path.join(folder, name)).equals(Buffer.concat(chunks))).toBe(true)
        }
      }), 60_000)
  }
})
