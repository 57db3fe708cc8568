/**
 * The typed errors of the programs as the classes that Promises reject with.
 *
 * @internal
 */
import * as Cause from "effect/Cause"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import {
  ApiKeyMissingError,
  AuthenticationError,
  FileNotFoundError,
  FileReadError,
  IndexCPError,
  NetworkError,
  ServerError
} from "../Errors.ts"

interface Tagged {
  readonly _tag: string
  readonly message: string
  readonly cause?: unknown
}

const isTagged = (error: unknown): error is Tagged =>
  Predicate.hasProperty(error, "_tag") && Predicate.hasProperty(error, "message")

/** The programs speak of their command lines; here these are options. */
const inOptions = (message: string): string =>
  message
    .replace(/--cacert/g, "NODE_EXTRA_CA_CERTS")
    .replace(/--([a-z]+(?:-[a-z]+)*)/g, (_, flag: string) =>
      `the option ${flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())}`)

/** The code that the system gave an error, or one behind it. */
const systemCode = (error: unknown): string | undefined => {
  if (!Predicate.isRecord(error)) return undefined
  return typeof error["code"] === "string" ? error["code"] : systemCode(error["cause"])
}

const codes: Readonly<Record<string, string>> = {
  InvalidChunkSize: "INVALID_ARGUMENT",
  InvalidEndpoint: "INVALID_ARGUMENT",
  HttpClientSettingsError: "INVALID_ARGUMENT",
  ChunkStoreError: "BUFFER",
  BufferFull: "BUFFER_FULL",
  AlreadyClaimed: "BUSY",
  Unconfirmed: "UNCONFIRMED",
  GivenUp: "NOT_DELIVERED",
  PieceDamaged: "NOT_DELIVERED",
  FolderInUse: "FOLDER_IN_USE",
  ServerFailure: "STORAGE",
  StorageFull: "STORAGE"
}

const ofTagged = (error: Tagged): IndexCPError => {
  const message = inOptions(error.message)
  const cause = error.cause ?? error
  const told = { message, cause }
  switch (error._tag) {
    case "SourceError": {
      const { path } = error as Tagged & { readonly path: string }
      const code = systemCode(cause) ?? "UNREADABLE"
      return code === "ENOENT"
        ? new FileNotFoundError({ ...told, code, path })
        : new FileReadError({ ...told, code, path })
    }
    case "SourceChanged":
      return new FileReadError({ ...told, code: "CHANGED", path: (error as Tagged & { readonly path: string }).path })
    case "ApiKeyMissing":
      return new ApiKeyMissingError({ ...told, code: "API_KEY_MISSING" })
    case "KeyRefused":
      return new AuthenticationError({ ...told, code: "UNAUTHORIZED" })
    case "Refused": {
      const { status } = error as Tagged & { readonly status: number }
      return status === 401 || status === 403
        ? new AuthenticationError({ ...told, code: "UNAUTHORIZED" })
        : new ServerError({ ...told, status })
    }
    case "Unreachable":
    case "NoAnswer":
      return new NetworkError({ ...told, code: "NETWORK" })
    case "WrongEndpoint":
      return new ServerError({ ...told, status: 404 })
    case "GaveUpWaiting":
    case "GivenUp": {
      // what it was given up for decides
      if (!isTagged(error.cause)) break
      const why = ofTagged(error.cause)
      return why instanceof ServerError
        ? new ServerError({ message, cause: why.cause, status: why.status })
        : new NetworkError({ message, cause: why.cause, code: "NETWORK" })
    }
    case "CannotListen":
      return new IndexCPError({ ...told, code: systemCode(cause) ?? "CANNOT_LISTEN" })
  }
  return new IndexCPError({ ...told, code: codes[error._tag] ?? "UNEXPECTED" })
}

/** Any error as one of ours. */
export const of = (error: unknown): IndexCPError =>
  error instanceof IndexCPError
    ? error
    : isTagged(error)
    ? ofTagged(error)
    : new IndexCPError({ code: "UNEXPECTED", message: String(error), cause: error })

/** Why a fiber failed. */
export const ofCause = (cause: Cause.Cause<unknown>): IndexCPError =>
  Option.match(Cause.failureOption(cause), {
    onSome: of,
    onNone: () =>
      Cause.isInterruptedOnly(cause)
        ? new IndexCPError({ code: "CLOSED", message: "It was closed before this was done" })
        : new IndexCPError({
          code: "UNEXPECTED",
          message: `Unexpected failure: ${String(Cause.squash(cause))}`,
          cause: Cause.squash(cause)
        })
  })
