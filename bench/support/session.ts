/**
 * A run of the harness: its temporary folder, its clock, and its results as they come and at the end.
 *
 * @module
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Bench } from "./contest.ts"
import * as Machine from "./machine.ts"
import * as Measure from "./measure.ts"
import * as Report from "./report.ts"
import type { Settings } from "./settings.ts"

export type Case = (bench: Bench) => Promise<Report.CaseReport>

const say = (line: string): void => console.error(line)

/** Whatever happens, nothing is left running and nothing is left on the disk. */
const cleanUpOnSignals = (folder: string): void => {
  for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
    process.on(signal, () => {
      Measure.killAll()
      Fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
      process.exit(code)
    })
  }
}

/** Measures the cases that were asked for, prints each as it ends, and writes the report. */
export const measure = async (
  title: string,
  command: string,
  settings: Settings,
  cases: Readonly<Record<string, Case>>
): Promise<void> => {
  const folder = Fs.mkdtempSync(Path.join(settings.dir, "indexedcp-bench-"))
  cleanUpOnSignals(folder)
  const startedAt = new Date()
  const machine = Machine.describe(folder)
  const reports: Array<Report.CaseReport> = []
  const run = (): Report.Run => ({
    title,
    machine,
    settings,
    command,
    startedAt: startedAt.toISOString().slice(0, 16).replace("T", " "),
    minutes: (Date.now() - startedAt.getTime()) / 60_000,
    cases: reports
  })
  try {
    for (const letter of settings.cases) {
      const one = cases[letter]
      if (one === undefined) continue
      say(`${letter} …`)
      const own = Path.join(folder, letter)
      Fs.mkdirSync(own)
      const report = await one({ settings, folder: own, say })
      Fs.rmSync(own, { recursive: true, force: true })
      reports.push(report)
      console.log(Report.caseText(report))
    }
  } finally {
    Measure.killAll()
    Fs.rmSync(folder, { recursive: true, force: true })
    if (reports.length > 0) {
      Fs.writeFileSync(`${settings.out}.md`, Report.markdown(run()))
      Fs.writeFileSync(`${settings.out}.json`, Report.json(run()))
      say(`Written: ${settings.out}.md and ${settings.out}.json`)
    }
  }
}
