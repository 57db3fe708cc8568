/**
 * What is there to send when an upload begins, and which ways it will take.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Uploader from "../client/Uploader.ts"
import { tell } from "./main.ts"
import type * as Tally from "./Tally.ts"

export interface Asked {
  /** As the uploader takes it: without one, each file goes where it was added for. */
  readonly endpoint: string | undefined
  /** Only files that were added for it. */
  readonly destined: boolean
  /** Files that were given up are left alone. */
  readonly endless: boolean
}

export interface Plan {
  readonly start: Tally.Start
  /** How many files stay where they are, because they are for another server, or for none that is known. */
  readonly others: number
  /** Where files go. */
  readonly endpoints: ReadonlySet<string>
}

/** What the buffer has, by its sums. */
export const make = (asked: Asked) =>
  Effect.gen(function*() {
    const { totals } = yield* Uploader.Uploader
    const endpoints = new Set<string>(asked.endpoint === undefined ? [] : [asked.endpoint])
    const start = { files: 0, size: 0, acknowledged: 0, newest: -1 }
    let others = 0
    for (const alike of yield* totals) {
      start.newest = Math.max(start.newest, alike.newest)
      const endpoint = Uploader.endpointFor(asked, alike)
      if (endpoint === undefined) others += alike.files
      if (endpoint === undefined || asked.endless && alike.failed) continue
      endpoints.add(endpoint)
      start.files += alike.files
      start.size += alike.size
      // what another server has acknowledged is sent again
      if (Option.contains(alike.endpoint, endpoint)) start.acknowledged += alike.settledBytes
    }
    return { start, others, endpoints } satisfies Plan
  })

const loopback = /^(localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\])$/i

/** One line for each host that would get the key unencrypted, over a network where others may listen. */
export const warnOfPlainHttp = (endpoints: Iterable<string>): Effect.Effect<void> => {
  const hosts = new Set(
    [...endpoints].map((endpoint) => new URL(endpoint))
      .filter(({ hostname, protocol }) => protocol === "http:" && !loopback.test(hostname))
      .map(({ host }) => host)
  )
  return Effect.forEach(
    hosts,
    (host) => tell(`Warning: http://${host} is not encrypted; the key and the files can be read on the way`),
    { discard: true }
  )
}
