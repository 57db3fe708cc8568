/** A client whose buffer is encrypted: `npx tsx examples/effect-chunk-storage.ts <url> <file>...`. */
import { NodeContext, NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer } from "effect"
import { ApiKey, Source, TransportHttp, Uploader } from "indexedcp/client"
import { ChunkStoreSqlite, HttpClientNode } from "indexedcp/client-node"
import { scryptSync } from "node:crypto"
import * as EncryptedChunkStore from "./storage/EncryptedChunkStore.ts"

const [url = "http://127.0.0.1:3000/upload", ...files] = process.argv.slice(2)

const key = scryptSync(process.env["BUFFER_PASSWORD"] ?? "a password", "the salt of this buffer", 32)

const UploaderLive = Uploader.layer().pipe(
  Layer.provide(TransportHttp.layerStreamed()),
  Layer.provide([
    EncryptedChunkStore.layer(key).pipe(Layer.provide(ChunkStoreSqlite.layer({ file: "encrypted.db" }))),
    HttpClientNode.layer(),
    ApiKey.layerFromEnv()
  ])
)

const program = Effect.gen(function*() {
  const uploader = yield* Uploader.Uploader
  for (const file of files) {
    yield* uploader.add(yield* Source.file(file))
    yield* Console.log(`${file}: in the buffer`)
  }
  for (const { path, state } of yield* uploader.uploadAll({ endpoint: url })) yield* Console.log(`${path}: ${state}`)
})

NodeRuntime.runMain(Effect.provide(program, [UploaderLive, NodeContext.layer]))
