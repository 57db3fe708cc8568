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
import { Unauthorized } from "../protocol/ProtocolError.ts"
import * as Sha256 from "../protocol/Sha256.ts"

/** The owner of uploads: the name of a key, never the key itself. */
export interface Principal {
  readonly name: string
}

export class Authenticator extends Context.Tag("indexedcp/Authenticator")<Authenticator, {
  /** The principal behind the value of an `Authorization` header. */
  readonly authenticate: (authorization: Option.Option<string>) => Effect.Effect<Principal, Unauthorized>
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
    authenticate: (authorization) =>
      Option.flatMapNullable(authorization, bearer).pipe(
        Option.filter((sent) => equal(sent, Redacted.value(key))),
        Option.match({ onNone: () => Effect.fail(refused), onSome: () => Effect.succeed({ name: "default" }) })
      )
  })

/** Keys by the names of their principals, in plain text. For tests. */
export const layerMemory = (keys: Readonly<Record<string, string>>): Layer.Layer<Authenticator> =>
  Layer.succeed(Authenticator, {
    authenticate: (authorization) =>
      Option.flatMapNullable(authorization, bearer).pipe(
        Option.flatMapNullable((sent) => Object.entries(keys).find(([, key]) => equal(sent, key))),
        Option.match({ onNone: () => Effect.fail(refused), onSome: ([name]) => Effect.succeed({ name }) })
      )
  })
