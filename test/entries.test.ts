import { describe, expect, it } from "@effect/vitest"
import { build } from "esbuild"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Vm from "node:vm"

const root = Path.resolve(import.meta.dirname, "..")

/** What a browser would load; fails where that needs Node. */
const browserBundle = async (contents: string): Promise<string> => {
  const { outputFiles } = await build({
    stdin: { contents, loader: "ts", resolveDir: root },
    bundle: true,
    platform: "browser",
    format: "iife",
    globalName: "bundle",
    write: false,
    logLevel: "silent"
  })
  return outputFiles[0]!.text
}

/** A place with what browsers have, and nothing of Node. */
const browser = () =>
  Vm.createContext({
    AbortController,
    AbortSignal,
    Blob,
    Headers,
    ReadableStream,
    Request,
    Response,
    TextDecoder,
    TextEncoder,
    TransformStream,
    URL,
    URLSearchParams,
    atob,
    btoa,
    clearInterval,
    clearTimeout,
    crypto,
    performance,
    queueMicrotask,
    setInterval,
    setTimeout
  })

/** Client and server over `fetch`, in memory: what arrives under the name that the server gave it. */
const roundTrip = `
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApp_ from "@effect/platform/HttpApp"
import { Effect, Layer, Option, Stream } from "effect"
import * as Client from "./src/client.ts"
import * as Server from "./src/server.ts"

const MiB = 1024 * 1024
const services = Server.Receiver.layer().pipe(
  Layer.provideMerge(Layer.mergeAll(
    Server.UploadLedger.layerMemory,
    Server.UploadStore.layerMemory,
    Server.FilenameGenerator.layer,
    Server.Authenticator.layerMemory({ page: "test" })
  ))
)
const client = (answer) => Client.Uploader.layer().pipe(
  Layer.provide(Client.TransportHttp.layer),
  Layer.provide(Layer.mergeAll(Client.ChunkStore.layerMemory, Client.ApiKey.layerMemory, FetchHttpClient.layer)),
  Layer.provide(Layer.succeed(FetchHttpClient.Fetch, (url, options) => answer(new Request(url, options))))
)
export const run = () => Effect.runPromise(Effect.scoped(Effect.gen(function*() {
  const app = yield* Server.HttpApp.app()
  const answer = HttpApp_.toWebHandlerRuntime(yield* Effect.runtime())(app)
  const [outcome] = yield* Effect.gen(function*() {
    const uploader = yield* Client.Uploader.Uploader
    yield* uploader.add(Client.Source.stream("a.bin", Stream.make(new Uint8Array(3 * MiB).fill(7))))
    return yield* uploader.uploadAll({ endpoint: "https://files.example/upload" })
  }).pipe(Effect.provide(client(answer)))
  const files = yield* Server.UploadStore.MemoryFiles
  const bytes = Option.getOrThrow(yield* files.read("a.bin"))
  return [outcome.state, bytes.length, bytes.every((byte) => byte === 7)].join(" ")
}).pipe(Effect.provide(services))))
`

describe("Entry points", () => {
  it.each(["index", "protocol", "client", "server"])("%s needs no Node", async (entry) => {
    const text = await browserBundle(`export * from "./src/${entry}.ts"`)
    expect(text).not.toMatch(/(from|import|require)\s*\(?\s*["']node:/)
    const context = browser()
    Vm.runInContext(text, context)
    expect(Vm.runInContext("Object.keys(bundle).length > 0", context)).toBe(true)
  })

  it("client and server send a file to each other where there is no Node", async () => {
    const context = browser()
    Vm.runInContext(await browserBundle(roundTrip), context)
    expect(await Vm.runInContext("bundle.run()", context)).toBe(`delivered ${3 * 1024 * 1024} true`)
  })

  it("are all exported by the package, and no others", () => {
    const entries = Fs.readdirSync(Path.join(root, "src")).filter((name) => name.endsWith(".ts"))
      .map((name) => name.replace(/\.ts$/, ""))
    const { exports } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8")) as {
      readonly exports: Readonly<Record<string, { readonly types: string; readonly default: string }>>
    }
    for (const entry of entries) {
      expect(exports[entry === "index" ? "." : `./${entry}`]).toMatchObject({
        types: `./dist/${entry}.d.ts`,
        default: `./dist/${entry}.js`
      })
    }
    expect(Object.keys(exports)).toHaveLength(entries.length + 1)
  })
})
