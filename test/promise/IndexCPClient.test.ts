import { describe, expect, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type * as Net from "node:net"
import * as Path from "node:path"
import { Readable } from "node:stream"
import { onTestFinished } from "vitest"
import {
  ApiKeyMissingError,
  AuthenticationError,
  FileNotFoundError,
  FileReadError,
  IndexCPClient,
  IndexCPError,
  IndexedCPClient,
  NetworkError,
  ServerError,
  UploadFailedError,
  type UploadProgress,
  type UploadSummary
} from "../../src/promise.ts"
import * as NodeServer from "../support/peers/NodeServer.ts"
import {
  client,
  filesIn,
  folder,
  home,
  listening,
  read,
  rejection,
  scoped,
  variables,
  write
} from "../support/promise.ts"

/** Nobody listens there. */
const nowhere = "http://127.0.0.1:1/upload"

/** A server that answers each request with this. */
const answering = async (status: number, body: string): Promise<string> => {
  const server = Http.createServer((request, response) => {
    request.resume()
    request.on("end", () => response.writeHead(status, { "content-type": "application/json" }).end(body))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => void server.close())
  return `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}/upload`
}

describe("IndexCPClient, the buffer", () => {
  it("tells how many chunks a file has, and the paths as they were given", async () => {
    const at = home()
    const one = client({ chunkSize: 1000 })
    expect(await one.addFile(write(at, "a.bin", Buffer.alloc(2500)))).toBe(3)
    expect(await one.addFile(write(at, "empty", ""))).toBe(0)
    const relative = Path.relative(process.cwd(), write(at, "b.txt", "b"))
    expect(await one.addFile(relative)).toBe(1)
    expect(await one.getBufferedFiles()).toEqual([Path.join(at, "a.bin"), Path.join(at, "empty"), relative])
  })

  it("takes streams of Node, of the Web, generators and lists, text as UTF-8", async () => {
    home()
    const { folder, url } = await listening()
    const one = client({ chunkSize: 4 })
    expect(await one.addStream("node", Readable.from([Buffer.from("abc"), Buffer.from("defg")]))).toBe(2)
    await one.addStream("text", Readable.from(["grün"]))
    await one.addStream("web", new Blob(["web"]).stream())
    await one.addStream("list", ["a", new Uint8Array([98])])
    await one.addStream(
      "generator",
      (async function*() {
        yield "x"
      })()
    )
    expect(await one.uploadBufferedFiles(url)).toEqual({
      node: "node",
      text: "text",
      web: "web",
      list: "list",
      generator: "generator"
    })
    expect(["node", "text", "web", "list", "generator"].map((name) => read(folder, name)))
      .toEqual(["abcdefg", "grün", "web", "ab", "x"])
  })

  it("takes bytes and texts as a whole, and nothing that has none", async () => {
    home()
    const { folder, url } = await listening()
    const one = client({ chunkSize: 2, serverUrl: url })
    expect(await one.addStream("bytes", Buffer.from("bytes"))).toBe(3)
    expect(await one.addStream("text", "tëxt")).toBe(3)
    for (const stream of [[{ a: 1 }], [1], [new ArrayBuffer(2)], 5, undefined]) {
      expect(await rejection(one.addStream("other", stream as never))).toBeInstanceOf(FileReadError)
    }
    expect(await one.uploadBufferedFiles()).toEqual({ bytes: "bytes", text: "text" })
    expect([read(folder, "bytes"), read(folder, "text")]).toEqual(["bytes", "tëxt"])
  })

  it("keeps nothing of a stream that fails", async () => {
    home()
    const one = client()
    const broken = (async function*() {
      yield "a"
      throw new Error("the tape is torn")
    })()
    const error = await rejection(one.addStream("tape", broken))
    expect(error).toBeInstanceOf(FileReadError)
    expect(error.message).toContain("the tape is torn")
    expect(await one.getBufferedFiles()).toEqual([])
  })

  it("outlives its client, is shared by name, and can be cleared", async () => {
    const at = home()
    await using first = new IndexCPClient()
    await first.addFile(write(at, "a", "a"))
    await first.close()
    const second = client()
    expect(await second.getBufferedFiles()).toHaveLength(1)
    expect(await client({ dbName: "other" }).getBufferedFiles()).toEqual([])
    expect(Fs.existsSync(Path.join(at, ".indexcp", "other.db"))).toBe(true)
    await second.clearBuffer()
    expect(await second.getBufferedFiles()).toEqual([])
  })
})

describe("IndexCPClient, sending", () => {
  it("sends what is in the buffer and returns the names on the server, in the order in which they were added", async () => {
    const at = home()
    const { folder, url } = await listening()
    const one = client({ serverUrl: url, chunkSize: 1000 })
    const big = write(at, "big.bin", Buffer.alloc(50_000, 1))
    const small = write(at, "small.txt", "small")
    await one.addFile(big)
    await one.addFile(small)
    const results = await one.uploadBufferedFiles()
    expect(Object.entries(results)).toEqual([[big, "big.bin"], [small, "small.txt"]])
    expect(filesIn(folder)).toEqual(["big.bin", "small.txt"])
    expect(await one.getBufferedFiles()).toEqual([])
    expect(await one.uploadBufferedFiles()).toEqual({})
  })

  it("sends a file from where it lies", async () => {
    const at = home()
    const { folder, url } = await listening()
    const path = write(at, "a.txt", "hello")
    expect(await client().bufferAndUpload(path, url)).toBe("a.txt")
    expect(await client({ serverUrl: url }).bufferAndUpload(write(at, "constructor", "c"))).toBe("constructor")
    expect(read(folder, "a.txt")).toBe("hello")
  })

  it("sends single chunks in revision 1, with the client's key or another", async () => {
    home()
    const { folder, url } = await listening({ apiKeys: ["other"] })
    const one = client()
    const first = await one.uploadChunk(url, Buffer.from("one "), 0, "/tmp/c.txt")
    expect(first).toEqual({
      status: 200,
      data: { message: "Chunk received", actualFilename: "c.txt", chunkIndex: 0, clientFilename: "/tmp/c.txt" }
    })
    await one.uploadChunk(url, new TextEncoder().encode("two"), 1, "/tmp/c.txt", "other")
    expect(read(folder, "c.txt")).toBe("one two")
  })

  it("sends to an old server, too", async () => {
    const at = home()
    const old = await scoped(NodeServer.make({ folder: folder(), apiKey: "k" }))
    const one = client({ chunkSize: 1000 })
    const path = write(at, "a.bin", Buffer.alloc(2500, 7))
    await one.addFile(path)
    expect(await one.uploadBufferedFiles(old.url)).toEqual({ [path]: "a.bin" })
    expect((await one.uploadChunk(old.url, Buffer.from("x"), 0, "b.txt")).data.actualFilename).toBe("b.txt")
    await Effect.runPromise(Queue.takeN(old.exchanges, 4))
    expect(Fs.readFileSync(Path.join(old.folder, "a.bin"))).toEqual(Buffer.alloc(2500, 7))
  })

  it("is also exported as IndexedCPClient", () => expect(IndexedCPClient).toBe(IndexCPClient))
})

describe("IndexCPClient, the key", () => {
  it("is the one given, which can be changed", async () => {
    home()
    const { url } = await listening()
    const one = new IndexCPClient({ apiKey: "first" })
    onTestFinished(() => one.close())
    expect([one.apiKey, await one.getApiKey()]).toEqual(["first", "first"])
    one.apiKey = " k\n"
    expect((await one.uploadChunk(url, Buffer.from("x"), 0, "x")).status).toBe(200)
  })

  it("is looked for in both variables, and kept", async () => {
    home()
    variables({ INDEXEDCP_API_KEY: "older" })
    const one = client({ apiKey: undefined })
    expect([await one.getApiKey(), one.apiKey]).toEqual(["older", "older"])
    variables({ INDEXCP_API_KEY: "newer" })
    expect(await client({ apiKey: undefined }).getApiKey()).toBe("newer")
  })

  it("is missed where there is none, before anything is sent, and found later", async () => {
    home()
    const one = client({ apiKey: undefined, serverUrl: nowhere })
    const error = await rejection(one.getApiKey())
    expect(error).toBeInstanceOf(ApiKeyMissingError)
    expect(error.code).toBe("API_KEY_MISSING")
    await one.addStream("a", ["a"])
    expect(await rejection(one.uploadBufferedFiles())).toBeInstanceOf(ApiKeyMissingError)
    variables({ INDEXCP_API_KEY: "now" })
    expect(await one.getApiKey()).toBe("now")
  })
})

describe("IndexCPClient, what it rejects with", () => {
  it("files that cannot be read", async () => {
    const at = home()
    const one = client({ serverUrl: nowhere })
    for (const error of [await rejection(one.addFile("nope")), await rejection(one.bufferAndUpload("nope"))]) {
      expect(error).toBeInstanceOf(FileNotFoundError)
      expect(error).toMatchObject({ code: "ENOENT", path: "nope", name: "FileNotFoundError" })
      expect(error.cause).toBeDefined()
      expect(String(error.stack)).toMatch(/^FileNotFoundError: File not found: nope\n/)
    }
    const error = await rejection(one.addFile(at))
    expect(error).toBeInstanceOf(FileReadError)
    expect(error.message).toContain("is a folder")
  })

  it("a wrong key", async () => {
    const at = home()
    const { url } = await listening()
    const one = client({ apiKey: "wrong", serverUrl: url })
    const path = write(at, "a", "a")
    await one.addFile(path)
    const errors = [
      await rejection(one.uploadBufferedFiles()),
      await rejection(one.bufferAndUpload(path)),
      await rejection(one.uploadChunk(url, Buffer.from("a"), 0, "a"))
    ]
    for (const error of errors) {
      expect(error).toBeInstanceOf(AuthenticationError)
      expect(error.code).toBe("UNAUTHORIZED")
      expect(error.cause).toMatchObject({ status: 401 })
    }
    expect(await one.getBufferedFiles()).toEqual([path])
  })

  it("a server that cannot be reached, after the tries that are allowed", async () => {
    const at = home()
    const tries: Array<UploadProgress> = []
    const one = client({ serverUrl: nowhere, maxRetries: 2, onUploadProgress: (progress) => tries.push(progress) })
    const error = await rejection(one.bufferAndUpload(write(at, "a", "abc")))
    expect(error).toBeInstanceOf(NetworkError)
    expect(error.code).toBe("NETWORK")
    expect(error.message).toContain("Gave up after 3 tries")
    expect(error.cause).toMatchObject({ code: "ECONNREFUSED" })
    expect(tries.map(({ nextRetryIn, retryCount, status }) => [status, retryCount, nextRetryIn !== undefined]))
      .toEqual([["failed", 1, true], ["failed", 2, true], ["failed", 2, false]])
    expect(tries[0]).toMatchObject({ fileName: Path.join(at, "a"), bytesSent: 0, bytesTotal: 3, chunkIndex: 0 })
    expect(tries[0]!.error).toContain("ECONNREFUSED")
    expect(await rejection(one.uploadChunk(nowhere, Buffer.from("a"), 0, "a"))).toBeInstanceOf(NetworkError)
  })

  it("what a server says", async () => {
    const at = home()
    const path = write(at, "a", "a")
    const say = (error: string) => JSON.stringify({ error, message: `${error} it is` })
    const one = client({ maxRetries: 0 })
    const cases: ReadonlyArray<readonly [number, string]> = [[400, "Odd"], [503, "Busy"], [418, "Teapot"]]
    for (const [status, title] of cases) {
      const url = await answering(status, say(title))
      for (
        const error of [
          await rejection(one.bufferAndUpload(path, url)),
          await rejection(one.uploadChunk(url, Buffer.from("a"), 0, "a"))
        ]
      ) {
        expect(error).toBeInstanceOf(ServerError)
        expect(error).toMatchObject({ code: `HTTP_${status}`, status })
        expect(error.message).toContain(`${title} it is`)
        expect(error.cause).toBeDefined()
      }
    }
    const { url } = await listening()
    expect(await rejection(one.bufferAndUpload(path, url.replace("upload", "elsewhere"))))
      .toMatchObject({ code: "HTTP_404", status: 404 })
    // a portal on the way is no server
    expect(await rejection(one.bufferAndUpload(path, await answering(200, "<html>")))).toBeInstanceOf(NetworkError)
  })

  it("some files that failed, when the others are delivered", async () => {
    const at = home()
    const { folder, url } = await listening({ maxFileSize: 10 })
    const [good, bad, other] = [write(at, "good", "g"), write(at, "bad", "longer than ten"), write(at, "other", "o")]
    const summaries: Array<UploadSummary> = []
    const errors: Array<readonly [string | undefined, string]> = []
    const one = client({
      serverUrl: url,
      onUploadComplete: (summary) => summaries.push(summary),
      onUploadError: ({ code }, fileName) => errors.push([fileName, code])
    })
    for (const path of [good, bad, other]) await one.addFile(path)
    const error = await rejection(one.uploadBufferedFiles()) as UploadFailedError
    expect(error).toBeInstanceOf(UploadFailedError)
    expect(error.code).toBe("UPLOAD_FAILED")
    expect(error.results).toEqual({ [good]: "good", [other]: "other" })
    expect(Object.keys(error.failures)).toEqual([bad])
    expect(error.failures[bad]).toBeInstanceOf(ServerError)
    expect(error.failures[bad]).toMatchObject({ status: 413 })
    expect(error.cause).toBe(error.failures[bad])
    expect(filesIn(folder)).toEqual(["good", "other"])
    expect(await one.getBufferedFiles()).toEqual([bad])
    expect(summaries).toEqual([{ succeeded: 2, failed: 1, total: 3 }])
    expect(errors).toEqual([[bad, "HTTP_413"]])
  })

  it("a chunk that an old server may have got, unless it may be sent again", async () => {
    const at = home()
    const answers: Array<number> = []
    const server = Http.createServer((request, response) => {
      request.resume()
      request.on("end", () => {
        if (request.method !== "POST") return response.writeHead(404).end("Not Found")
        answers.push(Number(request.headers["content-length"]))
        if (answers.length === 2) return request.socket.destroy()
        const body = {
          message: "Chunk received",
          actualFilename: "a",
          chunkIndex: Number(request.headers["x-chunk-index"])
        }
        response.writeHead(200, { "content-type": "application/json" })
          .end(JSON.stringify({ ...body, clientFilename: request.headers["x-file-name"] }))
      })
    })
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    onTestFinished(() => void server.close())
    const serverUrl = `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}/upload`
    const path = write(at, "a", "abcdef")
    const careful = client({ serverUrl, chunkSize: 2 })
    await careful.addFile(path)
    const error = await rejection(careful.uploadBufferedFiles()) as UploadFailedError
    expect(error.failures[path]).toMatchObject({ code: "UNCONFIRMED" })
    expect(error.message).toContain("the option resendUnconfirmed")
    const bold = client({ serverUrl, chunkSize: 2, resendUnconfirmed: true })
    expect(await bold.uploadBufferedFiles()).toEqual({ [path]: "a" })
  })

  it("arguments that cannot be meant", async () => {
    home()
    const codes = await Promise.all([
      rejection(client().uploadBufferedFiles()),
      rejection(client().uploadBufferedFiles("not a URL")),
      rejection(client().addFile(undefined as never)),
      rejection(client().bufferAndUpload(5 as never, nowhere)),
      rejection(client().addStream("", ["a"])),
      rejection(client().uploadChunk(nowhere, Buffer.from("a"), -1, "a")),
      rejection(client().uploadChunk(nowhere, Buffer.from("a"), "0" as never, "a")),
      rejection(client().uploadChunk(nowhere, null as never, 0, "a")),
      rejection(client().uploadChunk(nowhere, Buffer.from("a"), 0, undefined as never))
    ])
    for (const error of codes) {
      expect(error).toBeInstanceOf(IndexCPError)
      expect(error.code).toBe("INVALID_ARGUMENT")
    }
    expect(() => client().startUploadBackground()).toThrow(IndexCPError)
  })

  it.each<object | string>([
    "the name of a buffer",
    { dbName: "../x" },
    { chunkSize: 0 },
    { chunkSize: "1MB" },
    { maxRetries: Number.NaN },
    { retryMultiplier: 0.5 },
    { maxRetryDelay: "1 minute" },
    { apiKey: 5 },
    { onUploadProgress: "log" },
    { encryption: true }
  ])("options that cannot be meant, at once: %o", (options) => {
    expect(() => new IndexCPClient(options as never)).toThrow(
      expect.objectContaining({ name: "IndexCPError", code: "INVALID_ARGUMENT" })
    )
  })

  it("takes options that are not given in any way, and warns of those that there are not", async () => {
    home()
    const warned = new Promise<Error>((resolve) => process.once("warning", resolve))
    const options = {
      dbName: null,
      chunkSize: undefined,
      maxRetries: Infinity,
      initialRetryDelay: null,
      logLevel: "info"
    }
    expect(await client(options as never).getBufferedFiles()).toEqual([])
    expect((await warned).message).toBe("IndexCPClient has no option logLevel; it is passed over")
  })

  it("a buffer that cannot be opened, which may be mended", async () => {
    const at = home()
    Fs.writeFileSync(Path.join(at, ".indexcp"), "a file where the folder should be")
    const one = client()
    expect(await rejection(one.getBufferedFiles())).toMatchObject({ code: "BUFFER" })
    Fs.rmSync(Path.join(at, ".indexcp"))
    expect(await one.getBufferedFiles()).toEqual([])
  })
})

describe("IndexCPClient, callbacks", () => {
  it("tells of each chunk that was acknowledged, and the end", async () => {
    const at = home()
    const { url } = await listening()
    const path = write(at, "a.bin", Buffer.alloc(25, 1))
    const told: Array<UploadProgress | UploadSummary> = []
    const one = client({ chunkSize: 10, serverUrl: url })
    one.onUploadProgress = (progress) => told.push(progress)
    one.onUploadComplete = (summary) => told.push(summary)
    await one.addFile(path)
    await one.uploadBufferedFiles()
    const steps = told.slice(0, -1) as Array<UploadProgress>
    expect(steps[0]).toEqual({
      fileName: path,
      bytesSent: 10,
      bytesTotal: 25,
      chunkIndex: 0,
      status: "success",
      retryCount: 0
    })
    expect(steps.at(-1)).toMatchObject({ bytesSent: 25, chunkIndex: 2 })
    expect(told.at(-1)).toEqual({ succeeded: 1, failed: 0, total: 1 })
  })

  it("goes on when one throws", async () => {
    home()
    const { folder, url } = await listening()
    const one = client({
      serverUrl: url,
      onUploadProgress: () => {
        throw new Error("no screen")
      },
      onUploadComplete: null
    })
    await one.addStream("a", ["a"])
    expect(await one.uploadBufferedFiles()).toEqual({ a: "a" })
    expect(filesIn(folder)).toEqual(["a"])
  })

  it("goes on, and the process too, when what one has begun fails", async () => {
    home()
    const { url } = await listening()
    const unheard: Array<unknown> = []
    const listener = (error: unknown) => unheard.push(error)
    process.on("unhandledRejection", listener)
    onTestFinished(() => void process.off("unhandledRejection", listener))
    const fail = () => Promise.reject(new Error("no screen"))
    const one = client({ serverUrl: url, onUploadProgress: fail, onUploadComplete: fail })
    await one.addStream("a", ["a"])
    expect(await one.uploadBufferedFiles()).toEqual({ a: "a" })
    await new Promise((resolve) => setImmediate(resolve))
    expect(unheard).toEqual([])
  })
})

describe("IndexCPClient, in the background", () => {
  /** The next end of a round. */
  const complete = (one: IndexCPClient) =>
    new Promise<UploadSummary>((resolve) => {
      one.onUploadComplete = resolve
    })

  it("sends what is there and what comes, until it is stopped", async () => {
    home()
    const { folder, url } = await listening()
    const one = client()
    await one.addStream("a", ["a"])
    await one.addStream("b", ["b"])
    const first = complete(one)
    one.startUploadBackground(url)
    one.startUploadBackground(url)
    expect(await first).toEqual({ succeeded: 2, failed: 0, total: 2 })
    const second = complete(one)
    await one.addStream("c", ["c"])
    expect(await second).toEqual({ succeeded: 1, failed: 0, total: 1 })
    expect(filesIn(folder)).toEqual(["a", "b", "c"])
    await one.stopUploadBackground()
    await one.stopUploadBackground()
    await one.addStream("d", ["d"])
    expect(await one.getBufferedFiles()).toEqual(["d"])
    const third = complete(one)
    one.startUploadBackground(url)
    expect(await third).toMatchObject({ succeeded: 1 })
  })

  it("waits for a server as long as it takes", async () => {
    home()
    const output = folder()
    const { server, url } = await listening({ outputDir: output })
    await server.close()
    const one = client({ serverUrl: url })
    await one.addStream("a", ["a"])
    const tries = new Promise<UploadProgress>((resolve) => {
      one.onUploadProgress = (progress) => progress.retryCount > 5 && resolve(progress)
    })
    const done = complete(one)
    one.startUploadBackground()
    expect(await tries).toMatchObject({ status: "failed", fileName: "a" })
    const again = await listening({ outputDir: output, port: Number(new URL(url).port) })
    expect(await done).toEqual({ succeeded: 1, failed: 0, total: 1 })
    expect(filesIn(again.folder)).toEqual(["a"])
  })

  it("tells of a wrong key, and goes on when it is put right", async () => {
    home()
    const { folder, url } = await listening()
    const one = client({ apiKey: "wrong", serverUrl: url })
    await one.addStream("a", ["a"])
    const refused = new Promise<IndexCPError>((resolve) => {
      one.onUploadError = resolve
    })
    const done = complete(one)
    one.startUploadBackground()
    expect(await refused).toBeInstanceOf(AuthenticationError)
    one.apiKey = "k"
    expect(await done).toMatchObject({ succeeded: 1 })
    expect(filesIn(folder)).toEqual(["a"])
  })
})

describe("IndexCPClient, in the background, in trouble", () => {
  it("tries again what was given up before it was started", async () => {
    home()
    const output = folder()
    const first = await listening({ outputDir: output, maxFileSize: 1 })
    const one = client()
    await one.addStream("a", ["long"])
    await rejection(one.uploadBufferedFiles(first.url))
    await first.server.close()
    const { url } = await listening({ outputDir: output })
    const done = new Promise<UploadSummary>((resolve) => {
      one.onUploadComplete = resolve
    })
    one.startUploadBackground(url)
    expect(await done).toEqual({ succeeded: 1, failed: 0, total: 1 })
  })

  it("ends when the buffer cannot be used, says so, and can be started again", async () => {
    const at = home()
    Fs.writeFileSync(Path.join(at, ".indexcp"), "a file where the folder should be")
    const { url } = await listening()
    const one = client()
    const told = new Promise<IndexCPError>((resolve) => {
      one.onUploadError = resolve
    })
    one.startUploadBackground(url)
    expect(await told).toMatchObject({ code: "BUFFER" })
    Fs.rmSync(Path.join(at, ".indexcp"))
    const done = new Promise<UploadSummary>((resolve) => {
      one.onUploadComplete = resolve
    })
    one.startUploadBackground(url)
    await one.addStream("a", ["a"])
    expect(await done).toMatchObject({ succeeded: 1 })
  })
})

describe("IndexCPClient, its end", () => {
  it("ends what goes on, and is closed for good", async () => {
    const at = home()
    const one = client({ serverUrl: nowhere, maxRetries: 1_000_000 })
    await one.addFile(write(at, "a", "a"))
    const going = rejection(one.uploadBufferedFiles())
    await new Promise<void>((resolve) => {
      one.onUploadProgress = () => resolve()
    })
    one.startUploadBackground()
    await Promise.all([one.close(), one.close()])
    expect(await going).toMatchObject({ code: "CLOSED" })
    expect(await rejection(one.getBufferedFiles())).toMatchObject({ code: "CLOSED" })
    expect(() => one.startUploadBackground()).toThrow(expect.objectContaining({ code: "CLOSED" }))
    expect(await client().getBufferedFiles()).toHaveLength(1)
  })

  it("is closed by `await using`, and when it was never used", async () => {
    home()
    let kept: IndexCPClient
    {
      await using one = new IndexCPClient()
      kept = one
      await one.addStream("a", ["a"])
    }
    expect(await rejection(kept.getBufferedFiles())).toMatchObject({ code: "CLOSED" })
    await new IndexCPClient().close()
  })
})
