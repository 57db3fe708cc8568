/**
 * What the revision-1 servers of the tests have in common.
 *
 * @module
 */
import type * as Queue from "effect/Queue"

/** Settings of both servers. */
export interface Options {
  /** Where files are appended; must exist. */
  readonly folder: string
  /** Without it no key is asked for. */
  readonly apiKey?: string
  /** A free one by default. Giving one lets a server come back where it was. */
  readonly port?: number
}

/** A request that is over: its bytes are in the file, its answer is out or has nowhere to go. */
export interface Exchange {
  /** The client's address. */
  readonly from: string
  readonly method: string
  readonly target: string
  /** What was answered. Of a cut request: what a client would have been told, or 0 when there was no answer. */
  readonly status: number
  /** Name on the server; absent when nothing was appended. */
  readonly actualFilename?: string
  /** Body bytes that arrived and were appended. */
  readonly bytes: number
  /** Whether the connection ended before the announced body did. */
  readonly cut: boolean
}

/** A running server. */
export interface PeerServer {
  readonly port: number
  /** The upload endpoint. */
  readonly url: string
  readonly folder: string
  /** Every request, in the order in which they were over. Taking from it is how a test waits. */
  readonly exchanges: Queue.Dequeue<Exchange>
}

/** The name both servers assume when the client sends none. */
export const absentName = "uploaded_file.txt"
