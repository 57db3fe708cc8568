/**
 * Programs side by side: in each round every one of them does the same work once, in a new folder, and what has arrived is
 * looked at when the clock has stopped.
 *
 * @module
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Files from "./files.ts"
import * as Measure from "./measure.ts"
import * as Numbers from "./numbers.ts"
import type { Settings } from "./settings.ts"

/** One run's folders: removed after it. */
export interface World {
  readonly folder: string
  readonly home: string
  readonly received: string
}

export interface Server {
  readonly process: Measure.Running
  readonly url: string
}

export interface Contender {
  readonly name: string
  /** The work: bytes, and files where it is told in files. */
  readonly bytes: number
  readonly files?: number
  /** Starts the server; none for work without one. */
  readonly serve?: (world: World) => Promise<Server>
  /** What the clients run, one after the other; `url` is empty without a server. */
  readonly clients: (world: World, url: string) => ReadonlyArray<Measure.Command>
  readonly expected: Files.Expected
  /** When a client times itself: its seconds, from its output. */
  readonly clock?: (stdout: string) => number
}

/** One run. */
export interface Sample {
  readonly seconds: number
  /** Of each client process. */
  readonly steps: ReadonlyArray<Measure.Ended>
  readonly server: Measure.Usage
}

export interface Result {
  readonly contender: Contender
  readonly samples: ReadonlyArray<Sample>
}

/** What a case is given. */
export interface Bench {
  readonly settings: Settings
  /** For what is made once: removed at the end of the case. */
  readonly folder: string
  readonly say: (line: string) => void
}

/** A new world below the case's folder, removed when `use` is done. */
export const inWorld = async <A>(bench: Bench, use: (world: World) => Promise<A>): Promise<A> => {
  const folder = Fs.mkdtempSync(Path.join(bench.folder, "run-"))
  const world = { folder, home: Path.join(folder, "home"), received: Path.join(folder, "received") }
  Fs.mkdirSync(world.home)
  Fs.mkdirSync(world.received)
  try {
    return await use(world)
  } finally {
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** Seconds of the whole, whoever times it. */
const secondsOf = ({ clock }: Contender, steps: ReadonlyArray<Measure.Ended>): number =>
  clock === undefined
    ? steps.reduce((sum, { seconds }) => sum + seconds, 0)
    : clock(steps.at(-1)?.stdout ?? "")

const once = (bench: Bench, contender: Contender): Promise<Sample> =>
  inWorld(bench, async (world) => {
    const server = await contender.serve?.(world)
    try {
      Files.settle()
      server?.process.mark()
      const steps: Array<Measure.Ended> = []
      for (const command of contender.clients(world, server?.url ?? "")) {
        steps.push(await Measure.run(command, world.folder))
      }
      const sample = {
        seconds: secondsOf(contender, steps),
        steps,
        server: server?.process.usage() ?? Measure.unknown
      }
      Files.verify(world.received, contender.expected)
      return sample
    } finally {
      await server?.process.stop()
    }
  })

/** Runs them all, in as many rounds as asked. Each second round goes the other way round. */
export const contest = async (
  bench: Bench,
  contenders: ReadonlyArray<Contender>
): Promise<ReadonlyArray<Result>> => {
  const samples = contenders.map((): Array<Sample> => [])
  for (let round = 0; round < bench.settings.rounds; round++) {
    const order = contenders.map((_, at) => at)
    if (round % 2 === 1) order.reverse()
    for (const at of order) {
      const contender = contenders[at]
      if (contender === undefined) continue
      const sample = await once(bench, contender)
      samples[at]?.push(sample)
      bench.say(`  round ${round + 1}: ${contender.name} ${Numbers.secondsText(sample.seconds)}`)
    }
  }
  return contenders.map((contender, at) => ({ contender, samples: samples[at] ?? [] }))
}

/** Work in a second of each round: files where the work is told in files, else bytes. */
export const rates = ({ contender, samples }: Result): ReadonlyArray<number> =>
  samples.map(({ seconds }) => (contender.files ?? contender.bytes) / seconds)

/** How many times as fast one is as another: the median of the rounds, each compared within itself. */
export const ratio = (one: Result, other: Result): number => {
  const others = rates(other)
  return Numbers.median(rates(one).map((rate, round) => rate / (others[round] ?? Number.NaN)))
}
