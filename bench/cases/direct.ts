/**
 * A. A large file, directly.
 *
 * @module
 */
import * as Path from "node:path"
import * as Indexcp from "../peers/indexcp.ts"
import * as Nginx from "../peers/nginx.ts"
import * as Pipe from "../peers/pipe.ts"
import * as Tus from "../peers/tus.ts"
import { type Bench, type Contender, contest, ratio } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import { bytesText } from "../support/numbers.ts"
import * as Report from "../support/report.ts"
import { MiB } from "../support/settings.ts"

/** `indexcp buffer-and-upload` with its default settings. */
export const indexcp = (file: string, bytes: number, expected: Files.Expected): Contender => ({
  name: "indexcp",
  bytes,
  expected,
  serve: Indexcp.serve,
  clients: ({ home }, url) => [Indexcp.client(home, "buffer-and-upload", file, url)]
})

const objectSize = 8 * MiB

export const direct = async (bench: Bench): Promise<Report.CaseReport> => {
  const bytes = bench.settings.size
  const file = Path.join(bench.folder, "source.bin")
  Files.random(file, bytes)
  const expected = Files.expected(file)
  const contenders = [
    indexcp(file, bytes, expected),
    { name: "tus", bytes, expected, serve: Tus.serve, clients: (_: unknown, url: string) => [Tus.send(url, file)] },
    {
      name: "plain Node pipe, 1 MiB requests",
      bytes,
      expected,
      serve: Pipe.serve,
      clients: (_: unknown, url: string) => [Pipe.send(url, file)]
    }
  ]
  const objects = Path.join(bench.folder, "objects")
  const hasNginx = Nginx.isInstalled()
  if (hasNginx) Files.split(file, objects, objectSize)
  const nginx: ReadonlyArray<Contender> = hasNginx
    ? [{
      name: "nginx and curl, 8 MiB objects",
      bytes,
      expected: Files.expected(objects),
      serve: Nginx.serve,
      clients: (world, url) => [Nginx.put(world, url, objects)]
    }]
    : []
  const results = await contest(bench, [...contenders, ...nginx])
  const times = (at: number): number => {
    const [ours, theirs] = [results[0], results[at]]
    return ours === undefined || theirs === undefined ? Number.NaN : ratio(ours, theirs)
  }
  return {
    id: "A",
    title: `${bytesText(bytes)}, direct upload, default settings`,
    columns: Report.contestColumns,
    rows: results.map(Report.contestRow),
    checks: [
      Report.atLeast("as fast as tus", times(1), 2),
      Report.atLeast("as fast as a plain Node pipe", times(2), 1),
      Report.atLeast("as fast as nginx and curl", times(3), 0.6)
    ],
    notes: hasNginx ? [] : ["nginx or curl is not installed."],
    samples: Report.contestSamples(results)
  }
}
