import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync, spawnSync } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import * as Cli from "../support/cli.ts"

const mountSmall = `mount -t tmpfs -o size=8m tmpfs "$0"`

/** Linux, where it lets this user make a mount that only its own processes see. */
const canMount = spawnSync("unshare", ["-Urm", "sh", "-c", mountSmall, "/mnt"]).status === 0

/** Mounts 8 MiB over the folder `$0`, all but 3 of them taken until the pipe `$1` is written to; `$2` tells when it is done. */
const onSmallDisk = `${mountSmall} || exit 1
head -c 5m /dev/zero > "$0/.ballast"
(read -r _ < "$1"; rm "$0/.ballast"; echo > "$2") &
shift 2
exec "$@"`

let bundle: string
beforeAll(async () => {
  bundle = await Cli.bundle()
})
afterAll(() => Fs.rm(bundle, { recursive: true, force: true }))

describe.runIf(canMount)("A server whose disk is full, on a mounted file system (Linux)", () => {
  it.scopedLive("answers 507, keeps what it acknowledged, and takes the rest once there is room", () =>
    Effect.gen(function*() {
      const home = yield* Cli.temporaryFolder
      const folder = yield* Cli.folderWith({ "big.bin": Cli.bytesOf(4 * 1024 * 1024) })
      const disk = Path.join(home, "disk")
      const [makeRoom, roomMade] = [Path.join(home, "make-room"), Path.join(home, "room-made")]
      yield* Effect.promise(() => Fs.mkdir(disk))
      execFileSync("mkfifo", [makeRoom, roomMade])
      const variables = { INDEXCP_API_KEY: "k" }
      const server = yield* Cli.start("indexcp-server", ["--port", "0", "--output-dir", disk], {
        bundle,
        home,
        variables,
        under: ["unshare", "-Urm", "sh", "-c", onSmallDisk, disk, makeRoom, roomMade]
      })
      const url = yield* server.said(/http:\S+/)
      const inDisk = Path.join(`/proc/${server.child.pid}/root`, disk)
      const client = (...words: ReadonlyArray<string>) =>
        Effect.flatMap(Cli.start("indexcp", words, { bundle, home, variables, cwd: folder }), ({ ended }) => ended)

      yield* client("add", "--chunk-size", "256KiB", "big.bin")
      const full = yield* client("upload", "--max-retries", "0", url)
      expect(full.code).toBe(5)
      expect(full.stderr).toContain("507")
      expect(yield* Effect.promise(() => Fs.readdir(inDisk))).not.toContain("big.bin")

      yield* Effect.promise(() => Fs.writeFile(makeRoom, "go\n"))
      yield* Effect.promise(() => Fs.readFile(roomMade))
      const roomy = yield* client("upload", "--max-retries", "0", url)
      expect(roomy.stderr).toMatch(/big\.bin: sending 4\.\d+ MiB, \d.* of them sent before/)
      expect(roomy.code).toBe(0)
      const [sent, received] = [yield* Cli.contentOf(folder, "big.bin"), yield* Cli.contentOf(inDisk, "big.bin")]
      expect(received.equals(sent)).toBe(true)
    }))
})
