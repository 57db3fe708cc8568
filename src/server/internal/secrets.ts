/**
 * Secrets as hashes that are compared in a time that says nothing about them.
 *
 * @internal
 */
import * as Sha256 from "../../protocol/Sha256.ts"

/** A SHA-256 in eight words. */
export type Digest = Int32Array

const encoder = new TextEncoder()

export const hash = (secret: string): Sha256.Sha256 => Sha256.of(encoder.encode(secret))

export const digest = (sha256: Sha256.Sha256): Digest =>
  Int32Array.from({ length: 8 }, (_, at) => Number.parseInt(sha256.slice(at * 8, at * 8 + 8), 16))

/** Looks at every word, whatever the first ones say. */
export const equal = (a: Digest, b: Digest): boolean => {
  let difference = 0
  for (let at = 0; at < 8; at++) difference |= a[at]! ^ b[at]!
  return difference === 0
}
