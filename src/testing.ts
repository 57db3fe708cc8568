/** `indexedcp/testing`: client and server in one process, for tests. */
export * as TransportInProcess from "./testing/TransportInProcess.ts"
