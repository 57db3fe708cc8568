/**
 * What errors of Node and undici are said to mean.
 *
 * @module
 */
import * as HttpClientError from "@effect/platform/HttpClientError"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import { describe, expect, it } from "@effect/vitest"
import * as HttpFailure from "../../src/client/internal/httpFailure.ts"

const of = (cause: unknown, nothingSent?: boolean) =>
  HttpFailure.make(
    new HttpClientError.RequestError({
      request: HttpClientRequest.post("https://me:word@server.test:8443/upload?q").pipe(
        HttpClientRequest.bearerToken("the secret key")
      ),
      reason: "Transport",
      cause
    }),
    nothingSent
  )

const trouble = (code: string, more: object = {}) => Object.assign(new Error("words"), { code, ...more })

describe("httpFailure", () => {
  it.each([
    trouble("ECONNREFUSED", { syscall: "connect" }),
    trouble("ENOTFOUND", { syscall: "getaddrinfo" }),
    trouble("EAI_AGAIN", { syscall: "getaddrinfo" }),
    trouble("ETIMEDOUT", { syscall: "connect" }),
    trouble("EHOSTUNREACH", { syscall: "connect" }),
    trouble("ENETUNREACH", { syscall: "connect" }),
    trouble("UND_ERR_CONNECT_TIMEOUT"),
    trouble("CERT_HAS_EXPIRED"),
    trouble("UNABLE_TO_VERIFY_LEAF_SIGNATURE"),
    trouble("ERR_TLS_CERT_ALTNAME_INVALID"),
    trouble("UND_ERR_PRX_TLS"),
    new TypeError("fetch failed", { cause: trouble("ECONNREFUSED") }),
    new AggregateError([trouble("ETIMEDOUT", { syscall: "connect" }), trouble("ENETUNREACH", { syscall: "connect" })])
  ])("knows when nothing was sent: $code $errors", (cause) => {
    const error = of(cause)
    expect(error._tag).toBe("Unreachable")
    expect(error.message).toContain("server.test:8443")
  })

  it.each([
    trouble("ECONNRESET", { syscall: "read" }),
    trouble("EPIPE", { syscall: "write" }),
    trouble("ETIMEDOUT", { syscall: "read" }),
    trouble("EHOSTUNREACH", { syscall: "read" }),
    trouble("ENETUNREACH", { syscall: "write" }),
    trouble("UND_ERR_SOCKET"),
    trouble("HPE_INVALID_CONSTANT"),
    trouble("ERR_SSL_SSLV3_ALERT_BAD_RECORD_MAC"),
    new TypeError("fetch failed"),
    undefined
  ])("is in doubt when an open connection may have broken, unless the caller knows: $code $syscall", (cause) => {
    expect(of(cause)._tag).toBe("NoAnswer")
    expect(of(cause, true)._tag).toBe("Unreachable")
  })

  it("says what a person can do about a certificate", () => {
    expect(of(trouble("CERT_HAS_EXPIRED")).message).toBe(
      "server.test:8443 cannot be trusted: its certificate has expired, or the clock of this machine is wrong " +
        "(CERT_HAS_EXPIRED). If it is the right server, name its certificate with --cacert; if this network wants a " +
        "login, log in first"
    )
  })

  it("names the address that failed, which may be a proxy's", () => {
    expect(of(trouble("ECONNREFUSED", { syscall: "connect", address: "10.0.0.1", port: 3128 })).message).toBe(
      "server.test:8443 cannot be reached: nobody listens there, or a firewall refuses (ECONNREFUSED 10.0.0.1:3128)"
    )
  })
})
