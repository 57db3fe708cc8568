/**
 * Bytes that are handed over as they arrive, without a promise for each piece: what a body is read by.
 *
 * @internal
 */
import type { Readable as NodeReadable } from "node:stream"

/** Why bytes stopped coming before their end. */
export interface Broken {
  readonly cause: unknown
}

/** Who takes the bytes. */
export interface Sink {
  /** Not called while the valve is shut. */
  readonly take: (piece: Uint8Array) => void
  /** Called once, last, and also while the valve is shut. */
  readonly end: (broken?: Broken) => void
}

export interface Valve {
  readonly shut: () => void
  readonly open: () => void
  /** The sink is not called any more, and nothing more is read. */
  readonly stop: () => void
}

/** Can be read once, by events or as an iterable. */
export class Flow implements AsyncIterable<Uint8Array> {
  /** The sink is first called after this has returned. */
  readonly start: (sink: Sink) => Valve

  constructor(start: (sink: Sink) => Valve) {
    this.start = start
  }

  /** One piece at a time; while nobody asks for the next one the valve is shut. */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    const ready: Array<IteratorResult<Uint8Array>> = []
    let broken: Broken | undefined
    let waiting:
      | { readonly resolve: (next: IteratorResult<Uint8Array>) => void; readonly reject: (cause: unknown) => void }
      | undefined
    let valve: Valve | undefined
    const put = (next: IteratorResult<Uint8Array>) => {
      if (waiting === undefined) return void ready.push(next)
      waiting.resolve(next)
      waiting = undefined
    }
    const sink: Sink = {
      take: (value) => {
        valve!.shut()
        put({ done: false, value })
      },
      end: (why) => {
        if (why === undefined) return put({ done: true, value: undefined })
        broken = why
        waiting?.reject(why.cause)
      }
    }
    return {
      next: () =>
        new Promise((resolve, reject) => {
          const next = ready.shift()
          if (next !== undefined) return resolve(next)
          if (broken !== undefined) return reject(broken.cause)
          waiting = { resolve, reject }
          if (valve === undefined) valve = this.start(sink)
          else valve.open()
        }),
      return: () => {
        valve?.stop()
        return Promise.resolve({ done: true, value: undefined })
      }
    }
  }
}

/** Any pieces as a flow. */
export const of = (pieces: AsyncIterable<Uint8Array>): Flow =>
  pieces instanceof Flow ? pieces : new Flow((sink) => {
    const iterator = pieces[Symbol.asyncIterator]()
    let isAsking = false
    let isShut = false
    let isStopped = false
    let arrived: (() => void) | undefined
    const hand = (over: () => void) => {
      isAsking = false
      if (isStopped) return
      if (isShut) arrived = over
      else over()
    }
    const ask = () => {
      if (isAsking || isShut || isStopped) return
      isAsking = true
      iterator.next().then((next) =>
        hand(() => {
          if (next.done === true) return sink.end()
          sink.take(next.value)
          ask()
        }), (cause: unknown) => hand(() => sink.end({ cause })))
    }
    ask()
    return {
      shut: () => {
        isShut = true
      },
      open: () => {
        isShut = false
        const over = arrived
        arrived = undefined
        if (over === undefined) ask()
        else over()
      },
      stop: () => {
        isStopped = true
      }
    }
  })

/** What is needed of one of Node's readable streams; no other platform's requests look like this. */
export type Readable = Pick<NodeReadable, "destroyed" | "off" | "on" | "pause" | "resume">

export const isReadable = (source: object): source is Readable =>
  "on" in source && "off" in source && "pause" in source && "resume" in source && "destroyed" in source

/** The bytes of a readable stream, as its socket gives them. It is left as it is when it is stopped before its end. */
export const fromReadable = (readable: Readable): Flow =>
  new Flow((sink) => {
    const stop = () => {
      readable.off("data", sink.take)
      readable.off("end", onEnd)
      readable.off("error", onError)
      readable.off("close", onClose)
    }
    const end = (broken?: Broken) => {
      stop()
      sink.end(broken)
    }
    const onEnd = () => end()
    const onError = (cause: unknown) => end({ cause })
    const onClose = () => end({ cause: new Error("The connection was closed") })
    readable.on("data", sink.take)
    readable.on("end", onEnd)
    readable.on("error", onError)
    readable.on("close", onClose)
    // of one that was closed before there are no more events
    if (readable.destroyed) queueMicrotask(onClose)
    return {
      shut: () => void readable.pause(),
      open: () => void readable.resume(),
      stop: () => {
        stop()
        readable.pause()
      }
    }
  })
