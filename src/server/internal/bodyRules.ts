/**
 * Bodies held to a size and a pace.
 *
 * @internal
 */
import { TooLarge, TooSlow } from "../../protocol/ProtocolError.ts"
import type { Body } from "../Body.ts"
import * as Flow from "./flow.ts"

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

/** Counts what comes while the client is waited for, and tells of it when that is too little. */
const makeWatch = ({ leastBytes, window }: BodyRules, fail: (error: TooSlow) => void) => {
  let moved = 0
  /** Milliseconds of waiting in this window, before `since`. */
  let waited = 0
  let since: number | undefined
  let timer: ReturnType<typeof setTimeout> | undefined

  const look = () => {
    timer = undefined
    // it is set again when the client is waited for again
    if (since === undefined) return
    const now = performance.now()
    waited += now - since
    since = now
    if (waited + early >= window) {
      if (moved < leastBytes) {
        const seconds = Math.round(waited / 1000)
        return fail(
          new TooSlow({ message: `Only ${moved} bytes of the body came in ${seconds} seconds; send it again` })
        )
      }
      moved = 0
      waited = 0
    }
    timer = setTimeout(look, window - waited)
  }

  return {
    wait: () => {
      since ??= performance.now()
      timer ??= setTimeout(look, window - waited)
    },
    rest: () => {
      if (since !== undefined) waited += performance.now() - since
      since = undefined
    },
    moved: (bytes: number) => {
      moved += bytes
    },
    stop: () => {
      since = undefined
      clearTimeout(timer)
    }
  }
}

/**
 * The same body, whose pieces break off with `TooLarge` and `TooSlow`. Only the time spent waiting for the client counts,
 * not that in which the server itself is busy with what came.
 */
export const hold = (body: Body, rules: BodyRules): Body => ({
  ...body,
  pieces: new Flow.Flow((sink) => {
    let total = 0
    const end = (broken?: Flow.Broken) => {
      watch.stop()
      sink.end(broken)
    }
    const fail = (cause: TooLarge | TooSlow) => {
      valve.stop()
      end({ cause })
    }
    const watch = makeWatch(rules, fail)
    const valve = Flow.of(body.pieces).start({
      take: (piece) => {
        total += piece.length
        if (total > rules.maxBytes) return fail(chunkTooLarge(rules.maxBytes))
        watch.moved(piece.length)
        sink.take(piece)
      },
      end
    })
    watch.wait()
    return {
      shut: () => {
        watch.rest()
        valve.shut()
      },
      open: () => {
        watch.wait()
        valve.open()
      },
      stop: () => {
        watch.stop()
        valve.stop()
      }
    }
  })
})
