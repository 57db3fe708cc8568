/**
 * What an upload tells its callbacks.
 *
 * @module
 */

/** A step of one file: the server has acknowledged more of it, or a try failed. */
export interface UploadProgress {
  /** The file's path as it was added, or the name of a stream. */
  readonly fileName: string
  /** Bytes that the server has acknowledged. They never become fewer. */
  readonly bytesSent: number
  /** Bytes of the whole file. */
  readonly bytesTotal: number
  /** The chunk that was acknowledged last, from 0, counted in chunks of the client's `chunkSize`. */
  readonly chunkIndex: number
  /** `success` when bytes were acknowledged, `failed` when a try failed. */
  readonly status: "success" | "failed"
  /** Failed tries in a row up to this one. */
  readonly retryCount: number
  /** Milliseconds until the next try; absent when there is none. */
  readonly nextRetryIn?: number
  /** Why the try failed. */
  readonly error?: string
}

/** The end of an upload of several files. */
export interface UploadSummary {
  /** Files that the server holds now. */
  readonly succeeded: number
  /** Files that were not delivered; they stay in the buffer. */
  readonly failed: number
  /** Both. */
  readonly total: number
}
