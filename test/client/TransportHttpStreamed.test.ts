/**
 * Requests that stand still, and requests that are slow.
 *
 * @module
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientResponse from "@effect/platform/HttpClientResponse"
import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Option, Queue, Redacted, Stream, TestClock } from "effect"
import * as Net from "node:net"
import * as ApiKey from "../../src/client/ApiKey.ts"
import * as HttpClientNode from "../../src/client/HttpClientNode.ts"
import * as Transport from "../../src/client/Transport.ts"
import * as TransportHttp from "../../src/client/TransportHttp.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import * as BlackHole from "../support/blackHole.ts"
import { bytesOf } from "../support/clientWorld.ts"
import { listen } from "../support/peers/internal/listen.ts"
import * as RawAnswers from "../support/rawAnswers.ts"

const MiB = 1024 * 1024
const key = ApiKey.layer(Redacted.make("the secret key"))
const id = UploadId.make("upload-1")

const layer = (options: Partial<TransportHttp.StreamedOptions> = {}) =>
  Layer.provide(TransportHttp.layerStreamed(options), [Layer.orDie(HttpClientNode.layer()), key])

const impatient = layer({ stallTimeout: "300 millis" })

const send = (endpoint: string, body: Uint8Array) =>
  Effect.flatMap(Transport.Transport, (transport) =>
    transport.send({
      endpoint,
      body,
      chunk: { index: 3, fileName: "a", contentDigest: Option.none(), upload: Option.none() }
    }))

const receipt = JSON.stringify({ message: "Chunk received", actualFilename: "a", chunkIndex: 3, clientFilename: "a" })
const received: RawAnswers.Respond = (socket) =>
  socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${receipt.length}\r\n\r\n${receipt}`)

/** A server that does as it likes with a connection. */
const serving = (options: Net.ServerOpts, connected: (socket: Net.Socket) => void) =>
  Effect.map(
    listen(Net.createServer({ noDelay: true, ...options }, (socket) => {
      socket.on("error", () => {})
      connected(socket)
    })),
    (port) => `http://127.0.0.1:${port}/upload`
  )

/** The error, and after how many milliseconds it came. */
const failure = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(
    Effect.timed(Effect.flip(effect)),
    ([duration, error]) => ({ error, millis: Duration.toMillis(duration) })
  )

const expectCut = (
  { error, millis }: { readonly error: Transport.TransportError; readonly millis: number },
  tag: "NoAnswer" | "Unreachable"
) => {
  expect(error._tag).toBe(tag)
  expect(error.message).toContain("no byte moved for 0.3 seconds")
  expect(millis).toBeGreaterThan(250)
  expect(millis).toBeLessThan(1500)
}

describe("TransportHttp.layerStreamed, a request that stands still", () => {
  it.scopedLive("is cut when the server never reads", () =>
    Effect.gen(function*() {
      const url = yield* serving({ pauseOnConnect: true }, () => {})
      expectCut(yield* failure(send(url, new Uint8Array(32 * MiB))), "NoAnswer")
    }).pipe(Effect.provide(impatient)))

  it.scopedLive.each([0, 1, 100_000])(
    "is cut when the server takes %i bytes and never answers",
    (size) =>
      Effect.gen(function*() {
        const closed = yield* Queue.unbounded<void>()
        const url = yield* serving({}, (socket) => {
          socket.resume()
          socket.once("close", () => closed.unsafeOffer(undefined))
        })
        expectCut(yield* failure(send(url, bytesOf(size))), "NoAnswer")
        yield* Queue.take(closed)
      }).pipe(Effect.provide(impatient))
  )

  it.scopedLive.each([
    ["half a head", "HTTP/1.1 200 OK\r\nConte"],
    ["half a receipt", `HTTP/1.1 200 OK\r\nContent-Length: ${receipt.length}\r\n\r\n${receipt.slice(0, 20)}`]
  ])("is cut when the answer stops after %s", ([, half]) =>
    Effect.gen(function*() {
      const server = yield* RawAnswers.make((socket) => socket.write(half!))
      expectCut(yield* failure(send(server.url, bytesOf(1000))), "NoAnswer")
    }).pipe(Effect.provide(impatient)))

  it.scopedLive("is cut when no connection comes about, and is known not to have been sent", () =>
    Effect.gen(function*() {
      const port = yield* BlackHole.make
      expectCut(yield* failure(send(`http://127.0.0.1:${port}/upload`, bytesOf(1000))), "Unreachable")
    }).pipe(Effect.provide(impatient)))

  it.scopedLive("is cut when TLS is never agreed on, and is known not to have been sent", () =>
    Effect.gen(function*() {
      const url = yield* serving({}, (socket) => socket.resume())
      expectCut(yield* failure(send(url.replace("http", "https"), bytesOf(1000))), "Unreachable")
    }).pipe(Effect.provide(impatient)))

  it.scopedLive("is cut without a body too", () =>
    Effect.gen(function*() {
      const url = yield* serving({}, (socket) => socket.resume())
      const transport = yield* Transport.Transport
      expectCut(yield* failure(transport.state(url, id)), "NoAnswer")
      expectCut(yield* failure(transport.abort(url, id)), "NoAnswer")
    }).pipe(Effect.provide(impatient)))

  it.scopedLive("is cut over node:http too", () =>
    Effect.gen(function*() {
      const url = yield* serving({ pauseOnConnect: true }, () => {})
      expectCut(yield* failure(send(url, new Uint8Array(32 * MiB))), "NoAnswer")
    }).pipe(
      Effect.provide(
        Layer.provide(TransportHttp.layerStreamed({ stallTimeout: "300 millis" }), [NodeHttpClient.layer, key])
      )
    ))

  it.scopedLive("does not spoil the next one, which brings its body anew", () =>
    Effect.gen(function*() {
      const server = yield* RawAnswers.make((socket, request, number) =>
        number === 0 ? undefined : received(socket, request, number)
      )
      const body = bytesOf(100_000)
      const exchange = send(server.url, body)
      expectCut(yield* failure(exchange), "NoAnswer")
      yield* exchange
      yield* Queue.take(server.requests)
      expect(Buffer.from((yield* Queue.take(server.requests)).body, "latin1").equals(body)).toBe(true)
    }).pipe(Effect.provide(impatient)))
})

