/**
 * What a run measures and how large, from the command line.
 *
 * @module
 */
import * as Os from "node:os"
import * as Util from "node:util"

export const KiB = 1024
export const MiB = 1024 * KiB
export const GiB = 1024 * MiB

export interface Settings {
  /** In order. */
  readonly cases: ReadonlyArray<string>
  /** Times that everything is measured. */
  readonly rounds: number
  /** Where the temporary data goes. */
  readonly dir: string
  /** The results are written to this path with `.md` and `.json`. */
  readonly out: string
  /** Tiny sizes, one round: shows that the harness works, nothing else. */
  readonly quick: boolean
  /** The large file of A, B, D, F and G. Bytes, as below. */
  readonly size: number
  readonly smallFiles: number
  readonly smallFileSize: number
  readonly uploaders: number
  readonly uploaderSize: number
  /** What E sends in chunks of 64 KiB. */
  readonly smallChunks: number
  /** F's sparse file. */
  readonly sparse: number
  readonly bufferedFiles: number
  readonly bufferedBytes: number
  /** Starts of each program in H. */
  readonly starts: number
}

const full = {
  size: GiB,
  smallFiles: 10_000,
  smallFileSize: 10 * KiB,
  uploaders: 100,
  uploaderSize: 16 * MiB,
  smallChunks: 256 * MiB,
  sparse: 16 * GiB,
  bufferedFiles: 100_000,
  bufferedBytes: 20 * GiB,
  starts: 10
}

const quick = {
  size: 16 * MiB,
  smallFiles: 200,
  smallFileSize: 10 * KiB,
  uploaders: 10,
  uploaderSize: MiB,
  smallChunks: 4 * MiB,
  sparse: 64 * MiB,
  bufferedFiles: 1000,
  bufferedBytes: 64 * MiB,
  starts: 3
}

const units: Readonly<Record<string, number>> = { KiB, MiB, GiB }

const bytesOf = (text: string): number => {
  const [, number = "", unit = ""] = /^(\d+)(KiB|MiB|GiB)?$/.exec(text) ?? []
  if (number === "" || Number(number) === 0) throw new Error(`--size ${text}: give a size like 256MiB or 1GiB`)
  return Number(number) * (units[unit] ?? 1)
}

const countOf = (name: string, text: string): number => {
  if (!/^[1-9]\d*$/.test(text)) throw new Error(`--${name} ${text}: give a whole number above 0`)
  return Number(text)
}

/** Reads the arguments; `known` are the cases there are, `out` is where results go by default. */
export const parse = (args: ReadonlyArray<string>, known: ReadonlyArray<string>, out: string): Settings => {
  const { values } = Util.parseArgs({
    args: [...args],
    options: {
      cases: { type: "string" },
      rounds: { type: "string" },
      size: { type: "string" },
      dir: { type: "string" },
      out: { type: "string" },
      quick: { type: "boolean", default: false }
    }
  })
  const cases = values.cases === undefined
    ? known
    : [...new Set(values.cases.split(","))].map((asked) =>
      known.find((name) => name.toLowerCase() === asked.trim().toLowerCase()) ?? asked
    )
  const unknown = cases.filter((name) => !known.includes(name))
  if (unknown.length > 0) throw new Error(`--cases ${unknown.join(",")}: there are ${known.join(",")}`)
  const sizes = values.quick ? quick : full
  return {
    ...sizes,
    ...(values.size === undefined ? {} : { size: bytesOf(values.size) }),
    cases,
    rounds: values.rounds === undefined ? (values.quick ? 1 : 5) : countOf("rounds", values.rounds),
    dir: values.dir ?? Os.tmpdir(),
    out: values.out ?? out,
    quick: values.quick
  }
}
