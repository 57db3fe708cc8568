/**
 * `indexcp verify`.
 *
 * @module
 */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Uploader from "../client/Uploader.ts"
import type { Verdict, Verification } from "../client/UploadEvent.ts"
import * as Client from "./Client.ts"
import * as ExitCode from "./ExitCode.ts"
import { print, tell } from "./main.ts"
import * as Plan from "./Plan.ts"
import { url } from "./send.ts"

const verdicts: Readonly<Record<Verdict, string>> = {
  same: "as it was sent",
  different: "DIFFERENT on the server",
  gone: "gone from the server",
  unknown: "not remembered by the server",
  unverifiable: "cannot be verified: the server speaks revision 1"
}

/** The `verify` command. */
export const verify = Command.make("verify", {
  ...Client.buffer,
  ...Client.reaching,
  url,
  files: Args.text({ name: "file" }).pipe(Args.withDescription("Only these, as they were added"), Args.repeated)
}, ({ files, url, ...settings }) =>
  Effect.gen(function*() {
    const uploader = yield* Uploader.Uploader
    yield* Plan.warnOfPlainHttp([yield* Uploader.endpointOf(url)])
    yield* Client.findKey
    const found: Array<Verification> = []
    yield* Stream.runForEach(uploader.verify(url), (verification) => {
      const { receipt, verdict } = verification
      if (files.length > 0 && !files.includes(receipt.path)) return Effect.void
      found.push(verification)
      return print(`${receipt.path} -> ${receipt.serverName}: ${verdicts[verdict]}`)
    })
    const missing = files.filter((file) => !found.some(({ receipt }) => receipt.path === file))
    yield* Effect.forEach(missing, (file) => tell(`${file}: there is no receipt of it from this server`), {
      discard: true
    })
    const count = (wanted: (verdict: Verdict) => boolean) => found.filter(({ verdict }) => wanted(verdict)).length
    const wrong = count((verdict) => verdict !== "same" && verdict !== "unverifiable")
    yield* tell(
      `${count((verdict) => verdict === "same")} as they were sent, ${wrong} not, ` +
        `${count((verdict) => verdict === "unverifiable")} not verifiable`
    )
    if (wrong + missing.length > 0) return yield* new ExitCode.Exit({ code: ExitCode.failed })
  }).pipe(Effect.provide(Client.layer(settings)))).pipe(
    Command.withDescription("Ask a server to read again the files that it has received")
  )
