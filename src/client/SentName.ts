/**
 * What servers are told of a path that the user typed.
 *
 * @module
 */

/** On `windows` a backslash separates folders, elsewhere it is a letter like any other. */
export type Platform = "posix" | "windows"

/** Where this program runs, asked without importing Node; browsers count as `posix`. */
const here: Platform =
  (globalThis as { readonly process?: { readonly platform?: string } }).process?.platform === "win32"
    ? "windows"
    : "posix"

/** `C:\` and `\\server`: nobody means a file name by them on any platform. */
const windowsRoot = /^([A-Za-z]:[\\/]|\\\\)/

/** `C:`, which on Windows leads away from the current folder even without a separator. */
const drive = /^[A-Za-z]:/

/**
 * The typed path when it is relative and without `..`; the base name when it is absolute or has `..`. Parts that mean
 * nothing (`.`, doubled separators) are left out, and the separator sent is always `/`. A path that names no file (`/`,
 * `..`) comes back as it is.
 *
 * @example
 * sentName("./logs/a.txt") // "logs/a.txt"
 * sentName("/var/log/a.txt") // "a.txt"
 * sentName("C:\\logs\\a.txt") // "a.txt"
 */
export const sentName = (path: string, platform: Platform = here): string => {
  const windows = platform === "windows" || windowsRoot.test(path)
  const withoutDrive = windows ? path.replace(drive, "") : path
  const parts = withoutDrive.split(windows ? /[\\/]/ : "/")
  const isAbsolute = withoutDrive !== path || parts[0] === ""
  const kept = parts.filter((part) => part !== "" && part !== ".")
  if (!isAbsolute && !kept.includes("..")) return kept.length === 0 ? path : kept.join("/")
  const base = kept.at(-1)
  return base === undefined || base === ".." ? path : base
}

/**
 * What the names of the files in a folder begin with, when servers are told their paths from the named folder on: its
 * base name, resolved for `..`; nothing for the current folder and for the root.
 *
 * @example
 * folderName("../photos", "/data/photos") // "photos"
 * folderName(".", "/data/photos") // ""
 */
export const folderName = (path: string, absolute: string, platform: Platform = here): string => {
  const separator = platform === "windows" || windowsRoot.test(absolute) ? /[\\/]/ : "/"
  if (path.split(separator).every((part) => part === "." || part === "") && path.startsWith(".")) return ""
  return absolute.replace(drive, (start) => separator === "/" ? start : "").split(separator)
    .findLast((part) => part !== "") ?? ""
}
