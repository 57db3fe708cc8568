/** A server whose keys are checked by a function of one's own: `npx tsx examples/effect-authenticator.ts`. */
import { NodeRuntime } from "@effect/platform-node"
import { Console, Effect, Layer, Option } from "effect"
import { ProtocolError } from "indexedcp/protocol"
import { Authenticator } from "indexedcp/server"
import { NodeServer, Server } from "indexedcp/server-node"
import { createHmac, timingSafeEqual } from "node:crypto"

const secret = "only this server and whoever makes the keys know it"

/** A key is `<name>.<signature>`: whoever has the secret can make one, and no list of keys is kept. */
export const keyOf = (name: string): string => `${name}.${createHmac("sha256", secret).update(name).digest("hex")}`

const isSame = (one: string, other: string): boolean =>
  one.length === other.length && timingSafeEqual(Buffer.from(one), Buffer.from(other))

const SignedKeys = Layer.succeed(Authenticator.Authenticator, {
  authenticate: ({ authorization }) => {
    const [, key = "", name = ""] = /^Bearer ((\w+)\.[0-9a-f]{64})$/.exec(Option.getOrElse(authorization, () => "")) ??
      []
    return name !== "" && isSame(key, keyOf(name))
      // uploads belong to the name; this one may send, and ask what has arrived
      ? Effect.succeed({ name, can: ["upload", "read"] })
      : new ProtocolError.Unauthorized({ message: "Ask the operator for a key" })
  }
})

const Announce = Layer.effectDiscard(
  Effect.flatMap(NodeServer.baseUrl, (url) => Console.log(`Listening on ${url}/upload\nA key: ${keyOf("guest")}`))
)

NodeRuntime.runMain(Layer.launch(Layer.provide(
  Announce,
  Server.layer({ outputDir: "./uploads", port: Number(process.env["PORT"] ?? 3000), authenticator: SignedKeys })
)))
