import { describe, expect, it } from "@effect/vitest"
import express from "express"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type * as Net from "node:net"
import * as Path from "node:path"
import { onTestFinished } from "vitest"
import {
  type CompletedFile,
  IndexCPServer,
  type IndexCPServerOptions,
  IndexedCPServer,
  type UploadRequest
} from "../../src/promise.ts"
import {
  chunk,
  client,
  filesIn,
  folder,
  home,
  listening,
  read,
  rejection,
  variables,
  write
} from "../support/promise.ts"

const post = (url: string, headers: Record<string, string>, body: RequestInit["body"] = "x") =>
  fetch(url, { method: "POST", headers, body: body ?? null })

/** A server that does not listen. */
const mounted = (options: IndexCPServerOptions = {}) => {
  const outputDir = folder()
  const server = new IndexCPServer({ outputDir, apiKey: "k", drainTimeout: 1000, ...options })
  onTestFinished(() => server.close())
  return { server, folder: outputDir }
}

/** The URL of another HTTP server with this listener. */
const serving = async (listener: Http.RequestListener): Promise<string> => {
  const server = Http.createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}`
}

describe("IndexCPServer, listening", () => {
  it("resolves and calls back once it listens, and tells where", async () => {
    home()
    const { server } = mounted({ port: 0 })
    expect(() => server.address()).toThrow(expect.objectContaining({ code: "NOT_LISTENING" }))
    const called: Array<number> = []
    await server.start(() => called.push(server.address().port))
    expect(server.address()).toEqual({ address: "127.0.0.1", port: called[0] })
    expect((await fetch(`http://127.0.0.1:${called[0]}/health`)).status).toBe(200)
    expect(await rejection(server.listen())).toMatchObject({ code: "ALREADY_LISTENING" })
  })

  it("takes a port and a callback, in place of the option", async () => {
    const { server } = mounted({ port: 1 })
    await new Promise<void>((resolve) => void server.listen(0, resolve))
    expect(server.address().port).toBeGreaterThan(1)
  })

  it("rejects with the system's code, and can be asked again", async () => {
    const { url } = await listening()
    const { server } = mounted()
    const error = await rejection(server.listen(Number(new URL(url).port)))
    expect(error).toMatchObject({ code: "EADDRINUSE", name: "IndexCPError" })
    expect(error.message).toContain("the port is in use; choose another with the option port")
    await server.listen(0)
  })

  it("rejects while another server has its folder, and can be asked again", async () => {
    const first = await listening()
    const second = new IndexCPServer({ outputDir: first.folder, port: 0 })
    onTestFinished(() => second.close())
    expect(await rejection(second.listen())).toMatchObject({ code: "FOLDER_IN_USE" })
    await first.server.close()
    await second.listen()
  })

  it("takes chunks of both revisions", async () => {
    const at = home()
    const { folder, url } = await listening()
    expect(await (await post(url, chunk("/old/a.txt"), "one ")).json()).toEqual({
      message: "Chunk received",
      actualFilename: "a.txt",
      chunkIndex: 0,
      clientFilename: "/old/a.txt"
    })
    await post(url, chunk("/old/a.txt", 1), "two")
    expect(read(folder, "a.txt")).toBe("one two")
    expect(await client().bufferAndUpload(write(at, "b.txt", "b"), url)).toBe("b.txt")
  })

  it("lets requests in flight end when it is closed, and is closed for good", async () => {
    const { folder, server, url } = await listening()
    let send: (text: string) => void = () => {}
    const body = new ReadableStream({
      start: (controller) => {
        send = (text) => {
          controller.enqueue(new TextEncoder().encode(text))
          if (text === "end") controller.close()
        }
      }
    })
    const answer = fetch(url, { method: "POST", headers: chunk("slow"), body, duplex: "half" } as RequestInit)
    send("begin ")
    // the part file shows that the body has begun to be read
    const parts = Path.join(folder, ".indexedcp", "parts")
    const watcher = Fs.watch(parts)
    if (Fs.readdirSync(parts).length === 0) await new Promise((resolve) => watcher.once("change", resolve))
    watcher.close()
    const closed = Promise.all([server.close(), server.close()])
    send("end")
    expect((await answer).status).toBe(200)
    await closed
    expect(read(folder, "slow")).toBe("begin end")
    await expect(fetch(url)).rejects.toThrow()
    expect(await rejection(server.listen(0))).toMatchObject({ code: "CLOSED" })
  })

  it("is closed after it has begun to listen, when nobody waited for that", async () => {
    const { server } = mounted({ port: 0 })
    const called: Array<string> = []
    const listens = server.listen(0, () => called.push("listens"))
    await server.close()
    await listens
    expect(called).toEqual(["listens"])
  })

  it("is closed by `await using`, and when it was never used", async () => {
    const outputDir = folder()
    {
      await using server = new IndexCPServer({ outputDir, port: 0 })
      await server.listen()
    }
    await new IndexCPServer({ outputDir }).close()
    await (await listening({ outputDir })).server.close()
  })

  it("is also exported as IndexedCPServer", () => expect(IndexedCPServer).toBe(IndexCPServer))
})

