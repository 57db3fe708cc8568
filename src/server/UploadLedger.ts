/**
 * The only truth about what has been received: which uploads there are, whose, which bytes of them are durable, who is
 * writing which range just now, and how far publishing has come.
 *
 * @module
 */
import * as Arr from "effect/Array"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Busy, Conflict, ServerFailure, StorageFull } from "../protocol/ProtocolError.ts"
import type { Ranges } from "../protocol/Ranges.ts"
import { Sha256 } from "../protocol/Sha256.ts"
import { UploadId } from "../protocol/UploadId.ts"
import type { Superseded, Taken, Wanted } from "./Claims.ts"
import * as rules from "./internal/ledgerRules.ts"
import { type Extent, UploadKey } from "./UploadStore.ts"

/** One upload, as the ledger has it. */
export const Upload = Schema.Struct({
  key: UploadKey,
  /** The name that authentication gave to the client's key. */
  principal: Schema.String,
  /** `None` for an upload of revision 1. */
  id: Schema.OptionFromNullOr(UploadId),
  /** The client's name for the file. */
  clientName: Schema.String,
  /** What the filename generator answered. */
  plannedName: Schema.String,
  /** The final name: settled once `publishing` was recorded, until then a plan. */
  name: Schema.String,
  /** Bytes of the whole file, once declared. */
  size: Schema.OptionFromNullOr(Schema.Number),
  /** Of the whole file: as declared, and once complete as far as known. */
  sha256: Schema.OptionFromNullOr(Sha256),
  /** `deleted` and `complete` ones are remembered without their bytes. A revision-1 upload is always `receiving`. */
  state: Schema.Literal("receiving", "finishing", "complete", "failed", "deleted"),
  /** Bytes committed. */
  received: Schema.Number,
  /** Chunks committed: in revision 1 the index expected next. */
  chunks: Schema.Number,
  /** Revision 1: the index after the last chunk that was repeated, -1 before there was one. */
  replayCursor: Schema.Number,
  /** Revision 1: the peer of the last chunk. */
  address: Schema.String,
  /** Milliseconds since 1970, of the last chunk. */
  touchedAt: Schema.Number
})
/** See the schema of this name. */
export type Upload = typeof Upload.Type

/** The ledger cannot be read or written: `StorageFull`, or `ServerFailure` with the cause. */
export type LedgerError = StorageFull | ServerFailure

/** What a request may do. */
export type Claim =
  | {
    readonly _tag: "Claimed"
    /** How many bytes may be written. */
    readonly limit: number
  } & Taken
  /** Exactly this range is committed. */
  | { readonly _tag: "Repeat"; readonly extent: Extent }

/** One request's outcome to be made true. */
export interface Commit {
  readonly key: UploadKey
  /** `None` for an empty body, which claims nothing. */
  readonly written: Option.Option<{
    readonly fence: number
    readonly extent: Extent
    /** The hash of the extent is that of all bytes up to its end. Default: false. */
    readonly isPrefix?: boolean
  }>
  readonly size: Option.Option<number>
  readonly sha256: Option.Option<Sha256>
  /** The peer, kept for revision 1. */
  readonly address: string
}

/** The state after a commit. */
export interface Committed {
  readonly upload: Upload
  /** Nothing is missing and this commit is the one that found it so: its caller finishes the upload. */
  readonly finish: boolean
}

/** A new upload. */
export type NewUpload = Pick<Upload, "key" | "principal" | "id" | "clientName" | "plannedName" | "address"> & {
  /** Fail when another unfinished upload plans the same name. */
  readonly exclusiveName: boolean
}

/** A new upload of revision 2 whose bytes are all here, durably, in one extent (of no bytes where the file is empty). */
export type WholeUpload =
  & Pick<Upload, "key" | "principal" | "clientName" | "plannedName" | "address">
  & { readonly id: UploadId; readonly sha256: Sha256; readonly extent: Extent }

/** Times in milliseconds, or since 1970, for the three kinds of uploads. */
export interface Lifetimes {
  /** Revision 2, not complete. */
  readonly unfinished: number
  /** Revision 2, complete or deleted. */
  readonly ended: number
  /** Revision 1, all of them. */
  readonly revision1: number
}

/**
 * What has been received. Layers: {@link layerMemory}, and `UploadLedgerSqlite.layer`. What a method changed, and
 * what it tells, is durable on return.
 */
export class UploadLedger extends Context.Tag("indexedcp/UploadLedger")<UploadLedger, {
  /** The upload of this principal and id, whatever its state. */
  readonly find: (principal: string, id: UploadId) => Effect.Effect<Option.Option<Upload>, LedgerError>

