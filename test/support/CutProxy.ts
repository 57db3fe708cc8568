/**
 * A TCP proxy that cuts or stalls connections at a chosen byte.
 *
 * Each connection takes the oldest plan that is waiting; without one it passes through. Connections to the target come
 * from the client's own address. Counting starts anew with every request on a connection.
 *
 * @example
 * const proxy = yield* CutProxy.make({ target: server.port })
 * const lost = yield* proxy.plan(CutProxy.cut(CutProxy.answerLost, { skip: 2 }))
 * // … a client uploads to proxy.port; its third answer never arrives …
 * yield* lost.done
 *
 * @module
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"
import { listen } from "./peers/internal/listen.ts"

/** The moment at which a plan is carried out, within one request. */
export type When =
  | { readonly at: "request"; readonly bytes: number }
  | { readonly at: "body"; readonly bytes: number }
  | { readonly at: "answerLost" }
  | { readonly at: "answer"; readonly bytes: number }

/** Once this many bytes came from the client, head included. `afterRequest(0)` on a first request: at once. */
export const afterRequest = (bytes: number): When => ({ at: "request", bytes })

/** Once the request's head and this many bytes of its body were forwarded. */
export const afterBody = (bytes: number): When => ({ at: "body", bytes })

/**
 * Once the whole request was forwarded and the target has begun to answer, or has closed. Nothing of the answer gets
 * back. (`afterBody` with the body's length does not wait for the target.)
 */
export const answerLost: When = { at: "answerLost" }

/** Once this many bytes of the answer were given to the client. */
export const afterAnswer = (bytes: number): When => ({ at: "answer", bytes })

export interface PlanOptions {
  /** Whole requests on the same connection that pass before the one that is meant; 0 by default. */
  readonly skip?: number
}

/** What happens to a connection. */
export interface Plan {
  /** `reset` cuts both sides by RST, `close` by FIN; `stall` forwards nothing more and keeps both sides open. */
  readonly what: "pass" | "reset" | "close" | "stall"
  readonly when?: When
  readonly skip: number
}

/** Passes the connection through. */
export const pass: Plan = { what: "pass", skip: 0 }

/** Cuts both sides of the connection, by RST unless `by` says `close`. */
export const cut = (
  when: When,
  { by = "reset", skip = 0 }: PlanOptions & { readonly by?: "reset" | "close" } = {}
): Plan => ({
  what: by,
  when,
  skip
})

/** Forwards nothing more, in either direction, until the scope closes. */
export const stall = (when: When, { skip = 0 }: PlanOptions = {}): Plan => ({ what: "stall", when, skip })

/** A plan that waits for its connection or has got it. */
export interface Planned {
  /**
   * Returns when the plan was carried out: both sides are cut, nothing more is forwarded, or, for `pass`, the connection
   * is over. Dies when the connection ended before that.
   */
  readonly done: Effect.Effect<void>
}

export interface CutProxy {
  readonly port: number
  /** The upload endpoint behind this proxy. */
  readonly url: string
  /** Adds a plan to the queue. */
  readonly plan: (plan: Plan) => Effect.Effect<Planned>
  /** Connections so far. */
  readonly connections: Effect.Effect<number>
}

interface Waiting {
  readonly plan: Plan
  readonly settle: (how: Effect.Effect<void>) => void
}

/** Where the bytes from a client stand. A chunked body counts as endless: what follows it is taken for part of it. */
const makeRequests = () => {
  let head = Buffer.alloc(0)
  const state = {
    /** Of the current request, from 0. It stays the current one until the first byte of the next. */
    number: 0,
    forwarded: 0,
    headLength: Infinity,
    length: Infinity,
    complete: () => state.forwarded === state.length,
    /** Begins the next request if the last one is complete, and says how many of these bytes belong to one part. */
    part: (bytes: Buffer): number => {
      if (state.complete()) {
        head = Buffer.alloc(0)
        Object.assign(state, { number: state.number + 1, forwarded: 0, headLength: Infinity, length: Infinity })
      }
      if (state.headLength !== Infinity) return Math.min(bytes.length, state.length - state.forwarded)
      const end = Buffer.concat([head, bytes]).indexOf("\r\n\r\n")
      return end < 0 ? bytes.length : end + 4 - head.length
    },
    advance: (bytes: Buffer) => {
      state.forwarded += bytes.length
      if (state.headLength !== Infinity) return
      head = Buffer.concat([head, bytes])
      if (!head.includes("\r\n\r\n")) return
      const text = head.toString("latin1")
      state.headLength = head.length
      state.length = /^transfer-encoding:/im.test(text)
        ? Infinity
        : head.length + Number(/^content-length:[ \t]*(\d+)/im.exec(text)?.[1] ?? 0)
    }
  }
  return state
}

