/**
 * The real disk in the shape in which tests put another one in its place.
 *
 * @module
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { FileSystemCalls } from "../../src/testing/PowerCutDisk.ts"

const { link, lstat, mkdir, open, readdir, rename, rm } = Fs.promises

/** As it is. */
export const calls: FileSystemCalls = { link, lstat, mkdir, open, readdir, rename, rm }

/** A path by the names that are there, whatever their case. */
const found = (path: unknown): string => {
  const asked = String(path)
  const above = Path.dirname(asked)
  if (above === asked) return asked
  const folder = found(above)
  const name = Path.basename(asked)
  const names = Fs.existsSync(folder) ? Fs.readdirSync(folder) : []
  return Path.join(folder, names.find((other) => other.toLowerCase() === name.toLowerCase()) ?? name)
}

/** Where two names that differ in case are one. */
export const folding: FileSystemCalls = {
  ...calls,
  link: (from, to) => link(found(from), found(to)),
  lstat: ((path: Fs.PathLike, options: Fs.StatOptions) => lstat(found(path), options)) as typeof lstat,
  mkdir: ((path: Fs.PathLike, options: Fs.MakeDirectoryOptions) => mkdir(found(path), options)) as typeof mkdir,
  open: (path, ...more) => open(found(path), ...more),
  readdir: ((path: Fs.PathLike) => readdir(found(path))) as typeof readdir,
  rename: (from, to) => rename(found(from), found(to)),
  rm: (path, options) => rm(found(path), options)
}
