/**
 * E. A file in chunks of 64 KiB.
 *
 * @module
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Indexcp from "../peers/indexcp.ts"
import * as Tus from "../peers/tus.ts"
import { type Bench, contest, ratio } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import * as Numbers from "../support/numbers.ts"
import * as Report from "../support/report.ts"
import { KiB } from "../support/settings.ts"

const chunkSize = 64 * KiB

export const smallChunks = async (bench: Bench): Promise<Report.CaseReport> => {
  const bytes = bench.settings.smallChunks
  const folder = Path.join(bench.folder, "files")
  const file = Path.join(folder, "source.bin")
  Fs.mkdirSync(folder)
  Files.random(file, bytes)
  const work = { bytes, expected: Files.expected(file) }
  const results = await contest(bench, [
    {
      ...work,
      name: "indexcp --chunk-size 64KiB",
      serve: Indexcp.serve,
      clients: ({ home }, url) => [
        Indexcp.client(home, "buffer-and-upload", "--chunk-size", String(chunkSize), file, url)
      ]
    },
    {
      ...work,
      name: "indexcp's library, no body above 64 KiB",
      serve: Indexcp.serve,
      clients: (world, url) => [Indexcp.uploaders(world, url, folder, { piece: chunkSize, body: chunkSize })]
    },
    {
      ...work,
      name: "tus, chunkSize 64 KiB",
      serve: Tus.serve,
      clients: (_, url) => [Tus.send(url, file, { chunkSize })]
    }
  ])
  const [ours, fixed, tus] = results
  if (ours === undefined || fixed === undefined || tus === undefined) throw new Error("there are three contenders")
  return {
    id: "E",
    title: `${Numbers.bytesText(bytes)} in chunks of 64 KiB`,
    columns: Report.contestColumns,
    rows: results.map(Report.contestRow),
    checks: [
      Report.atLeast("as fast as tus, by its option", ratio(ours, tus), 5),
      Report.atLeast("as fast as tus, each body 64 KiB", ratio(fixed, tus), 5)
    ],
    notes: [
      "With its option, `indexcp` begins with bodies of 64 KiB and makes them larger while that is faster. The second line " +
      "keeps each body at 64 KiB, as tus does. Each client is timed from its start to its end."
    ],
    samples: Report.contestSamples(results)
  }
}
