/**
 * The package as a stranger has it: built from the sources, and programs that import it by its name, as processes of their own.
 *
 * @module
 */
import { build } from "esbuild"
import { spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { onTestFinished } from "vitest"

const root = Path.resolve(import.meta.dirname, "../..")

export interface Ended {
  /** `null` when a signal ended it. */
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Program {
  /** The first match in what it has said on stdout, or will. Rejects when it ends without it. */
  readonly said: (pattern: RegExp) => Promise<string>
  readonly ended: Promise<Ended>
  readonly kill: (signal: NodeJS.Signals) => void
}

export interface RunOptions {
  /** The folder it runs in, which is its home as well. */
  readonly cwd: string
  readonly variables?: Readonly<Record<string, string>>
  readonly args?: ReadonlyArray<string>
  /** A command that runs Node, like `nice`. */
  readonly under?: ReadonlyArray<string>
}

export interface Installed {
  /** Runs a program of this text; its name says what it is: `.js`, `.cjs`, or `.ts`, as one that lies among the examples. */
  readonly run: (name: string, text: string, options: RunOptions) => Promise<Program>
  readonly remove: () => Promise<void>
}

/** Runs Node on a file; it is killed when the test is over. */
const start = (file: string, { args = [], cwd, under = [], variables }: RunOptions): Program => {
  const [command, ...words] = [...under, process.execPath, file, ...args]
  const child = spawn(command!, words, {
    cwd,
    env: { PATH: process.env["PATH"], HOME: cwd, USERPROFILE: cwd, ...variables },
    stdio: ["ignore", "pipe", "pipe"]
  })
  onTestFinished(() => void child.kill("SIGKILL"))
  const said = { stdout: "", stderr: "" }
  const listeners = new Set<() => void>()
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      said[stream] += text
      for (const listener of listeners) listener()
    })
  }
  const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, ...said })))
  return {
    ended,
    kill: (signal) => void child.kill(signal),
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const look = () => {
          const match = pattern.exec(said.stdout)
          if (match !== null) resolve(match[1] ?? match[0])
        }
        listeners.add(look)
        look()
        void ended.then((all) => reject(new Error(`ended without ${pattern}: ${JSON.stringify(all)}`)))
      })
  }
}

/** Builds the package, its entry points and nothing else, into a folder of its own. */
export const install = async (): Promise<Installed> => {
  const folder = await Fs.mkdtemp(Path.join(Os.tmpdir(), "indexedcp-installed-"))
  await Fs.copyFile(Path.join(root, "package.json"), Path.join(folder, "package.json"))
  await Fs.symlink(Path.join(root, "node_modules"), Path.join(folder, "node_modules"))
  const sources = Path.join(root, "src")
  await build({
    entryPoints: (await Fs.readdir(sources)).filter((name) => name.endsWith(".ts")).map((name) =>
      Path.join(sources, name)
    ),
    outdir: Path.join(folder, "dist"),
    bundle: true,
    splitting: true,
    packages: "external",
    platform: "node",
    target: "node20.19",
    format: "esm",
    logLevel: "warning"
  })
  return {
    // programs inside a package may import it by its name
    run: async (name, text, options) => {
      const file = Path.join(folder, name.replace(/\.ts$/, ".js"))
      if (name.endsWith(".ts")) {
        await build({
          stdin: { contents: text, loader: "ts", sourcefile: name, resolveDir: Path.join(root, "examples") },
          outfile: file,
          bundle: true,
          packages: "external",
          platform: "node",
          format: "esm",
          target: "node20.19",
          logLevel: "warning"
        })
      } else await Fs.writeFile(file, text)
      return start(file, options)
    },
    remove: () => Fs.rm(folder, { recursive: true, force: true })
  }
}
