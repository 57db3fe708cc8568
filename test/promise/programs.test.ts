import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { install, type Installed } from "../support/installed.ts"
import { isWindows } from "../support/platform.ts"
import { filesIn, folder, listening, read, write } from "../support/promise.ts"

let installed: Installed
beforeAll(async () => {
  installed = await install()
})
afterAll(() => installed.remove())

/** A port where nobody listens. */
const freePort = () =>
  new Promise<number>((resolve) => {
    const server = Net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as Net.AddressInfo
      server.close(() => resolve(port))
    })
  })

/** Runs a program to its end, which it must come to by itself. */
const finish = async (name: string, text: string, cwd: string, variables: Readonly<Record<string, string>> = {}) => {
  const { code, stderr, stdout } = await (await installed.run(name, text, { cwd, variables })).ended
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  return stdout
}

/** What all of these programs begin with. */
const imports = `import { createSimpleServer, IndexCPClient, IndexCPServer } from "indexedcp/promise"
import * as fs from "node:fs"
import * as path from "node:path"
`

describe("Programs of the existing libraries, with only the import changed", () => {
  it("client: adds files, lists them, uploads everything, and ends without being closed", async () => {
    const { folder: received, url } = await listening()
    const at = folder()
    write(at, "document.pdf", "document")
    write(at, "image.jpg", "image")
    const said = await finish(
      "client.js",
      `${imports}
async function uploadExample() {
  const client = new IndexCPClient()
  await client.addFile("./document.pdf")
  await client.addFile("./image.jpg")
  const files = await client.getBufferedFiles()
  console.log("Files to upload:", files.join(" "))
  const results = await client.uploadBufferedFiles("${url}")
  for (const [clientFile, serverFile] of Object.entries(results)) {
    console.log(\`Uploaded: \${clientFile} -> \${serverFile}\`)
  }
}
uploadExample()`,
      at,
      { INDEXCP_API_KEY: "k" }
    )
    expect(said).toBe(
      "Files to upload: ./document.pdf ./image.jpg\nUploaded: ./document.pdf -> document.pdf\n" +
        "Uploaded: ./image.jpg -> image.jpg\n"
    )
    expect(filesIn(received)).toEqual(["document.pdf", "image.jpg"])
  })

  it("server: listens until it is stopped", async () => {
    const at = folder()
    const port = await freePort()
    const program = await installed.run(
      "server.js",
      `${imports}
const server = new IndexCPServer({ outputDir: "./uploads", port: ${port}, apiKey: "your-secure-api-key" })
console.log("Starting IndexedCP server...")
server.listen(${port}, () => console.log("Server started"))`,
      { cwd: at }
    )
    await program.said(/Server started/)
    const headers = { "authorization": "Bearer your-secure-api-key", "x-file-name": "/a/b.txt", "x-chunk-index": "0" }
    const answer = await fetch(`http://localhost:${port}/upload`, { method: "POST", headers, body: "hello" })
    expect(await answer.json()).toMatchObject({ message: "Chunk received", actualFilename: "b.txt" })
    program.kill("SIGTERM")
    await program.ended
    expect(read(at, "uploads", "b.txt")).toBe("hello")
  })

  it("client and server in one process, which ends when the server is closed", async () => {
    const at = folder()
    write(at, "myfile.txt", "mine")
    await finish(
      "both.js",
      `${imports}
async function runServer() {
  const server = new IndexCPServer({ outputDir: "./uploads", port: 0, apiKey: "demo-key" })
  await server.start()
  return server
}
async function runClient(port) {
  const client = new IndexCPClient()
  client.apiKey = "demo-key"
  await client.bufferAndUpload("./myfile.txt", \`http://localhost:\${port}/upload\`)
}
const server = await runServer()
await runClient(server.address().port)
server.close()`,
      at
    )
    expect(read(at, "uploads", "myfile.txt")).toBe("mine")
  })

  it("server with a filename generator of its own", async () => {
    const at = folder()
    write(at, "scan.png", "s")
    const said = await finish(
      "naming.js",
      `${imports}
function timestampFilenameGenerator(clientFilename, chunkIndex, request) {
  const { name, ext } = path.parse(clientFilename)
  return \`\${name}_\${Math.floor(Date.now() / 1000)}\${ext}\`
}
const server = new IndexCPServer({
  outputDir: "./timestamped_uploads",
  port: 0,
  filenameGenerator: timestampFilenameGenerator
})
server.listen(undefined, async () => {
  const client = new IndexCPClient({ apiKey: server.apiKey })
  await client.addFile("./scan.png")
  console.log(await client.uploadBufferedFiles(\`http://localhost:\${server.address().port}/upload\`))
  server.close()
})`,
      at
    )
    const [name] = filesIn(Path.join(at, "timestamped_uploads"))
    expect(name).toMatch(/^scan_\d{10}\.png$/)
    expect(said).toContain(name)
  })

  it("streaming: reads a file and sends it chunk by chunk", async () => {
    const { folder: received, url } = await listening()
    const at = folder()
    const bytes = Buffer.alloc(2_500_000, "0123456789")
    write(at, "large_file.zip", bytes)
    const said = await finish(
      "streaming.js",
      `${imports}
async function streamingUpload(filePath, serverUrl) {
  const client = new IndexCPClient({ chunkSize: 1024 * 1024 })
  const file = await fs.promises.open(filePath)
  let chunkIndex = 0
  while (true) {
    const chunkData = Buffer.alloc(client.chunkSize)
    const { bytesRead } = await file.read(chunkData, 0, client.chunkSize)
    if (bytesRead === 0) break
    await client.uploadChunk(serverUrl, chunkData.subarray(0, bytesRead), chunkIndex, filePath)
    console.log(\`Uploaded chunk \${chunkIndex}\`)
    chunkIndex += 1
  }
  await file.close()
  console.log("Streaming upload complete!")
}
streamingUpload("./large_file.zip", "${url}")`,
      at,
      { INDEXEDCP_API_KEY: "k" }
    )
    expect(said).toBe("Uploaded chunk 0\nUploaded chunk 1\nUploaded chunk 2\nStreaming upload complete!\n")
    expect(Fs.readFileSync(Path.join(received, "large_file.zip")).equals(bytes)).toBe(true)
  })

  it("simple server: no key, one file", async () => {
    const at = folder()
    await finish(
      "simple.js",
      `${imports}
const server = createSimpleServer(undefined, 0)
server.on("listening", async () => {
  await fetch(\`http://localhost:\${server.address().port}/upload\`, { method: "POST", body: "simple" })
  server.close()
})`,
      at
    )
    expect(read(at, "uploaded_file.txt")).toBe("simple")
  })

  it("background upload: callbacks, a server that comes late, and no close", async () => {
    const at = folder()
    write(at, "a.txt", "a")
    const said = await finish(
      "background.js",
      `${imports}
const late = new IndexCPServer({ outputDir: "./uploads", port: 0, apiKey: "k", pathMode: "ignore" })
await late.start()
const { port } = late.address()
await late.close()
const server = new IndexCPServer({ outputDir: "./uploads", port, apiKey: "k", pathMode: "ignore" })
let listening
const client = new IndexCPClient({
  apiKey: "k",
  initialRetryDelay: 20,
  maxRetryDelay: 100,
  onUploadProgress: ({ chunkIndex, fileName, nextRetryIn, status }) => {
    if (status === "success") console.log(fileName, chunkIndex)
    else if (nextRetryIn > 0) listening ??= server.start()
  },
  onUploadComplete: async ({ succeeded, total }) => {
    console.log(\`\${succeeded} of \${total}\`)
    client.stopUploadBackground()
    await server.close()
  }
})
await client.addFile("./a.txt")
client.startUploadBackground(\`http://localhost:\${port}/upload\`)`,
      at
    )
    expect(said).toBe("./a.txt 0\n1 of 1\n")
    expect(filesIn(Path.join(at, "uploads"))[0]).toMatch(/^\d+_[0-9a-f]{8}_a\.txt$/)
  })
})

