/** `indexedcp/client-node`: the client's layers that need Node. */
export * as ChunkStoreSqlite from "./client/ChunkStoreSqlite.ts"
export * as HttpClientNode from "./client/HttpClientNode.ts"
