/**
 * Certificates, proxies and the pool, over real sockets.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Exit, Layer, Option, Redacted, Scope } from "effect"
import * as Http from "node:http"
import * as Https from "node:https"
import * as Net from "node:net"
import { inspect } from "node:util"
import * as ApiKey from "../../src/client/ApiKey.ts"
import * as HttpClientNode from "../../src/client/HttpClientNode.ts"
import * as Transport from "../../src/client/Transport.ts"
import * as TransportHttp from "../../src/client/TransportHttp.ts"
import * as BlackHole from "../support/blackHole.ts"
import * as Certificates from "../support/certificates.ts"
import { bytesOf } from "../support/clientWorld.ts"
import { freePort } from "../support/live.ts"
import { listen } from "../support/peers/internal/listen.ts"
import { eventually } from "../support/rawHttp.ts"
import * as RawProxy from "../support/rawProxy.ts"

const key = "the secret key"

const layer = (
  options: Partial<HttpClientNode.HttpClientOptions> = {},
  environment: Readonly<Record<string, string>> = {}
) =>
  TransportHttp.layerStreamed({ stallTimeout: "5 seconds" }).pipe(
    Layer.provide([HttpClientNode.layer(options), ApiKey.layer(Redacted.make(key))]),
    Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))))
  )

const send = (endpoint: string) =>
  Effect.flatMap(Transport.Transport, (transport) =>
    transport.send({
      endpoint,
      body: bytesOf(100_000),
      chunk: { index: 3, fileName: "a", contentDigest: Option.none(), upload: Option.none() }
    }))

const answer: Http.RequestListener = (request, response) => {
  request.resume().once("end", () =>
    response.end(JSON.stringify({
      message: "Chunk received",
      actualFilename: "a",
      chunkIndex: 3,
      clientFilename: "a"
    })))
}

/** A server with a certificate for these names. */
const secure = (names = "IP:127.0.0.1") =>
  Effect.gen(function*() {
    const certificate = yield* Certificates.selfSigned(names)
    const port = yield* listen(Https.createServer(certificate, answer))
    return { ...certificate, port, url: `https://127.0.0.1:${port}/upload` }
  })

const plain = Effect.map(listen(Http.createServer(answer)), (port) => ({
  port,
  url: `http://127.0.0.1:${port}/upload`
}))

/** A proxy that does as it likes with a request. */
const strange = (respond: (socket: Net.Socket) => void) =>
  Effect.gen(function*() {
    let connections = 0
    const port = yield* listen(Net.createServer((socket) => {
      connections++
      socket.on("error", () => {})
      socket.once("data", () => respond(socket))
    }))
    return { address: `127.0.0.1:${port}`, connections: () => connections }
  })

const expectSafe = (error: unknown) => expect(inspect(error, { depth: 10 }) + JSON.stringify(error)).not.toContain(key)

describe("HttpClientNode, certificates", () => {
  it.scopedLive("that are signed by themselves are refused, and the message says what to do", () =>
    Effect.gen(function*() {
      const server = yield* secure()
      const error = yield* Effect.flip(Effect.provide(send(server.url), layer()))
      expect(error._tag).toBe("Unreachable")
      expect(error.message).toBe(
        `127.0.0.1:${server.port} cannot be trusted: its certificate is signed by itself ` +
          `(DEPTH_ZERO_SELF_SIGNED_CERT). If it is the right server, name its certificate with --cacert; ` +
          `if this network wants a login, log in first`
      )
      expectSafe(error)
    }))

  it.scopedLive("that were given are accepted, between other text and other certificates", () =>
    Effect.gen(function*() {
      const server = yield* secure()
      const other = yield* Certificates.selfSigned("DNS:other.test")
      const caCertificates = `# ours\n${other.cert}\r\n# and theirs\n${server.cert.replaceAll("\n", "\r\n")}`
      yield* Effect.provide(send(server.url), layer({ caCertificates }))
    }))

  it.scopedLive("of another are not enough", () =>
    Effect.gen(function*() {
      const server = yield* secure()
      const { cert } = yield* Certificates.selfSigned("IP:127.0.0.1")
      const error = yield* Effect.flip(Effect.provide(send(server.url), layer({ caCertificates: cert })))
      expect(error._tag).toBe("Unreachable")
      expect(error.message).toContain("--cacert")
    }))

  it.scopedLive("for another name are refused even when they are trusted", () =>
    Effect.gen(function*() {
      const server = yield* secure("DNS:other.test")
      const error = yield* Effect.flip(Effect.provide(send(server.url), layer({ caCertificates: server.cert })))
      expect(error._tag).toBe("Unreachable")
      expect(error.message).toContain("its certificate is for another name")
    }))

  it.scopedLive.each(["IP:127.0.0.1", "DNS:other.test"])(
    "of any kind are accepted by the insecure client: %s",
    (name) =>
      Effect.gen(function*() {
        const server = yield* secure(name)
        yield* Effect.provide(send(server.url), layer({ insecure: true }))
      })
  )

  it.scopedLive("are not needed for plain HTTP, and no TLS there is told", () =>
    Effect.gen(function*() {
      const server = yield* plain
      const error = yield* Effect.flip(Effect.provide(send(server.url.replace("http", "https")), layer()))
      expect(error._tag).toBe("Unreachable")
      expect(error.message).toContain("is it http:// instead of https://?")
    }))

  it.effect.each(["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])(
    "that cannot be read are told at once: %j",
    (caCertificates) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(HttpClientNode.layer({ caCertificates }))))
        expect(error._tag).toBe("HttpClientSettingsError")
        expect(error.message.toLowerCase()).toContain("certificate")
      })
  )
})

