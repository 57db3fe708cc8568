/**
 * What is known of an API key besides the key: whose it is, what it may do, until when.
 *
 * @module
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Principal, Right } from "./Authenticator.ts"
import * as SafeName from "./SafeName.ts"

/** Everything a key can be allowed. */
export const rights: ReadonlyArray<Right> = ["upload", "read", "abort"]

/** A key without the key. */
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
/** See the schema of this name. */
export type NamedKey = typeof NamedKey.Type

/** A key that is asked for. */
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

/** A key that cannot be made as asked for. */
export class InvalidKey extends Schema.TaggedError<InvalidKey>("indexedcp/InvalidKey")("InvalidKey", {
  message: Schema.String
}) {}

/** The latest time that a `Date` can tell. */
const latest = 8.64e15

const invalid = (message: string) => Either.left(new InvalidKey({ message }))

const shown = (text: string): string => JSON.stringify(text.slice(0, 200))

const checkPrefix = (prefix: string): Either.Either<string, InvalidKey> => {
  const folder = prefix.replace(/\/$/, "")
  return folder.length <= 1000 && Either.isRight(SafeName.check(folder))
    ? Either.right(`${folder}/`)
    : invalid(`${shown(prefix)} is no folder inside the output folder; write one like scans/ or scans/2026/`)
}

/** What the key that is asked for will be. Now is in milliseconds. */
export const check = (asked: NewKey, now: number): Either.Either<Omit<NamedKey, "id">, InvalidKey> =>
  Either.gen(function*() {
    if (!/^[A-Za-z0-9._@-]{1,64}$/.test(asked.name)) {
      return yield* invalid(
        `A key's name has 1 to 64 of the characters A-Z a-z 0-9 . _ @ -; this one is ${shown(asked.name)}`
      )
    }
    const can = rights.filter((right) => asked.can?.includes(right) ?? true)
    if (can.length === 0) {
      return yield* invalid(`A key that may do nothing is of no use; allow it one or more of ${rights.join(", ")}`)
    }
    const { expiresAt, prefix } = asked
    if (expiresAt !== undefined && !(expiresAt > now && expiresAt <= latest)) {
      return yield* invalid("A key expires at a time in the future; give another one, or none at all")
    }
    return {
      name: asked.name,
      can,
      prefix: prefix === undefined ? Option.none() : Option.some(yield* checkPrefix(prefix)),
      createdAt: now,
      expiresAt: Option.fromNullable(expiresAt)
    }
  })

/** Who sends with a key. */
export const principal = ({ can, name, prefix }: NamedKey): Principal => ({
  name,
  can,
  ...(Option.isSome(prefix) ? { prefix: prefix.value } : {})
})
