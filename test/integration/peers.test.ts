/**
 * The revision-1 peers of the tests, against each other: they are what PROTOCOL.md says of the existing programs.
 *
 * @module
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue, type Scope } from "effect"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as CutProxy from "../support/CutProxy.ts"
import * as NodeClient from "../support/peers/NodeClient.ts"
import * as NodeServer from "../support/peers/NodeServer.ts"
import type { PeerServer } from "../support/peers/PeerServer.ts"
import * as PythonClient from "../support/peers/PythonClient.ts"
import * as PythonServer from "../support/peers/PythonServer.ts"

const apiKey = "the key"

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "indexedcp-peers-"))),
  (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
)

const bytesOf = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, at) => (at * 7 + (at >> 8)) % 256))

/** Writes a file into a folder of its own and returns its path. */
const fileWith = (name: string, bytes: Uint8Array) =>
  Effect.gen(function*() {
    const path = Path.join(yield* temporaryFolder, name)
    yield* Effect.promise(() => Fs.writeFile(path, bytes))
    return path
  })

const contentOf = (server: PeerServer, name: string) =>
  Effect.promise(() => Fs.readFile(Path.join(server.folder, name)))

const filesOf = (server: PeerServer) => Effect.promise(() => Fs.readdir(server.folder))

interface Raw {
  /** Returns when the system has taken the text. */
  readonly send: (text: string) => Effect.Effect<void>
  readonly end: Effect.Effect<void>
  /** All that came, once the other side has closed. */
  readonly received: Effect.Effect<string>
}

const rawConnection = (port: number): Effect.Effect<Raw, never, Scope.Scope> =>
  Effect.gen(function*() {
    let text = ""
    const socket = yield* Effect.acquireRelease(
      Effect.async<Net.Socket>((resume) => {
        const socket = Net.connect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
        socket.on("error", () => {})
        socket.on("data", (piece) => {
          text += piece.toString("latin1")
        })
      }),
      (socket) => Effect.sync(() => socket.destroy())
    )
    const closed = new Promise<void>((resolve) => socket.once("close", () => resolve()))
    return {
      send: (text) => Effect.async<void>((resume) => void socket.write(text, "latin1", () => resume(Effect.void))),
      end: Effect.sync(() => socket.end()),
      received: Effect.map(Effect.promise(() => closed), () => text)
    }
  })

const post = (headers: ReadonlyArray<string>, body = "") =>
  ["POST /upload HTTP/1.1", "Host: localhost", `Authorization: Bearer ${apiKey}`, ...headers, "", body].join("\r\n")

const servers = { Python: PythonServer.make, "Node.js": NodeServer.make }
const clients = { Python: PythonClient.make, "Node.js": NodeClient.make }

const startPython = Effect.flatMap(temporaryFolder, (folder) => PythonServer.make({ folder, apiKey }))
const startNode = Effect.flatMap(temporaryFolder, (folder) => NodeServer.make({ folder, apiKey }))

