/**
 * PROTOCOL.md, "Revision 1: what a chunk means": a chunk known by its client's name for the file, its address and index.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as Option from "effect/Option"
import { Busy, Conflict } from "../../protocol/ProtocolError.ts"
import * as Receipt from "../../protocol/Receipt.ts"
import * as Body from "../Body.ts"
import * as Metrics from "../Metrics.ts"
import type { ReceiveRequest } from "../Receiver.ts"
import type { SafeName } from "../SafeName.ts"
import type { Upload } from "../UploadLedger.ts"
import type { Extent, UploadKey } from "../UploadStore.ts"
import { type Parts, verify } from "./receiverParts.ts"
import * as Spans from "./spans.ts"

const receipt = (request: ReceiveRequest, name: string): typeof Receipt.Receipt1.Type => ({
  message: Receipt.message,
  actualFilename: name,
  chunkIndex: request.chunk.index,
  clientFilename: request.chunk.sentName
})

const expects = (upload: Upload) =>
  new Conflict({
    message: `This file goes on with chunk ${upload.chunks}; send that one, or the file again from chunk 0`
  })

export const make = (
  { acknowledge, create, ledger, newKey, open, options, publish, store, write, writers }: Parts
) => {
  /** The upload a chunk belongs to, by address and index; `None` when it starts one of its own. */
  const select = Effect.fnUntraced(function*(request: ReceiveRequest) {
    const { index, fileName } = request.chunk
    const candidates = yield* ledger.findRevision1(request.principal.name, fileName)
    const last = candidates.find((upload) => upload.address === request.request.remoteAddress)
    if (index === 0) {
      const now = yield* Clock.currentTimeMillis
      const idle = last !== undefined && now - last.touchedAt > Duration.toMillis(options.revision1Idle)
      return idle ? Option.none() : Option.fromNullable(last)
    }
    if (last !== undefined) return Option.some(last)
    const expecting = candidates.filter((upload) => upload.chunks === index)
    if (expecting.length === 1) return Option.some(expecting[0]!)
    return yield* new Conflict({
      message: `No upload of this file from this address expects chunk ${index}; send the file again from chunk 0`
    })
  })

  const commit = (request: ReceiveRequest, key: UploadKey, fence: number, extent: Extent) =>
    acknowledge({
      key,
      written: Option.some({ fence, extent }),
      size: Option.none(),
      sha256: Option.none(),
      address: request.request.remoteAddress
    }).pipe(
      Effect.map(({ upload }) => upload),
      Effect.catchTag("Superseded", ({ message }) => new Busy({ message, retryAfter: 1 }))
    )

  const receiveBody = (request: ReceiveRequest, key: UploadKey, offset: number) =>
    Effect.catchTag(
      write(request, key, offset, Number.MAX_SAFE_INTEGER - offset),
      "BodyTooLong",
      ({ message }) => new Conflict({ message })
    )

  /** The visible file is as long as what was acknowledged, whatever became of the chunk. */
  const trim = (key: UploadKey) =>
    Effect.flatMap(
      ledger.get(key),
      Option.match({
        onNone: () => Effect.void,
        onSome: (upload) => store.trim(key, upload.received)
      })
    )

  /** A first chunk that failed leaves no trace. */
  const forgetEmpty = (key: UploadKey) =>
    Effect.flatMap(
      ledger.get(key),
      Option.match({
        onNone: () => Effect.void,
        onSome: (upload) => upload.chunks > 0 ? Effect.void : Effect.andThen(ledger.remove(key), store.drop(key))
      })
    )

  /** The same for a client that has gone before its chunk was claimed: nobody else knows that this has opened an upload. */
  const forgetUnclaimed = ({ chunk, principal }: ReceiveRequest) =>
    Effect.flatMap(ledger.findRevision1(principal.name, chunk.fileName), (candidates) =>
      Effect.forEach(
        candidates.filter(({ chunks }) => chunks === 0),
        ({ key }) => writers.whenFree(key, forgetEmpty(key)),
        { discard: true }
      ))

  /** The index expected next. What was committed is shown too, whether or not anybody waits for it. */
  const next = (request: ReceiveRequest, upload: Upload, fence: number) =>
    receiveBody(request, upload.key, upload.received).pipe(
      Effect.flatMap((extent) =>
        Effect.uninterruptible(Effect.flatMap(commit(request, upload.key, fence, extent), publish))
      ),
      Effect.onError(() => Effect.ignoreLogged(trim(upload.key))),
      Effect.map((name) => receipt(request, name)),
      Effect.scoped
    )

  /** A new version of the file: the chunks before this one are carried over, the old version stays what it is. */
  const newVersion = (request: ReceiveRequest, old: Upload, key: UploadKey, fence: number, extent: Extent) =>
    Effect.gen(function*() {
      const before = (yield* ledger.extents(old.key)).slice(0, request.chunk.index)
      const carried = yield* store.carry(old.key, before, key)
      yield* store.sync(carried.map((extent) => ({ key, extent })))
      yield* open({
        key,
        principal: old.principal,
        id: Option.none(),
        clientName: old.clientName,
        plannedName: old.plannedName,
        address: request.request.remoteAddress
      })
      yield* ledger.carried(key, carried)
      return receipt(request, yield* publish(yield* commit(request, key, fence, extent)))
    })

  /** Leaves nothing of a new version that was not committed. */
  const forgetVersion = (key: UploadKey, index: number) =>
    Effect.flatMap(
      ledger.get(key),
      Option.match({
        onNone: () => store.drop(key),
        onSome: (upload) => upload.chunks > index ? Effect.void : Effect.andThen(ledger.remove(key), store.drop(key))
      })
    )

  /** Index 0 or the one at the replay cursor: the same bytes are a repeat, others a new version. */
  const repeatOrNewVersion = Effect.fnUntraced(function*(request: ReceiveRequest, upload: Upload, there: Extent) {
    const key = yield* newKey
    // before there is a record of it: whoever finds the record must not write before this request has ended
    return yield* writers.claimed(key, "whole", (claim) =>
      Effect.gen(function*() {
        if (claim._tag === "Repeat") return yield* Effect.dieMessage("A new upload has no bytes to repeat")
        yield* store.reserve(key, { size: Option.none() })
        const extent = yield* receiveBody(request, key, there.offset)
        const same = extent.length === there.length && extent.sha256 === there.sha256
        if (!same || (yield* store.holder(upload.key, upload.name as SafeName)) !== "upload") {
          return yield* Effect.uninterruptible(newVersion(request, upload, key, claim.fence, extent))
        }
        yield* store.drop(key)
        yield* ledger.repeated(upload.key, request.chunk.index, request.request.remoteAddress)
        yield* Metric.increment(Metrics.duplicateChunks)
        // the name may be there without being durable
        return receipt(request, yield* publish(upload))
      }).pipe(Effect.onError(() => Effect.ignoreLogged(forgetVersion(key, request.chunk.index))), Effect.scoped))
  })

  /** An index that was here before. */
  const earlier = Effect.fnUntraced(function*(request: ReceiveRequest, upload: Upload) {
    const { index } = request.chunk
    const there = Option.getOrThrow(yield* ledger.chunk(upload.key, index))
    if (index === 0) return yield* repeatOrNewVersion(request, upload, there)
    const name = yield* publish(upload)
    if (index === upload.replayCursor) return yield* repeatOrNewVersion(request, { ...upload, name }, there)
    const body = yield* Body.hash(request.body)
    yield* verify(request.chunk, body)
    if (body.length !== there.length || body.sha256 !== there.sha256) return yield* expects(upload)
    yield* ledger.repeated(upload.key, index, request.request.remoteAddress)
    yield* Metric.increment(Metrics.duplicateChunks)
    return receipt(request, name)
  })

  const selectOrCreate = (request: ReceiveRequest) =>
    Effect.flatMap(
      select(request),
      Option.match({ onNone: () => create(request, Option.none()), onSome: Effect.succeed })
    )

  const opening = new Map<string, { readonly one: Effect.Semaphore; users: number }>()

  /** One after the other for each file: a first chunk that comes twice at once must not make two uploads. */
  const alone = <A, E>({ chunk, principal }: ReceiveRequest, effect: Effect.Effect<A, E>): Effect.Effect<A, E> => {
    const file = JSON.stringify([principal.name, chunk.fileName])
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        const lock = opening.get(file) ?? { one: Effect.unsafeMakeSemaphore(1), users: 0 }
        lock.users++
        opening.set(file, lock)
        return lock
      }),
      ({ one }) => one.withPermits(1)(effect),
      (lock) => Effect.sync(() => --lock.users === 0 && opening.delete(file))
    )
  }

  const receive = Effect.fnUntraced(function*(request: ReceiveRequest) {
    const { index } = request.chunk
    for (;;) {
      const { key } = yield* alone(request, selectOrCreate(request))
      // a client of revision 1 sends one chunk at a time: a newer request means that the older one is dead
      const answer = yield* writers.claimed(key, "whole", (claim) =>
        Effect.gen(function*() {
          const found = yield* ledger.get(key)
          if (Option.isNone(found) || claim._tag === "Repeat") return Option.none()
          const upload = found.value
          if (index > upload.chunks) return yield* expects(upload)
          return Option.some(
            index === upload.chunks
              ? yield* next(request, upload, claim.fence)
              : yield* earlier(request, upload)
          )
        }).pipe(Effect.onError(() => Effect.ignoreLogged(forgetEmpty(key)))))
      if (Option.isSome(answer)) return answer.value
    }
  })

  return (request: ReceiveRequest) =>
    Spans.within(
      "Receiver.revision1",
      Effect.onInterrupt(receive(request), () => Effect.ignoreLogged(forgetUnclaimed(request)))
    )
}
