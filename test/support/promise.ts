/**
 * Promise classes for tests: in folders, and with a home, of their own, and closed when the test is over.
 *
 * @module
 */
import { Effect, Exit, Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { onTestFinished } from "vitest"
import {
  IndexCPClient,
  type IndexCPClientOptions,
  type IndexCPError,
  IndexCPServer,
  type IndexCPServerOptions
} from "../../src/promise.ts"

/** A folder that is removed when the test is over. */
export const folder = (): string => {
  const path = Fs.mkdtempSync(Path.join(Os.tmpdir(), "indexedcp-promise-"))
  onTestFinished(() => Fs.rmSync(path, { recursive: true, force: true }))
  return path
}

/** Sets variables of this process until the test is over; `undefined` takes one away. */
export const variables = (values: Readonly<Record<string, string | undefined>>): void => {
  const set = (name: string, value: string | undefined) => {
    if (value === undefined) delete process.env[name]
    else process.env[name] = value
  }
  for (const [name, value] of Object.entries(values)) {
    const before = process.env[name]
    onTestFinished(() => set(name, before))
    set(name, value)
  }
}

/** A home of its own, without any key in the environment, which is also the folder for files. */
export const home = (): string => {
  const path = folder()
  variables({ HOME: path, USERPROFILE: path, INDEXCP_API_KEY: undefined, INDEXEDCP_API_KEY: undefined })
  return path
}

/** Writes a file and returns its path. */
export const write = (folder: string, name: string, bytes: Uint8Array | string): string => {
  const path = Path.join(folder, name)
  Fs.writeFileSync(path, bytes)
  return path
}

export const read = (...path: ReadonlyArray<string>): string => Fs.readFileSync(Path.join(...path), "utf8")

/** What stands in a folder, the server's own files aside. */
export const filesIn = (folder: string): ReadonlyArray<string> =>
  Fs.readdirSync(folder).filter((name) => name !== ".indexedcp").sort()

export interface Listening {
  readonly server: IndexCPServer
  readonly folder: string
  readonly url: string
}

/** A listening server with the key `k`, on a free port. */
export const listening = async (options: IndexCPServerOptions = {}): Promise<Listening> => {
  const outputDir = options.outputDir ?? folder()
  const server = new IndexCPServer({ apiKey: "k", port: 0, drainTimeout: 1000, ...options, outputDir })
  onTestFinished(() => server.close())
  await server.listen()
  return { server, folder: outputDir, url: `http://127.0.0.1:${server.address().port}/upload` }
}

/** A client with the key `k` whose pauses are short. */
export const client = (options: IndexCPClientOptions = {}): IndexCPClient => {
  const made = new IndexCPClient({
    apiKey: "k",
    initialRetryDelay: 10,
    maxRetryDelay: 50,
    ...options
  })
  onTestFinished(() => made.close())
  return made
}

/** What a Promise rejects with. */
export const rejection = (promise: Promise<unknown>): Promise<IndexCPError> =>
  promise.then((value) => {
    throw new Error(`resolved with ${JSON.stringify(value)}`)
  }, (error: IndexCPError) => error)

/** Something scoped, until the test is over. */
export const scoped = async <A, E>(effect: Effect.Effect<A, E, Scope.Scope>): Promise<A> => {
  const scope = Effect.runSync(Scope.make())
  onTestFinished(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return await Effect.runPromise(Scope.extend(effect, scope))
}

/** The headers of a chunk of revision 1. */
export const chunk = (name: string, index = 0, key = "k"): Record<string, string> => ({
  "authorization": `Bearer ${key}`,
  "x-file-name": name,
  "x-chunk-index": String(index)
})
