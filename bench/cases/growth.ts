/**
 * G. Growth: time and memory with bytes, and what a large buffer costs before the first byte is sent.
 *
 * @module
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Indexcp from "../peers/indexcp.ts"
import { type Bench, contest, type Result } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import * as FirstByte from "../support/firstByte.ts"
import * as LargeBuffers from "../support/largeBuffers.ts"
import * as Measure from "../support/measure.ts"
import * as Numbers from "../support/numbers.ts"
import * as Report from "../support/report.ts"
import { GiB } from "../support/settings.ts"
import * as Direct from "./direct.ts"

/** How far from linear is still called so. */
const slack = 1.25

/** Left free on the disk. */
const reserve = 4 * GiB

interface Buffer {
  readonly name: string
  readonly home: string
  readonly list: Array<number>
  readonly listPeak: Array<number>
  readonly firstByte: Array<number>
}

const buffer = (bench: Bench, name: string, folder: string): Buffer => {
  const home = Path.join(bench.folder, folder)
  Fs.mkdirSync(home)
  return { name, home, list: [], listPeak: [], firstByte: [] }
}

const measureBuffer = async (bench: Bench, { firstByte, home, list, listPeak, name }: Buffer): Promise<void> => {
  Files.settle()
  const listed = await Measure.run(Indexcp.client(home, "list"), home)
  list.push(listed.seconds)
  listPeak.push(listed.usage.peakBytes)
  const listener = await FirstByte.listen()
  try {
    firstByte.push(await Measure.until(Indexcp.client(home, "upload", listener.url), listener.happened))
  } finally {
    listener.close()
  }
  bench.say(
    `  ${name}: list ${Numbers.secondsText(list.at(-1) ?? NaN)}, first byte ${
      Numbers.secondsText(firstByte.at(-1) ?? NaN)
    }`
  )
}

/** Time a byte of a larger one, of that of a smaller one: the median of the rounds. */
const timeGrowth = (large: Result, small: Result): number =>
  Numbers.median(
    large.samples.map(({ seconds }, round) =>
      seconds / large.contender.bytes / ((small.samples[round]?.seconds ?? Number.NaN) / small.contender.bytes)
    )
  )

const peak = ({ samples }: Result, side: "client" | "server"): number =>
  Numbers.median(
    samples.map(({ server, steps }) => (side === "server" ? server : steps[0]?.usage)?.peakBytes ?? Number.NaN)
  )

export const growth = async (bench: Bench): Promise<Report.CaseReport> => {
  const { bufferedBytes, bufferedFiles, rounds, size } = bench.settings
  const results = await contest(
    bench,
    [size / 4, size / 2, size, 2 * size, 4 * size].map((bytes) => {
      const file = Path.join(bench.folder, `sparse-${bytes}.bin`)
      Files.sparse(file, bytes)
      return { ...Direct.indexcp(file, bytes, Files.expected(file, false)), name: Numbers.bytesText(bytes) }
    })
  )
  const [small, large] = [results[0], results.at(-1)]
  if (small === undefined || large === undefined) throw new Error("there are several sizes")

  let bytes = bufferedBytes
  while (bytes > size && Files.room(bench.folder) < bytes + reserve) bytes /= 2
  const files = buffer(bench, `a buffer of ${bufferedFiles} files`, "files")
  bench.say(`  making ${files.name}`)
  await LargeBuffers.ofFiles(files.home, bufferedFiles)
  const one = buffer(bench, `a buffer of ${Numbers.bytesText(bytes)}`, "bytes")
  bench.say(`  making ${one.name}`)
  await LargeBuffers.ofBytes(one.home, bytes)
  const buffers = [files, one]
  for (let round = 0; round < rounds; round++) {
    for (const each of buffers) await measureBuffer(bench, each)
  }

  return {
    id: "G",
    title: "Growth",
    columns: Report.contestColumns,
    rows: [
      ...results.map(Report.contestRow),
      ...buffers.flatMap(({ firstByte, list, listPeak, name }) =>
        [["list", list, listPeak] as const, ["first byte of upload", firstByte, []] as const].map((
          [what, seconds, peaks]
        ): Report.Row => ({
          name: `${what}, ${name}`,
          cells: [
            Numbers.secondsText(Numbers.median(seconds)),
            `${Numbers.secondsText(Math.min(...seconds))} – ${Numbers.secondsText(Math.max(...seconds))}`,
            "",
            "",
            Numbers.memoryText(Numbers.median(peaks)),
            "",
            ""
          ]
        }))
      )
    ],
    checks: [
      Report.atMost("time a byte, the largest of the smallest", timeGrowth(large, small), slack),
      ...(["client", "server"] as const).map((side) =>
        Report.atMost(
          `memory of the ${side}, the largest of the smallest`,
          peak(large, side) / peak(small, side),
          slack
        )
      ),
      ...buffers.flatMap(({ firstByte, list, name }) => [
        Report.atMost(`list, ${name}`, Numbers.median(list), 1, Numbers.secondsText),
        Report.atMost(`first byte of upload, ${name}`, Numbers.median(firstByte), 1, Numbers.secondsText)
      ])
    ],
    notes: [
      `The sources are sparse, and sent directly. Up to ${slack} × counts as linear.`,
      ...(bytes < bufferedBytes
        ? [
          `The disk has no room for a buffer of ${Numbers.bytesText(bufferedBytes)}, so it was ${
            Numbers.bytesText(bytes)
          }.`
        ]
        : [])
    ],
    samples: {
      ...Report.contestSamples(results),
      ...Object.fromEntries(buffers.map(({ firstByte, list, name }) => [name, { list, firstByte }]))
    }
  }
}
