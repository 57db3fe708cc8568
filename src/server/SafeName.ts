/**
 * Names of files inside the output folder.
 *
 * @module
 */
import type * as Brand from "effect/Brand"
import * as Either from "effect/Either"
import { Malformed } from "../protocol/ProtocolError.ts"

/** A relative path with `/` between its parts that cannot leave the output folder or meet the server's own folder. */
export type SafeName = string & Brand.Brand<"SafeName">

/** The server's own folder inside the output folder. No final name begins with it, in any case or Unicode form. */
export const reserved = ".indexedcp"

const problem = (part: string): string | undefined => {
  if (part === "") return "has an empty part"
  if (part === "." || part === "..") return "has a part . or .."
  // oxlint-disable-next-line no-control-regex -- control characters are what is looked for
  if (/[\u0000-\u001f\u007f-\u009f/\\]/.test(part)) return "has a control character or a separator in it"
  if (new TextEncoder().encode(part).length > 255) return "has a part of more than 255 bytes"
  return undefined
}

/** As the most forgiving file systems compare names: without case, in one Unicode form, past invisible characters. */
const folded = (part: string): string =>
  part.normalize("NFKC").replace(/\p{Default_Ignorable_Code_Point}/gu, "").toLowerCase()

/** Checks a name. What cannot be used is `Malformed`. */
export const check = (name: string): Either.Either<SafeName, Malformed> => {
  const parts = name.split("/")
  const found = name.length > 4096 ?
    "is longer than 4096 characters" :
    parts.map(problem).find((text) => text !== undefined) ??
      (folded(parts[0]!).startsWith(reserved) ? `begins with ${reserved}` : undefined)
  return found === undefined
    ? Either.right(name as SafeName)
    : Either.left(
      new Malformed({ message: `The name ${JSON.stringify(name.slice(0, 200))} ${found}; send another X-File-Name` })
    )
}

/** The name to try when others are taken: `report.pdf`, `report (1).pdf`, `report (2).pdf`… */
export const numbered = (name: SafeName, number: number): SafeName => {
  if (number === 0) return name
  const at = name.lastIndexOf("/") + 1
  const last = name.slice(at)
  const dot = last.lastIndexOf(".")
  // what fills half a name is no extension that has to stay
  const [stem, extension] = dot > 0 && last.length - dot <= 64 ? [last.slice(0, dot), last.slice(dot)] : [last, ""]
  const suffix = ` (${number})${extension}`
  return name.slice(0, at) + shorten(stem, 255 - new TextEncoder().encode(suffix).length) + suffix as SafeName
}

/** The longest beginning of a text that has at most so many bytes in UTF-8 and no half character. */
const shorten = (text: string, bytes: number): string => {
  const encoded = new TextEncoder().encode(text)
  return encoded.length <= bytes ? text : new TextDecoder().decode(encoded.subarray(0, bytes)).replace(/\uFFFD+$/, "")
}
