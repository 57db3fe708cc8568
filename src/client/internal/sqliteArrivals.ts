/**
 * Tells whoever listens that there may be a file to send.
 *
 * @module
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type { ChunkStoreError } from "../ChunkStore.ts"
import type { Database } from "./sqliteDatabase.ts"
import type { Owners } from "./sqliteOwners.ts"

const interval = Duration.millis(500)

const decodeVersion = Schema.decodeUnknown(Schema.Tuple(Schema.Struct({ data_version: Schema.Number })))

/**
 * A signal at once, then one for what this program does, by `signal`, and one for what others do. SQLite counts the commits
 * of other connections, and that is asked for only while somebody listens. A program that was killed commits nothing, but
 * what it had in hand is free: the living are watched too.
 */
export const make = Effect.fnUntraced(function*({ read, sql }: Database, { living }: Owners) {
  const own = yield* PubSub.sliding<void>(1)

  const look = read(Effect.zipWith(
    Effect.flatMap(sql`PRAGMA data_version`, decodeVersion),
    living,
    ([row], alive) => [row.data_version, ...alive].join()
  ))

  const arrivals: Stream.Stream<void, ChunkStoreError> = Stream.unwrapScoped(Effect.gen(function*() {
    // Both before the first signal: what happens from then on is never missed.
    const mine = yield* PubSub.subscribe(own)
    const first = yield* look
    const others = Stream.repeatEffectWithSchedule(look, Schedule.spaced(interval)).pipe(
      (looks) => Stream.concat(Stream.succeed(first), looks),
      Stream.changes,
      Stream.drop(1),
      Stream.map(() => undefined)
    )
    return Stream.concat(
      Stream.succeed(undefined),
      Stream.merge(Stream.fromQueue(mine, { maxChunkSize: 1 }), others)
    )
  }))

  return { arrivals, signal: PubSub.publish(own, undefined) }
})
