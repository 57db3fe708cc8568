/**
 * The exit codes of both programs.
 *
 * @module
 */
import * as Data from "effect/Data"
import type { OutcomeState } from "../client/UploadEvent.ts"

export const success = 0
export const unexpected = 1
export const usage = 2
/** Some files failed for good; or the server could not start. */
export const failed = 3
export const keyRefused = 4
/** Gave up waiting for the server. The data is kept. */
export const gaveUp = 5
/** A revision-1 server may or may not have got a chunk. The data is kept. */
export const unconfirmed = 6

export type BySignal = Readonly<Record<"SIGINT" | "SIGTERM", number>>

/** A signal ends what was to be done before it is done. */
export const interrupted: BySignal = { SIGINT: 130, SIGTERM: 143 }

/** A signal is how one stops it. */
export const stopped: BySignal = { SIGINT: success, SIGTERM: success }

/** Ends the program with a code, after a line on stderr if there is one. */
export class Exit extends Data.TaggedError("Exit")<{ readonly code: number; readonly line?: string }> {}

/** What became of a file, or of a source that could not be read. */
export type EndState = OutcomeState | "skipped"

const byState: Readonly<Record<EndState, number>> = {
  delivered: success,
  unconfirmed,
  waiting: gaveUp,
  failed,
  claimed: gaveUp,
  skipped: failed
}

/** Of several codes that apply, which one ends the program: the first of 4, 6, 5, 3. */
const first = (codes: ReadonlyArray<number>): number =>
  [keyRefused, unconfirmed, gaveUp, failed].find((code) => codes.includes(code)) ?? success

/** The code for several outcomes. */
export const of = (states: Iterable<EndState>): number => first([...states].map((state) => byState[state]))

/** The codes of errors that end a program as a whole. */
const byTag: Readonly<Record<string, number>> = {
  ApiKeyMissing: keyRefused,
  KeyRefused: keyRefused,
  WrongEndpoint: failed,
  SourceError: failed,
  SourceChanged: failed,
  BufferFull: failed,
  Refused: failed,
  Unreachable: gaveUp,
  NoAnswer: gaveUp,
  InvalidEndpoint: usage,
  InvalidChunkSize: usage,
  HttpClientSettingsError: usage,
  CannotListen: failed,
  FolderInUse: failed,
  ServerFailure: failed,
  StorageFull: failed
}

/** The code of an error that ends a program, after what had become of some files. */
export const ofError = (error: unknown, states: Iterable<EndState> = []): number => {
  const own = byTag[(error as { readonly _tag?: string })._tag ?? ""] ?? unexpected
  return own < failed ? own : first([own, of(states)])
}
