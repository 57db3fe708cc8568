/** `indexedcp/client`: the uploading program, its services and memory layers. No Node. */
export * as ApiKey from "./client/ApiKey.ts"
export * as ChunkStore from "./client/ChunkStore.ts"
export * as Source from "./client/Source.ts"
export * as Transport from "./client/Transport.ts"
export * as TransportHttp from "./client/TransportHttp.ts"
export * as Uploader from "./client/Uploader.ts"
export * as UploadEvent from "./client/UploadEvent.ts"
