/**
 * The main job on real input: a file of 64 MiB goes from a SQLite buffer over HTTP to a server's disk, is interrupted half-way,
 * goes on, and comes out with the same SHA-256. Run it with `npm run demo`; it exits with 0 only if the hashes agree.
 */
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Command from "@effect/platform/Command"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { createHash, randomBytes } from "node:crypto"

class DemoFailed extends Data.TaggedError("DemoFailed")<{ readonly message: string }> {}

const MiB = 1024 * 1024
const size = 64 * MiB
const key = randomBytes(16).toString("hex")

const program = Effect.gen(function*() {
  const fileSystem = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const bin = yield* path.fromFileUrl(new URL("../dist/bin/", import.meta.url))
  const folder = yield* fileSystem.makeTempDirectoryScoped({ prefix: "indexedcp-demo-" })
  const received = path.join(folder, "received")
  const original = path.join(folder, "field-recording.bin")

  const run = (name: string, ...args: ReadonlyArray<string>) =>
    Command.make(process.execPath, path.join(bin, `${name}.js`), ...args).pipe(
      Command.workingDirectory(folder),
      // a home of its own, so that the demo's buffer is not yours
      Command.env({ HOME: folder, USERPROFILE: folder, INDEXCP_API_KEY: key })
    )
  const client = (...args: ReadonlyArray<string>) =>
    Effect.flatMap(
      Command.exitCode(run("indexcp", ...args).pipe(Command.stdout("inherit"), Command.stderr("inherit"))),
      (code) => code === 0 ? Effect.void : new DemoFailed({ message: `indexcp ${args[0]} ended with code ${code}` })
    )
  const hash = (file: string) =>
    Stream.runFold(
      fileSystem.stream(file, { chunkSize: FileSystem.MiB(1) }),
      createHash("sha256"),
      (hash, bytes) => hash.update(bytes)
    ).pipe(Effect.map((hash) => hash.digest("hex")))

  yield* Console.log("1. Start a server on a free port, with its ledger in SQLite")
  const server = yield* Command.start(run("indexcp-server", "--port", "0", "--output-dir", received))
  const url = yield* server.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.filterMap((line) => Option.fromNullable(/^Listening on (\S+)$/.exec(line)?.[1])),
    Stream.runHead,
    Effect.flatten,
    Effect.mapError(() => new DemoFailed({ message: "the server did not start" }))
  )
  yield* Console.log(`   ${url}`)

  yield* Console.log(`2. Make a file of ${size / MiB} MiB and put it into the buffer`)
  yield* Stream.range(1, size / MiB).pipe(
    Stream.map(() => randomBytes(MiB)),
    Stream.run(fileSystem.sink(original))
  )
  const before = yield* hash(original)
  yield* client("add", path.basename(original))

  yield* Console.log("3. Upload it, and kill the upload half-way")
  const upload = yield* Command.start(run("indexcp", "upload", "--json", url))
  const acknowledged = yield* upload.stdout.pipe(
    Stream.decodeText(),
    Stream.splitLines,
    Stream.map((line) => JSON.parse(line) as { readonly acknowledged?: number }),
    Stream.filterMap((event) => Option.fromNullable(event.acknowledged)),
    Stream.filter((bytes) => bytes >= size / 2),
    Stream.runHead
  )
  yield* upload.kill("SIGKILL").pipe(Effect.ignore)
  if (Option.isNone(acknowledged)) return yield* new DemoFailed({ message: "the upload ended before it was half-way" })
  yield* Console.log(`   killed when the server had acknowledged ${Math.floor(acknowledged.value / MiB)} MiB`)
  if (yield* fileSystem.exists(path.join(received, path.basename(original)))) {
    return yield* new DemoFailed({ message: "an unfinished file is to be seen under its final name" })
  }
  yield* Console.log("   nothing is to be seen of the unfinished file in the server's folder")

  yield* Console.log("4. Upload again: it goes on where it was")
  yield* client("upload", url)

  const after = yield* hash(path.join(received, path.basename(original)))
  yield* Console.log(`5. Compare\n   sent      ${before}\n   received  ${after}`)
  if (before !== after) return yield* new DemoFailed({ message: "the hashes differ" })
  yield* Console.log("   The same. The server and all files of this demo are removed.")
})

NodeRuntime.runMain(
  program.pipe(
    Effect.scoped,
    Effect.tapErrorCause((cause) => Console.error("The demo failed:", String(cause))),
    Effect.provide(NodeContext.layer)
  ),
  { disableErrorReporting: true }
)
