/**
 * tus: `@tus/server` with `@tus/file-store`, and `tus-js-client`, each with its defaults.
 *
 * @module
 */
import * as Url from "node:url"
import type { Server, World } from "../support/contest.ts"
import * as Measure from "../support/measure.ts"

const program = (name: string): string => Url.fileURLToPath(new URL(`../programs/${name}.mjs`, import.meta.url))

export const serve = async ({ received }: World): Promise<Server> => {
  const process = await Measure.start(Measure.node(program("tusServer"), received), /^Listening on (\S+)$/m)
  return { process, url: process.said }
}

/** Sends a file, in one request unless a chunk size is given, or each file of a folder, so many at once. */
export const send = (
  url: string,
  path: string,
  { atOnce = 1, chunkSize }: { readonly atOnce?: number; readonly chunkSize?: number } = {}
): Measure.Command => Measure.node(program("tusClient"), url, path, `${chunkSize ?? "default"}`, `${atOnce}`)
