/**
 * Named API keys: made here, shown once, and kept as hashes.
 *
 * @module
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type { ServerFailure } from "../protocol/ProtocolError.ts"
import type { Principal } from "./Authenticator.ts"
import * as rules from "./internal/keyRules.ts"
import type { InvalidKey, NamedKey, NewKey } from "./NamedKey.ts"

/** A key that was added. It cannot be shown again. */
export interface Added extends NamedKey {
  /** 64 hex digits from a cryptographic source. */
  readonly key: Redacted.Redacted
}

/**
 * To rotate a key, add another one of its name, give it to the client, then revoke the old one by its id: uploads belong
 * to the name.
 */
export class ApiKeys extends Context.Tag("indexedcp/ApiKeys")<ApiKeys, {
  /** Makes a key that counts from when this returns, in whatever process authenticates. */
  readonly add: (key: NewKey) => Effect.Effect<Added, InvalidKey | ServerFailure>
  /** All that were not revoked, also those that have expired, the oldest first. */
  readonly list: Effect.Effect<ReadonlyArray<NamedKey>, ServerFailure>
  /** Revokes the key of this id, or all of this name, and says how many. They do not count any more when it returns. */
  readonly revoke: (nameOrId: string) => Effect.Effect<number, ServerFailure>
  /** Whose key this is, if it is one now. In a time that does not depend on which keys it resembles. */
  readonly find: (key: Redacted.Redacted) => Effect.Effect<Option.Option<Principal>, ServerFailure>
}>() {}

/** Keys in memory. For tests. */
export const layerMemory: Layer.Layer<ApiKeys> = Layer.effect(ApiKeys, rules.makeMemory)