describe("IndexCPServer, keys", () => {
  const statuses = async (url: string, ...keys: ReadonlyArray<string>) => {
    const found: Array<number> = []
    for (const key of keys) found.push((await post(url, chunk("a", 0, key))).status)
    return found
  }

  it("makes a key when none is given, another one each time", async () => {
    home()
    const outputDir = folder()
    const { server, url } = await listening({ outputDir, apiKey: undefined })
    expect(server.apiKey).toMatch(/^[0-9a-f]{64}$/)
    expect(server.generateApiKey()).toMatch(/^[0-9a-f]{64}$/)
    expect(new IndexCPServer().apiKey).not.toBe(server.apiKey)
    expect(await statuses(url, server.apiKey, server.generateApiKey(), "")).toEqual([200, 401, 401])
  })

  it("takes it from the environment", async () => {
    home()
    variables({ INDEXEDCP_API_KEY: "older" })
    expect(new IndexCPServer().apiKey).toBe("older")
    variables({ INDEXCP_API_KEY: "newer" })
    expect(new IndexCPServer().apiKey).toBe("newer")
    expect(new IndexCPServer({ apiKey: " own\n" }).apiKey).toBe("own")
    expect(new IndexCPServer({ apiKey: "" }).apiKey).toBe("newer")
  })

  it("takes several, with names and without", async () => {
    home()
    variables({ INDEXCP_API_KEY: "environment" })
    const list = await listening({ apiKey: undefined, apiKeys: ["one", "two"] })
    expect(list.server.apiKey).toBe("one")
    expect(await statuses(list.url, "one", "two", "environment")).toEqual([200, 200, 401])
    const both = await listening({ apiKeys: { laptop: "l", phone: "p" } })
    expect(await statuses(both.url, "k", "l", "p", "x")).toEqual([200, 200, 200, 401])
  })

  it("gives each name its own uploads, and shares those of one name", async () => {
    const { url } = await listening({ apiKeys: { laptop: "l", phone: "p" } })
    const revision2 = { "x-upload-id": "u1", "x-chunk-offset": "0", "x-file-size": "2" }
    expect((await post(url, { ...chunk("a", 0, "l"), ...revision2 }, "a")).status).toBe(200)
    const state = async (key: string) =>
      (await fetch(`${url}/u1`, { headers: { authorization: `Bearer ${key}` } })).status
    expect([await state("l"), await state("p"), await state("k")]).toEqual([200, 404, 404])
  })
})

