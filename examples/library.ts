/** Client and server as layers in a program of one's own. Run it with `npx tsx examples/library.ts <file>`. */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Layer, Redacted } from "effect"
import { ChunkStoreSqlite, HttpClientNode } from "../src/client-node.ts"
import { ApiKey, Source, TransportHttp, Uploader } from "../src/client.ts"
import { FilenameGenerator } from "../src/index.ts"
import { NodeServer, Server } from "../src/server-node.ts"

const key = Redacted.make("a key that only the two of us know")

// a server that puts the day before each name
const ServerLive = Server.layer({
  outputDir: "received",
  port: 0,
  apiKey: key,
  filenameGenerator: FilenameGenerator.layerFunction((clientName) =>
    `${new Date().toISOString().slice(0, 10)} ${clientName.split("/").at(-1)}`
  )
})

const UploaderLive = Uploader.layer({ chunkSize: 4 * 1024 * 1024 }).pipe(
  Layer.provide(TransportHttp.layerStreamed()),
  Layer.provide(ChunkStoreSqlite.layer({ file: "buffer.db" })),
  Layer.provide(HttpClientNode.layer()),
  Layer.provide(ApiKey.layer(key))
)

const program = Effect.gen(function*() {
  const uploader = yield* Uploader.Uploader
  const url = yield* NodeServer.baseUrl
  const { file } = yield* uploader.add(yield* Source.file(process.argv[2] ?? "README.md"))
  yield* Console.log(`${file.chunks} chunks in the buffer`)
  const outcomes = yield* uploader.uploadAll({ endpoint: url })
  yield* Console.log(outcomes)
})

NodeRuntime.runMain(Effect.provide(program, Layer.mergeAll(UploaderLive, ServerLive, NodeContext.layer)))
