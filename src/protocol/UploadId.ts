/**
 * The client's name for one upload of one state of one source, the same over retries and restarts.
 *
 * @module
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

/** 1–128 of `A-Z a-z 0-9 _ -` (PROTOCOL.md, "2. Revision 2"). */
export const UploadId = Schema.String.pipe(
  Schema.pattern(/^[A-Za-z0-9_-]{1,128}$/, {
    message: () => "an upload id is 1 to 128 of the characters A-Z a-z 0-9 _ -"
  }),
  Schema.brand("UploadId")
)
/** See the schema of this name. */
export type UploadId = typeof UploadId.Type

/** 128 random bits as 32 hex digits: what upload ids and the server's own storage keys are made of. */
const random128 = Effect.sync(() =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join(
    ""
  )
)

/**
 * Where new identifiers come from. The default draws 128 bits from the platform's cryptographic source, because ids made
 * by different machines under one key must never meet; tests provide a counter to be repeatable.
 */
export class Identifiers extends Context.Reference<Identifiers>()("indexedcp/Identifiers", {
  defaultValue: (): { readonly next: Effect.Effect<string> } => ({ next: random128 })
}) {}

/** A new upload id. */
export const make: Effect.Effect<UploadId> = Effect.flatMap(
  Identifiers,
  (identifiers) => Effect.map(identifiers.next, (id) => UploadId.make(id))
)
