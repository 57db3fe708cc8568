import { describe, expect, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Option, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import { type CompletedFile, CompletionHook } from "../../src/server/CompletionHook.ts"
import * as Hook from "../../src/server/CompletionHook.ts"
import * as CompletionHookCommand from "../../src/server/CompletionHookCommand.ts"
import { recorder, serving } from "../support/observing.ts"
import { isWindows } from "../support/platform.ts"
import * as RawFiles from "../support/rawFiles.ts"
import { apiKey, authorized, eventually, request } from "../support/rawHttp.ts"

const open = { key: Option.none() }

const sha256 = Sha256.of(new TextEncoder().encode("abc"))

const file = (name: string, more: Partial<CompletedFile> = {}): CompletedFile => ({
  name,
  size: 3,
  sha256,
  keyName: "a key",
  clientName: name,
  uploadId: UploadId.make("u1"),
  ...more
})

const chunk = (id: string, name: string) => ({
  ...authorized,
  "x-file-name": name,
  "x-upload-id": id,
  "x-chunk-offset": 0,
  "x-file-size": 3
})

/** A folder, what is logged, and the hook of a command that runs until the scope closes. */
const commanding = (
  command: string,
  options: Partial<CompletionHookCommand.CommandOptions> = {}
) =>
  Effect.gen(function*() {
    const folder = yield* RawFiles.temporaryFolder
    const logs = recorder()
    const layer = CompletionHookCommand.layer({ command, outputDir: folder, ...options })
    const there = (name: string) => Fs.existsSync(Path.join(folder, name))
    const read = (name: string) => there(name) ? Fs.readFileSync(Path.join(folder, name), "utf8") : ""
    const use = <A, E>(use: (hook: CompletionHook["Type"]) => Effect.Effect<A, E, Scope.Scope>) =>
      Effect.scoped(Effect.provide(Effect.flatMap(CompletionHook, use), Layer.provide(layer, logs.layer)))
    const touch = (name: string) => Effect.sync(() => Fs.writeFileSync(Path.join(folder, name), ""))
    return { folder, layer, logs, read, there, touch, use }
  })

/** Waits in a command for a file in the folder of the uploads. */
const waitFor = (name: string) => `while [ ! -e "$(dirname "$INDEXCP_PATH")/${name}" ]; do sleep 0.01; done`

const withEnvironment = (values: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = Object.keys(values).map((name) => [name, process.env[name]] as const)
      Object.assign(process.env, values)
      return before
    }),
    (before) =>
      Effect.sync(() =>
        before.forEach(([name, value]) => {
          if (value === undefined) delete process.env[name]
          else process.env[name] = value
        })
      )
  )

describe("CompletionHook", () => {
  it.scopedLive("is told of a published file, once, with all that is known of it", () =>
    Effect.gen(function*() {
      const told: Array<CompletedFile> = []
      const first = yield* Deferred.make<void>()
      const layer = Hook.layerFunction((file) =>
        Effect.zipRight(Effect.sync(() => told.push(file)), Deferred.succeed(first, undefined))
      )
      const { port } = yield* serving(Layer.merge(recorder().layer, layer), open)
      yield* request(port, "POST", "/upload", chunk("u1", "/data/a.txt"), "abc")
      yield* Deferred.await(first)
      yield* request(port, "POST", "/upload", chunk("u1", "/data/a.txt"), "abc")
      yield* request(port, "POST", "/upload", { ...authorized, "x-file-name": "revision1.txt" }, "abc")
      expect(told).toEqual([
        { name: "a.txt", size: 3, sha256, keyName: "a key", clientName: "/data/a.txt", uploadId: "u1" }
      ])
    }))

  it.scopedLive("keeps no answer waiting, and its failures are logged and not the uploader's", () =>
    Effect.gen(function*() {
      const logs = recorder()
      const layer = Hook.layerFunction(({ name }) =>
        name === "never.txt"
          ? Effect.never
          : name === "defect.txt"
          ? Effect.dieMessage("a bug")
          : Effect.fail("no such database")
      )
      const { port } = yield* serving(Layer.merge(logs.layer, layer), open)
      for (const name of ["never", "defect", "failure"]) {
        const answer = yield* request(port, "POST", "/upload", chunk(name, `${name}.txt`), "abc")
        expect([answer.status, JSON.parse(answer.body).complete]).toEqual([200, true])
      }
      yield* eventually(() => logs.of("The completion hook failed").length === 2)
      expect(logs.of("The completion hook failed").map(({ annotations, level }) => [level, annotations["file"]]))
        .toEqual([
          ["WARN", "defect.txt"],
          ["WARN", "failure.txt"]
        ])
    }))
})

