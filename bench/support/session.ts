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

/** However it ends, nothing is left running and nothing is left on the disk. */
const cleanUpAtTheEnd = (folder: string): void => {
  process.on("exit", () => {
    Measure.killAll()
    Fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  })
  process.on("SIGINT", () => process.exit(130))
  process.on("SIGTERM", () => process.exit(143))
}

/** A case that could not be measured: the others go on, and the whole ends with 1. */
const failed = (id: string, error: unknown): Report.CaseReport => {
  process.exitCode = 1
  return {
    id,
    title: "failed",
    columns: [""],
    rows: [],
    checks: [],
    notes: [`It could not be measured:\n\n\`\`\`\n${error instanceof Error ? error.message : String(error)}\n\`\`\``],
    samples: {}
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
  cleanUpAtTheEnd(folder)
  const startedAt = new Date()
  const machine = Machine.describe(folder)
  const reports: Array<Report.CaseReport> = []
  /** After each case: a run that is stopped leaves what it has. */
  const write = (): void => {
    const run: Report.Run = {
      title,
      machine,
      settings,
      command,
      startedAt: startedAt.toISOString().slice(0, 16).replace("T", " "),
      minutes: (Date.now() - startedAt.getTime()) / 60_000,
      cases: reports
    }
    Fs.writeFileSync(`${settings.out}.md`, Report.markdown(run))
    Fs.writeFileSync(`${settings.out}.json`, Report.json(run))
  }
  for (const id of settings.cases) {
    const one = cases[id]
    if (one === undefined) continue
    say(`${id} …`)
    const own = Path.join(folder, id)
    Fs.mkdirSync(own)
    const report = await one({ settings, folder: own, say }).catch((error: unknown) => failed(id, error))
    Fs.rmSync(own, { recursive: true, force: true })
    reports.push(report)
    console.log(Report.caseText(report))
    write()
  }
  say(`Written: ${settings.out}.md and ${settings.out}.json`)
}
