/**
 * The server's way of a chunk without a network: from a body at hand through the receiver to disk and ledger.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as UploadId from "../../src/protocol/UploadId.ts"
import * as Body from "../../src/server/Body.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as Receiver from "../../src/server/Receiver.ts"
import * as UploadLedgerSqlite from "../../src/server/UploadLedgerSqlite.ts"
import * as UploadStoreFileSystem from "../../src/server/UploadStoreFileSystem.ts"
import type { Bench } from "../support/contest.ts"
import type * as Report from "../support/report.ts"
import { KiB, MiB } from "../support/settings.ts"
import { type Part, report } from "./part.ts"

/** What comes from a socket at once. */
const fromSocket = 64 * KiB

const layer = (folder: string) =>
  Receiver.layer().pipe(
    Layer.provide(UploadLedgerSqlite.layer({ file: Path.join(folder, "ledger.db") })),
    Layer.provide(UploadStoreFileSystem.layer({ outputDir: folder })),
    Layer.provide(FilenameGenerator.layer),
    Layer.provideMerge(Logger.replace(Logger.defaultLogger, Logger.none))
  )

interface Work {
  readonly files: number
  readonly chunks: number
  readonly chunkSize: number
  /** Requests at once. */
  readonly atOnce: number
}

const receiving = ({ atOnce, chunkSize, chunks, files }: Work) => {
  const chunk = Crypto.randomBytes(chunkSize)
  const contentDigest = Option.some(Sha256.of(chunk))
  const whole = Sha256.of(...Array.from({ length: chunks }, () => chunk))
  const pieces = Array.from(
    { length: Math.ceil(chunkSize / fromSocket) },
    (_, at) => chunk.subarray(at * fromSocket, (at + 1) * fromSocket)
  )
  const send = (id: UploadId.UploadId, index: number) =>
    Effect.flatMap(Receiver.Receiver, (receiver) =>
      receiver.receive({
        principal: { name: "default" },
        chunk: {
          index,
          fileName: `${id}.bin`,
          sentName: `${id}.bin`,
          contentDigest,
          upload: Option.some({
            id,
            offset: index * chunkSize,
            size: Option.some(chunks * chunkSize),
            sha256: Option.some(whole),
            prefixDigest: Option.none(),
            known: index > 0
          })
        },
        body: Body.of(...pieces),
        request: { headers: {}, method: "POST", url: "/upload", remoteAddress: "127.0.0.1", keyName: "default" }
      }))
  const all = Array.from({ length: files }, (_, at) => UploadId.UploadId.make(`upload-${at}`))
  const rest = Array.from({ length: chunks - 1 }, (_, at) => at + 1)
  const program = Effect.suspend(() => {
    const from = performance.now()
    return Effect.forEach(
      all,
      (id) =>
        Effect.andThen(
          send(id, 0),
          Effect.forEach(rest, (index) => send(id, index), { concurrency: atOnce, discard: true })
        ),
      { concurrency: files === 1 ? 1 : atOnce, discard: true }
    ).pipe(Effect.map(() => (performance.now() - from) / 1000))
  })
  return async (folder: string): Promise<number> => {
    const seconds = await Effect.runPromise(Effect.provide(program, layer(folder)))
    const arrived = Fs.readdirSync(folder).filter((name) => name.endsWith(".bin"))
    if (
      arrived.length !== files ||
      arrived.some((name) => Fs.statSync(Path.join(folder, name)).size !== chunks * chunkSize)
    ) {
      throw new Error("what was received is not what was sent")
    }
    return seconds
  }
}

export const receive = (bench: Bench): Promise<Report.CaseReport> => {
  const amount = bench.settings.quick ? 16 : 256
  const many = bench.settings.quick ? 20 : 1000
  const large = (atOnce: number): Part => ({
    name: `a file in chunks of 4 MiB, ${atOnce} at once`,
    amount,
    unit: "MiB",
    run: receiving({ files: 1, chunks: amount / 4, chunkSize: 4 * MiB, atOnce })
  })
  return report(bench, "receive", "Receiving, without a network", [
    large(1),
    large(4),
    {
      name: "a file in chunks of 64 KiB, 4 at once",
      amount: many,
      unit: "chunks",
      run: receiving({ files: 1, chunks: many, chunkSize: 64 * KiB, atOnce: 4 })
    },
    {
      name: "files of 10 KiB, 4 at once",
      amount: many,
      unit: "files",
      run: receiving({ files: many, chunks: 1, chunkSize: 10 * KiB, atOnce: 4 })
    }
  ])
}
