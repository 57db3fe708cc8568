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
  const error = Option.map(trouble, ({ reason }) => reason)
  if (held) {
    const nextTry = Option.flatMap(trouble, ({ nextTry }) => nextTry)
    return { state: Option.isSome(trouble) ? "waiting" : "sending", error, nextTry }
  }
  const nextTry = Option.none()
  if (Option.isSome(failure)) return { state: "failed", error: failure, nextTry }
  const unanswered = Option.flatMap(
    delivery,
    ({ revision, sending }) => Option.contains(revision, 1) ? sending : Option.none()
  )
  if (Option.isNone(unanswered)) return { state: "queued", error, nextTry }
  const unconfirmed = () => `Chunk ${unanswered.value} may or may not have arrived`
  return { state: "unconfirmed", error: Option.orElseSome(error, unconfirmed), nextTry }
}
