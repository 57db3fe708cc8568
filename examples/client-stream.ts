/** A file read and sent chunk by chunk, without the buffer: `npx tsx examples/client-stream.ts <url> <file>`. */
import { IndexCPClient } from "indexedcp/promise"
import { createReadStream } from "node:fs"

const [url = "http://127.0.0.1:3000/upload", file = "./README.md"] = process.argv.slice(2)

const client = new IndexCPClient({ chunkSize: 1024 * 1024 })

let index = 0
for await (const bytes of createReadStream(file, { highWaterMark: client.chunkSize })) {
  // in order, each after the answer to the one before; to try one again is up to you
  const { data } = await client.uploadChunk(url, bytes as Buffer, index, file)
  console.log(`Uploaded chunk ${index} of ${data.actualFilename}`)
  index++
}

console.log("Streaming upload complete")
await client.close()