describe.skipIf(isWindows)("CompletionHookCommand", () => {
  it.scopedLive("runs the command after publishing, with the file in its environment and no key", () =>
    Effect.gen(function*() {
      const secret = "s3cr3t"
      yield* withEnvironment({
        INDEXCP_API_KEY: secret,
        INDEXEDCP_API_KEY: secret,
        INDEXCP_METRICS_KEY: secret,
        OTEL_EXPORTER_OTLP_HEADERS: `authorization=${secret}`,
        INDEXCP_OTHER: "kept"
      })
      const { folder, layer, logs, read, there } = yield* commanding(
        "env -0 > \"$INDEXCP_PATH.env\"; mv \"$INDEXCP_PATH.env\" \"$INDEXCP_PATH.done\""
      )
      const { port } = yield* serving(Layer.provideMerge(layer, logs.layer), open)
      expect((yield* request(port, "POST", "/upload", chunk("u1", "/data/a.txt"), "abc")).status).toBe(200)
      yield* eventually(() => there("a.txt.done"))
      const seen = Object.fromEntries(
        read("a.txt.done").split("\0").map((line) => [line.split("=", 1)[0], line.slice(line.indexOf("=") + 1)])
      )
      expect(seen).toMatchObject({
        INDEXCP_NAME: "a.txt",
        INDEXCP_PATH: Path.join(folder, "a.txt"),
        INDEXCP_SIZE: "3",
        INDEXCP_SHA256: sha256,
        INDEXCP_KEY_NAME: "a key",
        INDEXCP_CLIENT_NAME: "/data/a.txt",
        INDEXCP_UPLOAD_ID: "u1",
        INDEXCP_OTHER: "kept"
      })
      expect(read("a.txt.done")).not.toContain(secret)
      expect(read("a.txt.done")).not.toContain(apiKey)
    }))

  it.scopedLive("takes no name for a command", () =>
    Effect.gen(function*() {
      const { read, there, use } = yield* commanding("printf %s \"$INDEXCP_CLIENT_NAME\" > \"$INDEXCP_PATH.seen\"")
      const hostile = "$(touch pwned); `touch pwned` '\" \n & | \0 ü"
      yield* use((hook) =>
        Effect.zipRight(
          hook.completed(file("a;touch pwned;$(touch pwned) '.txt", { clientName: hostile })),
          eventually(() => there("a;touch pwned;$(touch pwned) '.txt.seen"))
        )
      )
      expect(read("a;touch pwned;$(touch pwned) '.txt.seen")).toBe(hostile.replace("\0", "\uFFFD"))
      expect(there("pwned") || Fs.existsSync("pwned")).toBe(false)
    }))

  it.scopedLive("logs a failure as one warning with the code and the last line of stderr, the rest at debug level", () =>
    Effect.gen(function*() {
      const { logs, use } = yield* commanding(
        "echo out; echo first >&2; printf '\\033[31mlast\\033[0m\\n\\n' >&2; exit 7"
      )
      yield* use((hook) => hook.completed(file("a.txt")))
      expect(logs.lines.filter(({ level }) => level === "WARN")).toEqual([{
        level: "WARN",
        message: "The completion command failed",
        annotations: { file: "a.txt", upload: "u1", code: 7, stderr: "last" }
      }])
      expect(logs.lines.filter(({ level }) => level === "DEBUG").map(({ message }) => message).toSorted())
        .toEqual(["first", "last", "out"])
    }))

  it.scopedLive("logs that a command cannot be started, and goes on", () =>
    Effect.gen(function*() {
      const { logs, use } = yield* commanding("true \0")
      yield* use((hook) => Effect.zipRight(hook.completed(file("a.txt")), hook.completed(file("b.txt"))))
      expect(
        logs.lines.filter(({ level }) => level === "WARN").map(({ annotations }) => annotations["file"]).toSorted()
      )
        .toEqual(["a.txt", "b.txt"])
    }))

  it.scopedLive("keeps a part of what a command writes, and reads all of it", () =>
    Effect.gen(function*() {
      const { logs, use } = yield* commanding(
        "head -c 3000000 /dev/zero | tr '\\0' x; yes | head -c 300000; echo end >&2"
      )
      yield* use((hook) => hook.completed(file("a.txt")))
      const kept = logs.lines.filter(({ level }) => level === "DEBUG").reduce(
        (sum, { message }) => sum + message.length,
        0
      )
      expect(kept).toBeGreaterThan(1000)
      expect(kept).toBeLessThanOrEqual(64 * 1024)
      expect(logs.lines.filter(({ level }) => level === "WARN")).toEqual([])
    }))

  it.scopedLive("runs four at once; others wait, and those that are too many are not run", () =>
    Effect.gen(function*() {
      const { logs, read, touch, use } = yield* commanding(
        `d="$(dirname "$INDEXCP_PATH")"; mkdir -p "$d/at"; : > "$d/at/$$"; ls "$d/at" | wc -l >> "$d/started"; ${
          waitFor("go")
        }; rm "$d/at/$$"`,
        { maxWaiting: 2 }
      )
      const started = () => read("started").split("\n").slice(0, -1).map(Number)
      yield* use((hook) =>
        Effect.gen(function*() {
          for (const name of ["1", "2", "3", "4"]) {
            yield* hook.completed(file(name))
            yield* eventually(() => started().length === Number(name))
          }
          for (const name of ["5", "6", "7"]) yield* hook.completed(file(name))
          expect(logs.of("Too many files wait").length).toBe(1)
          yield* touch("go")
          yield* eventually(() => started().length === 6)
        })
      )
      expect(Math.max(...started())).toBe(4)
    }))

  it.scopedLive("ends a command that takes too long, with all that it started", () =>
    Effect.gen(function*() {
      const { logs, read, use } = yield* commanding(
        "sleep 60 & echo $! > \"$(dirname \"$INDEXCP_PATH\")/pid\"; wait",
        { timeout: "300 millis" }
      )
      yield* use((hook) =>
        Effect.zipRight(
          hook.completed(file("a.txt")),
          eventually(() => logs.of("The completion command took").length === 1)
        )
      )
      expect(logs.of("The completion command took")[0]!.message).toContain("300ms")
      const pid = Number(read("pid"))
      expect(pid).toBeGreaterThan(0)
      yield* eventually(() => !isRunning(pid))
    }))

  it.scopedLive("waits at the end for the commands of the last files, also when the server is interrupted", () =>
    Effect.gen(function*() {
      const { logs, there, touch, use } = yield* commanding(`${waitFor("go")}; : > "$INDEXCP_PATH.done"`, {
        concurrency: 1
      })
      const running = yield* Effect.fork(
        use((hook) =>
          Effect.all([hook.completed(file("a.txt")), hook.completed(file("b.txt")), touch("told"), Effect.never])
        )
      )
      yield* eventually(() => there("told"))
      const stopping = yield* Effect.fork(Fiber.interrupt(running))
      yield* eventually(() => logs.of("Waiting for completion commands").length === 1)
      yield* touch("go")
      yield* Fiber.join(stopping)
      expect([there("a.txt.done"), there("b.txt.done")]).toEqual([true, true])
      expect(logs.lines.filter(({ level }) => level === "WARN")).toEqual([])
    }))

  it.scopedLive("ends at the end what does not come to its own, and says how many files that concerns", () =>
    Effect.gen(function*() {
      const { logs, read, there, use } = yield* commanding(
        "echo $$ > \"$(dirname \"$INDEXCP_PATH\")/pid\"; sleep 60; true",
        { shutdownWait: "200 millis", concurrency: 1 }
      )
      yield* use((hook) =>
        Effect.gen(function*() {
          yield* hook.completed(file("a.txt"))
          yield* hook.completed(file("b.txt"))
          yield* eventually(() => there("pid") && read("pid") !== "")
        })
      )
      expect(isRunning(Number(read("pid")))).toBe(false)
      expect(logs.of("The server stops before")).toMatchObject([{ level: "WARN", annotations: { files: 2 } }])
    }))
})

const isRunning = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
