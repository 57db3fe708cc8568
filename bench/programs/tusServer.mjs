// A tus server with its own defaults over a folder: `node tusServer.mjs <folder>`.
import { FileStore } from "@tus/file-store"
import { Server } from "@tus/server"

const [directory] = process.argv.slice(2)
const server = new Server({ path: "/files", datastore: new FileStore({ directory }) })
const listening = server.listen({ host: "127.0.0.1", port: 0 }, () =>
  console.log(`Listening on http://127.0.0.1:${listening.address().port}/files`)
)
process.on("SIGTERM", () => process.exit(0))
