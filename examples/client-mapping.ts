/** Several files, and what the server calls them: `npx tsx examples/client-mapping.ts <url> <file>...`. */
import { IndexCPClient, UploadFailedError } from "indexedcp/promise"

const [url = "http://127.0.0.1:3000/upload", ...files] = process.argv.slice(2)

// the key comes from INDEXCP_API_KEY, or is asked for
const client = new IndexCPClient({ serverUrl: url })

const print = (results: Record<string, string>) => {
  for (const [clientFile, serverFile] of Object.entries(results)) {
    console.log(`Uploaded: ${clientFile} -> ${serverFile}`)
  }
}

for (const file of files) await client.addFile(file)
console.log("Files to upload:", await client.getBufferedFiles())

try {
  print(await client.uploadBufferedFiles())
} catch (error) {
  if (!(error instanceof UploadFailedError)) throw error
  // the others were delivered; these are still in the buffer
  print(error.results)
  for (const [file, reason] of Object.entries(error.failures)) console.error(`Not uploaded: ${file}: ${reason.message}`)
  process.exitCode = 1
} finally {
  await client.close()
}
