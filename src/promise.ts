/**
 * `indexedcp/promise`: client and server for programs that do not use Effect. Node only.
 *
 * @example
 * ```ts
 * import { IndexCPClient, UploadFailedError } from "indexedcp/promise"
 *
 * const client = new IndexCPClient({ serverUrl: "http://server:3000/upload", apiKey: "the server's key" })
 * try {
 *   await client.addFile("report.pdf")
 *   console.log(await client.uploadBufferedFiles()) // { 'report.pdf': 'report.pdf' }
 * } catch (error) {
 *   if (error instanceof UploadFailedError) console.error(error.failures)
 * } finally {
 *   await client.close()
 * }
 * ```
 *
 * @module
 */
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
