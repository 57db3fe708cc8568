/**
 * A Node server under an app that tells what it was asked, whatever that is.
 *
 * @module
 */
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import { Context, Effect, Exit, Layer, Logger, LogLevel, Scope } from "effect"
import * as NodeServer from "../../src/server/NodeServer.ts"

type App = Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest>

/** The bytes of a request's body, by its own iterator; a line that says so when it breaks off. */
export const body = (request: HttpServerRequest.HttpServerRequest): Effect.Effect<string> =>
  Effect.promise(async () => {
    const pieces: Array<Uint8Array> = []
    try {
      for await (const piece of request.source as AsyncIterable<Uint8Array>) pieces.push(piece)
    } catch {
      return "broken"
    }
    return Buffer.concat(pieces).toString()
  })

export interface Asked {
  readonly method: string
  readonly url: string
  readonly body: string
}

/** A text with its length, also when it is empty. */
export const answer = (text: string, status = 200): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.text(text, { status, headers: { "content-length": String(Buffer.byteLength(text)) } })

/** A listening server; requests that were handed to the app and whose bodies were whole are in `asked`. */
export const make = (options: Partial<NodeServer.ListenOptions> = {}, first: App = Effect.never) =>
  Effect.gen(function*() {
    const asked: Array<Asked> = []
    const app = Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      if (request.url === "/first") return yield* first
      const { method, url } = request
      const read = yield* body(request)
      asked.push({ method, url, body: read })
      return answer(read)
    })
    const lines: Array<string> = []
    const logger = Logger.make(({ annotations, message }) => {
      lines.push([message, ...annotations].flat().join(" "))
    })
    const scope = yield* Scope.make()
    const stop = Scope.close(scope, Exit.void)
    yield* Effect.addFinalizer(() => stop)
    const context = yield* Layer.buildWithScope(
      HttpServer.serve(Effect.interruptible(app)).pipe(
        Layer.provideMerge(NodeServer.layer({ port: 0, ...options })),
        Layer.provide(Logger.replace(Logger.defaultLogger, logger)),
        Layer.provide(Logger.minimumLogLevel(LogLevel.Info))
      ),
      scope
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    return {
      asked,
      lines,
      stop,
      port: address._tag === "TcpAddress" ? address.port : 0,
      url: yield* Effect.provide(NodeServer.baseUrl, context)
    }
  })