describe("IndexCPServer, options", () => {
  it("names files by a function of one's own, asked once a file", async () => {
    const asked: Array<[string, number, UploadRequest]> = []
    const { folder, url } = await listening({
      filenameGenerator: async (clientName, chunkIndex, request) => {
        asked.push([clientName, chunkIndex, request])
        return `by-${request.keyName}/${clientName.toUpperCase()}`
      }
    })
    await post(url, chunk("a.txt"), "a")
    expect(await (await post(url, chunk("a.txt", 1), "b")).json()).toMatchObject({ actualFilename: "by-default/A.TXT" })
    expect(read(folder, "by-default", "A.TXT")).toBe("ab")
    expect(asked).toHaveLength(1)
    expect(asked[0]!.slice(0, 2)).toEqual(["a.txt", 0])
    expect(asked[0]![2]).toMatchObject({ method: "POST", url: "/upload", remoteAddress: "127.0.0.1" })
    expect(JSON.stringify(asked)).not.toContain("Bearer")
  })

  it.each([
    () => {
      throw new Error("no names left")
    },
    () => undefined as never,
    () => 5 as never
  ])("answers 500 when that function fails or returns no name, and keeps nothing", async (filenameGenerator) => {
    const { folder, url } = await listening({ filenameGenerator })
    expect((await post(url, chunk("a.txt"), "a")).status).toBe(500)
    expect(filesIn(folder)).toEqual([])
  })

  it("has the others of the server: paths, limits, conflicts; undefined and null are none", async () => {
    const { folder, url } = await listening({
      pathMode: "allow-paths",
      onConflict: "reject",
      maxChunkSize: 3,
      basePath: "/in",
      host: undefined as never,
      filenameGenerator: null
    })
    const below = url.replace("/upload", "/in/upload")
    expect((await post(below, chunk("x/a"), "abc")).status).toBe(200)
    expect((await post(below, chunk("x/b"), "abcd")).status).toBe(413)
    expect(read(folder, "x", "a")).toBe("abc")
  })

  it.each<object | string>([
    "./uploads",
    { port: 70_000 },
    { host: "" },
    { apiKey: 5 },
    { apiKeys: "one key" },
    { apiKeys: { laptop: 5 } },
    { pathMode: "keep" },
    { onConflict: "Overwrite" },
    { durability: "none" },
    { maxFileSize: "1MB" },
    { minFreeSpace: Number.NaN },
    { fileMode: "0640" },
    { basePath: "files" },
    { corsOrigin: "https://app.example" },
    { trustProxy: "yes" },
    { filenameGenerator: "timestamp" },
    { bodyTimeout: "soon" },
    { bodyTimeout: -1 },
    { bodyTimeout: "30 days" },
    { encryption: true }
  ])("refuses what cannot be meant, at once: %o", (options) => {
    expect(() => new IndexCPServer(options as never)).toThrow(
      expect.objectContaining({ name: "IndexCPError", code: "INVALID_ARGUMENT" })
    )
  })

  it("refuses such a port of listen, too, and takes one from the environment", async () => {
    const server = new IndexCPServer({ outputDir: folder(), apiKey: "k" })
    onTestFinished(() => server.close())
    expect(await rejection(server.listen((() => {}) as never))).toMatchObject({ code: "INVALID_ARGUMENT" })
    await server.listen("0" as never)
    expect(server.address().port).toBeGreaterThan(0)
  })

  it("passes over options that there are not, and warns of them", async () => {
    const warned = new Promise<Error>((resolve) => process.once("warning", resolve))
    const { server } = await listening({ socket: Path.join(folder(), "socket") } as never)
    expect((await warned).message).toBe("IndexCPServer has no option socket; it is passed over")
    expect(server.address().port).toBeGreaterThan(0)
  })

  it("tells of complete files", async () => {
    const at = home()
    const { promise, resolve } = (() => {
      let resolve: (file: CompletedFile) => void = () => {}
      return {
        promise: new Promise<CompletedFile>((done) => resolve = done),
        resolve: (file: CompletedFile) => resolve(file)
      }
    })()
    const { url } = await listening({ onComplete: resolve })
    await client().bufferAndUpload(write(at, "a.txt", "abc"), url)
    expect(await promise).toMatchObject({ name: "a.txt", size: 3, keyName: "default" })
  })
})

describe("IndexCPServer, in another server", () => {
  it("is a request listener of Node's", async () => {
    const at = home()
    const { folder, server } = mounted()
    const url = await serving(server.handler())
    expect(await client().bufferAndUpload(write(at, "a.bin", Buffer.alloc(3_000_000, 1)), `${url}/upload`)).toBe(
      "a.bin"
    )
    expect(Fs.statSync(Path.join(folder, "a.bin")).size).toBe(3_000_000)
    expect((await post(`${url}/upload`, chunk("b", 0, "wrong"))).status).toBe(401)
    expect((await fetch(`${url}/other`)).status).toBe(404)
  })

  it("stands in Express under any path, beside other routes and other parsers", async () => {
    const at = home()
    const { folder, server } = mounted()
    const app = express()
    app.use("/files/in", server.handler())
    app.use(express.json())
    app.post("/echo", (request, response) => void response.json(request.body))
    const url = await serving(app)
    expect(await client().bufferAndUpload(write(at, "a.txt", "abc"), `${url}/files/in/upload`)).toBe("a.txt")
    await post(`${url}/files/in/upload`, chunk("b.txt"), "b")
    expect(filesIn(folder)).toEqual(["a.txt", "b.txt"])
    expect((await fetch(`${url}/files/in/health`)).status).toBe(200)
    const echoed = await post(`${url}/echo`, { "content-type": "application/json" }, "{\"a\":1}")
    expect(await echoed.json()).toEqual({ a: 1 })
    expect((await fetch(`${url}/files/other`)).status).toBe(404)
  })

  it("listens itself at the same time", async () => {
    const { folder, server, url } = await listening()
    const other = await serving(server.handler())
    await post(url, chunk("a"))
    await post(`${other}/upload`, chunk("b"))
    await server.fetch(new Request("http://x/upload", { method: "POST", headers: chunk("c"), body: "x" }))
    expect(filesIn(folder)).toEqual(["a", "b", "c"])
  })

  it("answers 503 when it is closed, after what was in flight", async () => {
    const { folder, server } = mounted()
    const url = await serving(server.handler())
    let end: () => void = () => {}
    const body = new ReadableStream({
      start: (controller) => {
        controller.enqueue(new Uint8Array([1]))
        end = () => controller.close()
      },
      pull: () => pulled()
    })
    let pulled: () => void = () => {}
    const reading = new Promise<void>((resolve) => pulled = resolve)
    const answer = server.fetch(
      new Request("http://x/upload", { method: "POST", headers: chunk("a"), body, duplex: "half" } as RequestInit)
    )
    await reading
    const closed = server.close()
    end()
    expect((await answer).status).toBe(200)
    await closed
    expect(filesIn(folder)).toEqual(["a"])
    const late = [await post(`${url}/upload`, chunk("b")), await server.fetch(new Request("http://x/health"))]
    expect(late.map(({ headers, status }) => [status, headers.get("retry-after")])).toEqual([[503, "5"], [503, "5"]])
  })

  it("answers 500 while its folder cannot be used, and goes on when it can", async () => {
    const warned = new Promise((resolve) => process.once("warning", resolve))
    const first = await listening()
    const second = new IndexCPServer({ outputDir: first.folder, apiKey: "k" })
    onTestFinished(() => second.close())
    const ask = () => second.fetch(new Request("http://x/upload", { method: "POST", headers: chunk("a"), body: "a" }))
    const answer = await ask()
    expect(answer.status).toBe(500)
    expect(await answer.text()).not.toContain(first.folder)
    expect(await warned).toMatchObject({ code: "FOLDER_IN_USE" })
    await first.server.close()
    expect((await ask()).status).toBe(200)
  })
})

