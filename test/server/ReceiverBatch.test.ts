import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Either, Fiber, Layer, Option } from "effect"
import { ServerFailure, StorageFull } from "../../src/protocol/ProtocolError.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as UploadBatch from "../../src/protocol/UploadBatch.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import type { Principal } from "../../src/server/Authenticator.ts"
import * as Body from "../../src/server/Body.ts"
import * as CompletionHook from "../../src/server/CompletionHook.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import { UploadLedger } from "../../src/server/UploadLedger.ts"
import { UploadStore } from "../../src/server/UploadStore.ts"
import { cut, text } from "../contract/UploadStore.ts"
import {
  abort,
  chunked,
  layer,
  layerNamed,
  layerOver,
  layerParts,
  names,
  outside,
  refusal,
  send2,
  shown,
  state,
  unread
} from "../support/rawReceiver.ts"

const file = (id: string, words: string, more: Partial<UploadBatch.Whole> = {}): UploadBatch.Whole => ({
  uploadId: UploadId.make(id),
  clientFilename: `/data/${id}.txt`,
  size: text(words).length,
  sha256: Sha256.of(text(words)),
  bytes: text(words),
  ...more
})

const sendBody = (body: Body.Body, principal: Principal = { name: "default" }) =>
  Effect.flatMap(Receiver.Receiver, (receiver) =>
    receiver.receiveBatch({
      principal,
      body,
      request: { headers: {}, method: "POST", url: "/upload/batch", remoteAddress: "10.0.0.1", keyName: principal.name }
    }))

/** What became of each: the receipt, or the status of the refusal. */
const send = (...files: ReadonlyArray<UploadBatch.Whole>) =>
  Effect.map(sendBody(Body.of(UploadBatch.toBody(files))), (results) =>
    results.map(Either.match({
      onLeft: (error) => error._tag === "BodyCut" ? 0 : error.status,
      onRight: ({ receipt }) => receipt
    })))

const actual = (results: ReadonlyArray<unknown>) =>
  results.map((result) =>
    typeof result === "number" ? result : (result as { readonly actualFilename: string }).actualFilename
  )

