/** The server in an Express app: `npx tsx examples/embed-express.ts`. */
import express from "express"
import { IndexCPServer } from "indexedcp/promise"
import type { AddressInfo } from "node:net"

const uploads = new IndexCPServer({
  outputDir: "./uploads",
  apiKeys: { laptop: "the laptop's key", phone: "the phone's key" },
  onComplete: ({ keyName, name, size }) => console.log(`${keyName} has sent ${name}, ${size} bytes`)
})

const app = express()
app.get("/", (_request, response) => void response.send("The app's own page"))
// before what reads bodies
app.use("/files", uploads.handler())
app.use(express.json())

const server = app.listen(Number(process.env["PORT"] ?? 3000), "127.0.0.1", () => {
  console.log(`Listening on http://127.0.0.1:${(server.address() as AddressInfo).port}/files/upload`)
})

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.once(signal, async () => {
    await uploads.close()
    server.close()
  })
}
