/**
 * H. Starting.
 *
 * @module
 */
import * as Indexcp from "../peers/indexcp.ts"
import { type Bench, inWorld } from "../support/contest.ts"
import * as Measure from "../support/measure.ts"
import * as Numbers from "../support/numbers.ts"
import * as Report from "../support/report.ts"

/** Without the preloaded program that tells the usage: that would count too. */
const bare = (command: Measure.Command): Measure.Command => ({ ...command, node: false })

export const start = async (bench: Bench): Promise<Report.CaseReport> => {
  const starts = {
    "node -e 0": Array<number>(),
    "indexcp --version": Array<number>(),
    "indexcp-server, until it listens": Array<number>()
  }
  for (let round = 0; round < bench.settings.starts; round++) {
    await inWorld(bench, async (world) => {
      const ended = (command: Measure.Command) =>
        Measure.run(bare(command), world.folder).then(({ seconds }) => seconds)
      starts["node -e 0"].push(await ended(Measure.node("-e", "0")))
      starts["indexcp --version"].push(await ended(Indexcp.client(world.home, "--version")))
      const server = await Measure.start(Indexcp.server(world), Indexcp.listening)
      starts["indexcp-server, until it listens"].push(server.seconds)
      await server.stop()
    })
  }
  const against = (seconds: ReadonlyArray<number>): number =>
    Numbers.median(seconds.map((one, round) => one / (starts["node -e 0"][round] ?? Number.NaN)))
  const client = starts["indexcp --version"]
  const server = starts["indexcp-server, until it listens"]
  return {
    id: "H",
    title: `Start, medians of ${bench.settings.starts}`,
    columns: ["", "time", "from – to", "of node -e 0"],
    rows: Object.entries(starts).map(([name, seconds]) => ({
      name,
      cells: [
        Numbers.secondsText(Numbers.median(seconds)),
        `${Numbers.secondsText(Math.min(...seconds))} – ${Numbers.secondsText(Math.max(...seconds))}`,
        `${Numbers.digits(against(seconds))} ×`
      ]
    })),
    checks: [
      Report.atMost("indexcp --version", Numbers.median(client), 0.25, Numbers.secondsText),
      Report.atMost("indexcp --version, of node -e 0", against(client), 5),
      Report.atMost("indexcp-server listening", Numbers.median(server), 0.5, Numbers.secondsText),
      Report.atMost("indexcp-server listening, of node -e 0", against(server), 10)
    ],
    notes: [],
    samples: { ...starts }
  }
}
