/**
 * One exchange over real sockets, byte by byte.
 *
 * @module
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer, Option, Queue, Redacted } from "effect"
import { inspect } from "node:util"
import * as ApiKey from "../../src/client/ApiKey.ts"
import * as HttpClientNode from "../../src/client/HttpClientNode.ts"
import * as Transport from "../../src/client/Transport.ts"
import * as TransportHttp from "../../src/client/TransportHttp.ts"
import type { Chunk } from "../../src/protocol/ChunkHeaders.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import { bytesOf } from "../support/clientWorld.ts"
import * as RawAnswers from "../support/rawAnswers.ts"

const key = "the secret key"
const id = UploadId.make("upload-1")

/** fetch follows redirects unless told. */
const fetch = Layer.provide(FetchHttpClient.layer, Layer.succeed(FetchHttpClient.RequestInit, { redirect: "manual" }))

/** Bodies in one piece and in slices, each over the clients that are fit for it. */
const kinds = Object.entries({
  "whole, undici": Layer.provide(TransportHttp.layer, NodeHttpClient.layerUndici),
  "whole, fetch": Layer.provide(TransportHttp.layer, fetch),
  "streamed, undici": Layer.provide(TransportHttp.layerStreamed(), NodeHttpClient.layerUndici),
  "streamed, node:http": Layer.provide(TransportHttp.layerStreamed(), NodeHttpClient.layer),
  "streamed, HttpClientNode": Layer.provide(TransportHttp.layerStreamed(), Layer.orDie(HttpClientNode.layer())),
  "streamed, slowed down": Layer.provide(TransportHttp.layerStreamed({ limitRate: 2e6 }), NodeHttpClient.layerUndici)
})

const chunk2 = (fileName: string, size: number): Omit<Chunk, "sentName"> => ({
  index: 0,
  fileName,
  contentDigest: Option.some(Sha256.of(bytesOf(size))),
  upload: Option.some({
    id,
    offset: 0,
    size: Option.some(size),
    sha256: Option.some(Sha256.of(bytesOf(size))),
    prefixDigest: Option.none(),
    known: false
  })
})

const chunk1 = (fileName: string): Omit<Chunk, "sentName"> => ({
  index: 3,
  fileName,
  contentDigest: Option.none(),
  upload: Option.none()
})

const send = (endpoint: string, chunk: Omit<Chunk, "sentName">, body: Uint8Array) =>
  Effect.flatMap(Transport.Transport, (transport) => transport.send({ endpoint, chunk, body }))

/** What a revision-1 server says to whatever comes. */
const echo: RawAnswers.Respond = (socket, request, number) =>
  RawAnswers.answer(200, {
    message: "Chunk received",
    actualFilename: "x",
    chunkIndex: Number(request.headers["x-chunk-index"]),
    clientFilename: request.headers["x-file-name"]
  })(socket, request, number)

describe.each(kinds)("TransportHttp (%s), requests", (_, transport) => {
  const layer = (given = key) => Layer.provide(transport, ApiKey.layer(Redacted.make(given)))

  it.scopedLive.each([0, 1, 100_000])(
    "sends %i bytes with their length and the headers of both revisions",
    (size) =>
      Effect.gen(function*() {
        const server = yield* RawAnswers.make(echo)
        yield* send(server.url, chunk2("dir/ü.bin", size), bytesOf(size))
        const { body, headers, line } = yield* Queue.take(server.requests)
        expect(line).toBe("POST /upload")
        expect(headers).toMatchObject({
          "authorization": `Bearer ${key}`,
          "content-type": "application/octet-stream",
          "content-length": String(size),
          "x-chunk-index": "0",
          "x-file-name": "dir/%C3%BC.bin",
          "x-file-name-encoding": "percent",
          "x-upload-id": id,
          "x-chunk-offset": "0",
          "x-file-size": String(size),
          "content-digest": Sha256.toHeader(Sha256.of(bytesOf(size))),
          "repr-digest": Sha256.toHeader(Sha256.of(bytesOf(size)))
        })
        for (const absent of ["transfer-encoding", "if-match", "traceparent", "b3", "expect", "content-encoding"]) {
          expect(headers[absent]).toBe(undefined)
        }
        expect(Buffer.from(body, "latin1").equals(bytesOf(size))).toBe(true)
      }).pipe(Effect.provide(layer()))
  )

  it.scopedLive.each([
    ["plain.bin", "plain.bin"],
    ["two words.bin", "two words.bin"],
    ["ü.bin", "ü.bin"],
    ["€.bin", Buffer.from("€.bin").toString("latin1")]
  ])(
    "sends the name %s in revision 1 as the Python client or curl would",
    ([name, inHeader]) =>
      Effect.gen(function*() {
        const server = yield* RawAnswers.make(echo)
        yield* send(server.url, chunk1(name!), bytesOf(3))
        const { headers } = yield* Queue.take(server.requests)
        expect(headers["x-file-name"]).toBe(inHeader)
        expect(Object.keys(headers).filter((name) => /^x-|digest|if-match/.test(name)).sort()).toEqual([
          "x-chunk-index",
          "x-file-name"
        ])
      }).pipe(Effect.provide(layer()))
  )

  it.scopedLive("asks for and deletes an upload at its own address, before a query string", () =>
    Effect.gen(function*() {
      const server = yield* RawAnswers.make(RawAnswers.answer(404, { error: "Unknown upload" }))
      const transport = yield* Transport.Transport
      const base = `http://127.0.0.1:${server.port}`
      for (const path of ["/upload", "/upload/", "/a/b?c=d&e"]) {
        expect(yield* transport.state(base + path, id)).toEqual(Option.none())
        yield* transport.abort(base + path, id)
      }
      const requests = yield* Queue.takeAll(server.requests)
      expect([...requests].map(({ line }) => line)).toEqual(
        ["/upload/upload-1", "/upload/upload-1", "/a/b/upload-1?c=d&e"].flatMap((at) => [`GET ${at}`, `DELETE ${at}`])
      )
      expect([...requests].every(({ headers }) => headers["authorization"] === `Bearer ${key}`)).toBe(true)
    }).pipe(Effect.provide(layer())))

  it.scopedLive.each(["two\nlines", "€", "a\u0000b"])(
    "does not try to send a key that no header can hold: %j",
    (key) =>
      Effect.gen(function*() {
        const server = yield* RawAnswers.make(echo)
        const error = yield* Effect.flip(send(server.url, chunk1("a"), bytesOf(3)))
        expect(error._tag).toBe("ApiKeyMissing")
        expect(error.message).not.toContain(key)
        expect(yield* Queue.size(server.requests)).toBe(0)
      }).pipe(Effect.provide(layer(key)))
  )
})

