/**
 * The HTTP client of Node as the programs use it: one pool of kept-alive connections, proxies, own certificates.
 *
 * @example
 * TransportHttp.layerStreamed({ stallTimeout: "1 minute" }).pipe(
 *   Layer.provide(HttpClientNode.layer({ connectTimeout: "20 seconds" }))
 * )
 *
 * @module
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as Undici from "@effect/platform-node/Undici"
import * as HttpClient from "@effect/platform/HttpClient"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Crypto from "node:crypto"
import * as Net from "node:net"
import * as Tls from "node:tls"
import { IterableBodies } from "./internal/iterableBodies.ts"

/** A certificate that cannot be read, or a proxy's address that is none. */
export class HttpClientSettingsError
  extends Schema.TaggedError<HttpClientSettingsError>("indexedcp/HttpClientSettingsError")("HttpClientSettingsError", {
    message: Schema.String,
    cause: Schema.optional(Schema.Defect)
  })
{}

/** What the client trusts, and how long it tries to connect. */
export interface HttpClientOptions {
  /** PEM text of certificates, or of their authorities, that are trusted besides those that Node trusts. */
  readonly caCertificates: string
  /** Accepts every certificate, so that anybody on the way can read the key and the files. Default: false. */
  readonly insecure: boolean
  /** How long one attempt to connect may last, TLS included. Default: 30 seconds. Not above the transport's `stallTimeout`. */
  readonly connectTimeout: Duration.DurationInput
}

const certificates = (text: string): Effect.Effect<ReadonlyArray<string>, HttpClientSettingsError> =>
  Effect.gen(function*() {
    const found = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
    if (found.length === 0) {
      return yield* new HttpClientSettingsError({
        message: "There is no certificate in the text: it looks like -----BEGIN CERTIFICATE-----…"
      })
    }
    return yield* Effect.forEach(found, (pem, index) =>
      Effect.try({
        try: () => new Crypto.X509Certificate(pem).toString(),
        catch: (cause) =>
          new HttpClientSettingsError({ message: `Certificate ${index + 1} of ${found.length} cannot be read`, cause })
      }))
  })

/** Newer Nodes tell what they trust by their own settings, `NODE_EXTRA_CA_CERTS` included. */
const trusted = (): ReadonlyArray<string> =>
  (Tls as { readonly getCACertificates?: (type: "default") => ReadonlyArray<string> }).getCACertificates?.("default") ??
    Tls.rootCertificates

/** The first of these variables that is set. An empty one counts as none. */
const variable = (...names: ReadonlyArray<string>): Effect.Effect<string> =>
  Effect.map(
    Effect.forEach(names, (name) => Effect.option(Config.string(name))),
    (values) => values.flatMap(Option.toArray).map((value) => value.trim()).find((value) => value !== "") ?? ""
  )

/** The address of a proxy, or nothing; without a scheme it means `http://`, as for curl. */
const proxy = (name: string): Effect.Effect<string, HttpClientSettingsError> =>
  Effect.flatMap(variable(name, name.toUpperCase()), (text) => {
    const url = text === "" || text.includes("://") ? text : `http://${text}`
    return url === "" || (URL.canParse(url) && /^https?:$/.test(new URL(url).protocol))
      ? Effect.succeed(url)
      : new HttpClientSettingsError({
        message: `${name.toUpperCase()} is not the address of an HTTP proxy, which is like http://proxy.example:3128`
      })
  })

type Connect = ReturnType<typeof Undici.buildConnector>

/**
 * `UND_ERR_SOCKET` while connecting, which is a proxy that hangs up, lets undici connect again at once and for ever.
 */
const giveUp = (connect: Connect): Connect => (options, callback) =>
  connect(options, (...result) => {
    const [error, socket] = result
    if (error === null) return callback(null, socket)
    callback((error as NodeJS.ErrnoException).code === "UND_ERR_SOCKET" ? hungUp(error) : error, null)
  })

