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
import * as Schema from "effect/Schema"
import type { ServerFailure } from "../protocol/ProtocolError.ts"
import type { Principal, Right } from "./Authenticator.ts"
import * as rules from "./internal/keyRules.ts"

/** Everything a key can be allowed. */
export const rights: ReadonlyArray<Right> = ["upload", "read", "abort"]

/** What is known of a key, without the key. */
export const NamedKey = Schema.Struct({
  /** 8 hex digits that tell keys of one name apart. */
  id: Schema.String,
  /** Whose its uploads are. Several keys may have one name. */
  name: Schema.String,
  can: Schema.Array(Schema.Literal("upload", "read", "abort")),
  /** The folder below the output folder in which its files are put, with a `/` at its end. */
  prefix: Schema.OptionFromNullOr(Schema.String),
  /** Milliseconds, as all times here. */
  createdAt: Schema.Number,
  /** From then on it is not taken any more. */
  expiresAt: Schema.OptionFromNullOr(Schema.Number)
})
export type NamedKey = typeof NamedKey.Type

export interface NewKey {
  /** 1 to 64 of `A-Z a-z 0-9 . _ @ -`. The name `default` shares its uploads with a single key. */
  readonly name: string
  /** Default: everything. */
  readonly can?: ReadonlyArray<Right>
  /** Milliseconds, in the future. Default: never. */
  readonly expiresAt?: number
  /** A folder below the output folder, like `scans/`. Default: none. */
  readonly prefix?: string
}

/** A key that was added. It cannot be shown again. */
export interface Added extends NamedKey {
  /** 64 hex digits from a cryptographic source. */
  readonly key: Redacted.Redacted
}

/** A key that cannot be made as asked for. */
export class InvalidKey extends Schema.TaggedError<InvalidKey>("indexedcp/InvalidKey")("InvalidKey", {
  message: Schema.String
}) {}

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
