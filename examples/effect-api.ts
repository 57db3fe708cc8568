/** The server beside an `HttpApi`, each with an authentication of its own: `npx tsx examples/effect-api.ts`. */
import {
  HttpApi,
  HttpApiBuilder,
  HttpApiEndpoint,
  HttpApiGroup,
  HttpApiMiddleware,
  HttpApiSecurity,
  HttpServer
} from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Redacted, Schema } from "effect"
import { ProtocolError } from "indexedcp/protocol"
import { Server } from "indexedcp/server-node"
import { createServer } from "node:http"

class Members extends HttpApiMiddleware.Tag<Members>()("app/Members", {
  failure: ProtocolError.Unauthorized,
  security: { bearer: HttpApiSecurity.bearer }
}) {}

const MembersLive = Layer.succeed(Members, {
  bearer: (token) =>
    Redacted.value(token) === "a member's token"
      ? Effect.void
      : Effect.fail(new ProtocolError.Unauthorized({ message: "Members only" }))
})

const Api = HttpApi.make("app").add(
  HttpApiGroup.make("news").add(HttpApiEndpoint.get("latest", "/latest").addSuccess(Schema.String)).middleware(Members)
)

const ApiLive = HttpApiBuilder.api(Api).pipe(
  Layer.provide(HttpApiBuilder.group(Api, "news", (group) => group.handle("latest", () => Effect.succeed("No news")))),
  Layer.provide(MembersLive)
)

/** Clients send to `/files/upload`. */
const UploadsLive = HttpApiBuilder.Router.use((router) =>
  Effect.flatMap(Server.app(), (uploads) => router.mountApp("/files", uploads))
)

const AppLive = HttpApiBuilder.serve().pipe(
  Layer.provide(UploadsLive),
  Layer.provide(ApiLive),
  HttpServer.withLogAddress,
  Layer.provide(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(process.env["PORT"] ?? 3000) })),
  Layer.provide(Server.layerServices({ outputDir: "./uploads", apiKey: Redacted.make("the uploaders' key") }))
)

NodeRuntime.runMain(Layer.launch(AppLive))
