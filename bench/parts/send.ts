/**
 * The client's way of a large file, to a server that throws everything away: each part beside plain Node.
 *
 * @module
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Stream from "effect/Stream"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Path from "node:path"
import * as ApiKey from "../../src/client/ApiKey.ts"
import * as ChunkStore from "../../src/client/ChunkStore.ts"
import * as ChunkStoreSqlite from "../../src/client/ChunkStoreSqlite.ts"
import * as HttpClientNode from "../../src/client/HttpClientNode.ts"
import * as Source from "../../src/client/Source.ts"
import * as TransportHttp from "../../src/client/TransportHttp.ts"
import * as Uploader from "../../src/client/Uploader.ts"
import type { Bench } from "../support/contest.ts"
import * as Files from "../support/files.ts"
import type * as Report from "../support/report.ts"
import { MiB } from "../support/settings.ts"
import { type Part, report, timed } from "./part.ts"

/** Bytes of a body that has grown. */
const body = 4 * MiB

/** Answers as a server of revision 2 and keeps nothing. */
const discarding = async (use: (url: string) => Promise<number>): Promise<number> => {
  const received = new Map<string, number>()
  const server = Http.createServer((request, response) => {
    const header = (name: string) => String(request.headers[name])
    let length = 0
    request.on("data", (bytes: Buffer) => (length += bytes.length))
    request.on("end", () => {
      const uploadId = header("x-upload-id")
      const bytesReceived = (received.get(uploadId) ?? 0) + length
      received.set(uploadId, bytesReceived)
      const size = Number(header("x-file-size"))
      const text = JSON.stringify({
        message: "Chunk received",
        actualFilename: "a",
        clientFilename: header("x-file-name"),
        chunkIndex: Number(header("x-chunk-index")),
        uploadId,
        duplicate: false,
        bytesReceived,
        complete: bytesReceived === size,
        ...(bytesReceived === size ? { size } : {})
      })
      response.writeHead(200, { "content-type": "application/json", "content-length": text.length }).end(text)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  try {
    return await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}/upload`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
}

/** The client over a new buffer. */
const withClient = <E>(
  folder: string,
  use: Effect.Effect<unknown, E, Uploader.Uploader | ChunkStore.ChunkStore | NodeContext.NodeContext>
): Promise<number> =>
  Effect.runPromise(
    Effect.suspend(() => {
      const from = performance.now()
      return Effect.map(use, () => (performance.now() - from) / 1000)
    }).pipe(Effect.provide(
      Uploader.layer().pipe(
        Layer.provide(TransportHttp.layerStreamed()),
        Layer.provide([HttpClientNode.layer(), ApiKey.layer(Redacted.make("key"))]),
        Layer.provideMerge(ChunkStoreSqlite.layer({ file: Path.join(folder, "buffer.db") })),
        Layer.merge(NodeContext.layer)
      )
    ))
  )

const uploader = <A, E, R>(use: (uploader: Uploader.Uploader["Type"]) => Effect.Effect<A, E, R>) =>
  Effect.flatMap(Uploader.Uploader, use)

/** Reads a file in bodies and hashes them, each and together, as it is done before they are sent. */
const reading = (file: string, amount: number) =>
  Effect.gen(function*() {
    const store = yield* ChunkStore.ChunkStore
    const source = yield* Source.file(file)
    const { open, size, version } = yield* source.external ?? Effect.dieMessage("a file lies somewhere")
    const id = yield* store.adopt({
      ...source,
      size,
      chunkSize: MiB,
      version: Option.some(version),
      destination: Option.none()
    }, open)
    const into = new Uint8Array(body)
    yield* Effect.scoped(Effect.gen(function*() {
      yield* store.claim(id)
      for (let at = 0; at < amount * MiB; at += body) yield* store.read(id, at, at + body, { into })
    }))
  })

export const send = (bench: Bench): Promise<Report.CaseReport> => {
  const amount = bench.settings.quick ? 8 : 256
  const file = Path.join(bench.folder, "source.bin")
  Files.random(file, amount * MiB)
  const one = { amount, unit: "MiB" } as const
  const direct = (url: string) =>
    uploader(({ bufferAndUpload }) =>
      Effect.flatMap(Source.file(file), (source) => Stream.runDrain(bufferAndUpload(source, { endpoint: url })))
    )
  const add = uploader(({ add }) => Effect.flatMap(Source.file(file), (source) => add(source)))
  const parts: ReadonlyArray<Part> = [
    {
      ...one,
      name: "a file, sent from where it lies",
      run: (folder) => discarding((url) => withClient(folder, direct(url)))
    },
    { ...one, name: "of that, reading and hashing it", run: (folder) => withClient(folder, reading(file, amount)) },
    {
      ...one,
      name: "the same in plain Node",
      run: () =>
        timed(() => {
          const handle = Fs.openSync(file, "r")
          const into = Buffer.alloc(body)
          const whole = Crypto.createHash("sha256")
          for (let at = 0; at < amount * MiB; at += body) {
            Fs.readSync(handle, into, 0, body, at)
            Crypto.createHash("sha256").update(into).digest()
            whole.update(into)
          }
          whole.digest()
          Fs.closeSync(handle)
        })
    },
    { ...one, name: "a file, put into the buffer", run: (folder) => withClient(folder, add) },
    {
      ...one,
      name: "and sent from it",
      run: (folder) =>
        discarding(async (url) => {
          await withClient(folder, add)
          return await withClient(folder, uploader(({ uploadAll }) => uploadAll({ endpoint: url })))
        })
    }
  ]
  return report(bench, "send", "Send", parts)
}