describe("Programs", () => {
  it("in CommonJS have everything by require", async () => {
    const { url } = await listening()
    const at = folder()
    write(at, "a.txt", "a")
    const said = await finish(
      "common.cjs",
      `const { IndexCPClient, IndexedCPServer } = require("indexedcp/promise")
for (const entry of ["client", "client-node", "index", "promise", "protocol", "server", "server-node", "testing"]) {
  require(entry === "index" ? "indexedcp" : "indexedcp/" + entry)
}
const client = new IndexCPClient({ apiKey: "k", serverUrl: "${url}" })
client.addFile("a.txt").then(() => client.uploadBufferedFiles()).then(console.log)
console.log(typeof IndexedCPServer)`,
      at
    )
    expect(said).toBe("function\n{ 'a.txt': 'a.txt' }\n")
  })

  it("end while a client that was closed had been uploading in the background", async () => {
    const at = folder()
    await finish(
      "closed.js",
      `${imports}
const client = new IndexCPClient({ apiKey: "k", serverUrl: "http://127.0.0.1:1/upload" })
await client.addStream("a", ["a"])
client.startUploadBackground()
await new Promise((resolve) => (client.onUploadProgress = resolve))
await client.close()`,
      at
    )
  })

  it.runIf(!isWindows)("with a simple server keep nothing of a body that the disk has no room for", async () => {
    const at = folder()
    write(at, "out.bin", "x".repeat(800_000))
    const program = await installed.run(
      "simple.js",
      `${imports}
const server = createSimpleServer("out.bin", 0)
server.on("listening", () => console.log("port " + server.address().port))`,
      // no file beyond 1000 KiB
      { cwd: at, under: ["bash", "-c", "ulimit -f 1000; exec \"$0\" \"$@\""] }
    )
    const url = `http://127.0.0.1:${await program.said(/port (\d+)/)}/upload`
    const send = async (bytes: number) => (await fetch(url, { method: "POST", body: new Uint8Array(bytes) })).status
    expect(await send(500_000)).toBe(500)
    expect(Fs.statSync(Path.join(at, "out.bin")).size).toBe(800_000)
    expect(await send(100_000)).toBe(200)
    expect(Fs.statSync(Path.join(at, "out.bin")).size).toBe(900_000)
    expect(filesIn(at)).toEqual(["out.bin"])
  })

  it("go on while an upload in the background does", async () => {
    const { folder: received, url } = await listening()
    const at = folder()
    await finish(
      "going.js",
      `${imports}
const client = new IndexCPClient({ apiKey: "k", onUploadComplete: () => client.close() })
client.startUploadBackground("${url}")
client.addStream("a", ["a"])`,
      at
    )
    expect(filesIn(received)).toEqual(["a"])
  })

  it("ask for the key on a terminal, without showing it, and once", async () => {
    const { url } = await listening()
    const program = await installed.run(
      "asking.js",
      `${imports}
const client = new IndexCPClient({ serverUrl: "${url}" })
await Promise.all(["a", "b"].map((name) => client.uploadChunk("${url}", Buffer.from(name), 0, name)))
console.log(await client.getApiKey() === "k" ? "right" : "wrong")`,
      {
        cwd: folder(),
        under: ["python3", Path.resolve(import.meta.dirname, "../support/onTerminal.py")],
        variables: { PTY_ANSWERS: "k\r" }
      }
    )
    const { code, stdout } = await program.ended
    expect({ code, stdout }).toEqual({ code: 0, stdout: "API key? \r\nright\r\n" })
  })

  it("end with the error's name and code when nobody catches it", async () => {
    const program = await installed.run(
      "uncaught.js",
      `${imports}
await new IndexCPClient().addFile("missing.txt")`,
      { cwd: folder() }
    )
    const { code, stderr } = await program.ended
    expect(code).toBe(1)
    expect(stderr).toContain("FileNotFoundError: File not found: missing.txt")
    expect(stderr).toContain("code: 'ENOENT'")
    expect(stderr).not.toContain("FiberFailure")
  })
})