describe("IndexCPServer, asked by Web requests", () => {
  const ask = (server: IndexCPServer, headers: Record<string, string>, body: RequestInit["body"] | undefined) =>
    server.fetch(
      new Request("https://files.example/upload?x=1", {
        method: "POST",
        headers,
        ...(body === undefined ? {} : { body, duplex: "half" })
      } as RequestInit)
    )

  const digest = (bytes: string) => `sha-256=:${createHash("sha256").update(bytes).digest("base64")}:`

  it("streams the body, whose length need not be known", async () => {
    const { folder, server } = mounted()
    const { fetch } = server
    const piece = new Uint8Array(64 * 1024).fill(1)
    let left = 100
    const body = new ReadableStream({
      pull: (controller) => left-- > 0 ? controller.enqueue(piece) : controller.close()
    })
    const answer = await fetch(
      new Request("http://x/upload", { method: "POST", headers: chunk("big"), body, duplex: "half" } as RequestInit)
    )
    expect(answer.status).toBe(200)
    expect(Fs.statSync(Path.join(folder, "big")).size).toBe(100 * piece.length)
    expect((await ask(server, chunk("text"), "text")).status).toBe(200)
    expect((await ask(server, chunk("empty"), undefined)).status).toBe(200)
    expect([read(folder, "text"), read(folder, "empty")]).toEqual(["text", ""])
  })

  it("checks digests, limits and keys as over sockets", async () => {
    const { folder, server } = mounted({ maxChunkSize: 4 })
    const id = { "x-upload-id": "u1", "x-chunk-offset": "0", "x-file-size": "4" }
    const statuses = [
      await ask(server, { ...chunk("a"), ...id, "content-digest": digest("abcd") }, "abcx"),
      await ask(server, { ...chunk("a"), ...id, "content-digest": digest("abcd") }, "abcde"),
      await ask(server, { ...chunk("a"), ...id, "content-length": "4" }, new Blob(["abc"]).stream()),
      await ask(server, chunk("a", 0, "wrong"), "abcd"),
      await ask(server, { ...chunk("a"), ...id, "content-digest": digest("abcd") }, "abcd"),
      await ask(server, { ...chunk("a"), ...id }, "abcx")
    ].map(({ status }) => status)
    expect(statuses).toEqual([422, 413, 400, 401, 200, 409])
    expect(filesIn(folder)).toEqual(["a"])
    expect(read(folder, "a")).toBe("abcd")
    const state = await server.fetch(
      new Request("http://x/upload/u1", { headers: { authorization: "Bearer k" } })
    )
    expect(await state.json()).toMatchObject({ state: "complete", size: 4 })
  })

  it("keeps nothing of a body that breaks off", async () => {
    const { folder, server } = mounted()
    const body = new ReadableStream({
      start: (controller) => {
        controller.enqueue(new Uint8Array([1]))
        controller.error(new Error("gone"))
      }
    })
    expect((await ask(server, { ...chunk("a"), "x-upload-id": "u1", "x-chunk-offset": "0" }, body)).status).toBe(400)
    expect(filesIn(folder)).toEqual([])
  })
})
