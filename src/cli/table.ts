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
  const line = (textOf: (at: number) => string) => {
    const text = kept.map(({ align, at }, index) =>
      align === "right"
        ? Text.padStart(textOf(at), widths[index]!)
        : index === kept.length - 1
        ? textOf(at)
        : Text.padEnd(textOf(at), widths[index]!)
    )
    const before = text.slice(0, -1).join(gap)
    const last = text[text.length - 1]!
    const room = (fit ?? Infinity) - Text.width(before) - gap.length
    // a name is never cut: somebody may want to copy it
    const cut = room >= 20 && text.length > 1 ? Text.cutEnd(last, room) : last
    return (text.length === 1 ? last : `${before}${gap}${cut}`).trimEnd()
  }
  return {
    header: line((at) => columns[at]!.title),
    row: (cells) => line((at) => cells[at]!)
  }
}
