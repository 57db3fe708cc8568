/**
 * Measures the project beside other programs: `npm run bench -- --cases A,C --rounds 5`. README.md says how to read it.
 *
 * @module
 */
import * as Url from "node:url"
import { buffered } from "./cases/buffered.ts"
import { direct } from "./cases/direct.ts"
import { growth } from "./cases/growth.ts"
import { memory } from "./cases/memory.ts"
import { smallChunks } from "./cases/smallChunks.ts"
import { smallFiles } from "./cases/smallFiles.ts"
import { start } from "./cases/start.ts"
import { uploaders } from "./cases/uploaders.ts"
import { install } from "./support/install.ts"
import { type Case, measure } from "./support/session.ts"
import * as Settings from "./support/settings.ts"

const cases: Readonly<Record<string, Case>> = {
  A: direct,
  B: buffered,
  C: smallFiles,
  D: uploaders,
  E: smallChunks,
  F: memory,
  G: growth,
  H: start
}

const args = process.argv.slice(2)
const settings = Settings.parse(args, Object.keys(cases), Url.fileURLToPath(new URL("latest", import.meta.url)))
install()
await measure("Measurements", ["npm run bench", ...(args.length > 0 ? ["--", ...args] : [])].join(" "), settings, cases)
