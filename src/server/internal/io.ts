/**
 * Calls on the disk as effects.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import { ServerFailure, StorageFull } from "../../protocol/ProtocolError.ts"
import type { StoreError } from "../UploadStore.ts"
import { code } from "./disk.ts"

/** Maps what the file system threw: no room is `StorageFull`, all else `ServerFailure`. */
export const failure = (doing: string) => (cause: unknown): StoreError =>
  ["ENOSPC", "EDQUOT", "EFBIG"].includes(code(cause) ?? "")
    ? new StorageFull({ message: "The server has no room left for this file; it will be taken once there is" })
    : new ServerFailure({
      message: `The server's output folder failed (${doing}: ${code(cause) ?? String(cause)})`,
      cause
    })

export const io = <A>(doing: string, run: () => Promise<A>): Effect.Effect<A, StoreError> =>
  Effect.uninterruptible(Effect.tryPromise({ try: run, catch: failure(doing) }))
