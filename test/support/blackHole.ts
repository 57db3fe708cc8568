/**
 * A port that nobody answers at, as if every packet were lost on the way.
 *
 * @module
 */
import { Effect, type Scope } from "effect"
import * as Net from "node:net"
import { Worker } from "node:worker_threads"

/** Listens, and then never accepts anything. */
const program = `
const { createServer } = require("node:net")
const { parentPort } = require("node:worker_threads")
const server = createServer().listen({ port: 0, host: "127.0.0.1", backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
})`

const worker = Effect.acquireRelease(
  Effect.async<{ readonly worker: Worker; readonly port: number }>((resume) => {
    const worker = new Worker(program, { eval: true })
    worker.once("message", (port: number) => resume(Effect.succeed({ worker, port })))
  }),
  ({ worker }) => Effect.promise(() => worker.terminate())
)

/** Takes a place in the queue of the listener, or says that there is none left. */
const fill = (port: number) =>
  Effect.acquireRelease(
    Effect.sync(() => Net.connect({ port, host: "127.0.0.1" })),
    (socket) => Effect.sync(() => socket.destroy())
  ).pipe(
    Effect.flatMap((socket) =>
      Effect.async<boolean>((resume) => {
        socket.once("error", () => resume(Effect.succeed(false)))
        socket.once("connect", () => resume(Effect.succeed(true)))
        setTimeout(() => resume(Effect.succeed(false)), 100)
      })
    )
  )

export const make: Effect.Effect<number, never, Scope.Scope> = Effect.gen(function*() {
  const { port } = yield* worker
  let room = true
  while (room) room = yield* fill(port)
  return port
})