  /** The revision-1 uploads of this principal and client name, the one written last first. */
  readonly findRevision1: (
    principal: string,
    clientName: string
  ) => Effect.Effect<ReadonlyArray<Upload>, LedgerError>

  /** The upload of this key, whatever its state. */
  readonly get: (key: UploadKey) => Effect.Effect<Option.Option<Upload>, LedgerError>

  /**
   * Records a new upload. When the principal has one under this id already, that one is returned instead. `Conflict` when
   * `exclusiveName` was asked and another unfinished upload plans the name.
   */
  readonly create: (upload: NewUpload) => Effect.Effect<Upload, Conflict | LedgerError>

  /**
   * Records new uploads that have all their bytes, in one transaction: each is `finishing`. Returns those recorded, in the
   * order asked; left out are those of an id that their principal has already, and all but the first of several with one id.
   */
  readonly createWhole: (uploads: ReadonlyArray<WholeUpload>) => Effect.Effect<ReadonlyArray<Upload>, LedgerError>

  /**
   * Claims a range before its first byte is written. Exactly the same range claimed again goes to the newer one at once;
   * `Busy` when it overlaps a claimed range otherwise, `Conflict` when it touches committed bytes otherwise.
   */
  readonly claim: (key: UploadKey, wanted: Wanted) => Effect.Effect<Claim, Conflict | Busy | LedgerError>

  /** Gives a claim up. Repeatable. */
  readonly release: (key: UploadKey, fence: number) => Effect.Effect<void>

  /**
   * Makes outcomes durable in one transaction, each by itself: what it returns is in the order asked. `Superseded` when
   * the claim is no longer the newest, `Conflict` when the size or hash contradicts what is known.
   */
  readonly commit: (
    many: ReadonlyArray<Commit>
  ) => Effect.Effect<ReadonlyArray<Either.Either<Committed, Conflict | Superseded>>, LedgerError>

  /** Revision 1: a chunk was repeated; the replay cursor moves behind it. */
  readonly repeated: (key: UploadKey, index: number, address: string) => Effect.Effect<Upload, LedgerError>

  /** Revision 1: gives a new version the committed chunks it carries over from the old. */
  readonly carried: (key: UploadKey, extents: ReadonlyArray<Extent>) => Effect.Effect<void, LedgerError>

  /** Durable before the store publishes under a name, so that a crash in between is carried on. */
  readonly publishing: (key: UploadKey, name: string) => Effect.Effect<void, LedgerError>

  /** The file stands under its name. Returns the upload as it now is. */
  readonly complete: (key: UploadKey, sha256: Sha256) => Effect.Effect<Upload, LedgerError>

  /** {@link complete} for many in one transaction: those of {@link createWhole}, whose hash is known. */
  readonly completeWhole: (keys: ReadonlyArray<UploadKey>) => Effect.Effect<void, LedgerError>

  /** The whole file is not what it was declared to be. */
  readonly fail: (key: UploadKey) => Effect.Effect<void, LedgerError>

  /**
   * Forgets the bytes and remembers that the upload was deleted; an upload of revision 1 is forgotten altogether.
   * `Conflict` when nothing is missing from the upload any more.
   */
  readonly remove: (key: UploadKey) => Effect.Effect<void, Conflict | LedgerError>

  /**
   * Bytes from `length` on are gone from storage: extents that end behind it are no longer committed, and an upload that was
   * finishing is being received again. Returns the upload as it now is. What failed stays as it is.
   */
  readonly shorten: (key: UploadKey, length: number) => Effect.Effect<Upload, LedgerError>

  /** All bytes are gone from storage: like `remove`, whatever the state. */
  readonly lose: (key: UploadKey) => Effect.Effect<void, LedgerError>

  /** The committed extents in order. */
  readonly extents: (key: UploadKey) => Effect.Effect<ReadonlyArray<Extent>, LedgerError>

  /** Revision 1: the committed chunk with this index. */
  readonly chunk: (key: UploadKey, index: number) => Effect.Effect<Option.Option<Extent>, LedgerError>

  /** Revision 2: how far the bytes from an offset on are committed without a gap, or a part of that way. */
  readonly contiguous: (key: UploadKey, from: number) => Effect.Effect<number, LedgerError>

  /** What is committed, as joined ranges in order. */
  readonly received: (key: UploadKey) => Effect.Effect<Ranges, LedgerError>

