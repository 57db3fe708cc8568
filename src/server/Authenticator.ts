/**
 * Who is asking: from the `Authorization` header of a request to the name its uploads belong to.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { type TooMany, Unauthorized } from "../protocol/ProtocolError.ts"
import { ApiKeys } from "./ApiKeys.ts"
import * as Failures from "./internal/failures.ts"
import * as Secrets from "./internal/secrets.ts"

/** What a key may do: send chunks, ask for the state of its uploads, delete unfinished ones. */
export type Right = "upload" | "read" | "abort"

/** The owner of uploads: the name of a key, never the key itself. */
export interface Principal {
  /** Of the key. Uploads are found by it and their id. */
  readonly name: string
  /** What its key may do. Default: everything. */
  readonly can?: ReadonlyArray<Right>
  /** A folder below the output folder, like `scans/`, in which its files are put. Default: none. */
  readonly prefix?: string
}

/** What a request shows of who sends it. */
export interface Attempt {
  /** The value of its `Authorization` header. */
  readonly authorization: Option.Option<string>
  /** Where it comes from: an IP address, or empty where there are none. */
  readonly address: string
}

/**
 * Who may send and ask. Layers: {@link layer} (one key), {@link layerKeys} (named ones), {@link layerMemory}.
 *
 * @example
 * ```ts
 * // whoever a service of one's own knows
 * const mine = Layer.effect(Authenticator.Authenticator, Effect.map(Accounts, (accounts) => ({
 *   authenticate: ({ authorization }) =>
 *     accounts.byToken(authorization).pipe(
 *       Effect.map(({ userName }) => ({ name: userName })),
 *       Effect.mapError(() => new ProtocolError.Unauthorized({ message: "Log in again" }))
 *     )
 * })))
 * ```
 */
export class Authenticator extends Context.Tag("indexedcp/Authenticator")<Authenticator, {
  /** The principal behind a request. `TooMany` when its address has failed too often just now; a right key never does. */
  readonly authenticate: (attempt: Attempt) => Effect.Effect<Principal, Unauthorized | TooMany>
}>() {}

const refused = new Unauthorized({
  message: "Send the server's API key as Authorization: Bearer <key>; clients read it from INDEXCP_API_KEY"
})

/** The key in `Bearer <key>`; the scheme in any case (RFC 9110, section 11.1), the key not empty. */
const bearer = ({ authorization }: Attempt): Option.Option<string> =>
  Option.flatMapNullable(authorization, (value) => /^bearer +(.+)$/i.exec(value)?.[1])

const digestOf = (key: string): Secrets.Digest => Secrets.digest(Secrets.hash(key))

/** Whose uploads those of a key without a name are. */
const unnamed: Principal = { name: "default" }

/** Whether a text is the key; only its hash is kept. Nothing is, where there is no key. */
const isKey = (key: Redacted.Redacted | undefined): (sent: string) => boolean => {
  if (key === undefined) return () => false
  const digest = digestOf(Redacted.value(key))
  return (sent) => Secrets.equal(digestOf(sent), digest)
}

/** Refuses, and slows down who is refused too often. */
const refuse = (failures: Failures.Failures, { address }: Attempt): Effect.Effect<never, Unauthorized | TooMany> =>
  Effect.zipRight(failures.count(address), Effect.fail(refused))

/** One key, whose uploads belong to `default` whatever its bytes. */
export const layer = (
  key: Redacted.Redacted,
  options: Failures.FailuresOptions = {}
): Layer.Layer<Authenticator> =>
  Layer.sync(Authenticator, () => {
    const failures = Failures.make(options)
    const isRight = isKey(key)
    return {
      authenticate: (attempt) =>
        Option.exists(bearer(attempt), isRight) ? Effect.succeed(unnamed) : refuse(failures, attempt)
    }
  })

/** A key at hand, and whose its uploads are. */
export interface GivenKey {
  readonly name: string
  readonly key: Redacted.Redacted
}

/** What {@link layerKeys} takes. */
export interface KeysOptions extends Failures.FailuresOptions {
  /** A key besides the named ones, whose uploads belong to `default`. Default: none. */
  readonly single?: Redacted.Redacted | undefined
  /** Further ones, whose uploads belong to their names; several may have one name. Default: none. */
  readonly given?: ReadonlyArray<GivenKey> | undefined
}

/**
 * The keys of {@link ApiKeys}, and those given besides. A key that is both is the one of {@link ApiKeys}, with its limits.
 * When these cannot be read, the given ones still pass, and what else is asked for dies: nothing is refused that may be
 * right.
 */
export const layerKeys = (options: KeysOptions = {}): Layer.Layer<Authenticator, never, ApiKeys> =>
  Layer.effect(
    Authenticator,
    Effect.map(ApiKeys, (keys) => {
      const failures = Failures.make(options)
      const given = [
        { principal: unnamed, isRight: isKey(options.single) },
        ...(options.given ?? []).map(({ key, name }) => ({ principal: { name }, isRight: isKey(key) }))
      ]
      return {
        authenticate: Effect.fnUntraced(function*(attempt: Attempt) {
          const sent = bearer(attempt)
          if (Option.isNone(sent)) return yield* refuse(failures, attempt)
          const named = yield* Effect.either(keys.find(Redacted.make(sent.value)))
          const [own] = given.filter(({ isRight }) => isRight(sent.value))
          if (Either.isRight(named) && Option.isSome(named.right)) return named.right.value
          if (own !== undefined) return own.principal
          return yield* Either.isLeft(named) ? Effect.die(named.left) : refuse(failures, attempt)
        })
      }
    })
  )

/** Keys by the names of their principals, in plain text. For tests. */
export const layerMemory = (keys: Readonly<Record<string, string>>): Layer.Layer<Authenticator> =>
  Layer.sync(Authenticator, () => {
    const known = Object.entries(keys).map(([name, key]) => ({ name, digest: digestOf(key) }))
    return {
      authenticate: (attempt) =>
        bearer(attempt).pipe(
          Option.map(digestOf),
          Option.flatMapNullable((sent) => known.find(({ digest }) => Secrets.equal(digest, sent))),
          Option.match({ onNone: () => Effect.fail(refused), onSome: ({ name }) => Effect.succeed({ name }) })
        )
    }
  })
