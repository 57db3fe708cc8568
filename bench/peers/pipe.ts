/**
 * The least that Node can do: a server that pipes each request's body into a file, and a client that sends one request after
 * the other. Nothing is checked, resumed or synced.
 *
 * @module
 */
import * as Url from "node:url"
import type { Server, World } from "../support/contest.ts"
import * as Measure from "../support/measure.ts"
import { MiB } from "../support/settings.ts"

const program = (name: string): string => Url.fileURLToPath(new URL(`../programs/${name}.mjs`, import.meta.url))

export const serve = async ({ received }: World): Promise<Server> => {
  const process = await Measure.start(Measure.node(program("pipeServer"), received), /^Listening on (\S+)$/m)
  return { process, url: process.said }
}

/** Sends a file in requests of 1 MiB. */
export const send = (url: string, file: string): Measure.Command =>
  Measure.node(program("pipeClient"), url, file, String(MiB))

/** Small files, durable, with no network at all. */
export const bareLoop = (from: string, to: string): Measure.Command => Measure.node(program("bareLoop"), from, to)
