/**
 * F. Memory: the most that is resident, of client and server.
 *
 * @module
 */
import * as Path from "node:path"
import { type Bench, type Contender, contest, type Result } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import { bytesText, memoryText } from "../support/numbers.ts"
import * as Report from "../support/report.ts"
import { GiB } from "../support/settings.ts"
import * as Direct from "./direct.ts"
import * as Uploaders from "./uploaders.ts"

const MB = 1e6

/** Left free on the disk. */
const reserve = 2 * GiB

const sparse = (bench: Bench, bytes: number): Contender => {
  const file = Path.join(bench.folder, `sparse-${bytes}.bin`)
  Files.sparse(file, bytes)
  return { ...Direct.indexcp(file, bytes, Files.expected(file, false)), name: `direct, ${bytesText(bytes)}, sparse` }
}

/** A bound holds in every round, so the worst one counts. */
const worst = ({ samples }: Result, side: "client" | "server"): number =>
  Math.max(...samples.map(({ server, steps }) => (side === "server" ? server : steps[0]?.usage)?.peakBytes ?? NaN))

export const memory = async (bench: Bench): Promise<Report.CaseReport> => {
  const { size, sparse: wanted } = bench.settings
  const many = Uploaders.contender(bench)
  let large = wanted
  while (large > size && Files.room(bench.folder) < large + reserve) large /= 2
  const results = await contest(bench, [sparse(bench, size), ...(large > size ? [sparse(bench, large)] : []), many])
  const direct = results.slice(0, -1)
  const all = results.at(-1)
  return {
    id: "F",
    title: "Memory",
    columns: Report.contestColumns,
    rows: results.map(Report.contestRow),
    checks: [
      ...direct.flatMap((result) => [
        Report.atMost(`client, ${bytesText(result.contender.bytes)}`, worst(result, "client"), 120 * MB, memoryText),
        Report.atMost(`server, ${bytesText(result.contender.bytes)}`, worst(result, "server"), 150 * MB, memoryText)
      ]),
      Report.atMost(
        `server, ${many.name}`,
        all === undefined ? Number.NaN : worst(all, "server"),
        250 * MB,
        memoryText
      )
    ],
    notes: [
      "The table has medians; the bounds are held against the worst round.",
      ...(large < wanted ? [`The disk has no room for ${bytesText(wanted)}, so it was ${bytesText(large)}.`] : [])
    ],
    samples: Report.contestSamples(results)
  }
}
