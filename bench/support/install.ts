/**
 * The other programs, installed once.
 *
 * @module
 */
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Url from "node:url"

const folder = Url.fileURLToPath(new URL("..", import.meta.url))

/** When the lock file is newer than what is installed. */
const isNeeded = (): boolean => {
  const installed = Path.join(folder, "node_modules", ".package-lock.json")
  return !Fs.existsSync(installed) ||
    Fs.statSync(installed).mtimeMs < Fs.statSync(Path.join(folder, "package-lock.json")).mtimeMs
}

export const install = (): void => {
  if (!isNeeded()) return
  execFileSync("npm", ["ci", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"], { stdio: "inherit" })
}
