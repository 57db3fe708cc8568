/**
 * Measures parts of the program by themselves: `npm run bench:parts -- --cases buffer,ledger`.
 *
 * @module
 */
import * as Url from "node:url"
import { type Case, measure } from "../support/session.ts"
import * as Settings from "../support/settings.ts"
import { body } from "./body.ts"
import { buffer } from "./buffer.ts"
import { digest } from "./digest.ts"
import { ledger } from "./ledger.ts"
import { receive } from "./receive.ts"
import { send } from "./send.ts"

const cases: Readonly<Record<string, Case>> = { buffer, send, body, receive, digest, ledger }

const args = process.argv.slice(2)
const out = Url.fileURLToPath(new URL("../latest-parts", import.meta.url))
const settings = Settings.parse(args, Object.keys(cases), out)
const command = ["npm run bench:parts", ...(args.length > 0 ? ["--", ...args] : [])].join(" ")
await measure("Parts, measured by themselves", command, settings, cases)
