/**
 * Programs as processes of their own, with the time they take, the processor time they use and the most memory they have.
 *
 * Node programs that end say both at their end (`programs/usage.cjs`, preloaded). Of all others, and of servers while they
 * run, the kernel tells it in `/proc`: for one that ends, as it was at the last look, at most {@link lookMillis} before.
 *
 * @module
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Url from "node:url"

export interface Usage {
  /** User and system together; `NaN` where it cannot be known. */
  readonly cpuSeconds: number
  /** The most memory that was resident at a time; `NaN` where it cannot be known. */
  readonly peakBytes: number
}

export const unknown: Usage = { cpuSeconds: Number.NaN, peakBytes: Number.NaN }

/** A program to be run. */
export interface Command {
  readonly file: string
  readonly args: ReadonlyArray<string>
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  /** A Node program that can be told to say what it has used. */
  readonly node?: boolean
  /** Keep what it prints. */
  readonly keepOutput?: boolean
}

const lookMillis = 25

const preload = Url.fileURLToPath(new URL("../programs/usage.cjs", import.meta.url))

/** A file of `bench/programs` or of the project, run by Node. */
export const node = (script: string, ...args: ReadonlyArray<string>): Command => ({
  file: process.execPath,
  args: [script, ...args],
  node: true
})

const ticks = ((): number => {
  try {
    return Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }))
  } catch {
    return 100
  }
})()

/** What the kernel says of a living process. */
export const look = (pid: number): Usage => {
  try {
    // behind the name, which may have blanks in it: state is field 3, utime and stime are 14 and 15
    const fields = Fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")
    const peak = /VmHWM:\s+(\d+)/.exec(Fs.readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticks,
      peakBytes: peak === undefined ? Number.NaN : Number(peak) * 1024
    }
  } catch {
    return unknown
  }
}

/** Nothing of the harness's own environment but the path: settings of whoever runs it would change what is measured. */
const environment = (command: Command, usage: string | undefined): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "",
  LANG: "C.UTF-8",
  ...command.env,
  ...(usage === undefined ? {} : { BENCH_USAGE: usage })
})

/** The processes that were started and have not ended. */
const living = new Set<ChildProcess>()

/** Ends whatever is left running, when the harness itself is ended. */
export const killAll = (): void => living.forEach((child) => child.kill("SIGKILL"))

const begin = (command: Command, output: "pipe" | "ignore", usage?: string): ChildProcess => {
  const args = usage === undefined ? command.args : ["--require", preload, ...command.args]
  const child = spawn(command.file, args, {
    cwd: command.cwd,
    env: environment(command, usage),
    stdio: ["ignore", output, "pipe"]
  })
  living.add(child)
  child.on("exit", () => living.delete(child))
  return child
}

const tail = (stream: NodeJS.ReadableStream | null): () => string => {
  let kept = ""
  stream?.setEncoding("utf8").on("data", (text: string) => {
    kept = (kept + text).slice(-4000)
  })
  return () => kept.trim()
}

const shown = ({ args, file }: Command): string =>
  [file, ...args].map((part) => Path.basename(part)).join(" ").slice(0, 200)

export interface Ended {
  /** From before it was started until it had ended. */
  readonly seconds: number
  readonly usage: Usage
  readonly stdout: string
}

/** Runs a program to its end; throws what it said when that is not a good one. `folder` is for a file of its usage. */
export const run = (command: Command, folder: string): Promise<Ended> =>
  new Promise((resolve, reject) => {
    const usageFile = command.node === true ? Path.join(folder, "usage.json") : undefined
    const from = performance.now()
    const child = begin(command, command.keepOutput === true ? "pipe" : "ignore", usageFile)
    let seconds = Number.NaN
    let usage = unknown
    let stdout = ""
    child.stdout?.setEncoding("utf8").on("data", (text: string) => void (stdout += text))
    const stderr = tail(child.stderr)
    const looking = usageFile !== undefined ? undefined : setInterval(() => {
      const seen = look(child.pid ?? 0)
      // of a process that has ended and is still known to the kernel, the memory is gone
      if (Number.isFinite(seen.peakBytes)) usage = seen
    }, lookMillis)
    child.on("error", (error) => {
      clearInterval(looking)
      reject(error)
    })
    child.on("exit", () => {
      seconds = (performance.now() - from) / 1000
      clearInterval(looking)
    })
    child.on("close", (code, signal) => {
      if (code !== 0) return reject(new Error(`${shown(command)} ended with ${code ?? signal}\n${stderr()}`))
      if (usageFile !== undefined) {
        usage = JSON.parse(Fs.readFileSync(usageFile, "utf8"))
        Fs.rmSync(usageFile)
      }
      resolve({ seconds, usage, stdout })
    })
  })

/** A program that goes on running. */
export interface Running {
  /** From before it was started until it had said that it is ready. */
  readonly seconds: number
  /** What it said then: the first group of what was waited for. */
  readonly said: string
  /** What it has used since `mark`, or since it was started; its most memory is of all of its life. */
  readonly usage: () => Usage
  readonly mark: () => void
  readonly stop: () => Promise<void>
}

const ending = (child: ChildProcess, signal: NodeJS.Signals): Promise<void> =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    const late = setTimeout(() => child.kill("SIGKILL"), 10_000)
    child.on("exit", () => {
      clearTimeout(late)
      resolve()
    })
    child.kill(signal)
  })

/** Resolves when somebody listens on a port of this machine. */
const listened = async (port: number, isOver: () => boolean): Promise<void> => {
  while (!isOver()) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = Net.connect(port, "127.0.0.1")
      socket.on("connect", () => resolve(true)).on("error", () => resolve(false))
      socket.on("connect", () => socket.destroy())
    })
    if (connected) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Starts a program and waits until a line of its stdout says that it is ready, or until it listens on a port. */
export const start = (command: Command, ready: RegExp | number): Promise<Running> =>
  new Promise((resolve, reject) => {
    const from = performance.now()
    const child = begin(command, "pipe")
    const stderr = tail(child.stderr)
    const isOver = () => child.exitCode !== null || child.signalCode !== null
    let marked = 0
    const running = (said: string) =>
      resolve({
        seconds: (performance.now() - from) / 1000,
        said,
        usage: () => {
          const { cpuSeconds, peakBytes } = look(child.pid ?? 0)
          return { cpuSeconds: cpuSeconds - marked, peakBytes }
        },
        mark: () => void (marked = look(child.pid ?? 0).cpuSeconds),
        stop: () => ending(child, "SIGTERM")
      })
    let heard = ""
    child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      if (typeof ready === "number") return
      const [, said] = ready.exec(heard += text) ?? []
      if (said === undefined) return
      child.stdout?.removeAllListeners("data").resume()
      running(said)
    })
    if (typeof ready === "number") void listened(ready, isOver).then(() => running(""))
    child.on("error", reject)
    child.on("exit", () => reject(new Error(`${shown(command)} did not start\n${stderr()}`)))
  })

/** Starts a program, waits for something that it does, and ends it at once. Seconds from before its start. */
export const until = async (command: Command, happened: Promise<number>): Promise<number> => {
  const from = performance.now()
  const child = begin(command, "ignore")
  const stderr = tail(child.stderr)
  const early = new Promise<never>((_, reject) =>
    child.on("exit", (code) => reject(new Error(`${shown(command)} ended with ${code} too early\n${stderr()}`)))
  )
  try {
    return (await Promise.race([happened, early]) - from) / 1000
  } finally {
    early.catch(() => {})
    await ending(child, "SIGKILL")
  }
}
