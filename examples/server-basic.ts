/** A server that takes files into a folder: `npx tsx examples/server-basic.ts`. */
import { IndexCPServer } from "indexedcp/promise"

const server = new IndexCPServer({
  outputDir: "./uploads",
  port: Number(process.env["PORT"] ?? 3000),
  apiKey: process.env["INDEXCP_API_KEY"] ?? "your-secure-api-key"
})

await server.listen()
console.log(`Listening on http://127.0.0.1:${server.address().port}/upload`)

// uploads that are on their way end before the program does
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.close())
