/** A server that names files itself: `npx tsx examples/server-custom-filename.ts`. */
import { IndexCPServer } from "indexedcp/promise"
import * as path from "node:path"

const server = new IndexCPServer({
  outputDir: "./timestamped_uploads",
  port: Number(process.env["PORT"] ?? 3001),
  apiKey: process.env["INDEXCP_API_KEY"] ?? "your-secure-api-key",
  // asked once for each file; the name may have folders in it, but none that lead out of outputDir
  filenameGenerator: (clientName, _chunkIndex, request) => {
    const { ext, name } = path.parse(clientName)
    return `${request.keyName}/${name}_${Math.floor(Date.now() / 1000)}${ext}`
  }
})

await server.listen()
console.log(`Listening on http://127.0.0.1:${server.address().port}/upload`)

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.close())
