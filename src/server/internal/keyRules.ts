/**
 * The rules of named keys, over rows that something keeps.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { ServerFailure } from "../../protocol/ProtocolError.ts"
import type { Sha256 } from "../../protocol/Sha256.ts"
import { Identifiers } from "../../protocol/UploadId.ts"
import type { ApiKeys } from "../ApiKeys.ts"
import * as NamedKey from "../NamedKey.ts"
import * as Secrets from "./secrets.ts"

/** A key as it is kept: its hash. */
export interface Row {
  readonly key: NamedKey.NamedKey
  readonly digest: Secrets.Digest
}

/** What the rules need of a database. */
export interface Rows {
  /** As they are now, whoever changed them. In the order in which they were added. */
  readonly all: Effect.Effect<ReadonlyArray<Row>, ServerFailure>
  /** Durable on return. */
  readonly put: (key: NamedKey.NamedKey, sha256: Sha256) => Effect.Effect<void, ServerFailure>
  /** Removes those with this name or id, durably, and says how many. */
  readonly remove: (nameOrId: string) => Effect.Effect<number, ServerFailure>
}

export const make = (rows: Rows): Effect.Effect<Context.Tag.Service<ApiKeys>> =>
  Effect.map(Identifiers, (identifiers) => ({
    add: Effect.fn("ApiKeys.add")(function*(asked: NamedKey.NewKey) {
      const checked = yield* NamedKey.check(asked, yield* Clock.currentTimeMillis)
      const taken = (yield* rows.all).flatMap(({ key }) => [key.id, key.name])
      const id = yield* Effect.repeat(Effect.map(identifiers.next, (id) => id.slice(-8)), {
        while: (id) => taken.includes(id)
      })
      const named = { id, ...checked }
      const key = (yield* identifiers.next) + (yield* identifiers.next)
      yield* rows.put(named, Secrets.hash(key))
      return { ...named, key: Redacted.make(key) }
    }),
    list: Effect.map(rows.all, (rows) => rows.map(({ key }) => key)),
    revoke: rows.remove,
    find: Effect.fnUntraced(function*(key: Redacted.Redacted) {
      const sent = Secrets.digest(Secrets.hash(Redacted.value(key)))
      let found: NamedKey.NamedKey | undefined
      // to the end, wherever it is
      for (const row of yield* rows.all) if (Secrets.equal(row.digest, sent)) found = row.key
      const now = yield* Clock.currentTimeMillis
      return Option.fromNullable(found).pipe(
        Option.filter(({ expiresAt }) => Option.isNone(expiresAt) || now < expiresAt.value),
        Option.map(NamedKey.principal)
      )
    })
  }))

export const makeMemory = Effect.suspend(() => {
  let rows: ReadonlyArray<Row> = []
  return make({
    all: Effect.sync(() => rows),
    put: (key, sha256) =>
      Effect.sync(() => {
        rows = [...rows, { key, digest: Secrets.digest(sha256) }]
      }),
    remove: (nameOrId) =>
      Effect.sync(() => {
        const before = rows.length
        rows = rows.filter(({ key }) => key.id !== nameOrId && key.name !== nameOrId)
        return before - rows.length
      })
  })
})
