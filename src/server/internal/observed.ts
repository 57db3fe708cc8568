/**
 * What is seen of every request: its id in the logs and in the answer, and its count.
 *
 * @internal
 */
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Identifiers } from "../../protocol/UploadId.ts"
import * as Metrics from "../Metrics.ts"

const header = "x-request-id"

/** An id that a client or proxy may give: nothing that could forge a line of a log. */
const isId = (text: string | undefined): text is string => text !== undefined && /^[A-Za-z0-9._-]{1,128}$/.test(text)

/** Nobody waits for the answer any more. */
const left = 499

export const observed = <E, R>(app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
  Effect.gen(function*() {
    const request = yield* HttpServerRequest.HttpServerRequest
    const given = request.headers[header]
    const id = isId(given) ? given : (yield* (yield* Identifiers).next).slice(0, 16)
    return yield* app.pipe(
      Effect.map(HttpServerResponse.setHeader(header, id)),
      Effect.annotateLogs("request", id),
      Effect.onExit((exit) => Metrics.answered(request.method, Exit.isSuccess(exit) ? exit.value.status : left))
    )
  })
