/**
 * `indexedcp/testing`: client and server in one process, for tests.
 *
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import { ChunkStore, Uploader } from "indexedcp/client"
 * import { FilenameGenerator, Receiver, UploadLedger, UploadStore } from "indexedcp/server"
 * import { TransportFaulty, TransportInProcess } from "indexedcp/testing"
 *
 * // an uploader, and a server in memory, over a network that now and then drops a request or loses an answer
 * const World = Uploader.layer().pipe(
 *   Layer.provide(ChunkStore.layerMemory),
 *   Layer.provide(TransportFaulty.layer({ dropped: 0.1, answerLost: 0.1 })),
 *   Layer.provide(TransportInProcess.layer()),
 *   Layer.provide(Receiver.layer()),
 *   Layer.provide([UploadLedger.layerMemory, FilenameGenerator.layerMemory]),
 *   Layer.provideMerge(UploadStore.layerMemory)
 * )
 * ```
 *
 * @module
 */
export * as PowerCutDisk from "./testing/PowerCutDisk.ts"
export * as TransportFaulty from "./testing/TransportFaulty.ts"
export * as TransportInProcess from "./testing/TransportInProcess.ts"
