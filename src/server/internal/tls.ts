/**
 * The certificate and the key of a server, from files that may change while it runs.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto"
import * as Fs from "node:fs/promises"
import type * as Https from "node:https"
import * as Tls from "node:tls"
import { CannotListen, codeOf } from "./listening.ts"

export interface TlsFiles {
  /** A PEM file: the certificate, and behind it those that lead to the root. */
  readonly cert: string
  /** A PEM file: the private key, without a passphrase. */
  readonly key: string
  /** Both files are read again for each element. */
  readonly reload?: Stream.Stream<unknown> | undefined
}

const explain: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  EACCES: "no permission to read it",
  EISDIR: "it is a folder"
}

const unusable = (what: string, file: string, fallback: string) => (cause: unknown) =>
  new CannotListen({ message: `Cannot use the ${what} ${file}: ${explain[codeOf(cause)] ?? fallback}`, cause })

const read = (what: string, file: string) =>
  Effect.tryPromise({ try: () => Fs.readFile(file), catch: unusable(what, file, "it cannot be read") })

/** Reads both files and proves that they belong together. */
export const load = (files: TlsFiles): Effect.Effect<Tls.SecureContextOptions, CannotListen> =>
  Effect.gen(function*() {
    const cert = yield* read("certificate", files.cert)
    const key = yield* read("key", files.key)
    const certificate = yield* Effect.try({
      try: () => new X509Certificate(cert),
      catch: unusable("certificate", files.cert, "it holds no certificate in PEM")
    })
    const secret: KeyObject = yield* Effect.try({
      try: () => createPrivateKey(key),
      catch: unusable(
        "key",
        files.key,
        key.includes("ENCRYPTED")
          ? "it has a passphrase; store the key without one"
          : "it holds no private key in PEM"
      )
    })
    if (!certificate.checkPrivateKey(secret)) {
      return yield* new CannotListen({
        message: `Cannot use the key ${files.key}: it does not belong to the certificate ${files.cert}`
      })
    }
    const options: Tls.SecureContextOptions = { cert, key, minVersion: "TLSv1.2" }
    yield* Effect.try({
      try: () => Tls.createSecureContext(options),
      catch: unusable("certificate", files.cert, "TLS does not take it; the log says why")
    })
    return options
  })

/** Gives new connections the pair that is in the files now; what is wrong with it is logged, and the old one stays. */
const renew = (server: Https.Server, files: TlsFiles) =>
  load(files).pipe(
    Effect.flatMap((options) => Effect.sync(() => server.setSecureContext(options))),
    Effect.matchEffect({
      onSuccess: () => Effect.logInfo("The TLS certificate was read again"),
      onFailure: ({ message }) => Effect.logError(`${message}. The old certificate stays in use`)
    })
  )

/** Renews for as long as it runs. */
export const reloading = (server: Https.Server, files: TlsFiles): Effect.Effect<void> =>
  Stream.runForEach(files.reload ?? Stream.empty, () => renew(server, files))
