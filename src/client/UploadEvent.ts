/**
 * What an upload tells while it works, and what has become of each file at the end.
 *
 * @module
 */
import * as Data from "effect/Data"
import type * as Option from "effect/Option"
import type { Sha256 } from "../protocol/Sha256.ts"
import type { DeliveryReceipt, FileId } from "./ChunkStore.ts"

/**
 * `delivered`: the server holds the whole file, the buffer no longer does. All others are still in the buffer: `failed` for
 * good (until asked for again), `unconfirmed` because a revision-1 server may or may not have got a chunk, `waiting` because
 * the client gave up waiting for the server, `claimed` because somebody else is sending it.
 */
export type OutcomeState = "delivered" | "failed" | "unconfirmed" | "waiting" | "claimed"

/** What became of one file. */
export interface Outcome {
  readonly file: FileId
  /** As it was added. */
  readonly path: string
  readonly serverName: Option.Option<string>
  /** Bytes. */
  readonly size: number
  /** `None` only of a file that was sent from where it lies and not read to its end. */
  readonly sha256: Option.Option<Sha256>
  readonly state: OutcomeState
  /** Why it was not delivered. */
  readonly error: Option.Option<string>
  /** The same as an error with its own `cause`, for programs; absent when it was delivered. */
  readonly cause?: unknown
}

/**
 * What a server says of a delivered file: `same`; `different` bytes under its name; `gone`; `unknown`, the server does not
 * remember it; `unverifiable`, it speaks revision 1, which has no way to ask.
 */
export type Verdict = "same" | "different" | "gone" | "unknown" | "unverifiable"

/** A receipt, and what its server says now. */
export interface Verification {
  readonly receipt: DeliveryReceipt
  readonly verdict: Verdict
}

/** One thing that an upload tells. {@link match} goes through the kinds. */
export type UploadEvent = Data.TaggedEnum<{
  /** The first request for a file is about to go out. Bytes. */
  Started: { readonly file: FileId; readonly path: string; readonly size: number; readonly acknowledged: number }
  /** A server acknowledged more bytes: so many of the file now. Never fewer than before. */
  Progress: { readonly file: FileId; readonly path: string; readonly size: number; readonly acknowledged: number }
  /** Passing trouble: the next try comes after so many milliseconds. */
  Waiting: { readonly file: FileId; readonly path: string; readonly reason: string; readonly delay: number }
  /** Something the user should know about a file that goes on all the same. */
  Notice: { readonly file: FileId; readonly path: string; readonly message: string }
  /** Something the user should know about the upload as a whole. */
  Warning: { readonly message: string }
  /** A source could not be read, and is not sent; the others are. */
  Skipped: { readonly path: string; readonly message: string }
  /** What became of a file: its last event. */
  Finished: Outcome
}>

const events = Data.taggedEnum<UploadEvent>()

/** Goes through the kinds: `match({ Progress: ({ acknowledged }) => …, … })`. */
export const match = events.$match

/** The first event of a file. */
export const Started = events.Started

/** More bytes were acknowledged. */
export const Progress = events.Progress

/** Passing trouble, until the next try. */
export const Waiting = events.Waiting

/** Something worth knowing about a file that goes on. */
export const Notice = events.Notice

/** Something worth knowing about the upload as a whole. */
export const Warning = events.Warning

/** A source that could not be read. */
export const Skipped = events.Skipped

/** The last event of a file. */
export const Finished = events.Finished
