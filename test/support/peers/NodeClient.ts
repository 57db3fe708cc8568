/**
 * A revision-1 client that behaves like the Node.js one (PROTOCOL.md, "Facts about revision-1 peers").
 *
 * @module
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Client from "./internal/peerClient.ts"

export { NameNotLatin1, NoAnswer, Refused } from "./internal/peerClient.ts"
export type { Answer, Failure, FileOptions, Options, PeerClient } from "./internal/peerClient.ts"

/** Makes a client. */
export const make = (options: Client.Options = {}): Effect.Effect<Client.PeerClient, never, Scope.Scope> =>
  Client.make(options, {})
