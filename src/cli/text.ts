/**
 * Text for people: sizes, times, columns, and names that cannot harm a terminal.
 *
 * @module
 */
import stringWidth from "fast-string-width"
import xbytes from "xbytes"

const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }

/** Control characters, and those that turn the direction of what follows. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const harmful = /[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g

/** With every character that could move the cursor, colour or turn the text written out, like `\x1b`. */
export const visible = (text: string): string =>
  text.replace(harmful, (found) => {
    const code = found.charCodeAt(0)
    return escapes[found] ??
      (code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16)}`)
  })

/** JSON in which no terminal finds a command. */
export const json = (value: unknown): string =>
  JSON.stringify(value).replace(/[\x7f-\x9f]/g, (found) => `\\u00${found.charCodeAt(0).toString(16)}`)

const isPlain = (text: string): boolean => /^[\x20-\x7e]*$/.test(text)

/** How many columns a text takes: wide letters take two. */
export const width = (text: string): number => isPlain(text) ? text.length : stringWidth(text)

/** Takes several milliseconds to make. */
let segmenter: Intl.Segmenter | undefined

/** The longest start of a text (or end, of one turned around) that fits. */
const fitting = (parts: ReadonlyArray<string>, columns: number): ReadonlyArray<string> => {
  let taken = 0
  const end = parts.findIndex((part) => (taken += width(part)) > columns)
  return end < 0 ? parts : parts.slice(0, end)
}

const lettersOf = (text: string): Array<string> =>
  isPlain(text) ? [...text] : Array.from((segmenter ??= new Intl.Segmenter()).segment(text), ({ segment }) => segment)

/** At most so many columns: what is too much is cut off behind. */
export const cutEnd = (text: string, columns: number): string =>
  width(text) <= columns ? text : `${fitting(lettersOf(text), columns - 1).join("")}…`

/** At most so many columns: of a path, the end says more than the beginning. */
export const cutStart = (text: string, columns: number): string =>
  width(text) <= columns ? text : `…${fitting(lettersOf(text).toReversed(), columns - 1).toReversed().join("")}`

export const padEnd = (text: string, columns: number): string => text.padEnd(text.length + columns - width(text))

export const padStart = (text: string, columns: number): string => text.padStart(text.length + columns - width(text))

/** `9.77 KiB`. */
export const size = (bytes: number): string => bytes < 1024 ? `${bytes} B` : xbytes(bytes, { iec: true })

/** `0.4 of 27.4 MiB`: both in the unit of the whole. */
export const sizeOf = (bytes: number, whole: number): string => {
  const power = Math.min(4, whole < 1024 ? 0 : Math.floor(Math.log2(whole) / 10))
  const amount = (bytes: number) => (bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)
  return `${amount(bytes)} of ${amount(whole)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]!}`
}

/** `88.9 KiB/s`. */
export const rate = (bytesPerSecond: number): string =>
  `${bytesPerSecond < 1024 ? `${Math.round(bytesPerSecond)} B` : xbytes(bytesPerSecond, { iec: true, fixed: 1 })}/s`

/** Whole percents, rounded down: 100 only when nothing is missing. What has no bytes is at 0 for as long as it is shown. */
export const percent = (part: number, whole: number): number =>
  whole <= 0 ? 0 : Math.max(0, Math.min(100, Math.floor(part / whole * 100)))

/** `12 s`, `3 min`, `2 h 5 min`, `3 d 4 h`. Milliseconds. */
export const span = (millis: number): string => {
  const seconds = Math.max(1, Math.round(millis / 1000))
  if (seconds < 100) return `${seconds} s`
  const minutes = Math.round(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`
  return hours % 24 === 0 ? `${Math.floor(hours / 24)} d` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** `0:12`, `12:03`, `2:05:10`, then days. Milliseconds. */
export const clock = (millis: number): string => {
  const seconds = Math.max(0, Math.ceil(millis / 1000))
  if (seconds >= 86_400) return span(millis)
  const two = (part: number) => String(part).padStart(2, "0")
  const hours = Math.floor(seconds / 3600)
  const minutes = Math.floor(seconds / 60) % 60
  return hours > 0 ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`
}

/** `1 file`, `2 files`. */
export const count = (number: number, thing: string): string => `${number} ${thing}${number === 1 ? "" : "s"}`
