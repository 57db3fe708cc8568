/**
 * `indexedcp`: everything that needs no Node, as namespaces: those of `indexedcp/protocol`, `/client` and `/server` together.
 *
 * @example
 * ```ts
 * import { Receipt, Receiver, Uploader } from "indexedcp"
 * ```
 *
 * @module
 */
export * from "./client.ts"
export * from "./protocol.ts"
export * from "./server.ts"
