/**
 * What all tests of a run share: the two programs, as npm would ship them, and the child process of the tests of the
 * buffer, in one file as well, for it starts in a third of the time.
 *
 * @module
 */
import { build } from "esbuild"
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import type { TestProject } from "vitest/node"

declare module "vitest" {
  export interface ProvidedContext {
    /** The folder in which `dist/bin` and `bufferChild.js` lie. */
    readonly programs: string
  }
}

const root = Path.resolve(import.meta.dirname, "../..")

export default async (project: TestProject): Promise<() => Promise<void>> => {
  const folder = await Fs.mkdtemp(Path.join(Os.tmpdir(), "indexedcp-programs-"))
  await Fs.copyFile(Path.join(root, "package.json"), Path.join(folder, "package.json"))
  await Fs.symlink(Path.join(root, "node_modules"), Path.join(folder, "node_modules"), "junction")
  await promisify(execFile)(process.execPath, ["scripts/bundle.js", Path.join(folder, "dist/bin")], { cwd: root })
  await build({
    entryPoints: [Path.join(root, "test/support/bufferChild.ts")],
    outdir: folder,
    bundle: true,
    platform: "node",
    target: "node20.19",
    format: "esm",
    logLevel: "warning",
    external: ["better-sqlite3"]
  })
  project.provide("programs", folder)
  return () => Fs.rm(folder, { recursive: true, force: true })
}
