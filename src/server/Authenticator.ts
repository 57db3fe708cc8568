/**
 * Who is asking: from the `Authorization` header of a request to the name its uploads belong to.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { type TooMany, Unauthorized } from "../protocol/ProtocolError.ts"
import * as Sha256 from "../protocol/Sha256.ts"

/** What a key may do: send chunks, ask for the state of its uploads, delete unfinished ones. */
export type Right = "upload" | "read" | "abort"

/** The owner of uploads: the name of a key, never the key itself. */
export interface Principal {
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

export class Authenticator extends Context.Tag("indexedcp/Authenticator")<Authenticator, {
  /** The principal behind a request. `TooMany` when its address has failed too often just now; a right key never does. */
  readonly authenticate: (attempt: Attempt) => Effect.Effect<Principal, Unauthorized | TooMany>
}>() {}

const refused = new Unauthorized({
  message: "Send the server's API key as Authorization: Bearer <key>; clients read it from INDEXCP_API_KEY"
})

/** The key in `Bearer <key>`; the scheme in any case (RFC 9110, section 11.1), the key not empty. */
const bearer = (authorization: string): string | undefined => /^bearer +(.+)$/i.exec(authorization)?.[1]

/** Whether two texts are equal, in a time that does not depend on where they differ: their hashes are compared. */
const equal = (a: string, b: string): boolean => {
  const [left, right] = [a, b].map((text) => Sha256.of(new TextEncoder().encode(text)))
  let difference = 0
  for (let at = 0; at < 64; at++) difference |= left!.charCodeAt(at) ^ right!.charCodeAt(at)
  return difference === 0
}

/** One key, whose uploads belong to `default` whatever its bytes. */
export const layer = (key: Redacted.Redacted): Layer.Layer<Authenticator> =>
  Layer.succeed(Authenticator, {
    authenticate: ({ authorization }) =>
      Option.flatMapNullable(authorization, bearer).pipe(
        Option.filter((sent) => equal(sent, Redacted.value(key))),
        Option.match({ onNone: () => Effect.fail(refused), onSome: () => Effect.succeed({ name: "default" }) })
      )
  })

/** Keys by the names of their principals, in plain text. For tests. */
export const layerMemory = (keys: Readonly<Record<string, string>>): Layer.Layer<Authenticator> =>
  Layer.succeed(Authenticator, {
    authenticate: ({ authorization }) =>
      Option.flatMapNullable(authorization, bearer).pipe(
        Option.flatMapNullable((sent) => Object.entries(keys).find(([, key]) => equal(sent, key))),
        Option.match({ onNone: () => Effect.fail(refused), onSome: ([name]) => Effect.succeed({ name }) })
      )
  })
