/**
 * Asking a server what has become of a file that it received.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { DeliveryReceipt } from "../ChunkStore.ts"
import type { Refused, Transport, TransportError } from "../Transport.ts"
import type { Verdict } from "../UploadEvent.ts"
import { type KeyRefused, refusal } from "./delivery.ts"

/** What the server says now, asked once. */
export const verdictOf = (
  transport: Context.Tag.Service<Transport>,
  { endpoint, revision, sha256, uploadId }: DeliveryReceipt
): Effect.Effect<Verdict, TransportError | KeyRefused> =>
  revision === 1 ? Effect.succeed("unverifiable") : transport.state(endpoint, uploadId, "content").pipe(
    Effect.map((state): Verdict => {
      const content = Option.flatMapNullable(state, ({ contentSha256 }) => contentSha256)
      return Option.match(content, { onNone: () => "unknown", onSome: (now) => now === sha256 ? "same" : "different" })
    }),
    Effect.catchTag("Refused", (error): Effect.Effect<Verdict, Refused | KeyRefused> => {
      if (error.status === 410) return Effect.succeed("gone")
      const meaning = refusal(error)
      return Effect.fail(meaning._tag === "KeyRefused" ? meaning : error)
    })
  )
