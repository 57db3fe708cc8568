// Many uploaders at once in one process, each with a buffer and connections of its own, through the built library:
// `node uploaders.mjs <url> <folder> <piece bytes | default> <largest body bytes | default>`. One uploader for each file.
// Prints as JSON how long it took from the first byte on, how many files failed, how many requests had to be repeated, and the
// milliseconds of each chunk.
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import { readdirSync, writeSync } from "node:fs"
import { join } from "node:path"
import { HttpClientNode } from "../../dist/client-node.js"
import { ApiKey, ChunkStore, Source, Transport, TransportHttp, Uploader } from "../../dist/client.js"

const [endpoint, folder, piece, body] = process.argv.slice(2)
const given = (name, text) => (text === "default" ? {} : { [name]: Number(text) })

let first
const failures = []
const chunkMillis = []
let refused = 0

const timed = Layer.effect(
  Transport.Transport,
  Effect.map(Transport.Transport, (transport) => ({
    ...transport,
    send: (outgoing) =>
      Effect.suspend(() => {
        const from = performance.now()
        first ??= from
        return transport.send(outgoing).pipe(
          Effect.tap(() => Effect.sync(() => chunkMillis.push(performance.now() - from))),
          Effect.tapError(() => Effect.sync(() => void refused++))
        )
      })
  }))
)

const uploader = () =>
  Uploader.layer({ ...given("chunkSize", piece), ...given("largestBody", body) }).pipe(
    Layer.provide(Layer.provide(timed, TransportHttp.layerStreamed())),
    Layer.provide(ChunkStore.layerMemory),
    Layer.provide(HttpClientNode.layer()),
    Layer.provide(ApiKey.layer(Redacted.make(process.env.INDEXCP_API_KEY)))
  )

const send = (file) =>
  Effect.gen(function*() {
    const uploads = yield* Uploader.Uploader
    yield* Stream.runForEach(
      uploads.bufferAndUpload(yield* Source.file(file), { endpoint }),
      (event) =>
        Effect.sync(() => {
          if (event._tag === "Skipped" || (event._tag === "Finished" && event.state !== "delivered")) {
            failures.push(JSON.stringify(event))
          }
        })
    )
  }).pipe(
    Effect.provide(uploader()),
    Effect.catchAllCause((cause) => Effect.sync(() => failures.push(String(cause))))
  )

const files = readdirSync(folder).map((name) => join(folder, name))
await Effect.runPromise(
  Effect.forEach(files, send, { concurrency: "unbounded", discard: true }).pipe(Effect.provide(NodeContext.layer))
)
const seconds = (performance.now() - first) / 1000
writeSync(1, JSON.stringify({ seconds, failures: failures.length, failure: failures[0] ?? null, refused, chunkMillis }))
