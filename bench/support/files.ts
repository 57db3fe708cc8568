/**
 * The bytes that are sent, and whether they have arrived.
 *
 * @module
 */
import { execFileSync } from "node:child_process"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { MiB } from "./settings.ts"

/** What has to be there in the end: a line for each file, its size and its SHA-256 (`-`: not looked at), sorted. */
export type Expected = ReadonlyArray<string>

/** Writes a file of random bytes, which nothing on the way can make smaller. */
export const random = (file: string, size: number): void => {
  const handle = Fs.openSync(file, "w")
  for (let at = 0; at < size; at += MiB) Fs.writeSync(handle, Crypto.randomBytes(Math.min(MiB, size - at)))
  Fs.closeSync(handle)
}

/** Makes a file of zeros that takes no room. */
export const sparse = (file: string, size: number): void => {
  Fs.closeSync(Fs.openSync(file, "w"))
  Fs.truncateSync(file, size)
}

/** Makes a folder of files of random bytes. */
export const randomFolder = (folder: string, count: number, size: number): void => {
  Fs.mkdirSync(folder)
  for (let at = 0; at < count; at++) random(Path.join(folder, `${String(at).padStart(6, "0")}.bin`), size)
}

/** Cuts a file into files of `size` bytes, named so that they sort. */
export const split = (file: string, folder: string, size: number): void => {
  Fs.mkdirSync(folder)
  const from = Fs.openSync(file, "r")
  const buffer = Buffer.alloc(size)
  for (let at = 0;; at++) {
    const read = Fs.readSync(from, buffer)
    if (read === 0) break
    Fs.writeFileSync(Path.join(folder, String(at).padStart(6, "0")), buffer.subarray(0, read))
  }
  Fs.closeSync(from)
}

const sha256 = (file: string): string => {
  const hash = Crypto.createHash("sha256")
  const handle = Fs.openSync(file, "r")
  const buffer = Buffer.allocUnsafe(MiB)
  for (let read; (read = Fs.readSync(handle, buffer)) > 0;) hash.update(buffer.subarray(0, read))
  Fs.closeSync(handle)
  return hash.digest("hex")
}

/** The files of a folder and of those in it, but for the programs' own notes: `.indexedcp`, and the `.json` files of tus. */
const filesBelow = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = Path.join(folder, entry.name)
    return entry.name.startsWith(".") || entry.name.endsWith(".json")
      ? []
      : entry.isDirectory()
      ? filesBelow(path)
      : [path]
  })

const describe = (paths: ReadonlyArray<string>, hashed: boolean): Expected =>
  paths.map((path) => `${Fs.statSync(path).size} ${hashed ? sha256(path) : "-"}`).sort()

/** What has to arrive of a file or a folder, under whatever names. */
export const expected = (path: string, hashed = true): Expected =>
  describe(Fs.statSync(path).isDirectory() ? filesBelow(path) : [path], hashed)

/** Throws when a folder has not these bytes, all of them and no others. */
export const verify = (folder: string, expected: Expected): void => {
  const there = describe(filesBelow(folder), !expected.some((line) => line.endsWith("-")))
  if (there.join("\n") === expected.join("\n")) return
  throw new Error(
    `The bytes in ${folder} are not those that were sent: ${there.length} files for ${expected.length}, ` +
      `first difference ${there.find((line, at) => line !== expected[at]) ?? "at the end"}`
  )
}

/** So that what was written before does not go to the disk while the next is timed. */
export const settle = (): void => void execFileSync("sync")

/** Bytes of room on the disk of a folder. */
export const room = (folder: string): number => {
  const { bavail, bsize } = Fs.statfsSync(folder)
  return bavail * bsize
}
