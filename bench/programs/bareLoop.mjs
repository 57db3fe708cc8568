// What durable small files cost without any server: write, fdatasync, link, unlink. `node bareLoop.mjs <from folder> <to folder>`.
import { closeSync, fdatasyncSync, linkSync, openSync, readdirSync, readFileSync, unlinkSync, writeSync } from "node:fs"
import { join } from "node:path"

const [from, to] = process.argv.slice(2)
for (const name of readdirSync(from)) {
  const part = join(to, `${name}.part`)
  const handle = openSync(part, "wx")
  writeSync(handle, readFileSync(join(from, name)))
  fdatasyncSync(handle)
  closeSync(handle)
  linkSync(part, join(to, name))
  unlinkSync(part)
}
