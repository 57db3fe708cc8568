/** `indexedcp/promise`: client and server for programs that do not use Effect. Node only. */
export { createSimpleServer } from "./promise/createSimpleServer.ts"
export * from "./promise/Errors.ts"
export * from "./promise/Events.ts"
export {
  type ByteStream,
  type ChunkResponse,
  IndexCPClient,
  IndexCPClient as IndexedCPClient,
  type IndexCPClientOptions
} from "./promise/IndexCPClient.ts"
export {
  type CompletedFile,
  IndexCPServer,
  IndexCPServer as IndexedCPServer,
  type IndexCPServerOptions,
  type ServerAddress,
  type UploadRequest
} from "./promise/IndexCPServer.ts"
