/**
 * D. Many uploaders at once.
 *
 * @module
 */
import * as Path from "node:path"
import * as Indexcp from "../peers/indexcp.ts"
import { type Bench, type Contender, contest, ratio, type Result } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import * as Numbers from "../support/numbers.ts"
import * as Report from "../support/report.ts"
import * as Direct from "./direct.ts"

/** All of them in one load process, timed by it from the first byte on. Makes their files. */
export const contender = (bench: Bench): Contender => {
  const { uploaderSize, uploaders } = bench.settings
  const folder = Path.join(bench.folder, "uploads")
  Files.randomFolder(folder, uploaders, uploaderSize)
  return {
    name: `${uploaders} uploaders at once`,
    bytes: uploaders * uploaderSize,
    expected: Files.expected(folder),
    serve: Indexcp.serve,
    clients: (world, url) => [Indexcp.uploaders(world, url, folder)],
    clock: (stdout) => Indexcp.uploaded(stdout).seconds
  }
}

/** What the load process of each round said. */
export const said = ({ samples }: Result): ReadonlyArray<Indexcp.Uploaded> =>
  samples.map(({ steps }) => Indexcp.uploaded(steps[0]?.stdout ?? ""))

export const uploaders = async (bench: Bench): Promise<Report.CaseReport> => {
  const { size, uploaderSize, uploaders } = bench.settings
  const many = contender(bench)
  const file = Path.join(bench.folder, "source.bin")
  Files.random(file, size)
  const one: Contender = { ...Direct.indexcp(file, size, Files.expected(file)), name: "one direct upload, as in A" }
  const [all, alone] = await contest(bench, [many, one])
  if (all === undefined || alone === undefined) throw new Error("there are two contenders")
  const rounds = said(all)
  const of = (part: number): number =>
    Numbers.median(rounds.map(({ chunkMillis }) => Numbers.quantile(chunkMillis, part)))
  const spread = rounds.map(({ chunkMillis }) =>
    Numbers.quantile(chunkMillis, 0.99) / Numbers.quantile(chunkMillis, 0.5)
  )
  const failures = rounds.reduce((sum, round) => sum + round.failures, 0)
  const refused = rounds.reduce((sum, round) => sum + round.refused, 0)
  const chunks = rounds.reduce((sum, { chunkMillis }) => sum + chunkMillis.length, 0)
  return {
    id: "D",
    title: `${uploaders} uploaders at once, ${Numbers.bytesText(uploaderSize)} each, from the first byte on`,
    columns: Report.contestColumns,
    rows: [all, alone].map(Report.contestRow),
    checks: [
      Report.atLeast("throughput of A", ratio(all, alone), 0.9),
      Report.atMost("files that failed, all rounds", failures, 0, String),
      Report.atMost("a chunk's 99th percentile, of its median", Numbers.median(spread), 20)
    ],
    notes: [
      `A chunk takes ${Numbers.secondsText(of(0.5) / 1000)} in the median, ${
        Numbers.secondsText(of(0.99) / 1000)
      } in the 99th percentile. Of ${chunks + refused} requests in all rounds, ${refused} had to be repeated.`
    ],
    samples: {
      ...Report.contestSamples([all, alone]),
      chunks: rounds.map(({ chunkMillis, failure, failures, refused }) => ({
        chunks: chunkMillis.length,
        medianMillis: Numbers.quantile(chunkMillis, 0.5),
        p99Millis: Numbers.quantile(chunkMillis, 0.99),
        failures,
        failure,
        refused
      }))
    }
  }
}
