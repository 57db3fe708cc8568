/** `indexedcp`: everything that needs no Node, as namespaces. */
export * from "./client.ts"
export * from "./protocol.ts"
export * from "./server.ts"
