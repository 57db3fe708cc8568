/**
 * The two programs for tests: in this process, or as processes of their own, bundled anew from the sources for each run of the tests.
 *
 * @module
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as HttpServer from "@effect/platform/HttpServer"
import { ConfigProvider, Console, Context, Effect, Layer, Logger, LogLevel, Redacted, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { inject } from "vitest"
import * as ServerCli from "../../src/cli/indexcp-server.ts"
import * as Client from "../../src/cli/indexcp.ts"
import * as Server from "../../src/server/Server.ts"
import { environment, homeVariable } from "./platform.ts"

export const temporaryFolder: Effect.Effect<string, never, Scope.Scope> = Effect.acquireRelease(
  Effect.promise(async () => Fs.realpath(await Fs.mkdtemp(Path.join(Os.tmpdir(), "indexedcp-cli-")))),
  (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
)

export const bytesOf = (length: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) % 256))

/** Writes files into a folder of their own, with names of that folder, and returns the folder. */
export const folderWith = (files: Readonly<Record<string, Uint8Array | string>>) =>
  Effect.tap(temporaryFolder, (folder) =>
    Effect.forEach(
      Object.entries(files),
      ([name, bytes]) => Effect.promise(() => Fs.writeFile(Path.join(folder, name), bytes))
    ))

export const contentOf = (...path: ReadonlyArray<string>) => Effect.promise(() => Fs.readFile(Path.join(...path)))

/** What a program did. */
export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export type Variables = Readonly<Record<string, string>>

const programs = { indexcp: Client.program, "indexcp-server": ServerCli.program }

/** Runs a program in this process. Its buffer is in the home of this process, its other variables are those given. */
export const run = (
  name: keyof typeof programs,
  words: ReadonlyArray<string>,
  variables: Variables = {}
): Effect.Effect<Ended> =>
  Console.consoleWith((console) => {
    const said = { stdout: "", stderr: "" }
    const sayOn = (stream: keyof typeof said) => (text: unknown) =>
      Effect.sync(() => {
        said[stream] += `${String(text)}\n`
      })
    return programs[name](words).pipe(
      Effect.withConsole({ ...console, log: sayOn("stdout"), error: sayOn("stderr") }),
      Effect.withConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(variables)))),
      Effect.provide(NodeContext.layer),
      Effect.map((code) => ({ code, ...said }))
    )
  })

/** Gives this process a home of its own until the scope closes. */
export const temporaryHome: Effect.Effect<string, never, Scope.Scope> = Effect.tap(
  temporaryFolder,
  (folder) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const before = process.env[homeVariable]
        process.env[homeVariable] = folder
        return before
      }),
      (before) =>
        Effect.sync(() => {
          if (before === undefined) delete process.env[homeVariable]
          else process.env[homeVariable] = before
        })
    )
)

/** Makes a folder the current one until the scope closes. */
export const workIn = (folder: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = process.cwd()
      process.chdir(folder)
      return before
    }),
    (before) => Effect.sync(() => process.chdir(before))
  )

/** A server in this process with the key `k`, on a free port. */
export const startServer = (options: Omit<Server.ServerOptions, "apiKey"> = {}) =>
  Effect.gen(function*() {
    const folder = options.outputDir ?? (yield* temporaryFolder)
    const server = yield* Layer.build(
      Server.layer({ port: 0, outputDir: folder, apiKey: Redacted.make("k"), ...options })
    ).pipe(Logger.withMinimumLogLevel(LogLevel.None))
    const { address } = Context.get(server, HttpServer.HttpServer)
    const port = address._tag === "TcpAddress" ? address.port : 0
    return { folder, port, url: `http://127.0.0.1:${port}` }
  })

/** The folder that holds the programs as npm would ship them. */
export const bundle: string = inject("programs")

/** A program as a process; it is killed when the scope closes. */
export interface Running {
  readonly child: ChildProcess
  /** The first match in what came on stdout (or stderr) so far or will come. Dies when the process ends without it. */
  readonly said: (pattern: RegExp, stream?: "stdout" | "stderr") => Effect.Effect<string>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** `-1` is the code when a signal ended it. */
  readonly ended: Effect.Effect<Ended>
}

export interface StartOptions {
  readonly home: string
  readonly variables?: Variables
  readonly cwd?: string
  /** A command that runs the program, like `nice`. */
  readonly under?: ReadonlyArray<string>
}

/** Starts a program; its stdin is empty. */
export const start = (
  name: keyof typeof programs,
  words: ReadonlyArray<string>,
  options: StartOptions
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.gen(function*() {
    const said = { stdout: "", stderr: "" }
    const listeners = new Set<() => void>()
    const [command, ...args] = [
      ...(options.under ?? []),
      process.execPath,
      Path.join(bundle, "dist/bin", `${name}.js`),
      ...words
    ]
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        spawn(command!, args, {
          cwd: options.cwd ?? options.home,
          env: { ...environment(options.home), ...options.variables },
          stdio: ["ignore", "pipe", "pipe"]
        })
      ),
      (child) => Effect.sync(() => child.kill("SIGKILL"))
    )
    for (const stream of ["stdout", "stderr"] as const) {
      child[stream].setEncoding("utf8")
      child[stream].on("data", (text: string) => {
        said[stream] += text
        for (const listener of listeners) listener()
      })
    }
    const ended = new Promise<Ended>((resolve) => {
      child.once("close", (code) => resolve({ code: code ?? -1, ...said }))
    })
    return {
      child,
      said: (pattern, stream = "stdout") =>
        Effect.async<string>((resume) => {
          const look = () => {
            const match = pattern.exec(said[stream])
            if (match !== null) resume(Effect.succeed(match[1] ?? match[0]))
          }
          listeners.add(look)
          look()
          void ended.then((all) => resume(Effect.dieMessage(`ended without ${pattern}: ${JSON.stringify(all)}`)))
          return Effect.sync(() => listeners.delete(look))
        }),
      signal: (signal) => Effect.sync(() => void child.kill(signal)),
      ended: Effect.promise(() => ended)
    }
  })
