/**
 * `indexedcp/server-node`: the server's layers that need Node, and the whole server as one layer.
 *
 * @example
 * ```ts
 * import { NodeRuntime } from "@effect/platform-node"
 * import { Layer, Redacted } from "effect"
 * import { Server } from "indexedcp/server-node"
 *
 * NodeRuntime.runMain(Layer.launch(Server.layer({ outputDir: "uploads", apiKey: Redacted.make("a key") })))
 * ```
 *
 * @module
 */
export * as ApiKeysSqlite from "./server/ApiKeysSqlite.ts"
export * as CompletionHookCommand from "./server/CompletionHookCommand.ts"
export * as MetricsApp from "./server/MetricsApp.ts"
export * as NodeServer from "./server/NodeServer.ts"
export * as OutputFolder from "./server/OutputFolder.ts"
export * as Server from "./server/Server.ts"
export * as SimpleServer from "./server/SimpleServer.ts"
export * as UploadLedgerSqlite from "./server/UploadLedgerSqlite.ts"
export * as UploadStoreFileSystem from "./server/UploadStoreFileSystem.ts"
