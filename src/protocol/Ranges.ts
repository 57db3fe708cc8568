/**
 * Sets of byte ranges: what has arrived, what is missing. A range is `[from, to)`; a set is sorted, without overlap, and
 * ranges that touch are joined.
 *
 * @module
 */

/** Bytes `from` to `to`, `to` not included. */
export type Range = readonly [from: number, to: number]

/** A set of bytes: sorted ranges that neither overlap nor touch. */
export type Ranges = ReadonlyArray<Range>

/** No bytes. */
export const empty: Ranges = []

/** The set with one more range in it. */
export const add = (ranges: Ranges, [from, to]: Range): Ranges => {
  if (from >= to) return ranges
  const before = ranges.filter((range) => range[1] < from)
  const after = ranges.filter((range) => range[0] > to)
  const touching = ranges.slice(before.length, ranges.length - after.length)
  const joined: Range = [Math.min(from, touching[0]?.[0] ?? from), Math.max(to, touching.at(-1)?.[1] ?? to)]
  return [...before, joined, ...after]
}

/** What of `[0, size)` the set lacks. */
export const missing = (ranges: Ranges, size: number): Ranges => {
  const gaps: Array<Range> = []
  let at = 0
  for (const [from, to] of ranges) {
    if (from >= size) break
    if (from > at) gaps.push([at, from])
    at = Math.max(at, to)
  }
  if (at < size) gaps.push([at, size])
  return gaps
}

/** How many bytes the set holds. */
export const total = (ranges: Ranges): number => ranges.reduce((sum, [from, to]) => sum + to - from, 0)

/** Whether two ranges share a byte. */
export const overlap = (a: Range, b: Range): boolean => a[0] < b[1] && b[0] < a[1]