for (const [clientName, makeClient] of Object.entries(clients)) {
  for (const [serverName, makeServer] of Object.entries(servers)) {
    describe(`${clientName} client, ${serverName} server`, () => {
      const upload = (name: string, bytes: Uint8Array, chunkSize: number) =>
        Effect.gen(function*() {
          const server = yield* makeServer({ folder: yield* temporaryFolder, apiKey })
          const client = yield* makeClient()
          const path = yield* fileWith(name, bytes)
          const answers = yield* client.bufferAndUpload(path, server.url, apiKey, { chunkSize })
          const exchanges = yield* Queue.takeN(server.exchanges, answers.length)
          return { server, path, answers, exchanges }
        })

      it.scopedLive.each([
        { what: "several chunks", size: 2500, chunks: 3 },
        { what: "one chunk", size: 999, chunks: 1 },
        { what: "an exact multiple of the chunk size", size: 3000, chunks: 3 },
        { what: "large chunks", size: 700_000, chunks: 3, chunkSize: 300_000 }
      ])("sends $what", ({ chunks, chunkSize = 1000, size }) =>
        Effect.gen(function*() {
          const bytes = bytesOf(size)
          const { answers, exchanges, path, server } = yield* upload("data.bin", bytes, chunkSize)
          assert.deepStrictEqual(
            answers.map(({ json, status }) => ({ json, status })),
            Array.from({ length: chunks }, (_, chunkIndex) => ({
              status: 200,
              json: { message: "Chunk received", actualFilename: "data.bin", chunkIndex, clientFilename: path }
            }))
          )
          assert.isTrue([...exchanges].every((exchange) => exchange.status === 200 && !exchange.cut))
          assert.isTrue(bytes.equals(yield* contentOf(server, "data.bin")))
        }))

      it.scopedLive("sends nothing of an empty file", () =>
        Effect.gen(function*() {
          const { answers, server } = yield* upload("empty", bytesOf(0), 1000)
          assert.deepStrictEqual(answers, [])
          assert.deepStrictEqual(yield* filesOf(server), [])
        }))

      it.scopedLive("keeps spaces and Latin-1 letters of a name", () =>
        Effect.gen(function*() {
          const name = "Größe à la carte ÿ.txt"
          const { answers, path, server } = yield* upload(name, bytesOf(1500), 1000)
          assert.strictEqual(answers[1]?.json?.["actualFilename"], name)
          assert.strictEqual(answers[1]?.json?.["clientFilename"], path)
          assert.deepStrictEqual(yield* filesOf(server), [name])
        }))

      it.scopedLive("is told apart from others by its address and stops at a wrong key", () =>
        Effect.gen(function*() {
          const server = yield* makeServer({ folder: yield* temporaryFolder, apiKey })
          const client = yield* makeClient({ localAddress: "127.0.0.2" })
          const path = yield* fileWith("data.bin", bytesOf(10))
          const failure = yield* Effect.flip(client.bufferAndUpload(path, server.url, "wrong"))
          assert.deepInclude(failure, { _tag: "Refused", index: 0, status: 401 })
          assert.deepInclude(yield* Queue.take(server.exchanges), { from: "127.0.0.2", status: 401, bytes: 0 })
          assert.deepStrictEqual(yield* filesOf(server), [])
        }))
    })
  }

  describe(`${clientName} client`, () => {
    it.scopedLive("goes on from the chunk that got no answer", () =>
      Effect.gen(function*() {
        const server = yield* startPython
        const proxy = yield* CutProxy.make({ target: server.port })
        yield* proxy.plan(CutProxy.pass)
        const planned = yield* proxy.plan(CutProxy.cut(CutProxy.afterBody(0)))
        const client = yield* makeClient()
        const bytes = bytesOf(3500)
        const path = yield* fileWith("data.bin", bytes)
        const failure = yield* Effect.flip(client.bufferAndUpload(path, proxy.url, apiKey, { chunkSize: 1000 }))
        yield* planned.done
        assert.deepInclude(failure, { _tag: "NoAnswer", index: 1 })
        const answers = yield* client.uploadFrom(1, path, proxy.url, apiKey, { chunkSize: 1000 })
        assert.deepStrictEqual(answers.map((answer) => answer.json?.["chunkIndex"]), [1, 2, 3])
        assert.isTrue(bytes.equals(yield* contentOf(server, "data.bin")))
      }))

    it.scopedLive("cannot send a name beyond Latin-1", () =>
      Effect.gen(function*() {
        const client = yield* makeClient()
        const failure = yield* Effect.flip(client.uploadChunk("http://127.0.0.1:1/upload", bytesOf(1), 0, "€", apiKey))
        assert.strictEqual(failure._tag, "NameNotLatin1")
      }))

    it.scopedLive("uses a connection again where the server leaves it open", () =>
      Effect.gen(function*() {
        const path = yield* fileWith("data.bin", bytesOf(3000))
        const connections = (server: PeerServer, options: NodeClient.Options) =>
          Effect.gen(function*() {
            const proxy = yield* CutProxy.make({ target: server.port })
            const client = yield* makeClient(options)
            yield* client.bufferAndUpload(path, proxy.url, apiKey, { chunkSize: 1000 })
            return yield* proxy.connections
          })
        assert.strictEqual(yield* connections(yield* startNode, {}), 1)
        assert.strictEqual(yield* connections(yield* startNode, { keepAlive: false }), 3)
        assert.strictEqual(yield* connections(yield* startPython, {}), 3)
      }))
  })
}

