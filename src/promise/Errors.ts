/**
 * What the Promises of this library reject with. Each error has a `code` to decide by, a `message` that says what to do, and
 * the error behind it, if there is one, as its `cause`.
 *
 * @module
 */

/** What the errors here are made with. */
export interface ErrorOptions {
  readonly code: string
  readonly message: string
  readonly cause?: unknown
}

/**
 * The class of them all. What has no class of its own is one of these codes:
 *
 * - `INVALID_ARGUMENT`: an option or argument cannot be meant
 * - `BUFFER`: the buffer cannot be opened, read or written; `BUFFER_FULL`: it, or its disk, has no more room
 * - `BUSY`: somebody else is sending the file just now
 * - `UNCONFIRMED`: an old server may or may not have got a chunk, and cannot tell; the file is kept
 * - `NOT_DELIVERED`: the file is given up for another reason, and kept
 * - `EADDRINUSE` and other codes of the system, `CANNOT_LISTEN`, `FOLDER_IN_USE`, `STORAGE`: a server does not start
 * - `NOT_LISTENING`: the server has no address (yet, or any more); `ALREADY_LISTENING`: it is asked to listen while it does
 * - `CLOSED`: the client or the server was closed
 * - `UNEXPECTED`: a mistake in this library
 *
 * @example
 * ```ts
 * try {
 *   await client.uploadBufferedFiles()
 * } catch (error) {
 *   if (error instanceof IndexCPError && error.code === "CLOSED") return
 *   throw error
 * }
 * ```
 */
export class IndexCPError extends Error {
  static {
    this.prototype.name = "IndexCPError"
  }
  /** What went wrong, in one word. */
  readonly code: string

  constructor({ cause, code, message }: ErrorOptions) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
  }
}

/**
 * A file cannot be read. `code` is the system's, like `EACCES`; or `CHANGED`, when it was changed while it was read;
 * or `UNREADABLE`.
 */
export class FileReadError extends IndexCPError {
  static {
    this.prototype.name = "FileReadError"
  }
  /** As it was given. */
  readonly path: string

  constructor({ path, ...options }: ErrorOptions & { readonly path: string }) {
    super(options)
    this.path = path
  }
}

/** There is no such file. `code` is `ENOENT`. */
export class FileNotFoundError extends FileReadError {
  static {
    this.prototype.name = "FileNotFoundError"
  }
}

/** The server refuses the API key, or does not let it do this. `code` is `UNAUTHORIZED`. */
export class AuthenticationError extends IndexCPError {
  static {
    this.prototype.name = "AuthenticationError"
  }
}

/** There is no API key: no option, no variable, and no terminal to ask on. `code` is `API_KEY_MISSING`. */
export class ApiKeyMissingError extends IndexCPError {
  static {
    this.prototype.name = "ApiKeyMissingError"
  }
}

/** No server answered: it cannot be reached, or the connection broke. `code` is `NETWORK`. */
export class NetworkError extends IndexCPError {
  static {
    this.prototype.name = "NetworkError"
  }
}

/** The server answered with an error; its own words are in the message. `code` is `HTTP_<status>`, like `HTTP_413`. */
export class ServerError extends IndexCPError {
  static {
    this.prototype.name = "ServerError"
  }
  /** The HTTP status. */
  readonly status: number

  constructor({ status, ...options }: Omit<ErrorOptions, "code"> & { readonly status: number }) {
    super({ ...options, code: `HTTP_${status}` })
    this.status = status
  }
}

/** Some files were not delivered; the others were. `code` is `UPLOAD_FAILED`, `cause` the first of the failures. */
export class UploadFailedError extends IndexCPError {
  static {
    this.prototype.name = "UploadFailedError"
  }
  /** What was delivered: from the path as it was given to the file's name on the server. */
  readonly results: Record<string, string>
  /** What was not, and is still in the buffer: from the path as it was given to the reason. */
  readonly failures: Record<string, IndexCPError>

  constructor(options: Pick<UploadFailedError, "results" | "failures">) {
    const failed = Object.entries(options.failures)
    const [path, cause] = failed[0] ?? []
    super({
      code: "UPLOAD_FAILED",
      message: `${failed.length} of ${failed.length + Object.keys(options.results).length} files were not delivered` +
        (cause === undefined ? "" : `. ${path}: ${cause.message}`),
      cause
    })
    this.results = options.results
    this.failures = options.failures
  }
}