describe("HttpClientNode, proxies", () => {
  it.scopedLive.each(["https_proxy", "HTTPS_PROXY", "http_proxy"])(
    "are asked for tunnels to https: %s",
    (variable) =>
      Effect.gen(function*() {
        const server = yield* secure()
        const proxy = yield* RawProxy.make
        const given = { caCertificates: server.cert }
        yield* Effect.provide(send(server.url), layer(given, { [variable]: `http://me:word@${proxy.address}` }))
        expect(proxy.seen.map(({ line }) => line)).toEqual([`CONNECT 127.0.0.1:${server.port}`])
        expect(proxy.seen[0]!.headers["proxy-authorization"]).toBe(`Basic ${btoa("me:word")}`)
        expectSafe(proxy.seen)
        const error = yield* Effect.flip(Effect.provide(send(server.url), layer({}, { [variable]: proxy.address })))
        expect(error._tag).toBe("Unreachable")
        expect(error.message).toContain("--cacert")
        yield* Effect.provide(send(server.url), layer({ insecure: true }, { [variable]: proxy.address }))
      })
  )

  it.scopedLive.each(["http_proxy", "HTTP_PROXY"])(
    "get the whole address of plain http: %s",
    (variable) =>
      Effect.gen(function*() {
        const server = yield* plain
        const proxy = yield* RawProxy.make
        yield* Effect.provide(send(server.url), layer({}, { [variable]: `http://me:word@${proxy.address}` }))
        expect(proxy.seen.map(({ line }) => line)).toEqual([`POST ${server.url}`])
        expect(proxy.seen[0]!.headers).toMatchObject({
          "proxy-authorization": `Basic ${btoa("me:word")}`,
          "content-length": "100000",
          "host": `127.0.0.1:${server.port}`
        })
        expect(proxy.seen[0]!.headers["transfer-encoding"]).toBe(undefined)
      })
  )

  it.scopedLive.each([
    { no_proxy: "127.0.0.1" },
    { NO_PROXY: "other.test, 127.0.0.1" },
    { NO_PROXY: "*" },
    { http_proxy: "", https_proxy: " ", HTTP_PROXY: "", HTTPS_PROXY: "" }
  ])("are passed by where they are not wanted: %j", (environment) =>
    Effect.gen(function*() {
      const server = yield* plain
      const safe = yield* secure()
      const proxy = yield* RawProxy.make
      const client = layer({ insecure: true }, {
        http_proxy: proxy.address,
        https_proxy: proxy.address,
        ...environment
      })
      yield* Effect.provide(send(server.url), client)
      yield* Effect.provide(send(safe.url), client)
      expect(proxy.seen).toEqual([])
    }))

  it.scopedLive.each<readonly [string, string, (socket: Net.Socket) => void]>([
    ["that hang up", "the other side cut it", (socket) => socket.end()],
    ["that cut", "the other side cut it", (socket) => socket.resetAndDestroy()],
    [
      "that want a password",
      "the proxy wants a name and a password",
      (socket) => socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    ],
    [
      "that forbid it",
      "the proxy on the way answered 403",
      (socket) => socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
    ],
    ["that connect to nobody", "the other side cut it", (socket) => socket.end("HTTP/1.1 200 OK\r\n\r\n")],
    ["that are none", "what came back is no HTTP", (socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n")]
  ])("%s are told, and asked once", ([, why, respond]) =>
    Effect.gen(function*() {
      const proxy = yield* strange(respond)
      const error = yield* Effect.flip(
        Effect.provide(send("https://server.test/upload"), layer({}, { https_proxy: proxy.address }))
      )
      expect(error._tag).toBe("Unreachable")
      expect(error.message).toContain("server.test cannot be reached")
      expect(error.message).toContain(why)
      expect(proxy.connections()).toBe(1)
      expectSafe(error)
    }))

  it.scopedLive("that want a password for plain http are told", () =>
    Effect.gen(function*() {
      const proxy = yield* strange((socket) =>
        socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
      )
      const error = yield* Effect.flip(
        Effect.provide(send("http://server.test/upload"), layer({}, { http_proxy: proxy.address }))
      )
      expect(error.message).toContain("the proxy wants a name and a password")
    }))

  it.scopedLive("that are not there are named", () =>
    Effect.gen(function*() {
      const port = yield* freePort
      for (const url of ["https://server.test/upload", "http://server.test/upload"]) {
        const error = yield* Effect.flip(Effect.provide(send(url), layer({}, { http_proxy: `127.0.0.1:${port}` })))
        expect(error._tag).toBe("Unreachable")
        expect(error.message).toBe(
          `server.test cannot be reached: nobody listens there, or a firewall refuses (ECONNREFUSED 127.0.0.1:${port})`
        )
      }
    }))

  it.effect.each(["http://[bad", "socks5://proxy.test", "a b", "http://%zz:word@proxy.test"])(
    "with an address that is none are told at once: %s",
    (text) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.scoped(Layer.build(layer({}, { HTTPS_PROXY: text }))))
        expect(error._tag).toBe("HttpClientSettingsError")
        expect(error.message).toContain("HTTPS_PROXY")
      })
  )
})

