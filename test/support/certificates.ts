/**
 * Certificates that nobody trusts.
 *
 * @module
 */
import { Effect } from "effect"
import { randomUUID } from "node:crypto"
import { generate } from "selfsigned"

export interface Certificate {
  /** PEM. */
  readonly cert: string
  /** PEM. */
  readonly key: string
}

/** Signed by itself, for an address like `IP:127.0.0.1` or a name like `DNS:localhost`. */
export const selfSigned = (subjectAltName: string): Effect.Effect<Certificate> =>
  Effect.promise(async () => {
    const [kind, name] = subjectAltName.split(":") as [string, string]
    const { cert, private: key } = await generate([{ name: "commonName", value: `test ${randomUUID()}` }], {
      keyType: "ec",
      algorithm: "sha256",
      extensions: [{
        name: "subjectAltName",
        altNames: [kind === "IP" ? { type: 7, ip: name } : { type: 2, value: name }]
      }]
    })
    return { cert, key }
  })
