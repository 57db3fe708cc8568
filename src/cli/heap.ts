/**
 * How the engine keeps the memory of the programs. The settings are V8's own (`node --v8-options`): a Node newer than those
 * they were tried with keeps its own.
 *
 * @module
 */
import { setFlagsFromString } from "node:v8"

/** A setting that an engine does not know is complained of on stderr. */
const newestTried = 24

const set = (...settings: ReadonlyArray<string>): void => {
  if (Number.parseInt(process.versions.node, 10) <= newestTried) settings.forEach((flag) => setFlagsFromString(flag))
}

/**
 * For a program that takes many bytes in: they come in memory that is of no use a moment later. The collection of what is
 * young frees it; one of everything for each 32 MiB of it costs as much as receiving them.
 */
export const forReceiving = (): void => set("--heap-growing-percent=250")

/**
 * For a program that sends from memory of its own: what is young stays few MiB, and the parser of answers, which is in
 * WebAssembly, is not compiled a second time. That took 36 MiB for a quarter of a second, to read some hundred short answers.
 */
export const forSending = (): void => set("--semi-space-growth-factor=1", "--liftoff-only")
