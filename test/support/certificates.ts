/**
 * Certificates that nobody trusts.
 *
 * @module
 */
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as RawFiles from "./rawFiles.ts"

export interface Certificate {
  /** PEM. */
  readonly cert: string
  /** PEM. */
  readonly key: string
}

/** Signed by itself, for a name or an address like `IP:127.0.0.1` or `DNS:localhost`. */
export const selfSigned = (subjectAltName: string): Effect.Effect<Certificate> =>
  Effect.scoped(Effect.map(RawFiles.temporaryFolder, (folder) => {
    const [cert, key] = ["cert.pem", "key.pem"].map((name) => Path.join(folder, name)) as [string, string]
    const kind = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test".split(" ")
    const files = ["-keyout", key, "-out", cert]
    execFileSync("openssl", ["req", "-x509", ...kind, "-addext", `subjectAltName=${subjectAltName}`, ...files], {
      stdio: "pipe"
    })
    return { cert: Fs.readFileSync(cert, "utf8"), key: Fs.readFileSync(key, "utf8") }
  }))
