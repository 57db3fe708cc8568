/**
 * C. Many small files.
 *
 * @module
 */
import * as Path from "node:path"
import * as Indexcp from "../peers/indexcp.ts"
import * as Pipe from "../peers/pipe.ts"
import * as Tus from "../peers/tus.ts"
import { type Bench, contest, ratio } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import * as Numbers from "../support/numbers.ts"
import * as Report from "../support/report.ts"

/** As many as `indexcp` has in flight by default. */
const atOnce = 4

export const smallFiles = async (bench: Bench): Promise<Report.CaseReport> => {
  const { smallFileSize, smallFiles: files } = bench.settings
  const folder = Path.join(bench.folder, "files")
  Files.randomFolder(folder, files, smallFileSize)
  const work = { bytes: files * smallFileSize, files, expected: Files.expected(folder) }
  const results = await contest(bench, [
    {
      ...work,
      name: "indexcp",
      serve: Indexcp.serve,
      clients: ({ home }, url) => [Indexcp.client(home, "buffer-and-upload", "-r", folder, url)]
    },
    {
      ...work,
      name: `tus, ${atOnce} at once`,
      serve: Tus.serve,
      clients: (_, url) => [Tus.send(url, folder, { atOnce })]
    },
    {
      ...work,
      name: "bare loop of write, fdatasync, link, unlink",
      clients: ({ received }) => [Pipe.bareLoop(folder, received)]
    }
  ])
  const [ours, tus, loop] = results
  if (ours === undefined || tus === undefined || loop === undefined) throw new Error("there are three contenders")
  return {
    id: "C",
    title: `${files} files of ${Numbers.bytesText(smallFileSize)}, durable`,
    columns: Report.contestColumns,
    rows: results.map(Report.contestRow),
    checks: [
      Report.atLeast("as fast as tus", ratio(ours, tus), 5),
      Report.atLeast("as fast as the bare loop", ratio(ours, loop), 0.5)
    ],
    notes: ["tus syncs nothing to the disk; indexcp and the bare loop do."],
    samples: Report.contestSamples(results)
  }
}
