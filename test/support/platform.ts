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
