/**
 * Aligned columns for more rows than one would hold in memory.
 *
 * @module
 */
import * as Text from "./text.ts"

export interface Column {
  readonly title: string
  readonly align?: "right"
  /** Left out where it says nothing and the whole table is known. */
  readonly optional?: boolean
}

/** A cell that says nothing. */
export const nothing = "-"

/** No column is made wider than this for a long text; a row with one goes beyond it. */
const widest = 40

const gap = "  "

export interface Table {
  readonly header: string
  readonly row: (cells: ReadonlyArray<string>) => string
}

/**
 * A table as wide as its first rows need. When they are `all`, optional columns that say nothing are left out. With
 * `columns`, of a terminal, lines are cut to fit in their last column.
 */
export const make = (
  columns: ReadonlyArray<Column>,
  first: ReadonlyArray<ReadonlyArray<string>>,
  { all, fit }: { readonly all: boolean; readonly fit: number | undefined }
): Table => {
  const kept = columns.map((column, at) => ({ ...column, at })).filter(({ at, optional }) =>
    !optional || !all || first.some((cells) => cells[at] !== nothing)
  )
  const widths = kept.map(({ at, title }) =>
    first.reduce((width, cells) => Math.max(width, Math.min(widest, Text.width(cells[at]!))), title.length)
  )
  const line = (cells: ReadonlyArray<string>) => {
    let before = ""
    for (let index = 0; index < kept.length - 1; index++) {
      const { align, at } = kept[index]!
      before += (align === "right" ? Text.padStart : Text.padEnd)(cells[at]!, widths[index]!) + gap
    }
    const { align, at } = kept[kept.length - 1]!
    const last = align === "right" ? Text.padStart(cells[at]!, widths[kept.length - 1]!) : cells[at]!
    const room = fit === undefined || before === "" ? Infinity : fit - Text.width(before)
    // a name is never cut: somebody may want to copy it
    return (before + (room >= 20 ? Text.cutEnd(last, room) : last)).trimEnd()
  }
  return { header: line(columns.map(({ title }) => title)), row: line }
}
