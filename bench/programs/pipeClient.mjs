// The client of pipeServer.mjs: one request after the other on one connection. `node pipeClient.mjs <url> <file> <bytes a request>`.
import { open } from "node:fs/promises"
import { Agent, request } from "node:http"
import { basename } from "node:path"

const [url, path, bytes] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: 1 })
const target = new URL(basename(path), url)
const buffer = Buffer.allocUnsafeSlow(Number(bytes))

const put = (body, offset) =>
  new Promise((resolve, reject) =>
    request(target, { agent, method: "PUT", headers: { "content-length": body.length, "x-offset": offset } })
      .on("error", reject)
      .on("response", (response) => {
        response.on("end", () =>
          response.statusCode === 204 ? resolve() : reject(new Error(`status ${response.statusCode}`))
        ).resume()
      })
      .end(body)
  )

const file = await open(path)
for (let offset = 0;;) {
  const { bytesRead } = await file.read(buffer, 0, buffer.length, offset)
  if (bytesRead === 0) break
  await put(buffer.subarray(0, bytesRead), offset)
  offset += bytesRead
}
await file.close()
agent.destroy()
