/**
 * Names at a revision-1 server, which appends to whatever file has the last component of a name: no two files of a buffer
 * may go there under one.
 *
 * @internal
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FileName from "../../protocol/FileName.ts"
import type { ChunkStore } from "../ChunkStore.ts"
import type { Pace } from "./pace.ts"

/**
 * What was sent to an endpoint from a buffer before, and what is sent while this lasts. Once the server has shown that it
 * speaks revision 2, nothing is in the way of any name.
 */
export const make = (store: Context.Tag.Service<ChunkStore>, endpoint: string, { spoken }: Pick<Pace, "spoken">) =>
  Effect.map(store.revision1Names(endpoint), (names) => {
    const taken = new Set(names.map(FileName.base))
    const has = (name: string): boolean => spoken() !== 2 && taken.has(FileName.base(name))
    return {
      /** Whether the server has a file that this one would be appended to. */
      has,
      /** The server has shown that it speaks revision 1, and has a file of this name. */
      take: (name: string): void => void taken.add(FileName.base(name)),
      /** The name, or the next one that is free there. */
      free: (name: string): string => {
        let free = name
        for (let number = 1; has(free); number++) free = FileName.numbered(name, number)
        return free
      }
    }
  })

export type OldNames = Effect.Effect.Success<ReturnType<typeof make>>
