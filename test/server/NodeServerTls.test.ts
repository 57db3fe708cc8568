import { describe, expect, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Queue, Schedule, Stream } from "effect"
import { createPrivateKey } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Tls from "node:tls"
import type * as NodeServer from "../../src/server/NodeServer.ts"
import { type Certificate, selfSigned } from "../support/certificates.ts"
import * as EchoServer from "../support/echoServer.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { authorized, connect, eventually, head, request, serve } from "../support/rawHttp.ts"

const address = "IP:127.0.0.1"

/** Files for a pair, and a pair in them. */
const files = Effect.gen(function*() {
  const folder = yield* RawFiles.temporaryFolder
  const tls = { cert: Path.join(folder, "cert.pem"), key: Path.join(folder, "key.pem") }
  const put = ({ cert, key }: Certificate) =>
    Effect.sync(() => {
      Fs.writeFileSync(tls.cert, cert)
      Fs.writeFileSync(tls.key, key)
    })
  const pair = yield* selfSigned(address)
  yield* put(pair)
  return { folder, tls, put, pair }
})

const refusal = (tls: NonNullable<NodeServer.ListenOptions["tls"]>) =>
  Effect.map(Effect.flip(Effect.scoped(EchoServer.make({ tls }))), ({ _tag, message }) => {
    expect([_tag, message.includes("\n")]).toEqual(["CannotListen", false])
    return message
  })

describe("NodeServer, TLS", () => {
  it.scopedLive("serves the whole protocol", () =>
    Effect.gen(function*() {
      const { pair, tls } = yield* files
      const folder = yield* RawFiles.temporaryFolder
      const { port } = yield* serve(folder, { tls })
      const to = { port, ca: pair.cert }
      expect((yield* request(to, "POST", "/upload", { ...authorized, "x-file-name": "a.txt" }, "abc")).status).toBe(200)
      expect(Fs.readFileSync(Path.join(folder, "a.txt"), "utf8")).toBe("abc")
      const large = new Uint8Array(4 * 1024 * 1024)
      expect((yield* request(to, "POST", "/upload", {}, large)).status).toBe(401)
      const connection = yield* connect(to)
      yield* connection.write("rubbish\r\n\r\n")
      expect((yield* connection.answer).status).toBe(400)
      expect(yield* connection.closed).toBe("closed")
    }))

  it.scopedLive("tells an https base URL, and warns of nothing", () =>
    Effect.gen(function*() {
      const { tls } = yield* files
      const { lines, port, url } = yield* EchoServer.make({ tls, host: "0.0.0.0" })
      expect([url, lines]).toEqual([`https://0.0.0.0:${port}`, []])
    }))

  it.scopedLive("wants TLS 1.2 at least", () =>
    Effect.gen(function*() {
      const { pair, tls } = yield* files
      const { port } = yield* EchoServer.make({ tls })
      const handshake = (version: Tls.SecureVersion) =>
        Effect.async<string | null>((resume) => {
          const socket = Tls.connect({
            port,
            host: "127.0.0.1",
            ca: pair.cert,
            minVersion: version,
            maxVersion: version,
            ciphers: "ALL:@SECLEVEL=0"
          })
          const end = (what: string | null) => {
            socket.destroy()
            resume(Effect.succeed(what))
          }
          socket.once("secureConnect", () => end(socket.getProtocol()))
          socket.once("error", () => end("refused"))
        })
      expect([yield* handshake("TLSv1.1"), yield* handshake("TLSv1.2"), yield* handshake("TLSv1.3")])
        .toEqual(["refused", "TLSv1.2", "TLSv1.3"])
    }))

  it.scopedLive("closes a connection that speaks something else or does not end its handshake, and goes on", () =>
    Effect.gen(function*() {
      const { pair, tls } = yield* files
      const { lines, port } = yield* EchoServer.make({ tls, headersTimeout: "200 millis" })
      for (const bytes of ["", head("GET", "/"), "\x16\x03\x01"]) {
        const connection = yield* connect(port)
        yield* connection.write(bytes)
        expect(yield* connection.closed).not.toBe("open")
      }
      expect((yield* request({ port, ca: pair.cert }, "POST", "/", {}, "a")).body).toBe("a")
      expect(lines).toEqual([])
    }))

  it.scopedLive("shows a new certificate to new connections once told to look, and lets old ones go on", () =>
    Effect.gen(function*() {
      const { pair, put, tls } = yield* files
      const changes = yield* Queue.unbounded<number>()
      const { lines, port } = yield* EchoServer.make({ tls: { ...tls, reload: Stream.fromQueue(changes) } })
      const old = yield* connect({ port, ca: pair.cert })
      const next = yield* selfSigned(address)
      yield* put(next)
      expect((yield* request({ port, ca: pair.cert }, "POST", "/", {}, "a")).body).toBe("a")
      yield* Queue.offer(changes, 1)
      yield* eventually(() => lines.length === 1)
      expect((yield* request({ port, ca: next.cert }, "POST", "/", {}, "b")).body).toBe("b")
      expect(Exit.isFailure(yield* Effect.exit(request({ port, ca: pair.cert }, "GET", "/")))).toBe(true)
      yield* old.write(head("POST", "/", { "content-length": 1 }), "c")
      expect((yield* old.answer).body).toBe("c")
      // one that cannot be used changes nothing, and the one after it counts again
      yield* put({ cert: pair.cert, key: next.key })
      yield* Queue.offer(changes, 2)
      yield* eventually(() => lines.length === 2)
      expect((yield* request({ port, ca: next.cert }, "POST", "/", {}, "d")).body).toBe("d")
      yield* put(pair)
      yield* Queue.offer(changes, 3)
      yield* eventually(() => lines.length === 3)
      expect((yield* request({ port, ca: pair.cert }, "POST", "/", {}, "e")).body).toBe("e")
      expect(lines).toEqual([
        "The TLS certificate was read again",
        `Cannot use the key ${tls.key}: it does not belong to the certificate ${tls.cert}. The old certificate stays in use`,
        "The TLS certificate was read again"
      ])
    }))

  it.scopedLive("says which file it cannot use, and why", () =>
    Effect.gen(function*() {
      const { folder, pair, put, tls } = yield* files
      const none = Path.join(folder, "none.pem")
      expect(yield* refusal({ ...tls, cert: none })).toBe(`Cannot use the certificate ${none}: there is no such file`)
      expect(yield* refusal({ ...tls, key: none })).toBe(`Cannot use the key ${none}: there is no such file`)
      expect(yield* refusal({ ...tls, key: folder })).toBe(`Cannot use the key ${folder}: it is a folder`)
      expect(yield* refusal({ ...tls, cert: tls.key })).toContain(`${tls.key}: it holds no certificate in PEM`)
      expect(yield* refusal({ ...tls, key: tls.cert })).toContain(`${tls.cert}: it holds no private key in PEM`)
      yield* put({ cert: pair.cert, key: (yield* selfSigned(address)).key })
      expect(yield* refusal(tls)).toContain(`${tls.key}: it does not belong to the certificate ${tls.cert}`)
      const locked = createPrivateKey(pair.key).export({
        type: "pkcs8",
        format: "pem",
        cipher: "aes-256-cbc",
        passphrase: "x"
      })
      yield* put({ cert: pair.cert, key: locked.toString() })
      expect(yield* refusal(tls)).toContain(`${tls.key}: it has a passphrase`)
    }))
})