  /**
   * Ends what nobody touched since the times given and nobody is writing to: unfinished uploads are remembered as deleted,
   * all others forgotten. Returns those whose bytes may go; a part of them when there are very many.
   */
  readonly expire: (before: Lifetimes) => Effect.Effect<ReadonlyArray<UploadKey>, LedgerError>

  /** Whether it has no upload at all, as when it was lost. */
  readonly isEmpty: Effect.Effect<boolean, LedgerError>

  /** How many uploads of revision 2 are neither complete nor deleted: a principal's, or all. */
  readonly open: (principal: Option.Option<string>) => Effect.Effect<number, LedgerError>

  /** How many bytes a principal has on record, of uploads in every state. */
  readonly bytesOf: (principal: string) => Effect.Effect<number, LedgerError>

  /** The uploads of revision 2 that are neither complete nor deleted, the one touched last last. */
  readonly unfinished: Effect.Effect<ReadonlyArray<Upload>, LedgerError>

  /** Uploads that were finishing, and those of revision 1: what a start has to look after. */
  readonly unsettled: Effect.Effect<ReadonlyArray<Upload>, LedgerError>
}>() {}

const makeMemory = (): Context.Tag.Service<UploadLedger> => {
  const uploads = new Map<UploadKey, Upload>()
  const extents = new Map<UploadKey, Map<number, Extent>>()
  const sorted = (key: UploadKey) => [...(extents.get(key) ?? [])].sort(([a], [b]) => a - b)
  const select = (f: (upload: Upload) => boolean) => [...uploads.values()].filter(f)
  const isOpen = ({ id, state }: Upload) => Option.isSome(id) && /receiving|finishing|failed/.test(state)
  return rules.make({
    // nothing fails behind the first change
    transaction: (run) => run(),
    durable: () => undefined,
    byKey: (key) => Option.fromNullable(uploads.get(key)),
    byId: (principal, id) =>
      Arr.head(select((upload) => upload.principal === principal && Option.contains(upload.id, id))),
    revision1: (principal, clientName) =>
      select((upload) => upload.principal === principal && upload.clientName === clientName && Option.isNone(upload.id))
        .toReversed().sort((a, b) => b.touchedAt - a.touchedAt),
    isPlanned: (name) => select((upload) => rules.plans(upload, name)).length > 0,
    isEmpty: () => uploads.size === 0,
    open: (principal) =>
      select((upload) => isOpen(upload) && Option.getOrElse(principal, () => upload.principal) === upload.principal)
        .length,
    bytesOf: (principal) =>
      select((upload) => upload.principal === principal).reduce((sum, { received }) => sum + received, 0),
    unfinished: () => select(isOpen).sort((a, b) => a.touchedAt - b.touchedAt),
    untouched: (before, most) =>
      select((upload) =>
        upload.state !== "finishing" && upload.touchedAt < before[
            Option.isNone(upload.id)
              ? "revision1"
              : upload.state === "complete" || upload.state === "deleted"
              ? "ended"
              : "unfinished"
          ]
      ).slice(0, most),
    unsettled: () => select((upload) => upload.state === "finishing" || Option.isNone(upload.id)),
    put: (upload) => void uploads.set(upload.key, upload),
    forget: (key) => {
      uploads.delete(key)
      extents.delete(key)
    },
    putWhole: (many) =>
      many.flatMap(({ extent, upload }) => {
        const isKnown = select(({ id, principal }) =>
          principal === upload.principal && Option.getOrNull(id) === Option.getOrNull(upload.id)
        ).length > 0
        if (isKnown) {
          return []
        }
        uploads.set(upload.key, upload)
        if (extent.length > 0) {
          extents.set(upload.key, new Map([[extent.offset, extent]]))
        }
        return [upload.key]
      }),
    completeAll: (keys, touchedAt) =>
      keys.forEach((key) => {
        const upload = uploads.get(key)
        if (upload !== undefined) uploads.set(key, { ...upload, state: "complete", touchedAt })
      }),
    putExtent: (key, position, extent) => void extents.set(key, (extents.get(key) ?? new Map()).set(position, extent)),
    removeExtents: (key, from) => extents.get(key)?.forEach((_, at, all) => at >= from && all.delete(at)),
    before: (key, position) => Option.fromNullable(sorted(key).findLast(([at]) => at <= position)?.[1]),
    after: (key, position) => Option.fromNullable(sorted(key).find(([at]) => at > position)?.[1]),
    page: (key, from, most) =>
      sorted(key).filter(([at]) => at >= from).slice(0, most).map(([position, extent]) => ({ position, extent }))
  })
}

/** A ledger in memory. */
export const layerMemory: Layer.Layer<UploadLedger> = Layer.sync(UploadLedger, makeMemory)
