/**
 * Which running program adds or sends which file, and which of them have died.
 *
 * @module
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Ref from "effect/Ref"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Fs from "node:fs"
import * as Os from "node:os"
import type { Database } from "./sqliteDatabase.ts"

const heartbeat = Duration.seconds(10)

/** A heartbeat is good for so long before it is worth a write again. */
const rested = Duration.toMillis(heartbeat) / 2

/** Without a heartbeat for so long, an owner on another host counts as dead, and so does one whose pid lives. */
const expiry = Duration.toMillis(Duration.minutes(1))

const Owner = Schema.Struct({ id: Schema.Number, host: Schema.String, pid: Schema.Number, beat_at: Schema.Number })
type Owner = typeof Owner.Type
const decodeOwners = Schema.decodeUnknown(Schema.Array(Owner))
const decodeIds = Schema.decodeUnknown(Schema.Tuple(Schema.Struct({ id: Schema.Number })))

/** Where pids mean the same: the host, and on Linux the pid namespace, so that containers do not misjudge each other. */
const hostName = Effect.sync(() => {
  try {
    return `${Os.hostname()} ${Fs.readlinkSync("/proc/self/ns/pid")}`
  } catch {
    return Os.hostname()
  }
})

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    // EPERM: it runs, as another user.
    return !(cause instanceof Error && "code" in cause && cause.code === "ESRCH")
  }
}

export type Owners = Effect.Effect.Success<ReturnType<typeof make>>

/** This program as an owner: it beats while it has anything in hand, and is struck off when the scope closes. */
export const make = Effect.fnUntraced(function*(database: Database) {
  const { read, sql, writeUnsynced } = database
  const host = yield* hostName
  const pid = process.pid
  const enlisting = yield* Effect.makeSemaphore(1)
  const known = yield* Ref.make<number | undefined>(undefined)
  const holds = yield* Ref.make({ last: 0, open: 0 })

  /** This owner's number, drawn at first need: programs that only look never write. */
  const me = enlisting.withPermits(1)(
    Effect.gen(function*() {
      const mine = yield* Ref.get(known)
      if (mine !== undefined) return mine
      const now = yield* Clock.currentTimeMillis
      const [{ id }] = yield* writeUnsynced(
        Effect.flatMap(
          sql`INSERT INTO owners (host, pid, beat_at) VALUES (${host}, ${pid}, ${now}) RETURNING id`,
          decodeIds
        )
      )
      yield* Ref.set(known, id)
      return id
    })
  )

  /** Inside a `write`: says that this owner lives, also when it was taken for dead since; not again when it just did. */
  const beat = Effect.fnUntraced(function*(mine: number) {
    const now = yield* Clock.currentTimeMillis
    yield* sql`INSERT INTO owners (id, host, pid, beat_at) VALUES (${mine}, ${host}, ${pid}, ${now})
      ON CONFLICT (id) DO UPDATE SET beat_at = ${now} WHERE beat_at NOT BETWEEN ${now - rested} AND ${now}`
  })

  /** Inside a `read` or `write`: whether the owner is dead, or was swept away. */
  const isDead = Effect.fnUntraced(function*(owner: Owner | undefined) {
    if (owner === undefined) return true
    const now = yield* Clock.currentTimeMillis
    return now - owner.beat_at > expiry || (owner.host === host && !isRunning(owner.pid))
  })

  /** Inside a `read` or `write`: whether a living owner has the file in hand. */
  const isHeld = Effect.fnUntraced(function*(owner: number | null) {
    if (owner === null) return false
    const [row] = yield* Effect.flatMap(
      sql`SELECT id, host, pid, beat_at FROM owners WHERE id = ${owner}`,
      decodeOwners
    )
    return !(yield* isDead(row))
  })

  /** Inside a `read` or `write`: the owners that live. */
  const living = Effect.flatMap(sql`SELECT id, host, pid, beat_at FROM owners ORDER BY id`, decodeOwners).pipe(
    Effect.flatMap(Effect.filter((owner) => Effect.negate(isDead(owner)))),
    Effect.map((owners): ReadonlySet<number> => new Set(owners.map(({ id }) => id)))
  )

  /** Whether no other program has anything in hand. */
  const isAlone = Effect.zipWith(
    read(living),
    Ref.get(known),
    (alive, mine) => [...alive].every((id) => id === mine)
  )

  /** A number for one thing in hand until the scope closes; meanwhile the heart beats. */
  const hold = Effect.acquireRelease(
    Ref.modify(holds, ({ last, open }) => [last + 1, { last: last + 1, open: open + 1 }]),
    () => Ref.update(holds, ({ last, open }) => ({ last, open: open - 1 }))
  )

  /** Gives up what dead owners have in hand: what they were adding is dropped, what they were sending is free again. */
  const sweep = Effect.gen(function*() {
    const owners = Effect.flatMap(sql`SELECT id, host, pid, beat_at FROM owners`, decodeOwners)
    const isNeeded = Effect.gen(function*() {
      const orphans = yield* sql`SELECT id FROM files WHERE owner NOT IN (SELECT id FROM owners) LIMIT 1`
      const loose = yield* sql`SELECT 1 FROM loose WHERE owner NOT IN (SELECT id FROM owners) LIMIT 1`
      return orphans.length > 0 || loose.length > 0 || (yield* Effect.exists(yield* owners, isDead))
    })
    if (!(yield* read(isNeeded))) return
    yield* writeUnsynced(
      Effect.gen(function*() {
        const dead = yield* Effect.flatMap(owners, Effect.filter(isDead))
        yield* Effect.forEach(dead, ({ id }) => sql`DELETE FROM owners WHERE id = ${id}`, { discard: true })
        yield* sql`UPDATE files SET state = 'dropping' WHERE state = 'adding' AND owner NOT IN (SELECT id FROM owners)`
        yield* sql`UPDATE files SET owner = NULL, hold = NULL, next_try = NULL
          WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM owners)`
        yield* sql`UPDATE loose SET owner = NULL WHERE owner NOT IN (SELECT id FROM owners)`
      })
    )
  })

  yield* Effect.gen(function*() {
    const { open } = yield* Ref.get(holds)
    const mine = yield* Ref.get(known)
    if (open > 0 && mine !== undefined) yield* writeUnsynced(beat(mine))
  }).pipe(
    Effect.catchAll((error) => Effect.logWarning("The buffer missed a heartbeat", error.message)),
    Effect.repeat(Schedule.spaced(heartbeat)),
    Effect.delay(heartbeat),
    Effect.forkScoped
  )

  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      const mine = yield* Ref.get(known)
      if (mine !== undefined) yield* writeUnsynced(sql`DELETE FROM owners WHERE id = ${mine}`)
    }).pipe(Effect.ignoreLogged)
  )

  return { me, beat, isHeld, isAlone, living, hold, sweep }
})
