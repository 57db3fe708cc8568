/** A server that puts files into an object store: `npx tsx examples/effect-upload-storage.ts`. */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Redacted } from "effect"
import { CompletionHook } from "indexedcp/server"
import { NodeServer, Server } from "indexedcp/server-node"
import * as BucketUploadStore from "./storage/BucketUploadStore.ts"

// where a client of S3 would stand
const bucket = BucketUploadStore.memory()

const Announce = Layer.effectDiscard(
  Effect.flatMap(NodeServer.baseUrl, (url) => Console.log(`Listening on ${url}/upload`))
)

NodeRuntime.runMain(Layer.launch(Layer.provide(
  Announce,
  Server.layer({
    // of the ledger, which tells what has arrived
    outputDir: "./uploads",
    port: Number(process.env["PORT"] ?? 3000),
    apiKey: Redacted.make(process.env["INDEXCP_API_KEY"] ?? "your-secure-api-key"),
    maxChunkSize: 16 * 1024 * 1024,
    uploadStore: BucketUploadStore.layer(bucket),
    completionHook: CompletionHook.layerFunction(({ name }) =>
      Effect.flatMap(
        Effect.promise(() => BucketUploadStore.read(bucket, name)),
        (bytes) => Console.log(`${name} is in the bucket, ${bytes?.length} bytes`)
      )
    )
  })
)))
