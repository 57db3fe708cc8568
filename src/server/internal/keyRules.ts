/**
 * The rules of named keys, over rows that something keeps.
 *
 * @internal
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type { ServerFailure } from "../../protocol/ProtocolError.ts"
import type { Sha256 } from "../../protocol/Sha256.ts"
import { Identifiers } from "../../protocol/UploadId.ts"
import * as ApiKeys from "../ApiKeys.ts"
import type { Principal } from "../Authenticator.ts"
import * as SafeName from "../SafeName.ts"
import * as Secrets from "./secrets.ts"

/** A key and its hash. */
export interface Row {
  readonly key: ApiKeys.NamedKey
  readonly digest: Secrets.Digest
}

export interface Rows {
  /** As they are now, whoever changed them. In the order in which they were added. */
  readonly all: Effect.Effect<ReadonlyArray<Row>, ServerFailure>
  /** Durable on return. */
  readonly put: (key: ApiKeys.NamedKey, sha256: Sha256) => Effect.Effect<void, ServerFailure>
  /** Removes those with this name or id, durably, and says how many. */
  readonly remove: (nameOrId: string) => Effect.Effect<number, ServerFailure>
}

/** The latest time that a `Date` can tell. */
const latest = 8.64e15

const invalid = (message: string) => new ApiKeys.InvalidKey({ message })

const prefixOf = (prefix: string): Either.Either<string, ApiKeys.InvalidKey> => {
  const folder = prefix.replace(/\/$/, "")
  return folder.length <= 1000 && Either.isRight(SafeName.check(folder))
    ? Either.right(`${folder}/`)
    : Either.left(
      invalid(
        `${
          JSON.stringify(prefix.slice(0, 200))
        } is no folder inside the output folder; write one like scans/ or scans/2026/`
      )
    )
}

const check = (asked: ApiKeys.NewKey, now: number) =>
  Either.gen(function*() {
    if (!/^[A-Za-z0-9._@-]{1,64}$/.test(asked.name)) {
      return yield* Either.left(
        invalid(
          `A key's name has 1 to 64 of the characters A-Z a-z 0-9 . _ @ -; this one is ${
            JSON.stringify(asked.name.slice(0, 200))
          }`
        )
      )
    }
    const can = ApiKeys.rights.filter((right) => asked.can?.includes(right) ?? true)
    if (can.length === 0) {
      return yield* Either.left(
        invalid(`A key that may do nothing is of no use; allow it ${ApiKeys.rights.join(", ")}`)
      )
    }
    const { expiresAt, prefix } = asked
    if (expiresAt !== undefined && !(expiresAt > now && expiresAt <= latest)) {
      return yield* Either.left(invalid("A key expires at a time in the future; give another one, or none at all"))
    }
    return {
      name: asked.name,
      can,
      prefix: Option.fromNullable(prefix === undefined ? undefined : yield* prefixOf(prefix)),
      createdAt: now,
      expiresAt: Option.fromNullable(expiresAt)
    }
  })

const principalOf = ({ can, name, prefix }: ApiKeys.NamedKey): Principal => ({
  name,
  can,
  ...(Option.isSome(prefix) ? { prefix: prefix.value } : {})
})

export const make = (rows: Rows): Effect.Effect<Context.Tag.Service<ApiKeys.ApiKeys>> =>
  Effect.map(Identifiers, (identifiers) => ({
    add: Effect.fn("ApiKeys.add")(function*(asked: ApiKeys.NewKey) {
      const checked = yield* check(asked, yield* Clock.currentTimeMillis)
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
      let found: ApiKeys.NamedKey | undefined
      for (const row of yield* rows.all) if (Secrets.equal(row.digest, sent)) found = row.key
      const now = yield* Clock.currentTimeMillis
      return Option.fromNullable(found).pipe(
        Option.filter(({ expiresAt }) => Option.isNone(expiresAt) || now < expiresAt.value),
        Option.map(principalOf)
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
