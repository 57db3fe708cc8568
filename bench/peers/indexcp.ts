/**
 * The project's own programs, as built.
 *
 * @module
 */
import * as Crypto from "node:crypto"
import * as Url from "node:url"
import type { Server, World } from "../support/contest.ts"
import * as Measure from "../support/measure.ts"

const key = Crypto.randomBytes(16).toString("hex")

const built = (name: string): string => Url.fileURLToPath(new URL(`../../dist/bin/${name}.js`, import.meta.url))
const uploadersProgram = Url.fileURLToPath(new URL("../programs/uploaders.mjs", import.meta.url))

/** With a home of its own: the buffer is not that of whoever runs this. */
const at = (home: string, command: Measure.Command): Measure.Command => ({
  ...command,
  env: { HOME: home, INDEXCP_API_KEY: key }
})

/** `indexcp` with a home. */
export const client = (home: string, ...args: ReadonlyArray<string>): Measure.Command =>
  at(home, Measure.node(built("indexcp"), ...args))

/** `indexcp-server` with its default settings, on a free port. */
export const server = ({ home, received }: World): Measure.Command =>
  at(home, Measure.node(built("indexcp-server"), "--port", "0", "--output-dir", received, "--durability", "power"))

export const listening = /^Listening on (\S+)$/m

export const serve = async (world: World): Promise<Server> => {
  const process = await Measure.start(server(world), listening)
  return { process, url: process.said }
}

/** An uploader for each file of a folder, all of them at once in one process. */
export const uploaders = (
  { home }: World,
  url: string,
  folder: string,
  sizes: { readonly piece?: number; readonly body?: number } = {}
): Measure.Command => ({
  ...at(home, Measure.node(uploadersProgram, url, folder, `${sizes.piece ?? "default"}`, `${sizes.body ?? "default"}`)),
  keepOutput: true
})

/** What {@link uploaders} prints. */
export interface Uploaded {
  /** From the first byte on. */
  readonly seconds: number
  /** Files that were not delivered, and the first reason. */
  readonly failures: number
  readonly failure: string | null
  /** Requests that did not succeed and were repeated. */
  readonly refused: number
  readonly chunkMillis: ReadonlyArray<number>
}

export const uploaded = (stdout: string): Uploaded => JSON.parse(stdout)
