/**
 * The Markdown pages of the project, and the code in them.
 *
 * @module
 */
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { promisify } from "node:util"
import { environment } from "./platform.ts"

export const root = Path.join(import.meta.dirname, "../..")

/** The pages that people read, as paths from the root. */
export const pages: ReadonlyArray<string> = [
  ...Fs.readdirSync(root),
  ...Fs.readdirSync(Path.join(root, "docs")).map((name) => `docs/${name}`),
  "bench/README.md"
].filter((name) => name.endsWith(".md"))

export const read = (page: string): string => Fs.readFileSync(Path.join(root, page), "utf8")

/** The first comments of the entry points, without their stars, by the names of the entry points. */
export const entryPoints: Readonly<Record<string, string>> = Object.fromEntries(
  Fs.readdirSync(Path.join(root, "src")).filter((name) => name.endsWith(".ts")).map((name) => [
    Path.basename(name, ".ts"),
    read(`src/${name}`).split("*/")[0]!.replaceAll(/^ \* ?/gm, "")
  ])
)

/** The text below a heading, up to the next one of its level or above. */
export const section = (page: string, heading: string): string => {
  const level = /^#*/.exec(heading)![0].length
  const [, below] = read(page).split(`${heading}\n`)
  if (below === undefined) throw new Error(`${page} has no heading ${heading}`)
  return below.split(new RegExp(`^#{1,${level}} `, "m"))[0]!
}

/** The blocks of a language. */
export const code = (text: string, language: string): ReadonlyArray<string> =>
  [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, "gms"))].map(([, block]) => block!)

const quickStart = (heading: string, language: string): string =>
  code(section("README.md", heading), language).slice(0, 1).join("")

/** What somebody copies from the README first. */
export const quickStarts = {
  commandLine: quickStart("### On the command line", "sh"),
  promises: quickStart("### With Promises", "ts"),
  effect: quickStart("### With Effect", "ts")
}

const freePort = () =>
  new Promise<number>((resolve, reject) => {
    const server = Net.createServer().once("error", reject).listen(0, "127.0.0.1", () => {
      const { port } = server.address() as Net.AddressInfo
      server.close(() => resolve(port))
    })
  })

/** Runs the quick start of the command line with the programs that `bin` holds; on another port, as 3000 may be in use. */
export const runCommandLine = async (folder: string, bin: string): Promise<string> => {
  const script = quickStarts.commandLine.replaceAll("3000", String(await freePort()))
  const { stdout } = await promisify(execFile)("bash", ["-euc", script], {
    cwd: folder,
    env: { ...environment(folder), PATH: `${bin}${Path.delimiter}${process.env["PATH"]}` }
  })
  return stdout
}
