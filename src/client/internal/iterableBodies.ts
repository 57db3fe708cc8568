/**
 * What the transport has to know of its HTTP client.
 *
 * @internal
 */
import * as Context from "effect/Context"

/**
 * Whether the client takes a raw body that is an iterable of slices, and sends its length: undici does, and spends a tenth of
 * what it costs as a `Stream`. Any client takes that.
 */
export class IterableBodies extends Context.Reference<IterableBodies>()("indexedcp/IterableBodies", {
  defaultValue: () => false
}) {}
