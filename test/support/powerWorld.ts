/**
 * Servers that die and whose power is cut: what outlives them, what their clients know, and whether the two agree.
 *
 * @module
 */
import { assert } from "@effect/vitest"
import { Clock, Effect, Either, Layer } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { Identifiers, UploadId } from "../../src/protocol/UploadId.ts"
import * as Body from "../../src/server/Body.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import * as PowerCutDisk from "../../src/testing/PowerCutDisk.ts"
import { Journal } from "./powerLedger.ts"
import * as RawReceiver from "./rawReceiver.ts"

/** The folder of the servers, which the first of them makes. */
const output = "/data/server"

/** An upload of revision 2, as its client knows it. */
export interface Upload2 {
  readonly revision: 2
  id: UploadId
  readonly name: string
  readonly bytes: Uint8Array
  /** Of the whole file, as the client says. */
  readonly sha256: Sha256.Sha256
  /** Ranges that were sent, and those that a 200 acknowledged. */
  readonly sent: Array<readonly [number, number]>
  readonly acknowledged: Array<readonly [number, number]>
  /** A 200 came, for an empty chunk perhaps. */
  known: boolean
  /** The upload was to be deleted; it was. */
  deletion?: "asked" | "done"
  /** The name in a 200 that said `complete`. */
  complete?: string
}

/** A file sent in revision 1, as its client knows it. */
export interface Upload1 {
  readonly revision: 1
  readonly name: string
  readonly address: string
  readonly chunks: ReadonlyArray<Uint8Array>
  /** So many first chunks are those of the version before. */
  readonly shared: number
  sent: number
  acknowledged: number
  /** The name in the last 200. */
  actual?: string
}

export type Upload = Upload1 | Upload2

/** What everybody but the server knows. */
interface Known {
  now: number
  keys: number
  /** In the order in which they were begun. */
  readonly uploads: Array<Upload>
  /** Files that somebody else put there. */
  readonly outside: Map<string, Uint8Array>
}

type Range = readonly [number, number]

const overlap = (a: Range, b: Range) => a[0] < b[1] && b[0] < a[1]

const same = (a: Uint8Array | undefined, b: Uint8Array) => a !== undefined && Buffer.compare(a, b) === 0

const text = (bytes: Uint8Array | undefined) =>
  bytes === undefined ? "nothing" : `${bytes.length} bytes, SHA-256 ${Sha256.of(bytes).slice(0, 8)}`

const first = ({ chunks }: Upload1, count: number) => Uint8Array.from(Buffer.concat(chunks.slice(0, count)))

const isDone = (upload: Upload) =>
  upload.revision === 2 ? upload.complete !== undefined : upload.acknowledged === upload.chunks.length

/** What may stand under a name because of an upload. */
const allowed = (upload: Upload): ReadonlyArray<Uint8Array> => {
  if (upload.revision === 2) {
    let sent = 0
    for (const [from, to] of upload.sent.toSorted(([a], [b]) => a - b)) if (from <= sent) sent = Math.max(sent, to)
    return upload.deletion !== "done" && sent === upload.bytes.length && Sha256.of(upload.bytes) === upload.sha256
      ? [upload.bytes]
      : []
  }
  const least = Math.max(1, upload.acknowledged)
  return Array.from({ length: upload.sent - least + 1 }, (_, more) => first(upload, least + more))
}

/** A machine with its disk, its ledger and its clients. */
export class World {
  /** Told before each call that changes disk or ledger. */
  before: (moment: string) => void = () => {}
  readonly policy: Receiver.OnConflict
  readonly disk: PowerCutDisk.PowerCutDisk
  private readonly journal: Journal
  private readonly known: Known

  private constructor(
    policy: Receiver.OnConflict,
    disk: (options: PowerCutDisk.Options) => PowerCutDisk.PowerCutDisk,
    journal: Journal,
    known: Known
  ) {
    this.policy = policy
    this.disk = disk({ before: (call) => this.before(call) })
    this.journal = journal
    this.known = known
  }

  static make(policy: Receiver.OnConflict, pause?: () => Promise<void>): World {
    return new World(
      policy,
      (options) => PowerCutDisk.make({ ...options, ...(pause === undefined ? {} : { pause }) }),
      new Journal(),
      { now: 1_700_000_000_000, keys: 0, uploads: [], outside: new Map() }
    )
  }

  /** This moment once more, as if the server's process died in it. */
  killed(): World {
    return new World(
      this.policy,
      (options) => this.disk.copy(options),
      this.journal.copy(),
      structuredClone(this.known)
    )
  }

  /** This moment once more, as if the power went in it. The ledger goes back to its last finished transaction. */
  powerCut(survivors: PowerCutDisk.Survivors): World {
    return new World(
      this.policy,
      (options) => this.disk.powerCut(survivors, options),
      this.journal.copy(),
      structuredClone(this.known)
    )
  }

  // ---- somebody else

  get outside(): ReadonlyMap<string, Uint8Array> {
    return this.known.outside
  }

  put(name: string, bytes: Uint8Array): void {
    this.disk.put(`${output}/${name}`, bytes)
    this.known.outside.set(name, bytes)
  }

