/**
 * How a file in the buffer stands, in one word.
 *
 * @module
 */
import * as Option from "effect/Option"
import type { BufferedFile } from "../client/ChunkStore.ts"

/**
 * `sending` and `waiting`: a program is at it right now, or waits to try again. `queued`: the next upload sends it.
 * `failed`: given up, with the reason. `unconfirmed`: an old server may or may not have got a chunk of it.
 */
export type FileState = "queued" | "sending" | "waiting" | "failed" | "unconfirmed"

export interface Standing {
  readonly state: FileState
  /** What last went wrong, also with a file that is queued again. */
  readonly error: Option.Option<string>
  /** Milliseconds since 1970. */
  readonly nextTry: Option.Option<number>
}

/** The state of a file, and the trouble that goes with it. */
export const of = ({ delivery, failure, held, trouble }: BufferedFile): Standing => {
  const reason = Option.map(trouble, ({ reason }) => reason)
  if (held) {
    const nextTry = Option.flatMap(trouble, ({ nextTry }) => nextTry)
    return { state: Option.isSome(trouble) ? "waiting" : "sending", error: reason, nextTry }
  }
  const kept = { error: Option.orElse(failure, () => reason), nextTry: Option.none() }
  if (Option.isSome(failure)) return { state: "failed", ...kept }
  const unanswered = Option.filter(delivery, ({ revision }) => Option.contains(revision, 1)).pipe(
    Option.flatMap(({ sending }) => sending)
  )
  return Option.match(unanswered, {
    onNone: () => ({ state: "queued", ...kept }),
    onSome: (chunk) => ({
      state: "unconfirmed",
      ...kept,
      error: Option.orElseSome(kept.error, () => `Chunk ${chunk} may or may not have arrived`)
    })
  })
}
