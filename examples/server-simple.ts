/** A server without a key that appends everything to one file, for trying things out: `npx tsx examples/server-simple.ts`. */
import { createSimpleServer } from "indexedcp/promise"
import type { AddressInfo } from "node:net"

const server = createSimpleServer("./uploaded_file.txt", Number(process.env["PORT"] ?? 3000))

server.on("listening", () => {
  console.log(`Listening on http://127.0.0.1:${(server.address() as AddressInfo).port}/upload`)
})

for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => server.close())
