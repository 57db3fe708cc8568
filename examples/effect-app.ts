/** The server under a path of an Effect app, with the app's own users: `npx tsx examples/effect-app.ts`. */
import { HttpRouter, HttpServer, HttpServerResponse } from "@effect/platform"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Context, Effect, Layer, Option } from "effect"
import { ProtocolError } from "indexedcp/protocol"
import { Authenticator } from "indexedcp/server"
import { Server } from "indexedcp/server-node"
import { createServer } from "node:http"

/** Whatever the app knows its users by. */
class Sessions extends Context.Tag("app/Sessions")<Sessions, {
  readonly userOf: (token: string) => Option.Option<string>
}>() {}

const SessionsLive = Layer.succeed(Sessions, {
  userOf: (token) => token === "anna's session" ? Option.some("anna") : Option.none()
})

/** Who has a session may upload; the uploads are the user's own, in a folder of that name. */
const AuthenticatorLive = Layer.effect(
  Authenticator.Authenticator,
  Effect.map(Sessions, ({ userOf }) => ({
    authenticate: ({ authorization }) =>
      Option.flatMap(authorization, (value) => userOf(value.replace(/^Bearer /, ""))).pipe(
        Option.match({
          onNone: () => new ProtocolError.Unauthorized({ message: "Log in, and send the session's token" }),
          onSome: (name) => Effect.succeed({ name, prefix: `${name}/` })
        })
      )
  }))
)

const AppLive = Layer.unwrapEffect(Effect.map(Server.app(), (uploads) =>
  HttpServer.serve(HttpRouter.empty.pipe(
    HttpRouter.get("/", HttpServerResponse.text("The app's own page")),
    HttpRouter.mountApp("/files", uploads)
  )))).pipe(
    HttpServer.withLogAddress,
    Layer.provide(
      NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: Number(process.env["PORT"] ?? 3000) })
    ),
    // provided last, so that it ends after the last request
    Layer.provide(Server.layerServices({
      outputDir: "./uploads",
      authenticator: Layer.provide(AuthenticatorLive, SessionsLive)
    }))
  )

NodeRuntime.runMain(Layer.launch(AppLive))
