/** Client and server in one program: `npx tsx examples/complete-demo.ts <file>`. */
import { IndexCPClient, IndexCPServer } from "indexedcp/promise"

const file = process.argv[2] ?? "./README.md"

await using server = new IndexCPServer({ outputDir: "./uploads", port: 0, apiKey: "demo-key" })
await server.listen()
const url = `http://127.0.0.1:${server.address().port}/upload`
console.log(`Listening on ${url}`)

await using client = new IndexCPClient({ apiKey: "demo-key", serverUrl: url })
console.log(`${await client.addFile(file)} chunks in the buffer`)

const results = await client.uploadBufferedFiles()
console.log(`Uploaded: ${file} -> ${results[file]}`)