describe("Receiver, batches", () => {
  it.effect("answers each file as its only chunk would be answered, in order", () =>
    Effect.gen(function*() {
      const alone = yield* send2(0, "abc", {
        id: UploadId.make("u0"),
        name: "/data/u0.txt",
        size: 3,
        sha256: Sha256.of(text("abc"))
      })
      const [first, second] = yield* send(file("u1", "abc"), file("u2", ""))
      const { finishing: _, ...expected } = alone
      expect(first).toEqual({
        ...expected,
        actualFilename: "u1.txt",
        clientFilename: "/data/u1.txt",
        uploadId: "u1"
      })
      expect(second).toMatchObject({ actualFilename: "u2.txt", complete: true, size: 0, sha256: Sha256.empty })
      expect(yield* names).toEqual(["u0.txt", "u1.txt", "u2.txt"])
      expect(yield* shown("u1.txt")).toBe("abc")
      expect(yield* state(UploadId.make("u1"))).toMatchObject({ complete: true, bytesReceived: 3, missing: [] })
      expect(yield* (yield* UploadStore).keys).toEqual([])
      expect(yield* send()).toEqual([])
    }).pipe(Effect.provide(layer())))

  it.effect("takes the others where one is refused", () =>
    Effect.gen(function*() {
      const results = yield* send(
        file("u1", "abc"),
        file("u2", "def", { sha256: Sha256.of(text("other")) }),
        file("u3", "ghi", { clientFilename: ".." }),
        file("u4", "jkl", { clientFilename: `${"x".repeat(5000)}.txt` }),
        file("u5", "mno", { clientFilename: "" }),
        file("u6", "pqr")
      )
      expect(actual(results)).toEqual(["u1.txt", 422, 400, 400, 400, "u6.txt"])
      expect(yield* names).toEqual(["u1.txt", "u6.txt"])
      expect(yield* refusal(state(UploadId.make("u2")))).toBe(404)
      expect(yield* (yield* UploadStore).keys).toEqual([])
    }).pipe(Effect.provide(layer())))

  it.effect("says of what it has already that it has it, and keeps no second copy", () =>
    Effect.gen(function*() {
      yield* send(file("u1", "abc"), file("u2", "def"))
      const again = yield* send(file("u1", "abc"), file("u3", "ghi"), file("u2", "xyz"))
      expect(again[0]).toMatchObject({ duplicate: true, complete: true, actualFilename: "u1.txt" })
      expect(again[1]).toMatchObject({ duplicate: false, complete: true })
      expect(again[2]).toBe(409)
      expect(yield* names).toEqual(["u1.txt", "u2.txt", "u3.txt"])
      expect(yield* shown("u2.txt")).toBe("def")
    }).pipe(Effect.provide(layer())))

  it.effect("goes on with what was half sent, and does not with what was deleted", () =>
    Effect.gen(function*() {
      const half = UploadId.make("half")
      const gone = UploadId.make("gone")
      yield* send2(0, "", { id: half, size: 3, name: "/data/half.txt" })
      yield* send2(0, "a", { id: gone, size: 3, name: "/data/gone.txt" })
      yield* abort(gone)
      expect(actual(yield* send(file("half", "abc"), file("gone", "abc")))).toEqual(["half.txt", 412])
      expect(yield* names).toEqual(["half.txt"])
    }).pipe(Effect.provide(layer())))

  it.effect("gives names that are taken, also by others of the batch, as one would get alone", () =>
    Effect.gen(function*() {
      yield* outside.write("a.txt", "before")
      const same = { clientFilename: "x/a.txt" }
      const results = actual(yield* send(file("u1", "one", same), file("u2", "two", same), file("u3", "three")))
      expect(results.toSorted()).toEqual(["a (1).txt", "a (2).txt", "u3.txt"])
      expect(yield* shown("a.txt")).toBe("before")
      const contents = [yield* shown(results[0] as string), yield* shown(results[1] as string)]
      expect(contents).toEqual(["one", "two"])
    }).pipe(Effect.provide(layer())))

  it.effect("rejects names that are taken where it should", () =>
    Effect.gen(function*() {
      yield* outside.write("u1.txt", "before")
      const results = yield* send(
        file("u1", "one"),
        file("u2", "two"),
        file("u3", "three", { clientFilename: "u2.txt" })
      )
      expect(actual(results)).toEqual([409, "u2.txt", 409])
      expect(yield* shown("u1.txt")).toBe("before")
    }).pipe(Effect.provide(layer({ onConflict: "reject" }))))

  it.effect("overwrites where it should", () =>
    Effect.gen(function*() {
      yield* outside.write("u1.txt", "before")
      expect(actual(yield* send(file("u1", "after")))).toEqual(["u1.txt"])
      expect(yield* shown("u1.txt")).toBe("after")
    }).pipe(Effect.provide(layer({ onConflict: "overwrite" }))))

  it.effect("counts what a key may have in bytes and in uploads", () =>
    Effect.gen(function*() {
      expect(actual(yield* send(file("u1", "abc"), file("u2", "def"), file("u3", "ghi")))).toHaveLength(3)
      expect((yield* names).length).toBe(2)
    }).pipe(Effect.provide(layer({ maxKeyBytes: 6 }))).pipe(
      Effect.andThen(
        refusal(send(file("u1", "abc"), file("u2", "def"))).pipe(
          Effect.tap((status) => Effect.sync(() => expect(status).toBe(429))),
          Effect.andThen(names),
          Effect.tap((names) => Effect.sync(() => expect(names).toEqual([]))),
          Effect.provide(layer({ maxOpenUploads: 1 }))
        )
      )
    ))

  it.effect("names files below the folder of their key, which must be allowed to upload", () =>
    Effect.gen(function*() {
      const body = () => Body.of(UploadBatch.toBody([file("u1", "abc")]))
      yield* sendBody(body(), { name: "anna", prefix: "anna" })
      expect(yield* names).toEqual(["anna/u1.txt"])
      expect(yield* refusal(sendBody(unread(100), { name: "anna", can: ["read"] }))).toBe(403)
    }).pipe(Effect.provide(layer())))

  it.effect("refuses a batch that is too large, or whose length is not known, unread", () =>
    Effect.gen(function*() {
      const { batches } = yield* Receiver.Receiver
      expect(batches).toEqual({ maxFiles: 256, maxSize: 8 * 1024 * 1024 })
      expect(yield* refusal(sendBody(unread(batches.maxSize + 1)))).toBe(413)
      expect(yield* refusal(sendBody(unread(undefined)))).toBe(400)
      expect(yield* refusal(sendBody(chunked("abc")))).toBe(400)
      const many = Array.from({ length: 257 }, (_, at) => file(`u${at}`, ""))
      expect(yield* refusal(send(...many))).toBe(400)
      expect(yield* names).toEqual([])
    }).pipe(Effect.provide(layer())))

  it.effect("offers no more than bodies may have, in bytes and in memory", () =>
    Effect.gen(function*() {
      const takes = (options: Partial<Receiver.ReceiverOptions>) =>
        Effect.provide(Effect.map(Receiver.Receiver, ({ batches }) => batches.maxSize), layer(options))
      expect(yield* takes({ maxChunkSize: 1000 })).toBe(1000)
      expect(yield* takes({ bodyMemory: 64 * 1024 })).toBe(16 * 1024)
    }))

  it.effect("keeps nothing of a batch that is cut", () =>
    Effect.gen(function*() {
      const body = UploadBatch.toBody([file("u1", "abc"), file("u2", "def")])
      for (const at of [0, 10, body.length - 1]) {
        expect(yield* Effect.flip(sendBody(cut(body.length, body.subarray(0, at))))).toMatchObject({ _tag: "BodyCut" })
      }
      expect(yield* names).toEqual([])
      expect(yield* (yield* UploadLedger).isEmpty).toBe(true)
    }).pipe(Effect.provide(layer())))

  it.effect("keeps nothing when it cannot be stored, and says why", () =>
    Effect.gen(function*() {
      expect(yield* refusal(send(file("u1", "abc"), file("u2", "def")))).toBe(507)
      expect(yield* (yield* UploadLedger).isEmpty).toBe(true)
      expect(yield* (yield* UploadStore).keys).toEqual([])
    }).pipe(Effect.provide(layerOver(() => ({ putWhole: () => new StorageFull({ message: "full" }) })))))

  it.effect("answers for each file where one cannot be published, which is finished later", () =>
    Effect.gen(function*() {
      expect(actual(yield* send(file("u1", "abc"), file("u2", "def")))).toEqual(["u1.txt", 500])
      expect(yield* state(UploadId.make("u2"))).toMatchObject({ state: "finishing" })
      expect(yield* send2(0, "def", { id: UploadId.make("u2"), size: 3, name: "/data/u2.txt" })).toMatchObject({
        complete: true
      })
      expect(yield* names).toEqual(["u1.txt", "u2.txt"])
    }).pipe(Effect.provide(layerOver(({ publishWhole }) => ({
      publishWhole: (uploads, mode) =>
        Effect.map(publishWhole(uploads.slice(0, 1), mode), (first) => [
          ...first,
          Either.left(new ServerFailure({ message: "no" }))
        ])
    })))))

  it.effect("finishes whether or not its client waits, and whoever asks meanwhile joins", () =>
    Effect.gen(function*() {
      const begun = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      let published = 0
      const held = layerOver(({ publishWhole }) => ({
        publishWhole: (uploads, mode) =>
          Deferred.succeed(begun, undefined).pipe(
            Effect.andThen(Deferred.await(goOn)),
            Effect.andThen(Effect.suspend(() => {
              published++
              return publishWhole(uploads, mode)
            }))
          )
      }))
      yield* Effect.gen(function*() {
        const sending = yield* Effect.fork(send(file("u1", "abc")))
        yield* Deferred.await(begun)
        const repeat = yield* Effect.fork(
          send2(0, "abc", { id: UploadId.make("u1"), size: 3, sha256: Sha256.of(text("abc")), name: "/data/u1.txt" })
        )
        yield* Effect.yieldNow()
        yield* Fiber.interrupt(sending)
        yield* Deferred.succeed(goOn, undefined)
        expect(yield* Fiber.join(repeat)).toMatchObject({ complete: true, duplicate: true, actualFilename: "u1.txt" })
        expect(yield* names).toEqual(["u1.txt"])
        expect(published).toBe(1)
      }).pipe(Effect.provide(held))
    }))

  it.effect("carries on at the next start what was recorded and not published", () =>
    Effect.gen(function*() {
      const dies = Layer.effect(
        UploadStore,
        Effect.map(UploadStore, (store) => ({ ...store, publishWhole: () => Effect.die("the process ended") }))
      )
      yield* send(file("u1", "abc"), file("u2", "")).pipe(
        Effect.exit,
        Effect.provide(Layer.provide(Receiver.layer(), dies))
      )
      expect(yield* names).toEqual([])
      yield* Effect.gen(function*() {
        const again = yield* send(file("u1", "abc"), file("u2", ""))
        expect(again).toMatchObject([{ complete: true, actualFilename: "u1.txt" }, { complete: true }])
      }).pipe(Effect.provide(Receiver.layer()))
      expect(yield* names).toEqual(["u1.txt", "u2.txt"])
      expect(yield* (yield* UploadStore).keys).toEqual([])
    }).pipe(Effect.provide(layerParts)))

  it.effect("tells the hook of each file, under the name that it got", () =>
    Effect.gen(function*() {
      const told: Array<CompletionHook.CompletedFile> = []
      const keyName = "default"
      const hook = CompletionHook.layerFunction((completed) => Effect.sync(() => told.push(completed)))
      yield* outside.write("u1.txt", "before").pipe(
        Effect.andThen(send(file("u1", "abc"), file("u2", "def"))),
        Effect.andThen(Effect.yieldNow()),
        Effect.provide(Layer.provide(layer(), hook))
      )
      expect(told.toSorted((a, b) => a.uploadId < b.uploadId ? -1 : 1)).toEqual([
        {
          clientName: "/data/u1.txt",
          keyName,
          name: "u1 (1).txt",
          sha256: Sha256.of(text("abc")),
          size: 3,
          uploadId: "u1"
        },
        { clientName: "/data/u2.txt", keyName, name: "u2.txt", sha256: Sha256.of(text("def")), size: 3, uploadId: "u2" }
      ])
    }))

  it.effect("fails a file for which the generator finds no name, and no other", () =>
    Effect.gen(function*() {
      expect(actual(yield* send(file("u1", "abc"), file("u2", "def")))).toEqual([500, "named"])
    }).pipe(Effect.provide(layerNamed((name) => {
      if (name.endsWith("u1.txt")) throw new Error("no")
      return "named"
    }))))

  it.effect("runs into nobody when the same batch comes twice at once", () =>
    Effect.gen(function*() {
      const files = Array.from({ length: 20 }, (_, at) => file(`u${at}`, `content ${at}`))
      const both = yield* Effect.all([send(...files), send(...files)], { concurrency: 2 })
      for (const results of both) {
        expect(actual(results)).toEqual(files.map(({ uploadId }) => `${uploadId}.txt`))
      }
      expect((yield* names).length).toBe(20)
      expect(Option.isNone(yield* (yield* UploadStore).free)).toBe(true)
      expect(yield* (yield* UploadStore).keys).toEqual([])
    }).pipe(Effect.provide(layer())))
})
