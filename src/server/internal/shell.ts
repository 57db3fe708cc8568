/**
 * A command of the operator's, run by the system's shell and ended with all that it started.
 *
 * @internal
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type ChildProcess, spawn } from "node:child_process"
import type { Readable } from "node:stream"
import { stripVTControlCharacters } from "node:util"

/** The shell could not be started. */
export class CannotRun extends Schema.TaggedError<CannotRun>("indexedcp/CannotRun")("CannotRun", {
  message: Schema.String,
  cause: Schema.Defect
}) {}

export interface Ended {
  /** The exit code, or the signal that ended it. */
  readonly code: number | string
  /** What it wrote, a part of it when that was much. */
  readonly output: ReadonlyArray<string>
  /** The last line that is not empty, of standard error. */
  readonly lastError: string
}

/** Characters kept of what a command writes, and of one line. */
const most = { all: 64 * 1024, line: 1024 }

/** Between the request to end and the end that does not ask. */
const grace = "2 seconds"

/** Milliseconds for which programs in the background may hold the output of a command that has ended. */
const linger = 1000

const isWindows = process.platform === "win32"

/** Reads a stream to its end, whatever is kept of it: else the command would wait for a reader. */
const lines = (stream: Readable, take: (line: string) => void): void => {
  let held = ""
  const plain = (line: string) => stripVTControlCharacters(line).replace(/\p{Cc}/gu, " ").trim()
  const tell = (line: string) => plain(line) === "" || take(plain(line))
  stream.setEncoding("utf8")
  stream.on("data", (text: string) => {
    const parts = (held + text).split("\n")
    held = parts.pop()!.slice(0, most.line)
    for (const part of parts) tell(part.slice(0, most.line))
  })
  stream.on("error", () => {})
  stream.once("end", () => tell(held))
}

const kill = (child: ChildProcess, signal: NodeJS.Signals): void => {
  try {
    // its process group: what the shell started ends with it
    if (isWindows) child.kill(signal)
    else process.kill(-child.pid!, signal)
  } catch {
    // it has ended meanwhile
  }
}

/**
 * Waits in a finalizer, but not for ever. In a fiber that was interrupted, what can be interrupted ends at once, and what
 * cannot knows no time limit: so another fiber waits.
 */
export const waitAtMost = <A>(
  effect: Effect.Effect<A>,
  duration: Duration.DurationInput
): Effect.Effect<Option.Option<A>> =>
  Effect.flatMap(Effect.forkDaemon(Effect.interruptible(Effect.timeoutOption(effect, duration))), Fiber.join)

/** Ends it, and returns when it has ended. */
const end = (child: ChildProcess, closed: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.gen(function*() {
    if (child.pid === undefined) return
    kill(child, "SIGTERM")
    if (Option.isSome(yield* waitAtMost(closed, grace))) return
    kill(child, "SIGKILL")
    // one that even this does not end keeps nobody waiting
    yield* waitAtMost(closed, grace)
  })

/** Runs a command to its end; interrupted, it ends it. */
export const run = (command: string, env: NodeJS.ProcessEnv): Effect.Effect<Ended, CannotRun> =>
  Effect.async<Ended, CannotRun>((resume) => {
    const fail = (cause: unknown) =>
      resume(new CannotRun({ message: `The shell cannot be started: ${(cause as Error).message}`, cause }))
    try {
      const child = spawn(command, {
        shell: true,
        env,
        stdio: ["ignore", "pipe", "pipe"],
        detached: !isWindows,
        windowsHide: true
      })
      const output: Array<string> = []
      let kept = 0
      let lastError = ""
      const keep = (line: string) => {
        kept += line.length
        if (kept <= most.all) output.push(line)
      }
      lines(child.stdout, keep)
      lines(child.stderr, (line) => {
        lastError = line
        keep(line)
      })
      const closed = Deferred.unsafeMake<void>(FiberId.none)
      child.once("error", fail)
      child.once("exit", () => {
        const timer = setTimeout(() => {
          child.stdout.destroy()
          child.stderr.destroy()
        }, linger)
        child.once("close", () => clearTimeout(timer))
      })
      child.once("close", (code, signal) => {
        Deferred.unsafeDone(closed, Effect.void)
        resume(Effect.succeed({ code: signal ?? code ?? "unknown", output, lastError }))
      })
      return end(child, Deferred.await(closed))
    } catch (cause) {
      return fail(cause)
    }
  })
