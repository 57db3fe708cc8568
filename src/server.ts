/**
 * `indexedcp/server`: the receiving program, its services, memory layers and HTTP app. No Node.
 *
 * `Receiver` is the program; it needs an `UploadStore` (bytes), an `UploadLedger` (what has been received) and a
 * `FilenameGenerator`, and tells a `CompletionHook`, if there is one, of each complete file. `HttpApp` puts it behind HTTP, for
 * whom the `Authenticator` lets in. The whole server as one layer is `Server` in `indexedcp/server-node`.
 *
 * @example
 * ```ts
 * import { FilenameGenerator } from "indexedcp/server"
 * import { Server } from "indexedcp/server-node"
 *
 * const ServerLive = Server.layer({
 *   outputDir: "uploads",
 *   // a folder for each key
 *   filenameGenerator: FilenameGenerator.layerFunction((name, _, { keyName }) => `${keyName}/${name}`)
 * })
 * ```
 *
 * @module
 */
export * as ApiKeys from "./server/ApiKeys.ts"
export * as Authenticator from "./server/Authenticator.ts"
export * as Body from "./server/Body.ts"
export * as Claims from "./server/Claims.ts"
export * as CompletionHook from "./server/CompletionHook.ts"
export * as FilenameGenerator from "./server/FilenameGenerator.ts"
export * as HttpApp from "./server/HttpApp.ts"
export * as Metrics from "./server/Metrics.ts"
export * as NamedKey from "./server/NamedKey.ts"
export * as Receiver from "./server/Receiver.ts"
export * as SafeName from "./server/SafeName.ts"
export * as Tracing from "./server/Tracing.ts"
export * as UploadLedger from "./server/UploadLedger.ts"
export * as UploadStore from "./server/UploadStore.ts"
