/**
 * What went wrong with a request that got no answer, in words and as one of the two errors that a caller can tell apart.
 *
 * @internal
 */
import type * as HttpClientError from "@effect/platform/HttpClientError"
import { NoAnswer, Unreachable } from "../Transport.ts"

/** An error of Node or undici, or the plain one within it. */
interface Trouble {
  readonly name?: string
  readonly code?: string | undefined
  readonly syscall?: string
  readonly message?: string
  readonly address?: string
  readonly port?: number
  readonly cause?: unknown
  readonly errors?: ReadonlyArray<unknown>
}

/** An error with all that it stands for: its causes, and each address that was tried. */
const troubles = (cause: unknown): ReadonlyArray<Trouble> => {
  if (typeof cause !== "object" || cause === null) return []
  const trouble: Trouble = cause
  return [trouble, ...[trouble.cause, ...(trouble.errors ?? [])].flatMap(troubles)]
}

/** undici's parser has codes for some errors only. */
const codeOf = ({ code, name }: Trouble): string | undefined => code ?? (name === "HTTPParserError" ? "HPE" : undefined)

/** Parsers keep what came, and that may be the request with its key, from somebody who sends everything back. */
const withoutBytes = (cause: unknown, found: ReadonlyArray<Trouble>): unknown =>
  found.some((trouble) => "data" in trouble || "rawPacket" in trouble)
    ? new Error(found.map(({ message }) => message).join(": "))
    : cause

const noWay = "there is no way to it from this network"
const unknownAuthority = "its certificate comes from an authority that is unknown here"
const clock = "or the clock of this machine is wrong"

const certificates: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is signed by itself",
  SELF_SIGNED_CERT_IN_CHAIN: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
  CERT_UNTRUSTED: unknownAuthority,
  CERT_HAS_EXPIRED: `its certificate has expired, ${clock}`,
  CERT_NOT_YET_VALID: `its certificate is not valid yet, ${clock}`,
  CERT_REVOKED: "its certificate was revoked",
  CERT_REJECTED: "its certificate is not made for this",
  CERT_SIGNATURE_FAILURE: "its certificate is damaged",
  CERT_CHAIN_TOO_LONG: "its certificate has too many authorities above it",
  INVALID_CA: "its certificate comes from somebody who may not give any",
  INVALID_PURPOSE: "its certificate is not made for this",
  PATH_LENGTH_EXCEEDED: "its certificate has too many authorities above it",
  HOSTNAME_MISMATCH: "its certificate is for another name",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name"
}

const words: Readonly<Record<string, string>> = {
  ...certificates,
  ECONNREFUSED: "nobody listens there, or a firewall refuses",
  ENOTFOUND: "its name is unknown, or there is no network",
  EAI_AGAIN: "its name cannot be looked up; is there a network?",
  EHOSTUNREACH: noWay,
  ENETUNREACH: noWay,
  EHOSTDOWN: noWay,
  ENETDOWN: noWay,
  EADDRNOTAVAIL: noWay,
  ETIMEDOUT: "it did not answer in time",
  UND_ERR_CONNECT_TIMEOUT: "it did not answer in time",
  ECONNRESET: "the other side cut it",
  ECONNABORTED: "the other side cut it",
  EPIPE: "the other side cut it",
  UND_ERR_SOCKET: "the other side closed it",
  UND_ERR_PRX_TLS: "no secure connection to the proxy",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: "the answer was cut short",
  ERR_SSL_WRONG_VERSION_NUMBER: "no TLS is spoken there; is it http:// instead of https://?",
  EPROTO: "no secure connection could be agreed on"
}

/** Only ever seen before a request is written. `ETIMEDOUT` and the like also end an open connection: see `syscall`. */
const beforeSending: ReadonlySet<string> = new Set([
  ...Object.keys(certificates),
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_PRX_TLS"
])

const isBeforeSending = ({ code = "", syscall = "" }: Trouble): boolean =>
  beforeSending.has(code) || syscall === "connect" || syscall === "getaddrinfo"

const proxyAnswer = /^Proxy response \((\d{3})\)|^Proxy Authentication Required \((407)\)/

const hostOf = (error: HttpClientError.HttpClientError) => new URL(error.request.url).host

/**
 * An error of the client library, without the request that it carries. `Unreachable` is said only when it is certain that
 * no byte of a body was sent: by the caller, or by the error.
 */
export const make = (error: HttpClientError.HttpClientError, nothingSent = false): Unreachable | NoAnswer => {
  const host = hostOf(error)
  const found = troubles(error.cause)
  const [, status, authentication] =
    found.map(({ message = "" }) => proxyAnswer.exec(message)).find((match) => match !== null) ?? []
  const proxy = status ?? authentication
  const named = found.find((trouble) => (codeOf(trouble) ?? "") in words) ?? found.find((trouble) => codeOf(trouble))
  const code = (named && codeOf(named)) ?? error.reason
  const address = named?.address === undefined ? "" : ` ${named.address}${named.port ? `:${named.port}` : ""}`
  const why = proxy === undefined
    ? code.startsWith("HPE") ? "what came back is no HTTP" : words[code]
    : proxy === "407"
    ? "the proxy wants a name and a password, as in http://name:password@proxy:3128"
    : `the proxy on the way answered ${proxy}`
  const because = `${why === undefined ? "" : `: ${why}`} (${code}${address})`
  const cause = withoutBytes(error.cause, found)
  if (code in certificates) {
    return new Unreachable({
      message: `${host} cannot be trusted${because}. If it is the right server, name its certificate with --cacert; ` +
        `if this network wants a login, log in first`,
      cause
    })
  }
  return nothingSent || proxy !== undefined || found.some(isBeforeSending)
    ? new Unreachable({ message: `${host} cannot be reached${because}`, cause })
    : new NoAnswer({ message: `The connection to ${host} broke${because}`, cause })
}