const hungUp = (cause: Error): Error =>
  Object.assign(new Error("The proxy closed the connection", { cause }), { code: "ECONNRESET", syscall: "connect" })

const makeDispatcher = (options: Partial<HttpClientOptions>) =>
  Effect.gen(function*() {
    const ca = options.caCertificates === undefined ? undefined : yield* certificates(options.caCertificates)
    const httpProxy = yield* proxy("http_proxy")
    const httpsProxy = yield* proxy("https_proxy")
    const noProxy = yield* variable("no_proxy", "NO_PROXY")
    const timeout = Duration.toMillis(options.connectTimeout ?? "30 seconds")
    // made once: reading all certificates takes several milliseconds
    const trust = ca === undefined ? {} : { secureContext: Tls.createSecureContext({ ca: [...trusted(), ...ca] }) }
    const toServer = { ...trust, timeout, ...(options.insecure ? { rejectUnauthorized: false } : {}) }
    const sockets = new Set<Net.Socket>()

    /** Undici lets go of a socket that is connecting without ending it. */
    const tracked = (connect: Connect): Connect => (options, callback) => {
      const socket: unknown = connect(options, callback)
      if (socket instanceof Net.Socket) {
        sockets.add(socket)
        socket.once("close", () => sockets.delete(socket))
      }
      return socket as ReturnType<Connect>
    }
    const pool = (origin: string | URL, { connect, ...rest }: Undici.Pool.Options): Undici.Pool =>
      new Undici.Pool(origin, {
        ...rest,
        ...(typeof connect === "function" ? { connect: tracked(giveUp(connect as Connect)) } : {})
      })

    return yield* Effect.acquireRelease(
      Effect.try({
        try: () =>
          new Undici.EnvHttpProxyAgent({
            httpProxy,
            httpsProxy,
            noProxy,
            // CONNECT for https only: many proxies allow it to port 443 alone
            proxyTunnel: false,
            connect: Undici.buildConnector(toServer),
            requestTls: toServer,
            proxyTls: { ...trust, timeout },
            factory: pool as NonNullable<Undici.Agent.Options["factory"]>,
            clientFactory: pool as NonNullable<Undici.ProxyAgent.Options["clientFactory"]>
          }),
        catch: (cause) =>
          new HttpClientSettingsError({
            message: "The address of a proxy in HTTP_PROXY or HTTPS_PROXY is malformed",
            cause
          })
      }),
      (agent) =>
        Effect.promise(() => {
          const destroyed = agent.destroy()
          for (const socket of sockets) socket.destroy()
          return destroyed
        })
    )
  })

/** Until undici knows that a connection whose answer has just been read is free. Otherwise it opens another one. */
const turn = Effect.async<void>((resume) => {
  const immediate = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(immediate))
})

const client = HttpClient.layerMergedContext(
  Effect.map(
    NodeHttpClient.Dispatcher,
    (dispatcher) =>
      HttpClient.mapRequestEffect(NodeHttpClient.makeUndici(dispatcher), (request) => Effect.as(turn, request))
  )
)

/**
 * An `HttpClient` over undici, with one pool that is destroyed with the layer. Redirects are not followed.
 *
 * Proxies come from `http_proxy`, `https_proxy` and `no_proxy`, also in capitals, through the `ConfigProvider` at hand;
 * without `https_proxy` the other one counts for https too. `https` goes through a proxy by `CONNECT`.
 *
 * There are no time limits but `connectTimeout`: `TransportHttp.layerStreamed` cuts what stands still.
 */
export const layer = (
  options: Partial<HttpClientOptions> = {}
): Layer.Layer<HttpClient.HttpClient, HttpClientSettingsError> =>
  Layer.merge(
    Layer.provide(client, Layer.scoped(NodeHttpClient.Dispatcher, makeDispatcher(options))),
    Layer.succeed(IterableBodies, true)
  )
