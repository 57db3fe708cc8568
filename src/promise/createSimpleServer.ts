/**
 * The simple server for programs that do not use Effect.
 *
 * @module
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import * as Http from "node:http"
import * as FileName from "../protocol/FileName.ts"
import * as NodeServer from "../server/NodeServer.ts"
import * as SimpleServer from "../server/SimpleServer.ts"
import * as Edge from "./internal/edge.ts"

/**
 * A server without a key that appends every body to one file, for trying things out. It begins to listen on 127.0.0.1 at once;
 * `listening`, `error` and `close` are those of Node's `http.Server`.
 *
 * @param outputFile Made if missing. Default `uploaded_file.txt`.
 * @param port 0 for any free one. Default 3000.
 * @example
 * ```ts
 * const server = createSimpleServer("./uploaded.bin", 3000)
 * server.on("listening", () => console.log("Send to http://127.0.0.1:3000/upload"))
 * ```
 */
export const createSimpleServer = (
  outputFile: string = FileName.absent,
  port: number = NodeServer.defaults.port
): Http.Server => {
  const handler = Effect.runSync(
    SimpleServer.app(outputFile).pipe(
      Effect.flatMap((app) => NodeHttpServer.makeHandler(app)),
      Effect.provide(Edge.surroundings)
    )
  )
  return Http.createServer(handler).listen(port, NodeServer.defaults.host)
}
