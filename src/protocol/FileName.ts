/**
 * How a file's name travels in `X-File-Name`, in both revisions (PROTOCOL.md, "1. Revision 1" and "2. Revision 2").
 *
 * Header values are byte strings: here, as in Node, one JavaScript character stands for one byte of the header.
 *
 * @module
 */

/** What a server assumes when a client sends no name. */
export const absent = "uploaded_file.txt"

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })

const bytesOf = (header: string): Uint8Array => Uint8Array.from(header, (character) => character.charCodeAt(0))

const isPlain = (name: string): boolean => /^[!-~](?:[ -~]*[!-~])?$/.test(name)

/**
 * The header bytes of a name in revision 2, and the encoding to announce in `X-File-Name-Encoding`, if any: names that are
 * not plain printable ASCII are percent-encoded, `/` stays. A revision-1 server keeps the encoded name.
 */
export const encode = (name: string): { readonly value: string; readonly encoding: "percent" | undefined } =>
  isPlain(name)
    ? { value: name, encoding: undefined }
    : {
      value: Array.from(
        new TextEncoder().encode(name),
        (byte) =>
          byte > 0x20 && byte < 0x7f && byte !== 0x25
            ? String.fromCharCode(byte)
            : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`
      ).join(""),
      encoding: "percent"
    }

/**
 * The header bytes of a name for a request that is revision 1 only, where no encoding can be announced: Latin-1 as the
 * Python client sends it, or UTF-8 as curl does when Latin-1 cannot hold the name or would be read as UTF-8.
 */
export const encodeRevision1 = (name: string): string =>
  [...name].every((character) => character.charCodeAt(0) <= 0xff) && decode(name) === name
    ? name
    : Array.from(new TextEncoder().encode(name), (byte) => String.fromCharCode(byte)).join("")

/** The text of header bytes: UTF-8 when they are valid UTF-8, else Latin-1. */
export const decode = (header: string): string => {
  if (/^[\0-\x7f]*$/.test(header)) return header
  try {
    return utf8.decode(bytesOf(header))
  } catch {
    return header
  }
}

/** The name behind a percent-encoded header, `undefined` when it is not valid percent-encoded UTF-8. */
export const decodePercent = (header: string): string | undefined => {
  try {
    return /^[!-~]*$/.test(header) ? decodeURIComponent(header) : undefined
  } catch {
    return undefined
  }
}

/** `report.pdf` as `report (1).pdf`; only the last component changes. */
export const numbered = (name: string, number: number): string => {
  const at = Math.max(name.lastIndexOf("/"), name.lastIndexOf("\\")) + 1
  const dot = name.lastIndexOf(".")
  const end = dot > at ? dot : name.length
  return `${name.slice(0, end)} (${number})${name.slice(end)}`
}

/** The last component of a client's path. Both separators count: paths come from every kind of machine. */
export const base = (name: string): string => name.split(/[/\\]/).findLast((part) => part !== "") ?? ""
