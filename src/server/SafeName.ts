/**
 * Names of files inside the output folder.
 *
 * Safe on Linux, macOS and Windows alike, because files are copied from one to another, and on terminals that show them.
 *
 * @module
 */
import type * as Brand from "effect/Brand"
import * as Either from "effect/Either"
import { Malformed } from "../protocol/ProtocolError.ts"

/**
 * A relative path with `/` between its parts, in Unicode's form NFC, that cannot leave the output folder or meet the
 * server's own folder.
 */
export type SafeName = string & Brand.Brand<"SafeName">

/** The server's own folder inside the output folder. No final name begins with it, in any case or Unicode form. */
export const reserved = ".indexedcp"

const longest = { part: 255, name: 4096 }

const bytes = (text: string): number => new TextEncoder().encode(text).length

/**
 * What no part has in it: separators, control characters, those that turn the direction or the line of a text, streams of
 * Windows (`a:b`), and halves of characters.
 */
const bad = /[\p{Cc}/\\:\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\p{Surrogate}]/u
const allBad = new RegExp(bad, "gu")

/** Devices of Windows, whatever their extension. It also takes the superscript digits for digits. */
const device = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(?:\.|$)/i

const trailing = /[. ]+$/

const problem = (part: string): string | undefined => {
  if (part === "") return "has an empty part"
  if (part === "." || part === "..") return "has a part . or .."
  if (bad.test(part)) return "has a separator, a colon or a character that cannot be shown in it"
  if (trailing.test(part)) return "has a part that ends in a dot or a space"
  if (device.test(part)) return "has a part that is a device on Windows"
  if (bytes(part) > longest.part) return `has a part of more than ${longest.part} bytes`
  return undefined
}

/** As the most forgiving file systems compare names: without case, in one Unicode form, past invisible characters. */
const folded = (part: string): string =>
  part.normalize("NFKC").replace(/\p{Default_Ignorable_Code_Point}/gu, "").toUpperCase().toLowerCase()

/** Checks a name and turns it to NFC. What cannot be used as it is is `Malformed`. */
export const check = (name: string): Either.Either<SafeName, Malformed> => {
  const composed = name.normalize("NFC")
  const parts = composed.split("/")
  const found = bytes(composed) > longest.name ?
    `is longer than ${longest.name} bytes` :
    parts.map(problem).find((text) => text !== undefined) ??
      (folded(parts[0]!).startsWith(reserved) ? `begins with ${reserved}` : undefined)
  return found === undefined
    ? Either.right(composed as SafeName)
    : Either.left(new Malformed({ message: `The name ${quoted(name)} ${found}; send another X-File-Name` }))
}

/** For a message that ends on a terminal. */
const quoted = (name: string): string =>
  JSON.stringify(name.slice(0, 200)).replace(
    allBad,
    (character) =>
      "/\\:".includes(character) ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

/**
 * Makes parts safe and joins them: what cannot stand in a name becomes `_`, dots and spaces at an end go, what is too long
 * is cut and keeps its extension. What is safe stays as it is. `Malformed` when nothing is left of a part, or it is `..` or
 * leads to the server's own folder.
 */
export const sanitize = (...parts: ReadonlyArray<string>): Either.Either<SafeName, Malformed> =>
  check(parts.map(sanitized).join("/"))

const sanitized = (part: string): string => {
  const cleaned = part.normalize("NFC").replace(allBad, "_").replace(trailing, "")
  // a name of dots and spaces is refused under the name it came with
  if (cleaned === "") return part
  const fitting = inserted(cleaned, "")
  return device.test(fitting) ? inserted(`_${fitting}`, "") : fitting
}

/** The longest beginning of a text that has at most so many bytes in UTF-8 and no half character. */
const shorten = (text: string, most: number): string => {
  const encoded = new TextEncoder().encode(text)
  return encoded.length <= most
    ? text
    // a stream waits for the rest of a character that was cut
    : new TextDecoder("utf-8", { ignoreBOM: true }).decode(encoded.subarray(0, most), { stream: true })
}

/** A part with something put before its extension; what is then too long loses the end of its stem. */
const inserted = (part: string, suffix: string, hasExtension = true): string => {
  const dot = hasExtension ? part.lastIndexOf(".") : 0
  // what fills half a name is no extension that has to stay
  const [stem, extension] = dot > 0 && part.length - dot <= 64 ? [part.slice(0, dot), part.slice(dot)] : [part, ""]
  const end = suffix + extension
  const kept = shorten(stem, longest.part - bytes(end))
  // a cut may leave at the end what cannot stand there
  return end === "" ? kept.replace(trailing, (run) => "_".repeat(run.length)) : kept + end
}

/** A safe name with something safe put between its stem and its extension. */
export const withSuffix = (name: SafeName, suffix: string): SafeName => {
  const at = name.lastIndexOf("/") + 1
  return name.slice(0, at) + inserted(name.slice(at), suffix) as SafeName
}

/** The name to try when others are taken: `report.pdf`, `report (1).pdf`, `report (2).pdf`… */
export const numbered = (name: SafeName, number: number): SafeName =>
  number === 0 ? name : withSuffix(name, ` (${number})`)

/** {@link numbered} with a number for each part: a folder's goes to its end, as in `v1.0 (1)/report.pdf`. */
export const numberedParts = (name: SafeName, numbers: ReadonlyArray<number>): SafeName => {
  const parts = name.split("/")
  return parts.map((part, at) => {
    const number = numbers[at] ?? 0
    return number === 0 ? part : inserted(part, ` (${number})`, at === parts.length - 1)
  }).join("/") as SafeName
}
