/**
 * When a client's first byte of a body comes in.
 *
 * @module
 */
import * as Http from "node:http"

/** A server that answers nothing: `happened` has the time (of `performance.now()`) of the first byte of a body. */
export const listen = (): Promise<
  { readonly url: string; readonly happened: Promise<number>; readonly close: () => void }
> =>
  new Promise((resolve, reject) => {
    let seen: (at: number) => void
    const happened = new Promise<number>((first) => {
      seen = first
    })
    const server = Http.createServer((request) => {
      request.on("data", () => seen(performance.now()))
    })
    server.on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      resolve({
        url: `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}/upload`,
        happened,
        close: () => {
          server.close()
          server.closeAllConnections()
        }
      })
    })
  })
