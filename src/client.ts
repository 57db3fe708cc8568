/**
 * `indexedcp/client`: the uploading program, its services and memory layers. No Node.
 *
 * `Uploader` is the program; it needs a `ChunkStore` (the buffer) and a `Transport` (one exchange), which needs an `ApiKey` and the
 * platform's `HttpClient`. The layers for Node are in `indexedcp/client-node`.
 *
 * @example
 * ```ts
 * import { FetchHttpClient } from "@effect/platform"
 * import { Effect, Layer, Redacted, Stream } from "effect"
 * import { ApiKey, ChunkStore, Source, TransportHttp, Uploader } from "indexedcp/client"
 *
 * const UploaderLive = Uploader.layer().pipe(
 *   Layer.provide(TransportHttp.layer),
 *   Layer.provide(ChunkStore.layerMemory),
 *   Layer.provide(FetchHttpClient.layer),
 *   Layer.provide(ApiKey.layer(Redacted.make("the server's key")))
 * )
 *
 * const program = Effect.gen(function*() {
 *   const uploader = yield* Uploader.Uploader
 *   yield* uploader.add(Source.stream("hello.txt", Stream.make(new TextEncoder().encode("hello"))))
 *   return yield* uploader.uploadAll({ endpoint: "http://127.0.0.1:3000/upload" })
 * })
 * ```
 *
 * @module
 */
export * as ApiKey from "./client/ApiKey.ts"
export * as ChunkStore from "./client/ChunkStore.ts"
export * as Source from "./client/Source.ts"
export * as Transport from "./client/Transport.ts"
export * as TransportHttp from "./client/TransportHttp.ts"
export * as Uploader from "./client/Uploader.ts"
export * as UploadEvent from "./client/UploadEvent.ts"
