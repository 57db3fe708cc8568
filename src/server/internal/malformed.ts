/**
 * Requests that Node's parser lets through though RFC 9112 does not, and the answers to bytes that are no request.
 *
 * @internal
 */
import type * as Http from "node:http"
import type { Refusal } from "./refused.ts"

const malformed = (message: string): Refusal => ({ status: 400, error: "Malformed request", message })

/** The values of a header, one for each time it was sent. */
const valuesOf = ({ rawHeaders }: Http.IncomingMessage, name: string): ReadonlyArray<string> =>
  rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]!.toLowerCase() === name)

/** A name or an address, and a port. It may be empty. */
const isHost = (value: string) => /^[\w.~!$&'()*+,;=:%[\]-]*$/.test(value)

/**
 * Why the framing or the addressee of a request cannot be trusted. A proxy in front may have seen other borders between
 * requests, so whatever follows such a request must not be taken for one.
 */
export const faultOf = (request: Http.IncomingMessage): Refusal | undefined => {
  if (request.httpVersionMajor !== 1) return malformed("This server speaks HTTP/1.1 and HTTP/1.0; send one of these")
  const isOld = request.httpVersionMinor === 0
  const codings = valuesOf(request, "transfer-encoding")
  if (codings.length > 0) {
    if (isOld) return malformed("HTTP/1.0 knows no Transfer-Encoding; send Content-Length, or speak HTTP/1.1")
    if (codings.length > 1 || codings[0]!.toLowerCase() !== "chunked") {
      return malformed("Send one Transfer-Encoding that is chunked, or Content-Length")
    }
  }
  const hosts = valuesOf(request, "host")
  if (hosts.length > 1 || (hosts.length === 0 && !isOld) || !hosts.every(isHost)) {
    return malformed("Send one Host header with the name and port of this server")
  }
  return undefined
}

/** The path of a target in absolute form, as clients send it to a proxy; any other target as it is. */
export const pathOf = (target: string): string => {
  const found = /^https?:\/\/[^/?#]*(.*)$/i.exec(target)
  return found === null ? target : found[1]!.startsWith("/") ? found[1]! : `/${found[1]}`
}

/** CONNECT. */
export const noProxy = malformed("This server is no proxy; send requests for its own paths")

/** An expectation other than `100-continue`. */
export const unmet: Refusal = {
  status: 417,
  error: "Expectation failed",
  message: "The only expectation this server knows is 100-continue; leave out the Expect header"
}

const messages: Readonly<Record<string, string>> = {
  HPE_INVALID_METHOD: "These bytes are no HTTP request; check that the URL says https where the server has TLS",
  HPE_INVALID_TRANSFER_ENCODING: "Send one Transfer-Encoding that is chunked and no Content-Length, or the reverse",
  HPE_INVALID_CONTENT_LENGTH: "Send one Content-Length that is a whole number and no Transfer-Encoding, or the reverse",
  HPE_UNEXPECTED_CONTENT_LENGTH: "Send Content-Length once and without Transfer-Encoding",
  HPE_INVALID_CHUNK_SIZE: "The size of a piece of the chunked coding is no hexadecimal number",
  HPE_CHUNK_EXTENSIONS_OVERFLOW: "The extensions of the chunked coding are too long; leave them out",
  HPE_INVALID_EOF_STATE: "The request ended before it was whole; send it again",
  HPE_PAUSED_H2_UPGRADE: "This server speaks HTTP/1.1 and HTTP/1.0; send one of these",
  HPE_INVALID_VERSION: "This server speaks HTTP/1.1 and HTTP/1.0; send one of these"
}

/** The answer to what Node's parser refused, by the code of its error. */
export const refusalOf = (code: string, limits: { readonly maxHeaderSize: number; readonly headersTimeout: number }) =>
  code === "HPE_HEADER_OVERFLOW"
    ? {
      status: 431,
      error: "Headers too large",
      message: `The headers have more than ${limits.maxHeaderSize} bytes; send fewer or shorter ones`
    }
    : code === "ERR_HTTP_REQUEST_TIMEOUT"
    ? {
      status: 408,
      error: "Too slow",
      message: `The headers took longer than ${limits.headersTimeout / 1000} seconds; send the request again`
    }
    : malformed(messages[code] ?? "These bytes are no valid HTTP request; check the client")