  remove(name: string): void {
    this.disk.remove(`${output}/${name}`)
    this.known.outside.delete(name)
  }

  // ---- the server

  /** Runs with a server that begins and ends with it, on a clock of its own. */
  serve<A, E>(use: Effect.Effect<A, E, Receiver.Receiver | UploadLedger.UploadLedger>): Effect.Effect<A> {
    const { known } = this
    const clock: Clock.Clock = {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: () => known.now,
      unsafeCurrentTimeNanos: () => BigInt(known.now) * 1_000_000n,
      currentTimeNanos: Effect.sync(() => BigInt(known.now) * 1_000_000n),
      currentTimeMillis: Effect.sync(() => known.now),
      sleep: () => Effect.never
    }
    const identifiers = { next: Effect.sync(() => (++known.keys).toString(16).padStart(32, "0")) }
    const server = Receiver.layer({ onConflict: this.policy }).pipe(
      Layer.provideMerge(Layer.effect(UploadLedger.UploadLedger, this.journal.open((moment) => this.before(moment)))),
      Layer.provide(UploadStoreFileSystem.layer({ outputDir: output, calls: this.disk.calls })),
      Layer.provide(FilenameGenerator.layerFunction((name) => name))
    )
    return Effect.provide(use, server).pipe(
      Effect.provideService(Identifiers, identifiers),
      Effect.withClock(clock),
      Effect.orDie
    )
  }

  // ---- the clients

  get uploads(): ReadonlyArray<Upload> {
    return this.known.uploads
  }

  begin2(name: string, bytes: Uint8Array, sha256 = Sha256.of(bytes)): Upload2 {
    const id = UploadId.make(`upload-${this.known.uploads.length}`)
    const upload: Upload2 = { revision: 2, id, name, bytes, sha256, sent: [], acknowledged: [], known: false }
    this.known.uploads.push(upload)
    return upload
  }

  begin1(name: string, chunks: ReadonlyArray<Uint8Array>, address: string, shared = 0): Upload1 {
    const upload: Upload1 = { revision: 1, name, address, chunks, shared, sent: shared, acknowledged: shared }
    this.known.uploads.push(upload)
    return upload
  }

  /** Sends a chunk of revision 2; the `last` one says size and hash. */
  send2(upload: Upload2, [from, to]: Range, { last = false } = {}) {
    return Effect.gen(this, function*() {
      this.known.now += 1
      const middle = from + Math.floor((to - from) / 3)
      upload.sent.push([from, to])
      const { bytes, id, known, name, sha256 } = upload
      const body = Body.of(...[bytes.slice(from, middle), bytes.slice(middle, to)].filter((piece) => piece.length > 0))
      const receipt = yield* RawReceiver.send2(from, body, {
        id,
        name,
        known,
        ...(last ? { size: bytes.length, sha256 } : {})
      })
      upload.known = true
      upload.acknowledged.push([from, to])
      if (receipt.complete) upload.complete = receipt.actualFilename
      return receipt
    })
  }

  /** Sends a chunk of revision 1, the next one unless told otherwise. */
  send1(upload: Upload1, index = upload.acknowledged) {
    return Effect.gen(this, function*() {
      this.known.now += 1
      const { actual, address, name } = upload
      upload.sent = Math.max(upload.sent, index + 1)
      const receipt = yield* RawReceiver.send1(index, Body.of(upload.chunks[index]!), { name, address })
      if (index < upload.shared) return
      if (upload.acknowledged > upload.shared) assert.strictEqual(receipt.actualFilename, actual, "the name stays")
      upload.actual = receipt.actualFilename
      upload.acknowledged = Math.max(upload.acknowledged, index + 1)
    })
  }

  /** Asks for the deletion of an upload. */
  delete2(upload: Upload2) {
    return Effect.gen(this, function*() {
      upload.deletion = "asked"
      yield* Effect.catchTag(RawReceiver.abort(upload.id), "UnknownUpload", () => Effect.void)
      upload.deletion = "done"
    })
  }

  /** Everything goes on after the death of a server, as clients do: from what they know and what they are told. */
  get goOn() {
    return Effect.forEach(
      this.uploads.filter((upload) => !isDone(upload)),
      (upload) => upload.revision === 2 ? this.goOn2(upload) : this.goOn1(upload),
      { discard: true }
    )
  }

  private goOn1(upload: Upload1) {
    return Effect.gen(this, function*() {
      while (!isDone(upload)) yield* this.send1(upload)
    })
  }

  /** The last chunk, of a file that may not be what its client says. */
  private end2(upload: Upload2, range: Range) {
    const isRight = Sha256.of(upload.bytes) === upload.sha256
    return Effect.catchIf(
      this.send2(upload, range, { last: true }),
      ({ _tag }) => _tag === "Conflict" && !isRight,
      () => Effect.void
    )
  }

