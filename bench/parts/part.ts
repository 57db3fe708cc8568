/**
 * A part of the program by itself, in this process: the same work again and again, each time in a new folder.
 *
 * @module
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Bench } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import * as Numbers from "../support/numbers.ts"
import type * as Report from "../support/report.ts"

export interface Part {
  readonly name: string
  /** How much is done in one run, and of what. */
  readonly amount: number
  readonly unit: "MiB" | "commits" | "chunks" | "files"
  /** Does it once in an empty folder, and returns the seconds of what counts. */
  readonly run: (folder: string) => Promise<number>
}

/** Seconds of something that is done at once or later. */
export const timed = async (work: () => void | Promise<void>): Promise<number> => {
  const from = performance.now()
  await work()
  return (performance.now() - from) / 1000
}

const once = async (bench: Bench, { run }: Part): Promise<number> => {
  const folder = Fs.mkdtempSync(Path.join(bench.folder, "run-"))
  try {
    Files.settle()
    return await run(folder)
  } finally {
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** All of them once to warm up, then as many rounds as asked, one after the other in each. */
export const report = async (
  bench: Bench,
  id: string,
  title: string,
  parts: ReadonlyArray<Part>
): Promise<Report.CaseReport> => {
  for (const part of parts) await once(bench, part)
  const seconds = parts.map((): Array<number> => [])
  for (let round = 0; round < bench.settings.rounds; round++) {
    for (const [at, part] of parts.entries()) seconds[at]?.push(await once(bench, part))
  }
  return {
    id,
    title,
    columns: ["", "rate", "from – to", "one"],
    rows: parts.map(({ amount, name, unit }, at) => {
      const all = seconds[at] ?? []
      const rates = all.map((seconds) => amount / seconds)
      return {
        name,
        cells: [
          `${Numbers.digits(Numbers.median(rates))} ${unit}/s`,
          `${Numbers.digits(Math.min(...rates))} – ${Numbers.digits(Math.max(...rates))}`,
          Numbers.secondsText(Numbers.median(all) / amount)
        ]
      }
    }),
    checks: [],
    notes: [],
    samples: Object.fromEntries(
      parts.map(({ amount, name, unit }, at) => [name, { amount, unit, seconds: seconds[at] }])
    )
  }
}
