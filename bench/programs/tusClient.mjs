// Sends a file, or every file of a folder, with tus-js-client: `node tusClient.mjs <url> <path> <chunk size | default> <at once>`.
import { createReadStream, readdirSync, statSync } from "node:fs"
import { basename, join } from "node:path"
import { Upload } from "tus-js-client"

const [endpoint, path, chunk, parallel] = process.argv.slice(2)

const send = (file) =>
  new Promise((resolve, reject) =>
    new Upload(createReadStream(file), {
      endpoint,
      metadata: { filename: basename(file) },
      ...(chunk === "default" ? {} : { chunkSize: Number(chunk) }),
      retryDelays: null,
      onSuccess: resolve,
      onError: reject
    }).start()
  )

const files = statSync(path).isDirectory() ? readdirSync(path).map((name) => join(path, name)) : [path]
const remaining = files.values()
const worker = async () => {
  for (const file of remaining) await send(file)
}
await Promise.all(Array.from({ length: Math.min(Number(parallel), files.length) }, worker))
