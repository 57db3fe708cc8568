/**
 * `Prefix-Digest` in place of `Content-Digest` (docs/PROTOCOL.md, "One hash for a chunk and the whole file"): how a server
 * says that it takes it. The field itself is one of `ChunkHeaders`.
 *
 * @module
 */
import * as StructuredHeaders from "structured-headers"

/** The field of answers by which a server says that it takes `Prefix-Digest`. */
export const header = "want-prefix-digest"

/** Its value, as `Want-Repr-Digest` has it (RFC 9530, section 4): the algorithm, and how much it is preferred. */
export const wanted = "sha-256=10"

/** Whether the value of the header says so; a malformed one does not. */
export const isWanted = (value: string): boolean => {
  try {
    const preference = StructuredHeaders.parseDictionary(value).get("sha-256")?.[0]
    return typeof preference === "number" && preference > 0
  } catch {
    return false
  }
}
