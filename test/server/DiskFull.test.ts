import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { refusal, send1, send2, state } from "../support/rawReceiver.ts"

/** The real disk, but files take no more bytes than there is room for. */
const smallDisk = (room: { bytes: number }): typeof Fs => ({
  ...Fs,
  open: async (...args: Parameters<typeof Fs.open>) => {
    const handle = await Fs.open(...args)
    const writev = handle.writev.bind(handle)
    handle.writev = (pieces, at) => {
      const bytes = pieces.reduce((sum, { byteLength }) => sum + byteLength, 0)
      if (bytes > room.bytes) return Promise.reject(Object.assign(new Error("no room"), { code: "ENOSPC" }))
      room.bytes -= bytes
      return writev(pieces, at)
    }
    return handle
  }
})

const receiver = (folder: string, room: { bytes: number }) =>
  Receiver.layer().pipe(
    Layer.provideMerge(UploadStoreFileSystem.layer({ outputDir: folder, calls: smallDisk(room) })),
    Layer.provideMerge(UploadLedger.layerMemory),
    Layer.provide(FilenameGenerator.layer)
  )

describe("Receiver on a full disk", () => {
  it.scoped("answers 507, loses nothing that was acknowledged, and goes on once there is room", () =>
    Effect.gen(function*() {
      const folder = yield* RawFiles.temporaryFolder
      const room = { bytes: 5 }
      yield* Effect.gen(function*() {
        yield* send2(0, "abc", { size: 6 })
        yield* send1(0, "x", { name: "old.txt" })
        expect(yield* refusal(send2(3, "def"))).toBe(507)
        expect(yield* refusal(send1(1, "yz", { name: "old.txt" }))).toBe(507)
        expect(yield* state()).toMatchObject({ bytesReceived: 3, missing: [[3, 6]] })
        expect(yield* Effect.promise(() => Fs.readFile(Path.join(folder, "old.txt"), "utf8"))).toBe("x")
        room.bytes = 100
        expect(yield* send2(3, "def")).toMatchObject({ complete: true })
        yield* send1(1, "yz", { name: "old.txt" })
      }).pipe(Effect.provide(receiver(folder, room)))
      const read = (name: string) => Effect.promise(() => Fs.readFile(Path.join(folder, name), "utf8"))
      expect([yield* read("a.txt"), yield* read("old.txt")]).toEqual(["abcdef", "xyz"])
    }))
})
