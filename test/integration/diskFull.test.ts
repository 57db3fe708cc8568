import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync, spawn, spawnSync } from "node:child_process"
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

describe.runIf(canMount)("A buffer whose disk is nearly full, on a mounted file system (Linux)", () => {
  it.scopedLive("takes nothing that would keep it from being emptied, and says so", () =>
    Effect.gen(function*() {
      const home = yield* Cli.temporaryFolder
      yield* Effect.promise(() => Fs.mkdir(Path.join(home, ".indexcp")))
      // 60 MiB, of which 48 stay free
      const script = `mount -t tmpfs -o size=60m tmpfs "$0/.indexcp" || exit 1
echo a | "$@" add - --name small
head -c 40m /dev/zero | "$@" add - --name big; echo "code $?"
"$@" list | cut -d" " -f1; "$@" clear --yes && "$@" list`
      const full = yield* Effect.promise(() =>
        new Promise<{ readonly code: number; readonly out: string }>((resolve) => {
          const words = [process.execPath, Path.join(bundle, "dist/bin/indexcp.js")]
          const child = spawn("unshare", ["-Urm", "sh", "-c", script, home, ...words], {
            env: { PATH: process.env["PATH"], HOME: home }
          })
          let out = ""
          for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => out += String(text))
          child.once("close", (code) => resolve({ code: code ?? -1, out }))
        })
      )
      expect(full.out).toContain("48 MiB are left free")
      expect(full.out).toMatch(/code 3\nNAME\nsmall\nBuffer cleared\nNo files in buffer\n$/)
      expect(full.code).toBe(0)
    }))
})

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