describe("NodeServer, TLS, shutdown", () => {
  it.scopedLive("ends at once what waits, and lets a request in flight end", () =>
    Effect.gen(function*() {
      const { pair, tls } = yield* files
      const { asked, port, stop } = yield* EchoServer.make({ tls })
      const to = { port, ca: pair.cert }
      const [inFlight, idle, silent, handshaking] = [
        yield* connect(to),
        yield* connect(to),
        yield* connect(to),
        yield* connect(port)
      ]
      yield* idle.write(head("POST", "/", { "content-length": 1 }), "a")
      yield* idle.answer
      yield* inFlight.write(head("POST", "/", { "content-length": 2 }), "a")
      yield* request(to, "GET", "/")
      const stopping = yield* Effect.fork(stop)
      for (const connection of [idle, silent, handshaking]) expect(yield* connection.closed).not.toBe("open")
      // until it has stopped listening
      yield* Effect.exit(Effect.scoped(connect(port))).pipe(
        Effect.repeat({ until: Exit.isFailure, schedule: Schedule.spaced("5 millis"), times: 1000 })
      )
      yield* inFlight.write("b")
      const answer = yield* inFlight.answer
      expect([answer.body, answer.headers["connection"]]).toEqual(["ab", "close"])
      yield* Fiber.join(stopping)
      expect(asked.length).toBe(3)
    }), 5000)

  it.scopedLive("waits no longer than it may", () =>
    Effect.gen(function*() {
      const { pair, tls } = yield* files
      const { port, stop } = yield* EchoServer.make({ tls, drainTimeout: "200 millis" })
      const hanging = yield* connect({ port, ca: pair.cert })
      yield* hanging.write(head("POST", "/", { "content-length": 2 }), "a")
      yield* request({ port, ca: pair.cert }, "GET", "/")
      yield* stop
      expect(yield* hanging.closed).not.toBe("open")
    }), 5000)
})
