/**
 * As much of a terminal as is needed to see what is on it after all was written: lines that wrap, the cursor up and to the
 * first column, clearing to the end of a line and of the screen. A change of width wraps anew what is there.
 *
 * @module
 */
import type * as Screen from "../../src/cli/Screen.ts"
import * as Text from "../../src/cli/text.ts"

export interface FakeTerminal extends Screen.Terminal {
  /** What is to be seen, without empty lines at the end. */
  readonly lines: () => ReadonlyArray<string>
  /** Everything that was ever written. */
  readonly written: () => string
  readonly resize: (columns: number) => void
}

export const make = (columns: number, rows: number): FakeTerminal => {
  let width = columns
  /** Letters by row; each knows whether it goes on in the next row because it was too long. */
  let screen: Array<{ text: Array<string>; wraps: boolean }> = [{ text: [], wraps: false }]
  let row = 0
  let column = 0
  let all = ""

  const rowAt = (at: number) => {
    while (screen.length <= at) screen.push({ text: [], wraps: false })
    return screen[at]!
  }

  const put = (letter: string) => {
    if (column + Text.width(letter) > width) {
      rowAt(row).wraps = true
      row++
      column = 0
    }
    const { text } = rowAt(row)
    while (text.length < column) text.push(" ")
    text[column] = letter
    // a wide letter takes the next column too
    if (Text.width(letter) === 2) text[column + 1] = ""
    column += Math.max(1, Text.width(letter))
  }

  const token = /\x1b\[\??(\d*)([A-Za-z])|\r|\n|[^]/gu // oxlint-disable-line no-control-regex

  return {
    get columns() {
      return width
    },
    rows,
    write: (text) => {
      all += text
      for (const [found, amount, command] of text.matchAll(token)) {
        if (command === "A") row = Math.max(0, row - Number(amount || 1))
        else if (command === "K") rowAt(row).text.length = Math.min(rowAt(row).text.length, column)
        else if (command === "J") {
          rowAt(row).text.length = Math.min(rowAt(row).text.length, column)
          screen.length = row + 1
        } else if (command !== undefined) continue
        else if (found === "\r") column = 0
        else if (found === "\n") {
          rowAt(row).wraps = false
          row++
          column = 0
          rowAt(row)
        } else put(found)
      }
    },
    written: () => all,
    lines: () => {
      const lines = screen.map(({ text }) => text.join("").trimEnd())
      return lines.slice(0, lines.findLastIndex((line) => line !== "") + 1)
    },
    resize: (columns) => {
      const long: Array<string> = []
      let open = false
      for (const { text, wraps } of screen.slice(0, row)) {
        if (open) long.push(long.pop()! + text.join(""))
        else long.push(text.join(""))
        open = wraps
      }
      width = columns
      screen = [{ text: [], wraps: false }]
      row = 0
      column = 0
      for (const line of long) {
        for (const letter of line) put(letter)
        row++
        column = 0
        rowAt(row)
      }
    }
  }
}
