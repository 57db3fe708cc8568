/**
 * The uploader in a program that has its own HTTP client, database, tracer and logger:
 * `npx tsx examples/effect-uploader.ts <url> <file>...`.
 */
import { HttpClient, HttpClientRequest } from "@effect/platform"
import { NodeContext, NodeHttpClient, NodeRuntime } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Effect, Layer, Logger, Option, Tracer } from "effect"
import { ApiKey, Source, TransportHttp, Uploader } from "indexedcp/client"
import { ChunkStoreSqlite } from "indexedcp/client-node"

const [url = "http://127.0.0.1:3000/upload", ...files] = process.argv.slice(2)

/** Every request of the program says who it comes from. */
const HttpClientLive = Layer.effect(
  HttpClient.HttpClient,
  Effect.map(
    HttpClient.HttpClient,
    HttpClient.mapRequest(HttpClientRequest.setHeader("user-agent", "letters/1.0"))
  )
).pipe(Layer.provide(NodeHttpClient.layerUndiciWithoutDispatcher), Layer.provide(NodeHttpClient.dispatcherLayer))

/** The program's database; the uploader's buffer is another one, and does not get in its way. */
const SqlLive = SqliteClient.layer({ filename: "letters.db" })

/** Where a tracer of OpenTelemetry would stand. */
const TracerLive = Layer.setTracer(Tracer.make({
  context: (run) => run(),
  span: (name, parent, context, links, startTime, kind) => ({
    _tag: "Span",
    name,
    spanId: String(Math.random()).slice(2, 18),
    traceId: Option.match(parent, { onNone: () => "trace", onSome: ({ traceId }) => traceId }),
    parent,
    context,
    links,
    kind,
    status: { _tag: "Started", startTime },
    sampled: true,
    attributes: new Map(),
    attribute: () => {},
    event: () => {},
    addLinks: () => {},
    end: () => console.error(`span ${name}`)
  })
}))

const UploaderLive = Uploader.layer({ retry: { maxRetries: 10 } }).pipe(
  Layer.provide(TransportHttp.layerStreamed()),
  Layer.provide([HttpClientLive, ChunkStoreSqlite.layer({ file: "outbox.db" }), ApiKey.layerFromEnv()])
)

const program = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const uploader = yield* Uploader.Uploader
  yield* sql`CREATE TABLE IF NOT EXISTS letters (path TEXT, server_name TEXT)`
  for (const file of files) yield* uploader.add(yield* Source.file(file))
  for (const { path, serverName, state } of yield* uploader.uploadAll({ endpoint: url })) {
    yield* Effect.logInfo(`${path}: ${state}`)
    yield* sql`INSERT INTO letters ${sql.insert({ path, server_name: Option.getOrNull(serverName) })}`
  }
  const [count] = yield* sql<{ sent: number }>`SELECT count(server_name) AS sent FROM letters`
  console.log(`${count?.sent} letters sent`)
}).pipe(Effect.withSpan("letters"))

NodeRuntime.runMain(
  Effect.provide(program, [
    UploaderLive,
    SqlLive,
    NodeContext.layer,
    TracerLive,
    Logger.replace(Logger.defaultLogger, Logger.withConsoleError(Logger.jsonLogger))
  ]),
  // else it puts a logger of its own in that one's place
  { disablePrettyLogger: true }
)
