/**
 * What came out, as Markdown for people and JSON for programs.
 *
 * @module
 */
import type { Result } from "./contest.ts"
import type { Machine } from "./machine.ts"
import * as Numbers from "./numbers.ts"
import { MiB, type Settings } from "./settings.ts"

/** A line of a case's table; every cell is text. */
export interface Row {
  readonly name: string
  readonly cells: ReadonlyArray<string>
}

/** Something to be reached. */
export interface Check {
  readonly what: string
  /** `NaN` when it could not be measured. */
  readonly value: number
  readonly bound: "at least" | "at most"
  readonly target: number
  readonly text: (value: number) => string
}

export interface CaseReport {
  /** How `--cases` calls it; one of a single id shows it. */
  readonly id: string
  readonly title: string
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<Row>
  readonly checks: ReadonlyArray<Check>
  readonly notes: ReadonlyArray<string>
  /** Whatever was measured, for the JSON. */
  readonly samples: Readonly<Record<string, unknown>>
}

const times = (value: number): string => Number.isFinite(value) ? `${Numbers.digits(value)} ×` : "–"

export const atLeast = (what: string, value: number, target: number, text = times): Check => ({
  what,
  value,
  bound: "at least",
  target,
  text
})

export const atMost = (what: string, value: number, target: number, text = times): Check => ({
  what,
  value,
  bound: "at most",
  target,
  text
})

const verdict = ({ bound, target, value }: Check): "reached" | "not reached" | "not measured" =>
  !Number.isFinite(value)
    ? "not measured"
    : (bound === "at least" ? value >= target : value <= target)
    ? "reached"
    : "not reached"

export const contestColumns = [
  "",
  "time",
  "from – to",
  "rate",
  "client CPU",
  "client peak",
  "server CPU",
  "server peak"
]

const cpu = (seconds: number): string => Number.isFinite(seconds) ? `${seconds.toFixed(2)} s` : "–"

/** The medians of a contender, as {@link contestColumns}. Of several client processes: processor time in all, highest peak. */
export const contestRow = (result: Result): Row => {
  const { contender, samples } = result
  const seconds = samples.map((sample) => sample.seconds)
  const middle = Numbers.median(seconds)
  const clientCpu = samples.map(({ steps }) => steps.reduce((sum, { usage }) => sum + usage.cpuSeconds, 0))
  const clientPeak = samples.map(({ steps }) => Math.max(...steps.map(({ usage }) => usage.peakBytes)))
  return {
    name: contender.name,
    cells: [
      Numbers.secondsText(middle),
      `${Numbers.secondsText(Math.min(...seconds))} – ${Numbers.secondsText(Math.max(...seconds))}`,
      contender.files === undefined
        ? `${Numbers.digits(contender.bytes / MiB / middle)} MiB/s`
        : `${Numbers.digits(contender.files / middle)} files/s`,
      cpu(Numbers.median(clientCpu)),
      Numbers.memoryText(Numbers.median(clientPeak)),
      cpu(Numbers.median(samples.map(({ server }) => server.cpuSeconds))),
      Numbers.memoryText(Numbers.median(samples.map(({ server }) => server.peakBytes)))
    ]
  }
}

/** The samples of contenders for the JSON, without what the clients printed. */
export const contestSamples = (results: ReadonlyArray<Result>): Record<string, unknown> =>
  Object.fromEntries(
    results.map(({ contender: { bytes, files, name }, samples }) => [name, {
      bytes,
      ...(files === undefined ? {} : { files }),
      samples: samples.map(({ seconds, server, steps }) => ({
        seconds,
        server,
        clients: steps.map(({ seconds, usage }) => ({ seconds, ...usage }))
      }))
    }])
  )

const line = (cells: ReadonlyArray<string>): string => `| ${cells.join(" | ")} |`

/** A case as Markdown. */
export const caseText = ({ checks, columns, id, notes, rows, title }: CaseReport): string =>
  [
    id.length === 1 ? `## ${id}. ${title}` : `## ${title}`,
    "",
    line(columns),
    line(columns.map((_, at) => at === 0 ? "---" : "---:")),
    ...rows.map(({ cells, name }) => line([name, ...cells])),
    ...(checks.length === 0 ? [] : [
      "",
      line(["to reach", "", "measured", ""]),
      line(["---", "---:", "---:", "---"]),
      ...checks.map((check) =>
        line([
          check.what,
          `${check.bound === "at least" ? "≥" : "≤"} ${check.text(check.target)}`,
          check.text(check.value),
          verdict(check)
        ])
      )
    ]),
    ...notes.flatMap((note) => ["", note]),
    ""
  ].join("\n")

/** A whole run. */
export interface Run {
  readonly title: string
  readonly machine: Machine
  readonly settings: Settings
  readonly command: string
  readonly startedAt: string
  readonly minutes: number
  readonly cases: ReadonlyArray<CaseReport>
}

/** What stands above the cases. */
export const headText = ({ command, machine, minutes, settings, startedAt, title }: Run): string =>
  [
    `# ${title}`,
    "",
    ...(settings.quick
      ? ["**A quick run: it shows that the harness works. Its figures say nothing about the programs.**", ""]
      : []),
    `\`${command}\`, begun ${startedAt}, ${minutes.toFixed(0)} minutes, medians of ${settings.rounds}.`,
    "",
    ...Object.entries(machine).map(([name, value]) => `* ${name}: ${value}`),
    ""
  ].join("\n")

export const markdown = (run: Run): string => `${[headText(run), ...run.cases.map(caseText)].join("\n").trimEnd()}\n`

export const json = (run: Run): string =>
  `${
    JSON.stringify(
      {
        ...run,
        cases: run.cases.map(({ checks, ...report }) => ({
          ...report,
          checks: checks.map((check) => ({ ...check, verdict: verdict(check) }))
        }))
      },
      undefined,
      1
    )
  }\n`