describe("HttpClientNode, the pool", () => {
  it.scopedLive("keeps connections, and cuts them when its scope ends", () =>
    Effect.gen(function*() {
      const sockets: Array<Net.Socket> = []
      const server = Http.createServer(answer).on("connection", (socket: Net.Socket) => sockets.push(socket))
      const url = `http://127.0.0.1:${yield* listen(server)}/upload`
      yield* Effect.provide(
        Effect.gen(function*() {
          for (let number = 0; number < 5; number++) yield* send(url)
          expect(sockets.length).toBe(1)
          yield* Effect.replicateEffect(send(url), 20, { concurrency: 4, discard: true })
          expect(sockets.length).toBeLessThanOrEqual(4)
        }),
        layer()
      )
      yield* eventually(() => sockets.every((socket) => socket.destroyed))
    }))

  /** Attempts to connect that are under way; other tests of this process may leave other things that end meanwhile. */
  const attempts = (): number =>
    (process as unknown as { readonly _getActiveHandles: () => ReadonlyArray<unknown> })._getActiveHandles()
      .filter((handle) => handle instanceof Net.Socket && handle.connecting).length

  it.scopedLive.each<Readonly<Record<string, string>>>([{}, { http_proxy: "here" }])(
    "leaves no attempt to connect behind: %j",
    (environment) =>
      Effect.gen(function*() {
        const port = yield* BlackHole.make
        const before = attempts()
        const scope = yield* Scope.make()
        const client = layer({}, "http_proxy" in environment ? { http_proxy: `127.0.0.1:${port}` } : {})
        const context = yield* Scope.extend(Layer.build(client), scope)
        yield* send(`http://127.0.0.1:${port}/upload`).pipe(Effect.provide(context), Effect.timeout(200), Effect.exit)
        expect(attempts()).toBeGreaterThan(before)
        yield* Scope.close(scope, Exit.void)
        yield* eventually(() => attempts() <= before)
      })
  )

  it.scopedLive("gives up an attempt to connect after its time", () =>
    Effect.gen(function*() {
      const port = yield* BlackHole.make
      const error = yield* Effect.flip(
        Effect.provide(send(`http://127.0.0.1:${port}/upload`), layer({ connectTimeout: "500 millis" }))
      )
      expect(error._tag).toBe("Unreachable")
      expect(error.message).toContain("it did not answer in time")
    }))
})
