/**
 * `indexedcp/client-node`: the client's layers that need Node.
 *
 * @example
 * ```ts
 * import { Layer, Redacted } from "effect"
 * import { ApiKey, TransportHttp, Uploader } from "indexedcp/client"
 * import { ChunkStoreSqlite, HttpClientNode } from "indexedcp/client-node"
 *
 * const UploaderLive = Uploader.layer().pipe(
 *   Layer.provide(TransportHttp.layerStreamed()),
 *   Layer.provide(ChunkStoreSqlite.layer({ file: "buffer.db" })),
 *   Layer.provide(HttpClientNode.layer()),
 *   Layer.provide(ApiKey.layer(Redacted.make("the server's key")))
 * )
 * ```
 *
 * @module
 */
export * as ChunkStoreSqlite from "./client/ChunkStoreSqlite.ts"
export * as HttpClientNode from "./client/HttpClientNode.ts"
