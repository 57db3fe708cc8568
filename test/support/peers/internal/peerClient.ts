/**
 * What the revision-1 clients of the tests have in common.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import * as Http from "node:http"

/** What a server said. */
export interface Answer {
  readonly status: number
  readonly body: string
  /** `undefined` when the body is no JSON object. */
  readonly json: Record<string, unknown> | undefined
}

/** The server answered, but not 200. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  index: Schema.Number,
  status: Schema.Number,
  body: Schema.String
}) {
  override get message() {
    return `chunk ${this.index} got status ${this.status}: ${this.body}`
  }
}

/** No answer came, or only part of one. Whether the chunk arrived is unknown. */
export class NoAnswer extends Schema.TaggedError<NoAnswer>()("NoAnswer", {
  index: Schema.Number,
  cause: Schema.Defect
}) {
  override get message() {
    return `chunk ${this.index} got no answer`
  }
}

/** The name has characters that do not fit in a Latin-1 header; nothing was sent. */
export class NameNotLatin1 extends Schema.TaggedError<NameNotLatin1>()("NameNotLatin1", { fileName: Schema.String }) {
  override get message() {
    return `'latin-1' codec can't encode ${this.fileName}`
  }
}

export type Failure = Refused | NoAnswer | NameNotLatin1

export interface Options {
  /** Where connections come from, `127.0.0.2` for instance, so that several clients can be told apart. */
  readonly localAddress?: string
  /** `false` opens a connection for each request. By default one is used again if the server leaves it open. */
  readonly keepAlive?: boolean
}

export interface FileOptions {
  /** Bytes; 1 MiB by default. */
  readonly chunkSize?: number
  /** What the server is told; the path by default. */
  readonly fileName?: string
  /** The chunk to begin with; 0 by default. */
  readonly startIndex?: number
}

/** A client. Its connections are closed with the scope in which it was made. */
export interface PeerClient {
  /** Sends one chunk, always with `Content-Length`. Succeeds on 200 only. */
  readonly uploadChunk: (
    url: string,
    bytes: Uint8Array,
    index: number,
    fileName: string,
    key: string
  ) => Effect.Effect<Answer, Failure>
  /** Sends a file's chunks in order, each after the 200 of the one before. Of an empty file nothing is sent. */
  readonly bufferAndUpload: (
    path: string,
    url: string,
    key: string,
    options?: FileOptions
  ) => Effect.Effect<ReadonlyArray<Answer>, Failure>
  /** Goes on with a file at the chunk that was not acknowledged: `index` of a failure. */
  readonly uploadFrom: (
    index: number,
    path: string,
    url: string,
    key: string,
    options?: Omit<FileOptions, "startIndex">
  ) => Effect.Effect<ReadonlyArray<Answer>, Failure>
}

const asJson = (text: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === "object" && value !== null ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** Makes a client whose requests carry these headers beside those of the protocol. */
export const make = (
  { keepAlive = true, localAddress }: Options,
  headers: Readonly<Record<string, string>>
): Effect.Effect<PeerClient, never, Scope.Scope> =>
  Effect.gen(function*() {
    const agent = yield* Effect.acquireRelease(
      Effect.sync(() => new Http.Agent({ keepAlive, maxSockets: 1 })),
      (agent) => Effect.sync(() => agent.destroy())
    )

    const send = (url: string, bytes: Uint8Array, index: number, fileName: string, key: string) =>
      Effect.async<Answer, NoAnswer>((resume) => {
        const fail = (cause: unknown) => resume(Effect.fail(new NoAnswer({ index, cause })))
        const request = Http.request(url, {
          method: "POST",
          agent,
          ...(localAddress === undefined ? {} : { localAddress }),
          headers: {
            ...headers,
            "Authorization": `Bearer ${key}`,
            "Content-Type": "application/octet-stream",
            "Content-Length": bytes.length,
            "X-Chunk-Index": index,
            "X-File-Name": fileName
          }
        })
        request.once("response", (response) => {
          const pieces: Array<Buffer> = []
          response.on("data", (piece: Buffer) => pieces.push(piece))
          response.once("error", fail)
          response.once("end", () => {
            const body = Buffer.concat(pieces).toString("utf8")
            resume(Effect.succeed({ status: response.statusCode ?? 0, body, json: asJson(body) }))
          })
        })
        // After an early answer the connection may still fail while the body is being sent.
        request.on("error", fail)
        request.end(bytes)
        return Effect.sync(() => request.destroy())
      })

    const uploadChunk: PeerClient["uploadChunk"] = (url, bytes, index, fileName, key) =>
      Effect.gen(function*() {
        if (/[^\0-\xff]/.test(fileName)) return yield* new NameNotLatin1({ fileName })
        const answer = yield* send(url, bytes, index, fileName, key)
        if (answer.status !== 200) return yield* new Refused({ index, status: answer.status, body: answer.body })
        return answer
      })

    const bufferAndUpload: PeerClient["bufferAndUpload"] = (path, url, key, options = {}) =>
      Effect.acquireUseRelease(
        Effect.promise(() => Fs.open(path)),
        (file) =>
          Effect.gen(function*() {
            const { chunkSize = 1024 * 1024, fileName = path, startIndex = 0 } = options
            const answers: Array<Answer> = []
            for (let index = startIndex;; index++) {
              const { buffer, bytesRead } = yield* Effect.promise(() =>
                file.read(Buffer.allocUnsafe(chunkSize), 0, chunkSize, index * chunkSize)
              )
              if (bytesRead === 0) return answers
              answers.push(yield* uploadChunk(url, buffer.subarray(0, bytesRead), index, fileName, key))
            }
          }),
        (file) => Effect.promise(() => file.close())
      )

    return {
      uploadChunk,
      bufferAndUpload,
      uploadFrom: (startIndex, path, url, key, options) => bufferAndUpload(path, url, key, { ...options, startIndex })
    }
  })