for (const [serverName, makeServer] of Object.entries(servers)) {
  describe(`${serverName} server`, () => {
    const start = Effect.flatMap(temporaryFolder, (folder) => makeServer({ folder, apiKey }))

    it.scopedLive("keeps what arrived of a cut body, and appends its repeat", () =>
      Effect.gen(function*() {
        const server = yield* start
        const proxy = yield* CutProxy.make({ target: server.port })
        const planned = yield* proxy.plan(CutProxy.cut(CutProxy.afterBody(300), { by: "close" }))
        const client = yield* PythonClient.make()
        const bytes = bytesOf(1000)
        const failure = yield* Effect.flip(client.uploadChunk(proxy.url, bytes, 0, "a/b.bin", apiKey))
        yield* planned.done
        assert.strictEqual(failure._tag, "NoAnswer")
        assert.deepInclude(yield* Queue.take(server.exchanges), { actualFilename: "b.bin", bytes: 300, cut: true })
        assert.isTrue(bytes.subarray(0, 300).equals(yield* contentOf(server, "b.bin")))
        yield* client.uploadChunk(proxy.url, bytes, 0, "a/b.bin", apiKey)
        yield* Queue.take(server.exchanges)
        assert.strictEqual((yield* contentOf(server, "b.bin")).length, 1300)
      }))

    it.scopedLive("keeps what arrived before a reset", () =>
      Effect.gen(function*() {
        const server = yield* start
        const proxy = yield* CutProxy.make({ target: server.port })
        yield* proxy.plan(CutProxy.cut(CutProxy.afterBody(300)))
        const client = yield* NodeClient.make()
        yield* Effect.flip(client.uploadChunk(proxy.url, bytesOf(1000), 0, "b.bin", apiKey))
        const exchange = yield* Queue.take(server.exchanges)
        assert.isTrue(exchange.cut)
        assert.isAtMost(exchange.bytes, 300)
        assert.strictEqual((yield* contentOf(server, "b.bin")).length, exchange.bytes)
      }))

    it.scopedLive("ignores the index", () =>
      Effect.gen(function*() {
        const server = yield* start
        const client = yield* NodeClient.make()
        for (const index of [5, 0, 0]) yield* client.uploadChunk(server.url, bytesOf(10), index, "x", apiKey)
        yield* Queue.takeN(server.exchanges, 3)
        assert.strictEqual((yield* contentOf(server, "x")).length, 30)
      }))

    it.scopedLive("answers 404 as text without asking for the key", () =>
      Effect.gen(function*() {
        const server = yield* start
        for (const request of ["GET /upload", "GET /health", "POST /elsewhere", "DELETE /upload/id"]) {
          const connection = yield* rawConnection(server.port)
          yield* connection.send(`${request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
          assert.match(yield* connection.received, /^HTTP\/1\.\d 404 [^]*text\/plain[^]*\r\n\r\n[^]*Not Found/)
        }
      }))

    it.scopedLive("answers 401 to a head alone, before any of the body", () =>
      Effect.gen(function*() {
        const server = yield* start
        const connection = yield* rawConnection(server.port)
        yield* connection.send(
          "POST /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 50000000\r\n\r\n"
        )
        yield* connection.end
        const answer = yield* connection.received
        assert.match(answer, /^HTTP\/1\.\d 401 /)
        assert.match(answer, /\{"error": ?"Invalid or missing API key"\}/)
        assert.deepStrictEqual(yield* filesOf(server), [])
      }))
  })
}

describe("Python server", () => {
  it.scopedLive("takes a body without Content-Length as empty and answers 200", () =>
    Effect.gen(function*() {
      const server = yield* startPython
      const connection = yield* rawConnection(server.port)
      yield* connection.send(post(["X-File-Name: a.bin", "Transfer-Encoding: chunked"], "3\r\nabc\r\n0\r\n\r\n"))
      assert.match(yield* connection.received, /^HTTP\/1\.0 200 OK\r\n[^]*"chunkIndex": 0, /)
      assert.strictEqual((yield* contentOf(server, "a.bin")).length, 0)
    }))

  it.scopedLive("serves one connection at a time, in the order in which they came", () =>
    Effect.gen(function*() {
      const server = yield* startPython
      const idle = yield* rawConnection(server.port)
      const second = yield* rawConnection(server.port)
      const chunk = (name: string) => post([`X-File-Name: ${name}`, "Content-Length: 1"], "x")
      yield* second.send(chunk("second"))
      const answer = yield* Effect.fork(second.received)
      assert.isTrue(yield* Queue.isEmpty(server.exchanges))
      yield* idle.send(chunk("first"))
      assert.strictEqual((yield* Queue.take(server.exchanges)).actualFilename, "first")
      assert.match(yield* Fiber.join(answer), /200 OK/)
      assert.strictEqual((yield* Queue.take(server.exchanges)).actualFilename, "second")
    }))

  it.scopedLive("closes on a refused body without reading it", () =>
    Effect.gen(function*() {
      const server = yield* startPython
      const client = yield* PythonClient.make()
      const failure = yield* Effect.flip(client.uploadChunk(server.url, Buffer.alloc(8 << 20), 0, "x", "wrong"))
      assert.oneOf(failure._tag, ["Refused", "NoAnswer"])
      assert.deepInclude(yield* Queue.take(server.exchanges), { status: 401, bytes: 0 })
      assert.deepStrictEqual(yield* filesOf(server), [])
    }))

  it.scopedLive("answers 500 to an index that is no number, after it has appended the body", () =>
    Effect.gen(function*() {
      const server = yield* startPython
      const connection = yield* rawConnection(server.port)
      yield* connection.send(post(["X-File-Name: a.bin", "X-Chunk-Index: two", "Content-Length: 3"], "abc"))
      assert.match(yield* connection.received, /^HTTP\/1\.0 500 [^]*\{"error": "Upload error: invalid literal .*"\}$/)
      assert.strictEqual((yield* contentOf(server, "a.bin")).toString(), "abc")
    }))

  it.scopedLive("reads a name in UTF-8 as Latin-1", () =>
    Effect.gen(function*() {
      const server = yield* startPython
      const client = yield* NodeClient.make()
      const inUtf8 = Buffer.from("ü.txt").toString("latin1")
      const answer = yield* client.uploadChunk(server.url, bytesOf(3), 0, inUtf8, apiKey)
      assert.strictEqual(answer.json?.["actualFilename"], "Ã¼.txt")
      assert.deepStrictEqual(yield* filesOf(server), ["Ã¼.txt"])
    }))

  it.scopedLive("asks its filename generator for every chunk", () =>
    Effect.gen(function*() {
      const filename = (name: string, index: string) => `${index}-${Path.basename(name)}`
      const server = yield* PythonServer.make({ folder: yield* temporaryFolder, apiKey, filename })
      const client = yield* PythonClient.make()
      const path = yield* fileWith("data.bin", bytesOf(15))
      yield* client.bufferAndUpload(path, server.url, apiKey, { chunkSize: 10 })
      assert.deepStrictEqual(yield* filesOf(server), ["0-data.bin", "1-data.bin"])
    }))
})

describe("Node.js server", () => {
  it.scopedLive("says null where no index was sent, and understands chunked coding", () =>
    Effect.gen(function*() {
      const server = yield* startNode
      const connection = yield* rawConnection(server.port)
      yield* connection.send(post(["Connection: close", "Transfer-Encoding: chunked"], "3\r\nabc\r\n0\r\n\r\n"))
      assert.include(
        yield* connection.received,
        `{"message":"Chunk received","actualFilename":"uploaded_file.txt","chunkIndex":null,` +
          `"clientFilename":"uploaded_file.txt"}`
      )
      yield* Queue.take(server.exchanges)
      assert.strictEqual((yield* contentOf(server, "uploaded_file.txt")).toString(), "abc")
    }))

  it.scopedLive("answers in plain text and without a key as the simple servers do", () =>
    Effect.gen(function*() {
      const server = yield* NodeServer.make({ folder: yield* temporaryFolder, plainText: true })
      const client = yield* PythonClient.make()
      const answer = yield* client.uploadChunk(server.url, bytesOf(3), 0, "x/y.bin", "any")
      assert.deepStrictEqual(answer, { status: 200, body: "Chunk received\n", json: undefined })
      yield* Queue.take(server.exchanges)
      assert.deepStrictEqual(yield* filesOf(server), ["y.bin"])
    }))
})

describe("CutProxy", () => {
  const bytes = bytesOf(1000)

  it.scopedLive.each(["reset", "close"] as const)(
    "loses the answer to a request that arrived (%s)",
    (by) =>
      Effect.gen(function*() {
        for (const server of [yield* startPython, yield* startNode]) {
          const proxy = yield* CutProxy.make({ target: server.port })
          const planned = yield* proxy.plan(CutProxy.cut(CutProxy.answerLost, { by }))
          const client = yield* NodeClient.make()
          const failure = yield* Effect.flip(client.uploadChunk(proxy.url, bytes, 0, "x", apiKey))
          yield* planned.done
          assert.strictEqual(failure._tag, "NoAnswer")
          assert.deepInclude(yield* Queue.take(server.exchanges), { status: 200, bytes: 1000, cut: false })
        }
      })
  )

  it.scopedLive("counts anew for each request on a connection", () =>
    Effect.gen(function*() {
      const server = yield* startNode
      const proxy = yield* CutProxy.make({ target: server.port })
      const path = yield* fileWith("data.bin", bytesOf(5000))
      const client = yield* NodeClient.make()
      for (
        const [when, index, arrived] of [
          [CutProxy.answerLost, 2, [1000, 1000, 1000]],
          [CutProxy.afterBody(1), 1, [1000, 1]],
          [CutProxy.afterAnswer(5), 3, [1000, 1000, 1000, 1000]]
        ] as const
      ) {
        const planned = yield* proxy.plan(CutProxy.cut(when, { skip: index, by: "close" }))
        const failure = yield* Effect.flip(client.bufferAndUpload(path, proxy.url, apiKey, { chunkSize: 1000 }))
        yield* planned.done
        assert.deepInclude(failure, { _tag: "NoAnswer", index })
        const exchanges = yield* Queue.takeN(server.exchanges, arrived.length)
        assert.deepStrictEqual([...exchanges].map((exchange) => exchange.bytes), [...arrived])
      }
    }))

  it.scopedLive("cuts within the head, so that the server sees no request", () =>
    Effect.gen(function*() {
      for (const server of [yield* startPython, yield* startNode]) {
        const proxy = yield* CutProxy.make({ target: server.port })
        const client = yield* PythonClient.make()
        for (const when of [CutProxy.afterRequest(0), CutProxy.afterRequest(20)]) {
          const planned = yield* proxy.plan(CutProxy.cut(when))
          yield* Effect.flip(client.uploadChunk(proxy.url, bytes, 0, "x", apiKey))
          yield* planned.done
        }
        yield* client.uploadChunk(proxy.url, bytes, 0, "x", apiKey)
        assert.strictEqual((yield* Queue.take(server.exchanges)).bytes, 1000)
      }
    }))

  it.scopedLive("gives so many bytes of the answer", () =>
    Effect.gen(function*() {
      const server = yield* startPython
      const proxy = yield* CutProxy.make({ target: server.port })
      yield* proxy.plan(CutProxy.cut(CutProxy.afterAnswer(12), { by: "close" }))
      const connection = yield* rawConnection(proxy.port)
      yield* connection.send(post(["Content-Length: 3"], "abc"))
      assert.strictEqual(yield* connection.received, "HTTP/1.0 200")
    }))

  it.scopedLive("stalls with both sides open, even when the client gives up", () =>
    Effect.gen(function*() {
      const server = yield* startNode
      const proxy = yield* CutProxy.make({ target: server.port })
      const planned = yield* proxy.plan(CutProxy.stall(CutProxy.afterBody(10)))
      const client = yield* PythonClient.make()
      const uploading = yield* Effect.fork(client.uploadChunk(proxy.url, bytes, 0, "stalled", apiKey))
      yield* planned.done
      yield* Fiber.interrupt(uploading)
      for (let index = 0; index < 3; index++) {
        yield* client.uploadChunk(proxy.url, bytes, index, "passed", apiKey)
        assert.strictEqual((yield* Queue.take(server.exchanges)).actualFilename, "passed")
      }
      assert.strictEqual(yield* proxy.connections, 2)
      assert.isTrue(yield* Queue.isEmpty(server.exchanges))
    }))

  it.scopedLive("keeps the client's address and says when a passed connection is over", () =>
    Effect.gen(function*() {
      const server = yield* startPython
      const proxy = yield* CutProxy.make({ target: server.port })
      const planned = yield* proxy.plan(CutProxy.pass)
      const client = yield* PythonClient.make({ localAddress: "127.0.0.3" })
      yield* client.uploadChunk(proxy.url, bytes, 0, "x", apiKey)
      yield* planned.done
      assert.deepInclude(yield* Queue.take(server.exchanges), { from: "127.0.0.3", bytes: 1000 })
    }))
})
