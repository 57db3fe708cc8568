/**
 * The simple server: no key, one file, every body appended whole. Outside all promises but these: a 200 comes after the
 * bytes are in the file, bodies are never interleaved, a cut body leaves nothing.
 *
 * @module
 */
import type * as HttpApp from "@effect/platform/HttpApp"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Fs from "node:fs/promises"
import { ServerFailure } from "../protocol/ProtocolError.ts"
import { Identifiers } from "../protocol/UploadId.ts"
import * as Body from "./Body.ts"
import { readAll } from "./internal/disk.ts"

const notFound = HttpServerResponse.text("Not Found", { status: 404 })
const received = HttpServerResponse.text("Chunk received\n")

const failure = (cause: unknown) => new ServerFailure({ message: "The body could not be written", cause })

/** `POST /upload` appends its body to `outputFile`; everything else is 404. */
export const app = (outputFile: string): Effect.Effect<HttpApp.Default> =>
  Effect.gen(function*() {
    const identifiers = yield* Identifiers
    const one = yield* Effect.makeSemaphore(1)

    /** All of it or, as far as the disk lets us, nothing. */
    const append = (spool: Fs.FileHandle) =>
      Effect.uninterruptible(Effect.tryPromise({
        try: async () => {
          const target = await Fs.open(outputFile, "a")
          try {
            const { size } = await target.stat()
            try {
              await readAll(spool, [0, (await spool.stat()).size], (bytes) => target.writeFile(bytes))
            } catch (cause) {
              // by its name: Windows shortens no file that is open to be appended to
              await Fs.truncate(outputFile, size).catch(() => {})
              throw cause
            }
          } finally {
            await target.close()
          }
        },
        catch: failure
      }))

    /** The body first lies beside the file: so a slow client keeps nobody waiting, and a cut body leaves nothing. */
    const receive = (request: HttpServerRequest.HttpServerRequest) =>
      Effect.flatMap(identifiers.next, (id) => {
        const spool = `${outputFile}.${id}.part`
        return Effect.acquireUseRelease(
          Effect.tryPromise({ try: () => Fs.open(spool, "wx+"), catch: failure }),
          (handle) =>
            Body.consume(
              { length: Option.none(), pieces: request.source as AsyncIterable<Uint8Array> },
              {
                limit: Number.MAX_SAFE_INTEGER,
                write: async (pieces) => {
                  for (const piece of pieces) await handle.writeFile(piece)
                },
                onWriteError: failure
              }
            ).pipe(Effect.andThen(one.withPermits(1)(append(handle)))),
          (handle) =>
            Effect.promise(async () => {
              await handle.close()
              await Fs.rm(spool, { force: true })
            })
        )
      })

    return Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) =>
      request.method === "POST" && request.url.split("?", 1)[0] === "/upload"
        ? Effect.interruptible(receive(request)).pipe(
          Effect.as(received),
          Effect.tapErrorTag("ServerFailure", (error) =>
            Effect.logError(error.message, error.cause)),
          Effect.catchAll((error) =>
            Effect.succeed(HttpServerResponse.unsafeJson({ error: error.message }, { status: 500 }))
          )
        )
        : Effect.succeed(notFound))
  })
