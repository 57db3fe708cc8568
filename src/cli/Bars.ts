/**
 * How files in flight look on a terminal: a line each, and a line for all of them.
 *
 * @module
 */
import type * as Tally from "./Tally.ts"
import * as Text from "./text.ts"

const barColumns = 10

const bar = (part: number): string => {
  const full = Math.floor(part / 100 * barColumns)
  return "█".repeat(full) + "░".repeat(barColumns - full)
}

interface Column {
  readonly text: string
  /** The highest goes first where the terminal is narrow. */
  readonly spare: number
}

/** No name is cut to fewer columns while something else can go. */
const leastName = 16

const rateOf = (rate: number): Column => ({ text: Text.padStart(rate > 0 ? Text.rate(rate) : "-", 12), spare: 3 })

const columnsOf = ({ acknowledged, left, rate, size }: Tally.Standing): ReadonlyArray<Column> => {
  const part = Text.percent(acknowledged, size)
  return [
    { text: `${String(part).padStart(3)}%`, spare: 0 },
    { text: bar(part), spare: 4 },
    { text: Text.padStart(Text.sizeOf(acknowledged, size), 17), spare: 2 },
    rateOf(rate),
    { text: Text.padStart(left === undefined ? "-" : Text.clock(left), 7), spare: 1 }
  ]
}

const widthOf = (columns: ReadonlyArray<Column>): number =>
  columns.reduce((sum, { text }) => sum + 2 + Text.width(text), 0)

/** A name and what is known of it, in so many columns. */
const line = (name: string, columns: ReadonlyArray<Column>, width: number): string => {
  let kept = columns
  while (kept.length > 1 && widthOf(kept) + Math.min(leastName, Text.width(name)) > width) {
    const most = Math.max(...kept.map(({ spare }) => spare))
    kept = kept.filter(({ spare }) => spare !== most)
  }
  const forName = Math.max(1, width - widthOf(kept))
  return Text.cutEnd(
    [Text.padEnd(Text.cutStart(name, forName), forName), ...kept.map(({ text }) => text)].join("  "),
    width
  )
}

const waiting = (row: Tally.Row, now: number, width: number): string => {
  const { reason, until } = row.waiting!
  const name = Text.cutStart(Text.visible(row.path), Math.max(1, Math.floor(width / 3)))
  const wait = until > now ? `next try in ${Text.span(until - now)}` : "trying again"
  return Text.cutEnd(`${name}  ${Text.percent(row.acknowledged, row.size)}%  ${wait}: ${Text.visible(reason)}`, width)
}

const yellow = (text: string): string => `\x1b[33m${text}\x1b[0m`

export interface Look {
  readonly columns: number
  readonly rows: number
  readonly colour: boolean
  /** There is always something to wait for. */
  readonly endless: boolean
}

/** The lines for this moment. No line is as wide as the terminal, and they are fewer than its rows. */
export const lines = (tally: Tally.Tally, now: number, look: Look): ReadonlyArray<string> => {
  const width = Math.max(1, Math.min(look.columns - 1, 120))
  const flights = tally.rows(now)
  const total = tally.total(now)
  const shown = flights.slice(0, Math.max(1, look.rows - 4))
  const each = shown.map((row) => {
    if (row.waiting === undefined) return line(Text.visible(row.path), columnsOf(row), width)
    return look.colour ? yellow(waiting(row, now, width)) : waiting(row, now, width)
  })
  if (look.endless && flights.length === 0) return [Text.cutEnd("Waiting for files", width)]
  if (total.files < 2) return each
  const hidden = flights.length - shown.length
  const name = `${total.ended} of ${Text.count(total.files, "file")}${total.grows ? " so far" : ""}` +
    (hidden > 0 ? `, ${hidden} more in flight` : "")
  const columns = total.grows
    ? [{ text: `${Text.size(total.acknowledged)} sent`, spare: 0 }, rateOf(total.rate)]
    : columnsOf(total)
  return [...each, line(name, columns, width)]
}