/** Writes and waits until the system has taken the bytes, so that a cut does not discard them. */
const write = (socket: Net.Socket, bytes: Buffer): Promise<void> =>
  new Promise((resolve, reject) => socket.write(bytes, (error) => error ? reject(error) : resolve()))

const forward = (client: Net.Socket, server: Net.Socket, { plan, settle }: Waiting): void => {
  const requests = makeRequests()
  const { skip, what, when } = plan
  let over = false
  let answered = 0
  let answering = false

  const finish = () => {
    over = true
    settle(Effect.void)
    for (const socket of [client, server]) {
      if (what === "reset") socket.resetAndDestroy()
      if (what === "close") socket.destroySoon()
    }
  }

  const isMeant = () => requests.number === skip && !over
  const awaits = (at: When["at"]) => isMeant() && when?.at === at
  /** How far the current request may go. */
  const requestBound = () => {
    if (!isMeant()) return Infinity
    if (when?.at === "request") return when.bytes
    return when?.at === "body" ? requests.headLength + when.bytes : Infinity
  }
  const check = () => {
    const lost = awaits("answerLost") && answering && requests.complete()
    if (lost || requests.forwarded >= requestBound()) finish()
  }

  const fromClient = async () => {
    for await (const piece of client.iterator({ destroyOnReturn: false })) {
      if (over) return
      let rest: Buffer = piece
      while (rest.length > 0) {
        const number = requests.number
        const part = requests.part(rest)
        if (requests.number !== number) {
          answered = 0
          answering = false
        }
        const bytes = rest.subarray(0, Math.min(part, requestBound() - requests.forwarded))
        if (bytes.length > 0) await write(server, bytes)
        if (over) return
        requests.advance(bytes)
        rest = rest.subarray(bytes.length)
        check()
        if (over) return
      }
    }
    if (!over) server.end()
  }

  const fromServer = async () => {
    for await (const piece of server.iterator({ destroyOnReturn: false })) {
      if (over) return
      answering = true
      check()
      if (over) return
      if (awaits("answerLost")) continue
      const bound = isMeant() && when?.at === "answer" ? when.bytes - answered : Infinity
      await write(client, piece.subarray(0, bound))
      if (over) return
      answered += piece.length
      if (piece.length >= bound) return finish()
    }
    if (awaits("answerLost")) return finish()
    if (!over) client.end()
  }

  /** A broken side breaks the other one. */
  const broken = () => {
    if (over) return
    if (awaits("answerLost") && server.destroyed) return finish()
    client.resetAndDestroy()
    server.resetAndDestroy()
  }

  client.once("close", () => {
    if (!over) server.destroy()
    settle(what === "pass" ? Effect.void : Effect.dieMessage("the connection ended before its plan was carried out"))
  })
  for (const socket of [client, server]) socket.on("error", broken)
  check()
  if (over) return
  void fromClient().catch(broken)
  void fromServer().catch(broken)
}

/** Starts a proxy to a port on 127.0.0.1. */
export const make = (options: { readonly target: number }): Effect.Effect<CutProxy, never, Scope.Scope> =>
  Effect.gen(function*() {
    const plans: Array<Waiting> = []
    const servers = new Set<Net.Socket>()
    let connections = 0
    const listener = Net.createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      connections += 1
      const server = Net.connect({
        port: options.target,
        host: "127.0.0.1",
        allowHalfOpen: true,
        noDelay: true,
        ...(client.remoteAddress === undefined ? {} : { localAddress: client.remoteAddress })
      })
      servers.add(server)
      server.once("close", () => servers.delete(server))
      forward(client, server, plans.shift() ?? { plan: pass, settle: () => {} })
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const server of servers) server.destroy()
      })
    )
    const port = yield* listen(listener)
    return {
      port,
      url: `http://127.0.0.1:${port}/upload`,
      plan: (plan) =>
        Effect.map(Deferred.make<void>(), (done) => {
          plans.push({ plan, settle: (how) => Deferred.unsafeDone(done, how) })
          return { done: Deferred.await(done) }
        }),
      connections: Effect.sync(() => connections)
    }
  })
