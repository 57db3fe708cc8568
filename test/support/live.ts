/**
 * Our client and our server as they run: real sockets, a real buffer on the disk, real folders.
 *
 * @module
 */
import * as HttpServer from "@effect/platform/HttpServer"
import { Chunk, Context, Effect, Layer, Logger, LogLevel, Redacted, type Scope, Stream } from "effect"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as ApiKey from "../../src/client/ApiKey.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as HttpClientNode from "../../src/client/HttpClientNode.ts"
import * as Source from "../../src/client/Source.ts"
import * as TransportHttp from "../../src/client/TransportHttp.ts"
import * as Uploader from "../../src/client/Uploader.ts"
import * as Server from "../../src/server/Server.ts"
import { listen } from "./peers/internal/listen.ts"
import { raw } from "./sqliteFiles.ts"

export const apiKey = "the key"

/** The whole client over a buffer; its pauses are short. */
export const client = (
  file: string,
  options: Partial<Uploader.UploaderOptions> & { readonly key?: string } = {}
): Effect.Effect<Context.Tag.Service<Uploader.Uploader>, never, Scope.Scope> =>
  Effect.map(
    Layer.build(
      Uploader.layer({
        chunkSize: 1000,
        ...options,
        retry: { initialDelay: "10 millis", maxDelay: "100 millis", ...options.retry }
      }).pipe(
        Layer.provide(TransportHttp.layerStreamed()),
        Layer.provide([
          ChunkStoreSqlite.layer({ file }),
          HttpClientNode.layer(),
          ApiKey.layer(Redacted.make(options.key ?? apiKey))
        ]),
        Layer.provide(Logger.minimumLogLevel(LogLevel.Error))
      )
    ).pipe(Effect.orDie),
    Context.get(Uploader.Uploader)
  )

/** Adds bytes under a name. */
export const add = (uploader: Context.Tag.Service<Uploader.Uploader>, name: string, bytes: Uint8Array) =>
  Effect.orDie(uploader.add(Source.stream(name, Stream.make(bytes))))

export const buffered = (uploader: Context.Tag.Service<Uploader.Uploader>) =>
  Effect.map(Effect.orDie(Stream.runCollect(uploader.list)), Chunk.toReadonlyArray)

/** Lets files that were on their way to one endpoint count as on their way to another. */
export const move = (file: string, from: string, to: string): Effect.Effect<void> =>
  Effect.sync(() =>
    raw(file, (database) => database.prepare("UPDATE files SET endpoint = ? WHERE endpoint = ?").run(to, from))
  )

export interface Running {
  readonly port: number
  readonly url: string
}

/** Our server on a folder. */
export const server = (
  folder: string,
  options: Partial<Server.ServerOptions> = {}
): Effect.Effect<Running, never, Scope.Scope> =>
  Effect.gen(function*() {
    const context = yield* Layer.build(
      Server.layer({ outputDir: folder, apiKey: Redacted.make(apiKey), port: 0, drainTimeout: "1 second", ...options })
        .pipe(Layer.provide(Logger.minimumLogLevel(LogLevel.Error)))
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    const port = address._tag === "TcpAddress" ? address.port : 0
    return { port, url: `http://127.0.0.1:${port}/upload` }
  }).pipe(Effect.orDie)

/** A port where nobody listens. */
export const freePort: Effect.Effect<number> = Effect.scoped(Effect.suspend(() => listen(Net.createServer())))

/** What stands in a folder, the server's own files aside. */
export const filesIn = (folder: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.sync(() => Fs.readdirSync(folder).filter((name) => name !== ".indexedcp").sort())

export const read = (folder: string, name: string): Effect.Effect<Uint8Array> =>
  Effect.sync(() => Uint8Array.from(Fs.readFileSync(Path.join(folder, name))))
