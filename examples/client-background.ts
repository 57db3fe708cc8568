/** An upload that goes on in the background: `npx tsx examples/client-background.ts <url> <file>...`. */
import { IndexCPClient } from "indexedcp/promise"

const [url = "http://127.0.0.1:3000/upload", ...files] = process.argv.slice(2)

const client = new IndexCPClient({
  serverUrl: url,
  onUploadProgress: ({ bytesSent, bytesTotal, error, fileName, nextRetryIn, status }) => {
    if (status === "success") console.log(`${fileName}: ${bytesSent} of ${bytesTotal} bytes`)
    else console.log(`${fileName}: ${error}; next try in ${Math.round((nextRetryIn ?? 0) / 1000)} s`)
  },
  onUploadError: (error, fileName) => console.error(`${fileName ?? "Upload"}: ${error.message}`),
  onUploadComplete: ({ succeeded, total }) => {
    console.log(`Uploaded ${succeeded} of ${total} files`)
    // a program that lives on would leave it running, and add files whenever it has some
    void client.close()
  }
})

for (const file of files) await client.addFile(file)
client.startUploadBackground()
