/**
 * Asking a person for the API key.
 *
 * @internal
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Readline from "node:readline"
import { Writable } from "node:stream"
import { ApiKeyMissing } from "../../client/ApiKey.ts"

const nothing = new ApiKeyMissing({ message: "No API key was typed" })

/** Whether there is a person to be asked. */
export const isPossible = (): boolean => process.stdin.isTTY === true && process.stderr.isTTY === true

/** Asks on the terminal; what is typed is not shown. */
export const ask: Effect.Effect<Redacted.Redacted, ApiKeyMissing> = Effect.async((resume) => {
  const nowhere = new Writable({ write: (_bytes, _encoding, done) => done() })
  const lines = Readline.createInterface({ input: process.stdin, output: nowhere, terminal: true })
  process.stderr.write("API key? ")
  lines.on("close", () => {
    process.stderr.write("\n")
    resume(nothing)
  })
  lines.on("SIGINT", () => {
    lines.close()
    process.kill(process.pid, "SIGINT")
  })
  lines.question("", (key) => {
    resume(Effect.succeed(Redacted.make(key)))
    lines.close()
  })
  return Effect.sync(() => lines.close())
})
