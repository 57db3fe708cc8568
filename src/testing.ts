/** `indexedcp/testing`: client and server in one process, for tests. */
export * as PowerCutDisk from "./testing/PowerCutDisk.ts"
export * as TransportFaulty from "./testing/TransportFaulty.ts"
export * as TransportInProcess from "./testing/TransportInProcess.ts"
