/**
 * The last lines of a terminal, drawn anew in place; whatever else is written appears above them.
 *
 * @module
 */
import * as Text from "./text.ts"

/** What is needed of `process.stderr`. */
export interface Terminal {
  readonly columns?: number
  readonly rows?: number
  readonly write: (text: string) => unknown
}

export interface Screen {
  /** Shows these lines in place of those before. */
  readonly draw: (lines: ReadonlyArray<string>) => void
  /** Takes the lines away for something to be written; what it returns shows them again. */
  readonly hide: () => () => void
  /** Takes the lines away. */
  readonly clear: () => void
}

/** `\x1b[K` clears to the end of the line, `\x1b[J` all below, `\x1b[<n>A` goes up. */
export const make = (terminal: Terminal): Screen => {
  let shown: ReadonlyArray<string> = []

  /** Back to where the lines begin: one that was drawn when the terminal was wider takes several rows now. */
  const back = () => {
    const columns = Math.max(1, terminal.columns || 80)
    const rows = shown.reduce((rows, line) => rows + Math.max(1, Math.ceil(Text.width(line) / columns)), 0)
    return rows === 0 ? "" : `\x1b[${rows}A\r`
  }

  const draw = (lines: ReadonlyArray<string>) => {
    if (lines.length === 0 && shown.length === 0) return
    // in one piece, so that nothing flickers
    terminal.write(`${back()}${lines.map((line) => `${line}\x1b[K\n`).join("")}\x1b[J`)
    shown = lines
  }

  const clear = () => draw([])

  return {
    draw,
    clear,
    hide: () => {
      const lines = shown
      clear()
      return () => draw(lines)
    }
  }
}
