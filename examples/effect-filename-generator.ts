/** A server whose file names are numbers from a database: `npx tsx examples/effect-filename-generator.ts`. */
import { NodeRuntime } from "@effect/platform-node"
import { SqlClient } from "@effect/sql"
import { SqliteClient } from "@effect/sql-sqlite-node"
import { Console, Effect, Layer, Redacted } from "effect"
import { FilenameGenerator } from "indexedcp/server"
import { NodeServer, Server } from "indexedcp/server-node"

const Numbered = Layer.effect(
  FilenameGenerator.FilenameGenerator,
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql`CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY, client_name TEXT, key_name TEXT)`
    return {
      // asked once for each upload; what it returns is checked like any name
      generate: (clientName, _chunkIndex, { keyName }) =>
        sql<{ number: number }>`
          INSERT INTO files ${sql.insert({ client_name: clientName, key_name: keyName })} RETURNING number
        `.pipe(
          Effect.map(([row]) => `file-${row?.number}`),
          Effect.mapError((cause) =>
            new FilenameGenerator.GeneratorFailed({ message: "No number for the file", cause })
          )
        )
    }
  })
).pipe(Layer.provide(SqliteClient.layer({ filename: "numbers.db" })), Layer.orDie)

const Announce = Layer.effectDiscard(
  Effect.flatMap(NodeServer.baseUrl, (url) => Console.log(`Listening on ${url}/upload`))
)

NodeRuntime.runMain(Layer.launch(Layer.provide(
  Announce,
  Server.layer({
    outputDir: "./uploads",
    port: Number(process.env["PORT"] ?? 3000),
    apiKey: Redacted.make(process.env["INDEXCP_API_KEY"] ?? "your-secure-api-key"),
    filenameGenerator: Numbered
  })
)))
