// The least that a server in Node can do: pipes the body of each PUT into a file at an offset. `node pipeServer.mjs <folder>`.
import { closeSync, createWriteStream, openSync } from "node:fs"
import { createServer } from "node:http"
import { basename, join } from "node:path"
import { pipeline } from "node:stream"

const [folder] = process.argv.slice(2)
const server = createServer((request, response) => {
  const file = join(folder, basename(request.url))
  closeSync(openSync(file, "a"))
  pipeline(request, createWriteStream(file, { flags: "r+", start: Number(request.headers["x-offset"]) }), (error) => {
    if (error) return response.destroy()
    response.writeHead(204).end()
  })
})
server.listen(0, "127.0.0.1", () => console.log(`Listening on http://127.0.0.1:${server.address().port}/`))
process.on("SIGTERM", () => process.exit(0))