  private goOn2(upload: Upload2) {
    return Effect.gen(this, function*() {
      if (upload.deletion === "asked") return yield* this.delete2(upload)
      const size = upload.bytes.length
      for (let asked = 0;; asked++) {
        assert.isBelow(asked, 100, `${upload.id} never gets finished`)
        const answer = yield* Effect.either(RawReceiver.state(upload.id))
        if (Either.isLeft(answer)) {
          assert.strictEqual(answer.left._tag, "UnknownUpload")
          if (upload.deletion === "done") return
          assert.isFalse(upload.known, `${upload.id} was acknowledged and is forgotten`)
          upload.id = UploadId.make(`${upload.id}-again`)
          yield* this.end2(upload, [0, size])
          continue
        }
        const { actualFilename, bytesReceived, missing, state } = answer.right
        assert.isUndefined(upload.deletion, `${upload.id} was deleted and is there`)
        if (state === "failed") return assert.notStrictEqual(Sha256.of(upload.bytes), upload.sha256)
        if (state === "complete") {
          upload.complete = actualFilename
          return
        }
        if (state === "finishing") {
          yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
          continue
        }
        const known = bytesReceived + missing.reduce((sum, [from, to]) => sum + to - from, 0)
        const gaps = [...missing, ...(known < size ? [[known, size] as const] : [])]
        for (const range of upload.acknowledged) {
          for (const gap of gaps) assert.isFalse(overlap(range, gap), `acknowledged ${range.join("-")} is missing`)
        }
        for (const gap of gaps) yield* this.send2(upload, gap)
        yield* this.end2(upload, [0, 0])
      }
    })
  }

  // ---- whether they agree

  /** Holds what stands in the folder against what the clients were told. */
  check(): void {
    const files = new Map([...this.disk.files(output)].filter(([name]) => !name.startsWith(".indexedcp")))
    const explained = new Set<string>()
    const is = (name: string, wanted: ReadonlyArray<Uint8Array>, why: string) => {
      const found = files.get(name)
      assert.isTrue(
        wanted.some((bytes) => same(found, bytes)),
        `${name}: ${why}, ${wanted.map(text).join(" or ")}, but there is ${text(found)}`
      )
      assert.isFalse(explained.has(name), `${name} is two files`)
      explained.add(name)
    }
    const rest = this.policy === "overwrite" ? this.checkReplaced(is) : this.checkSeparate(is)
    for (const [name, bytes] of files) {
      if (explained.has(name)) continue
      const owner = rest.find((upload) => allowed(upload).some((wanted) => same(bytes, wanted)))
      assert.isDefined(owner, `${name} should not be there (${text(bytes)})`)
      rest.splice(rest.indexOf(owner), 1)
    }
  }

  /** Each file has a name of its own. Returns the uploads that may be under any name. */
  private checkSeparate(is: (name: string, wanted: ReadonlyArray<Uint8Array>, why: string) => void): Array<Upload> {
    this.outside.forEach((bytes, name) => is(name, [bytes], "somebody else's file"))
    return this.uploads.filter((upload) => {
      if (upload.revision === 2) {
        if (upload.complete === undefined) return true
        is(upload.complete, [upload.bytes], `${upload.id} was complete`)
        return false
      }
      if (upload.actual === undefined) return true
      is(upload.actual, allowed(upload), `${upload.acknowledged} chunks were acknowledged`)
      return false
    })
  }

  /** The last upload has the name: one that was begun later than the last that is done, or that one. */
  private checkReplaced(is: (name: string, wanted: ReadonlyArray<Uint8Array>, why: string) => void): Array<Upload> {
    const rest = new Set(this.uploads)
    for (const name of new Set([...this.outside.keys(), ...this.uploads.map((upload) => upload.name)])) {
      const versions = this.uploads.filter((upload) => upload.name === name)
      const last = versions.findLastIndex((upload) =>
        upload.revision === 2 ? upload.complete !== undefined : upload.actual !== undefined
      )
      versions.slice(0, last + 1).forEach((upload) => rest.delete(upload))
      const before = last < 0 ? this.outside.get(name) : undefined
      if (last < 0 && before === undefined) continue
      const later = versions.slice(Math.max(0, last))
      is(name, [...later.flatMap(allowed), ...(before === undefined ? [] : [before])], "the last version")
      later.forEach((upload) => rest.delete(upload))
    }
    return [...rest]
  }

  /** Nothing is left in the server's own folder but the part files of uploads that are not done with. */
  get checkParts() {
    return Effect.gen(this, function*() {
      const ledger = yield* UploadLedger.UploadLedger
      const needed = new Set([...(yield* ledger.unfinished), ...(yield* ledger.unsettled)].map(({ key }) => key))
      const own = [...this.disk.files(output).keys()].filter((name) => name.startsWith(".indexedcp"))
      assert.deepStrictEqual(own.filter((name) => ![...needed].some((key) => name === `.indexedcp/parts/${key}`)), [])
    })
  }
}

/** What is asked of a world after a server died: start, go on, be cut once more at the end, start again. */
export const recover = (world: World, cut: (world: World) => World): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* world.serve(Effect.gen(function*() {
      world.check()
      yield* world.goOn
      world.check()
    }))
    const found = cut(world)
    found.check()
    yield* found.serve(Effect.andThen(found.checkParts, Effect.sync(() => found.check())))
  })
