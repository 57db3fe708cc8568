/**
 * What is left out where a system has no such thing.
 *
 * @module
 */

/**
 * Windows has no signals that a program could answer, no modes of files, and neither FIFOs nor sockets in folders; links there
 * are a right of its own. What is about these is not asked there.
 */
export const isWindows = process.platform === "win32"

/** The variable that says where a user's home is. */
export const homeVariable = isWindows ? "USERPROFILE" : "HOME"

/** What a process needs of the environment, in a home of its own. */
export const environment = (home: string): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "",
  [homeVariable]: home,
  // without it programs on Windows have no sockets
  ...(process.env["SystemRoot"] === undefined ? {} : { SystemRoot: process.env["SystemRoot"] })
})