describe("TransportHttp.layerStreamed, a slow request", () => {
  it.scopedLive("is not cut while its answer trickles", () =>
    Effect.gen(function*() {
      const server = yield* RawAnswers.make((socket) => {
        const length = 50 * 1024
        const text = receipt.padEnd(length)
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${length}\r\n\r\n`)
        let sent = 0
        const timer = setInterval(() => {
          socket.write(text.slice(sent, sent + 1024))
          sent += 1024
          if (sent === length) clearInterval(timer)
        }, 100)
      })
      const [duration] = yield* Effect.timed(send(server.url, bytesOf(1000)))
      expect(Duration.toSeconds(duration)).toBeGreaterThan(4.5)
    }).pipe(Effect.provide(layer({ stallTimeout: "1 second" }))))

  it.scopedLive("is not cut while its body trickles away", () =>
    Effect.gen(function*() {
      const size = 32 * MiB
      const url = yield* serving({}, (socket) => {
        let read = 0
        socket.on("data", (bytes) => {
          const before = read
          read += bytes.length
          if (read >= size) return received(socket, { line: "", headers: {}, body: "" }, 0)
          if (Math.floor(before / MiB) === Math.floor(read / MiB)) return
          socket.pause()
          setTimeout(() => socket.resume(), 70)
        })
      })
      const [duration] = yield* Effect.timed(send(url, new Uint8Array(size)))
      expect(Duration.toSeconds(duration)).toBeGreaterThan(2)
    }).pipe(Effect.provide(layer({ stallTimeout: "800 millis" }))))
})

describe("TransportHttp.layerStreamed, an answer before the body has gone", () => {
  it.scopedLive.each([true, false])(
    "counts, whether the server reads on or not: %s",
    (reads) =>
      Effect.gen(function*() {
        const url = yield* serving({}, (socket) =>
          socket.once("data", () => {
            socket.write("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            if (!reads) socket.pause()
          }))
        const error = yield* Effect.flip(send(url, new Uint8Array(16 * MiB)))
        expect(error).toMatchObject({ _tag: "Refused", status: 413 })
      }).pipe(Effect.provide(layer()))
  )
})

describe("TransportHttp.layerStreamed, by the clock", () => {
  const over = (client: HttpClient.HttpClient, options: Partial<TransportHttp.StreamedOptions> = {}) =>
    Layer.provide(TransportHttp.layerStreamed(options), [Layer.succeed(HttpClient.HttpClient, client), key])

  /** Pulls the body, with a pause after each slice, and answers. */
  const slow = (pause: Duration.DurationInput) =>
    HttpClient.make((request) =>
      request.body._tag === "Stream"
        ? Stream.runForEach(request.body.stream, () => Effect.sleep(pause)).pipe(
          Effect.as(HttpClientResponse.fromWeb(request, new Response(receipt))),
          Effect.orDie
        )
        : Effect.dieMessage("no stream")
    )

  it.effect("waits for 30 seconds", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Effect.flip(send("http://a.test/upload", bytesOf(5000))))
      yield* TestClock.adjust("29 seconds")
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(fiber)
      expect(error).toMatchObject({
        _tag: "Unreachable",
        message: "a.test cannot be reached: no byte moved for 30 seconds"
      })
    }).pipe(Effect.provide(over(HttpClient.make(() => Effect.never)))))

  it.effect("never counts the time of a whole request", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(send("http://a.test/upload", bytesOf(100_000)))
      yield* TestClock.adjust("6 minutes")
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("3 minutes")
      expect((yield* Fiber.join(fiber)).receipt.chunkIndex).toBe(3)
    }).pipe(Effect.provide(over(slow("29 seconds")))))

  it.effect("tells what may have been sent when the rest does not go", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(Effect.flip(send("http://a.test/upload", bytesOf(100_000))))
      yield* TestClock.adjust("1 minute")
      expect(yield* Fiber.join(fiber)).toMatchObject({
        _tag: "NoAnswer",
        message: "The connection to a.test stalled: no byte moved for 30 seconds"
      })
    }).pipe(Effect.provide(over(slow("1 hour")))))

  it.effect("does not take its own waiting for a standstill", () =>
    Effect.gen(function*() {
      // the smallest slice is 1 KiB: 64 seconds
      const fiber = yield* Effect.fork(send("http://a.test/upload", bytesOf(4096)))
      yield* TestClock.adjust("255 seconds")
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(fiber)
    }).pipe(Effect.provide(over(slow(0), { limitRate: 16 }))))

  it.effect("never cuts with an endless time", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.fork(send("http://a.test/upload", bytesOf(5000)))
      yield* TestClock.adjust("365 days")
      expect(yield* Fiber.poll(fiber)).toEqual(Option.none())
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(over(HttpClient.make(() => Effect.never), { stallTimeout: Duration.infinity }))))
})

describe("TransportHttp.layerStreamed, a limit", () => {
  it.scopedLive.each([1, 4])("is kept and used by %i requests together", (requests) =>
    Effect.gen(function*() {
      const server = yield* RawAnswers.make(received)
      const body = new Uint8Array(3 * MiB / requests)
      const [duration] = yield* Effect.timed(
        Effect.replicateEffect(send(server.url, body), requests, { concurrency: requests, discard: true })
      )
      expect(Duration.toSeconds(duration)).toBeGreaterThan(3 * 0.95)
      expect(Duration.toSeconds(duration)).toBeLessThan(3 * 1.2)
      // by the clock: a machine that is busy gets another try
    }).pipe(Effect.provide(layer({ limitRate: MiB }))), { retry: 3, timeout: 30_000 })

  it.scopedLive("lets the bytes flow evenly", () =>
    Effect.gen(function*() {
      const started = Date.now()
      const tenths = Array.from({ length: 100 }, () => 0)
      const url = yield* serving({}, (socket) => {
        let read = 0
        socket.on("data", (bytes) => {
          read += bytes.length
          const tenth = Math.floor((Date.now() - started) / 100)
          tenths[tenth]! += bytes.length
          if (read >= MiB) received(socket, { line: "", headers: {}, body: "" }, 0)
        })
      })
      yield* send(url, new Uint8Array(MiB))
      expect(tenths.filter((bytes) => bytes > 0).length).toBeGreaterThanOrEqual(9)
      expect(Math.max(...tenths)).toBeLessThan(2.5 * MiB / 10)
    }).pipe(Effect.provide(layer({ limitRate: MiB }))))
})

describe("TransportHttp.layerStreamed, slices of a body", () => {
  /** A client that takes so long for a body, and how the bodies came. */
  const slicing = (millis: (sent: number) => number) => {
    const bodies: Array<ReadonlyArray<number>> = []
    const client = HttpClient.make((request) =>
      Effect.gen(function*() {
        if (request.body._tag !== "Stream") return yield* Effect.dieMessage("a body that is no stream")
        const slices = yield* Stream.runCollect(Stream.map(request.body.stream, ({ length }) => length))
        bodies.push([...slices])
        yield* Effect.sleep(millis(bodies.length))
        return HttpClientResponse.fromWeb(request, new Response(receipt))
      }).pipe(Effect.orDie)
    )
    const layer = Layer.provide(TransportHttp.layerStreamed(), [Layer.succeed(HttpClient.HttpClient, client), key])
    return { bodies, layer }
  }

  it.effect("get longer when a body was taken quickly to its answer, and short again when that is slow", () => {
    // four megabytes in a millisecond, in two seconds, in twenty
    const { bodies, layer } = slicing((sent) => [1, 2000, 20_000, 1][sent - 1]!)
    return Effect.gen(function*() {
      const sending = yield* Effect.fork(
        Effect.repeatN(send("http://server/upload", new Uint8Array(4 * MiB)), 3)
      )
      yield* TestClock.adjust("1 hour")
      yield* Fiber.join(sending)
      expect(bodies.map((slices) => Math.max(...slices))).toEqual([64 * 1024, MiB, 128 * 1024, 64 * 1024])
    }).pipe(Effect.provide(layer))
  })
})
