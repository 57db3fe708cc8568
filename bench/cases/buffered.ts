/**
 * B. A large file through the buffer: `add`, then `upload`.
 *
 * @module
 */
import * as Path from "node:path"
import * as Indexcp from "../peers/indexcp.ts"
import { type Bench, type Contender, contest, ratio } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import * as Numbers from "../support/numbers.ts"
import * as Report from "../support/report.ts"
import { MiB } from "../support/settings.ts"
import * as Direct from "./direct.ts"

/** MiB a second of the Python client's buffered upload. */
const pythonRate = 60

export const buffered = async (bench: Bench): Promise<Report.CaseReport> => {
  const bytes = bench.settings.size
  const file = Path.join(bench.folder, "source.bin")
  Files.random(file, bytes)
  const expected = Files.expected(file)
  const direct: Contender = { ...Direct.indexcp(file, bytes, expected), name: "direct, as in A" }
  const both: Contender = {
    ...direct,
    name: "add, then upload",
    clients: ({ home }, url) => [Indexcp.client(home, "add", file), Indexcp.client(home, "upload", url)]
  }
  const [first, second] = await contest(bench, [direct, both])
  if (first === undefined || second === undefined) throw new Error("there are two contenders")
  const steps = ["add", "upload"].map((name, at) => ({
    name,
    seconds: second.samples.map((sample) => sample.steps[at]?.seconds ?? Number.NaN),
    usage: second.samples.map((sample) => sample.steps[at]?.usage)
  }))
  const uploadRate = Numbers.median((steps[1]?.seconds ?? []).map((seconds) => bytes / MiB / seconds))
  return {
    id: "B",
    title: `${Numbers.bytesText(bytes)}, \`add\` then \`upload\``,
    columns: Report.contestColumns,
    rows: [
      Report.contestRow(first),
      Report.contestRow(second),
      ...steps.map(({ name, seconds, usage }): Report.Row => ({
        name: `of that, ${name}`,
        cells: [
          Numbers.secondsText(Numbers.median(seconds)),
          `${Numbers.secondsText(Math.min(...seconds))} – ${Numbers.secondsText(Math.max(...seconds))}`,
          `${Numbers.digits(bytes / MiB / Numbers.median(seconds))} MiB/s`,
          Numbers.secondsText(Numbers.median(usage.map((used) => used?.cpuSeconds ?? Number.NaN))),
          Numbers.memoryText(Numbers.median(usage.map((used) => used?.peakBytes ?? Number.NaN))),
          "",
          ""
        ]
      }))
    ],
    checks: [
      Report.atLeast("end to end, as fast as A", ratio(second, first), 0.45),
      Report.atLeast(
        `upload alone, as fast as the Python client's (${pythonRate} MiB/s, not measured here)`,
        uploadRate / pythonRate,
        5
      )
    ],
    notes: [],
    samples: Report.contestSamples([first, second])
  }
}
