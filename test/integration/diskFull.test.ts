import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync, spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import * as Cli from "../support/cli.ts"

const mountSmall = `mount -t tmpfs -o size=8m tmpfs "$0"`

/** Linux, where it lets this user make a mount that only its own processes see. */
const canMount = spawnSync("unshare", ["-Urm", "sh", "-c", mountSmall, "/mnt"]).status === 0

/** Mounts 8 MiB over the folder `$0`, which are taken, or free again, by a word in the pipe `$1`; `$2` tells when it is done. */
const onSmallDisk = `${mountSmall} || exit 1
(while read -r word < "$1"; do
  if [ "$word" = fill ]; then cat /dev/zero > "$0/.ballast" 2> /dev/null; else rm "$0/.ballast"; fi
  echo > "$2"
done) &
shift 2
exec "$@"`

const mebibyte = 1024 * 1024

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
          const words = [process.execPath, Path.join(Cli.bundle, "dist/bin/indexcp.js")]
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
      const bytes = Cli.bytesOf(4 * mebibyte)
      const folder = yield* Cli.folderWith({ "big.bin": bytes })
      const disk = Path.join(home, "disk")
      const [orders, done] = [Path.join(home, "orders"), Path.join(home, "done")]
      yield* Effect.promise(() => Fs.mkdir(disk))
      execFileSync("mkfifo", [orders, done])
      const order = (word: "fill" | "clear") =>
        Effect.promise(async () => {
          await Fs.writeFile(orders, `${word}\n`)
          await Fs.readFile(done)
        })
      const variables = { INDEXCP_API_KEY: "k" }
      const words = ["--port", "0", "--output-dir", disk, "--min-free-space", "0"]
      const server = yield* Cli.start("indexcp-server", words, {
        home,
        variables,
        under: ["unshare", "-Urm", "sh", "-c", onSmallDisk, disk, orders, done]
      })
      const url = yield* server.said(/http:\S+/)
      const inDisk = Path.join(`/proc/${server.child.pid}/root`, disk)
      const client = (...words: ReadonlyArray<string>) =>
        Effect.flatMap(Cli.start("indexcp", words, { home, variables, cwd: folder }), ({ ended }) => ended)
      const authorization = "Bearer k"
      const send = (at: number) =>
        Effect.promise(async () =>
          (await fetch(url, {
            method: "POST",
            body: Uint8Array.from(bytes.subarray(at * mebibyte, (at + 1) * mebibyte)),
            headers: {
              authorization,
              "x-file-name": "half.bin",
              "x-upload-id": "half",
              "x-chunk-offset": String(at * mebibyte),
              "x-file-size": String(bytes.length)
            }
          })).status
        )
      const received = Effect.promise(async () =>
        (await (await fetch(`${url}/half`, { headers: { authorization } })).json() as {
          readonly bytesReceived: number
        })
          .bytesReceived
      )

      expect(yield* send(0)).toBe(200)
      yield* order("fill")
      expect(yield* send(1)).toBe(507)
      expect(yield* received).toBe(mebibyte)
      yield* client("add", "--chunk-size", "256KiB", "big.bin")
      const full = yield* client("upload", "--max-retries", "0", url)
      expect(full.code).toBe(5)
      expect(full.stderr).toContain("507")
      expect(yield* Effect.promise(() => Fs.readdir(inDisk))).not.toContain("big.bin")

      yield* order("clear")
      expect([yield* send(1), yield* send(2), yield* send(3)]).toEqual([200, 200, 200])
      expect((yield* Cli.contentOf(inDisk, "half.bin")).equals(bytes)).toBe(true)
      // its file does not fit beside the other one any more
      yield* Effect.promise(() => Fs.rm(Path.join(inDisk, "half.bin")))
      const roomy = yield* client("upload", "--max-retries", "0", url)
      expect(roomy.code).toBe(0)
      expect((yield* Cli.contentOf(inDisk, "big.bin")).equals(bytes)).toBe(true)
    }))
})
