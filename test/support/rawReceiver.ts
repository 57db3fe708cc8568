/**
 * A receiver in memory, and chunks for it without any HTTP.
 *
 * @module
 */
import { Effect, Layer, Option } from "effect"
import type { Chunk } from "../../src/protocol/ChunkHeaders.ts"
import type { Receipt, Receipt2 } from "../../src/protocol/Receipt.ts"
import type { Sha256 } from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import type { Right } from "../../src/server/Authenticator.ts"
import * as Body from "../../src/server/Body.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedger from "../../src/server/UploadLedger.ts"
import * as UploadStore from "../../src/server/UploadStore.ts"

/** What a receiver stands on; it outlives the receiver where both are built apart. */
export const layerParts = Layer.mergeAll(
  UploadStore.layerMemory,
  UploadLedger.layerMemory,
  FilenameGenerator.layerMemory
)

export const layer = (options: Partial<Receiver.ReceiverOptions> = {}) =>
  Receiver.layer(options).pipe(Layer.provideMerge(layerParts))

/** The same over a store some of whose methods are other ones. */
export const layerOver = (
  change: (store: UploadStore.UploadStore["Type"]) => Partial<UploadStore.UploadStore["Type"]>,
  options: Partial<Receiver.ReceiverOptions> = {}
) =>
  Receiver.layer(options).pipe(
    Layer.provideMerge(
      Layer.effect(
        UploadStore.UploadStore,
        Effect.map(UploadStore.UploadStore, (store) => ({ ...store, ...change(store) }))
      )
    ),
    Layer.provideMerge(layerParts)
  )

/** The same with names from a function. */
export const layerNamed = (generate: Parameters<typeof FilenameGenerator.layerFunction>[0]) =>
  Receiver.layer().pipe(
    Layer.provideMerge(FilenameGenerator.layerFunction(generate)),
    Layer.provideMerge(layerParts)
  )

export const id = UploadId.make("u1")

export const bodyOf = (body: string | Body.Body): Body.Body =>
  typeof body === "string" ? Body.of(new TextEncoder().encode(body)) : body

/** A body whose length the request did not say. */
export const chunked = (...pieces: ReadonlyArray<string>): Body.Body => ({
  ...Body.of(...pieces.map((piece) => new TextEncoder().encode(piece))),
  length: Option.none()
})

/** A body that must not be read. */
export const unread = (length: number | undefined): Body.Body => ({
  length: Option.fromNullable(length),
  pieces: {
    [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(new Error("the body was read")) })
  }
})

interface Common {
  readonly index?: number
  readonly name?: string
  readonly contentDigest?: Sha256
  readonly principal?: string
  readonly can?: ReadonlyArray<Right>
  readonly prefix?: string
  readonly address?: string
}

const send = (chunk: Pick<Chunk, "upload">, body: string | Body.Body, common: Common) =>
  Effect.flatMap(Receiver.Receiver, (receiver) => {
    const name = common.name ?? "/data/a.txt"
    return receiver.receive({
      principal: {
        name: common.principal ?? "default",
        ...(common.can === undefined ? {} : { can: common.can }),
        ...(common.prefix === undefined ? {} : { prefix: common.prefix })
      },
      chunk: {
        index: common.index ?? 0,
        fileName: name,
        sentName: name,
        contentDigest: Option.fromNullable(common.contentDigest),
        ...chunk
      },
      body: bodyOf(body),
      request: {
        headers: { "x-file-name": name },
        method: "POST",
        url: "/upload",
        remoteAddress: common.address ?? "10.0.0.1",
        keyName: common.principal ?? "default"
      }
    })
  })

/** Sends a chunk of revision 1. */
export const send1 = (index: number, body: string | Body.Body, more: Common = {}): Effect.Effect<
  Receipt,
  Effect.Effect.Error<ReturnType<typeof send>>,
  Receiver.Receiver
> => Effect.map(send({ upload: Option.none() }, body, { ...more, index }), ({ receipt }) => receipt)

/** Sends a chunk of revision 2; `finishing` stands for the `Retry-After` of an upload that is being finished. */
export const send2 = (
  offset: number,
  body: string | Body.Body,
  more: Common & {
    readonly id?: UploadId
    readonly size?: number
    readonly sha256?: Sha256
    readonly prefixDigest?: Sha256
    readonly known?: boolean
  } = {}
) =>
  Effect.map(
    send(
      {
        upload: Option.some({
          id: more.id ?? id,
          offset,
          size: Option.fromNullable(more.size),
          sha256: Option.fromNullable(more.sha256),
          prefixDigest: Option.fromNullable(more.prefixDigest),
          known: more.known ?? false
        })
      },
      body,
      more
    ),
    ({ finishing, receipt }) => ({ ...receipt as Receipt2, finishing })
  )

export const state = (of: UploadId = id, principal = "default") =>
  Effect.flatMap(Receiver.Receiver, (receiver) => receiver.state({ name: principal }, of))

export const abort = (of: UploadId = id, principal = "default") =>
  Effect.flatMap(Receiver.Receiver, (receiver) => receiver.abort({ name: principal }, of))

/** What stands under a final name. */
export const shown = (name: string) =>
  Effect.flatMap(
    UploadStore.MemoryFiles,
    (files) =>
      Effect.map(files.read(name), (bytes) =>
        Option.match(bytes, { onNone: () => undefined, onSome: (bytes) => new TextDecoder().decode(bytes) }))
  )

export const names = Effect.flatMap(UploadStore.MemoryFiles, (files) => files.names)

/** Puts a file there, or takes it away, as somebody outside the server. */
export const outside = {
  write: (name: string, text: string) =>
    Effect.flatMap(UploadStore.MemoryFiles, (files) => files.write(name, new TextEncoder().encode(text))),
  remove: (name: string) => Effect.flatMap(UploadStore.MemoryFiles, (files) => files.remove(name))
}

/** The status that the error of a request answers with. */
export const refusal = <A, E extends object, R>(
  request: Effect.Effect<A, E, R>
): Effect.Effect<number | undefined, A, R> =>
  Effect.map(Effect.flip(request), (error) => (error as { readonly status?: number }).status)
