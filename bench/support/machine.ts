/**
 * What a run ran on: machine and versions.
 *
 * @module
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Url from "node:url"
import { bytesText } from "./numbers.ts"

export type Machine = Readonly<Record<string, string>>

const project = Url.fileURLToPath(new URL("../..", import.meta.url))

/** The first line that a program says of itself, on either stream; `undefined` where there is no such program. */
export const firstLine = (file: string, ...args: ReadonlyArray<string>): string | undefined => {
  const { error, status, stderr, stdout } = spawnSync(file, [...args], { encoding: "utf8", cwd: project })
  return error !== undefined || status !== 0 ? undefined : `${stdout}${stderr}`.trim().split("\n")[0]
}

const packageVersion = (file: string): string => {
  try {
    return JSON.parse(Fs.readFileSync(Path.join(project, file), "utf8")).version
  } catch {
    return "not installed"
  }
}

/** The device and kind of the file system that a folder is on. */
const fileSystemOf = (folder: string): string => {
  const [, source, kind] = /^(\S+)\s+(\S+)/.exec(
    spawnSync("df", ["--output=source,fstype", folder], { encoding: "utf8" }).stdout?.split("\n")[1] ?? ""
  ) ?? []
  return source === undefined ? "unknown" : `${kind} on ${source}`
}

export const describe = (dir: string): Machine => {
  const cpus = Os.cpus()
  const changed = spawnSync("git", ["status", "--porcelain", "--untracked-files=no"], {
    encoding: "utf8",
    cwd: project
  })
  return {
    processor: `${cpus.length} × ${cpus[0]?.model ?? "unknown"}`,
    memory: bytesText(Os.totalmem()),
    system: `${Os.type()} ${Os.release()} ${Os.arch()}`,
    "file system of the data": fileSystemOf(dir),
    load: `${Os.loadavg()[0]?.toFixed(2)} when it began`,
    node: process.version,
    indexedcp: `${packageVersion("package.json")} at ${firstLine("git", "rev-parse", "--short", "HEAD") ?? "unknown"}${
      (changed.stdout ?? "") === "" ? "" : ", with changes"
    }`,
    "@tus/server": packageVersion("bench/node_modules/@tus/server/package.json"),
    "@tus/file-store": packageVersion("bench/node_modules/@tus/file-store/package.json"),
    "tus-js-client": packageVersion("bench/node_modules/tus-js-client/package.json"),
    nginx: firstLine("nginx", "-v")?.replace(/^nginx version: /, "") ?? "not installed",
    curl: firstLine("curl", "--version")?.split(" ").slice(0, 2).join(" ") ?? "not installed"
  }
}