describe.each(kinds)("TransportHttp (%s), answers", (_, transport) => {
  const layer = () => Layer.provide(transport, ApiKey.layer(Redacted.make(key)))

  const failure = (respond: RawAnswers.Respond) =>
    Effect.gen(function*() {
      const server = yield* RawAnswers.make(respond)
      return yield* Effect.flip(send(server.url, chunk1("a"), bytesOf(3)))
    })

  const right = { message: "Chunk received", actualFilename: "a", chunkIndex: 3, clientFilename: "a" }

  it.scopedLive("count when they are right, over one connection or many", () =>
    Effect.gen(function*() {
      const text = JSON.stringify(right)
      const server = yield* RawAnswers.make((socket, _, number) =>
        number < 2
          ? socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`)
          : number === 2
          ? socket.end(`HTTP/1.0 200 OK\r\n\r\n${text}`)
          : socket.end(
            `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`
          )
      )
      for (let number = 0; number < 4; number++) {
        expect((yield* send(server.url, chunk1("a"), bytesOf(3))).receipt).toEqual(right)
      }
    }).pipe(Effect.provide(layer())))

  it.scopedLive("tell a server that is not reached", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(RawAnswers.make(echo))
      const error = yield* Effect.flip(send(`http://127.0.0.1:${port}/upload`, chunk1("a"), bytesOf(3)))
      expect(error._tag).toBe("Unreachable")
      expect(error.message).toContain(`127.0.0.1:${port}`)
      const noName = yield* Effect.flip(send("http://nobody.invalid/upload", chunk1("a"), bytesOf(3)))
      expect(noName._tag).toBe("Unreachable")
    }).pipe(Effect.provide(layer())))

  it.scopedLive.each<readonly [string, RawAnswers.Respond]>([
    ["nothing, and the end", (socket) => socket.end()],
    ["nothing, and a reset", (socket) => socket.resetAndDestroy()],
    ["half a head", (socket) => socket.end("HTTP/1.1 200 OK\r\nConte")],
    ["a head without its body", (socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")],
    ["half a receipt", (socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"message\":")],
    [
      "half a receipt without a length",
      (socket) => socket.end("HTTP/1.0 200 OK\r\n\r\n{\"message\":\"Chunk received\"")
    ],
    ["half the text", (socket) => socket.end("HTTP/1.0 200 OK\r\n\r\nChunk rec")],
    [
      "a text of which a chunk is missing",
      (socket) => socket.end("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ne\r\nChunk received\r\n")
    ],
    ["no HTTP", (socket) => socket.end("SSH-2.0-OpenSSH_9.6\r\n")],
    ["an answer without end", (socket) => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n")
      const more = () => socket.writable && socket.write("x".repeat(65536), more)
      more()
    }]
  ])("do not count when they are %s", ([, respond]) =>
    Effect.gen(function*() {
      const error = yield* failure(respond)
      expect(error._tag).toBe("NoAnswer")
    }).pipe(Effect.provide(layer())))

  it.scopedLive("that redirect are not followed", () =>
    Effect.gen(function*() {
      const elsewhere = yield* RawAnswers.make(echo)
      for (const status of [301, 302, 303, 307, 308]) {
        const error = yield* failure(RawAnswers.answer(status, "", { location: elsewhere.url }))
        expect(error._tag).toBe("NoAnswer")
        expect(error.message).toContain(elsewhere.url)
      }
      expect(yield* Queue.size(elsewhere.requests)).toBe(0)
    }).pipe(Effect.provide(layer())))

  it.scopedLive("bring refusals with their message, Retry-After and limit", () =>
    Effect.gen(function*() {
      const error = yield* failure(RawAnswers.answer(503, { error: "Busy", message: "later" }, {
        "retry-after": "7",
        "upload-limit": "max-append-size=5"
      }))
      expect(error).toMatchObject({ _tag: "Refused", status: 503, error: "Busy", retryAfter: 7, maxBody: 5 })
    }).pipe(Effect.provide(layer())))

  it.scopedLive("that fail never show the key", () =>
    Effect.gen(function*() {
      const respond: ReadonlyArray<RawAnswers.Respond> = [
        (socket) => socket.resetAndDestroy(),
        // somebody who sends everything back
        (socket, { headers, line }) => socket.end(`${line}\r\n${JSON.stringify(headers)}\r\n`),
        RawAnswers.answer(500, "x"),
        RawAnswers.answer(200, "<html>")
      ]
      for (const error of yield* Effect.forEach(respond, failure)) {
        expect(inspect(error, { depth: 10 }) + JSON.stringify(error)).not.toContain(key)
      }
    }).pipe(Effect.provide(layer())))
})
