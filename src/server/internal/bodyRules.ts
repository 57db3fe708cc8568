/**
 * Bodies held to a size and a pace.
 *
 * @internal
 */
import { TooLarge, TooSlow } from "../../protocol/ProtocolError.ts"
import type { Body } from "../Body.ts"

/** What a body has to keep to. */
export interface BodyRules {
  /** Bytes; one more is `TooLarge`. */
  readonly maxBytes: number
  /** Milliseconds of waiting for the client in which `leastBytes` have to come; else the body is `TooSlow`. */
  readonly window: number
  readonly leastBytes: number
}

export const chunkTooLarge = (most: number) =>
  new TooLarge({ message: `A chunk may have ${most} bytes at most; send this one in parts` })

/** Timers may come so many milliseconds early. */
const early = 2

/** Counts what comes while somebody waits for it. */
const makeWatch = ({ leastBytes, window }: BodyRules) => {
  let moved = 0
  let waited = 0
  let waiting: { since: number; readonly fail: (error: TooSlow) => void } | undefined
  let timer: ReturnType<typeof setTimeout> | undefined

  const look = () => {
    timer = undefined
    // whoever asks for the next piece sets the timer again
    if (waiting === undefined) return
    const now = performance.now()
    waited += now - waiting.since
    waiting.since = now
    if (waited + early >= window) {
      if (moved < leastBytes) {
        const seconds = Math.round(waited / 1000)
        return waiting.fail(
          new TooSlow({ message: `Only ${moved} bytes of the body came in ${seconds} seconds; send it again` })
        )
      }
      moved = 0
      waited = 0
    }
    arm()
  }
  const arm = () => {
    timer ??= setTimeout(look, window - waited)
  }

  return {
    begin: (fail: (error: TooSlow) => void) => {
      waiting = { since: performance.now(), fail }
      arm()
    },
    end: (bytes: number) => {
      if (waiting !== undefined) waited += performance.now() - waiting.since
      waiting = undefined
      moved += bytes
    },
    stop: () => clearTimeout(timer)
  }
}

/**
 * The same body, whose pieces throw `TooLarge` and `TooSlow`. Only the time spent waiting for the client counts, not that in
 * which the server itself is busy with what came.
 */
export const hold = (body: Body, rules: BodyRules): Body => ({
  ...body,
  pieces: {
    [Symbol.asyncIterator]: () => {
      const iterator = body.pieces[Symbol.asyncIterator]()
      const watch = makeWatch(rules)
      let total = 0
      const next = async () => {
        let bytes = 0
        try {
          const piece = await Promise.race([iterator.next(), new Promise<never>((_, reject) => watch.begin(reject))])
          if (piece.done === true) {
            watch.stop()
            return piece
          }
          bytes = piece.value.length
          total += bytes
          if (total > rules.maxBytes) {
            throw chunkTooLarge(rules.maxBytes)
          }
          return piece
        } catch (cause) {
          watch.stop()
          throw cause
        } finally {
          watch.end(bytes)
        }
      }
      return { next }
    }
  }
})
