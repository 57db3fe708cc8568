/**
 * PROTOCOL.md, "Which answers count, for a client", as functions of an answer.
 *
 * @internal
 */
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type Chunk, CountFromString } from "../../protocol/ChunkHeaders.ts"
import * as FileName from "../../protocol/FileName.ts"
import * as PrefixDigest from "../../protocol/PrefixDigest.ts"
import { ErrorBody } from "../../protocol/ProtocolError.ts"
import * as Receipt from "../../protocol/Receipt.ts"
import * as UploadBatch from "../../protocol/UploadBatch.ts"
import type { UploadId } from "../../protocol/UploadId.ts"
import * as UploadLimit from "../../protocol/UploadLimit.ts"
import { UploadState } from "../../protocol/UploadState.ts"
import { type Acknowledged, NoAnswer, Refused } from "../Transport.ts"

export interface Answer {
  readonly status: number
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly text: string
}

const json = (text: string): Option.Option<object> =>
  Option.filter(
    Option.liftThrowable((text: string): unknown => JSON.parse(text))(text),
    (value): value is object => typeof value === "object" && value !== null
  )

const decodeReceipt1 = Schema.decodeUnknownOption(Receipt.Receipt1)
const decodeReceipt2 = Schema.decodeUnknownOption(Receipt.Receipt2)
const decodeState = Schema.decodeUnknownOption(UploadState)
const decodeError = Schema.decodeUnknownOption(ErrorBody)
const decodeSeconds = Schema.decodeUnknownOption(CountFromString)

const stranger = (answer: Answer): NoAnswer =>
  new NoAnswer({
    message: answer.status >= 300 && answer.status < 400
      ? `The address redirects to ${
        answer.headers["location"] ?? "somewhere else"
      }; if that is the server, use it as URL`
      : `Something that is no IndexedCP server answered (status ${answer.status}): a login page or a proxy on the way?`
  })

const limitOf = (answer: Answer): UploadLimit.UploadLimit => UploadLimit.decode(answer.headers["upload-limit"] ?? "")

/** What else the server says that it takes. */
const takenBy = ({ headers }: Answer): Pick<Acknowledged, "batch" | "takesPrefix"> => ({
  ...Option.match(UploadBatch.decode(headers[UploadBatch.header] ?? ""), {
    onNone: () => ({}),
    onSome: (batch) => ({ batch })
  }),
  ...(PrefixDigest.isWanted(headers[PrefixDigest.header] ?? "") ? { takesPrefix: true } : {})
})

/** `Retry-After` as seconds, also when it is a date: then by the clock of the server, which told the time of its answer. */
const retryAfterOf = ({ headers }: Answer): number | undefined => {
  const text = headers["retry-after"] ?? ""
  const seconds = decodeSeconds(text)
  if (Option.isSome(seconds)) return seconds.value
  const wait = Date.parse(text) - Date.parse(headers["date"] ?? "")
  return text.endsWith("GMT") && Number.isFinite(wait) ? Math.max(0, Math.ceil(wait / 1000)) : undefined
}

const refused = (answer: Answer): Refused => {
  const body = Option.flatMap(json(answer.text), decodeError)
  const text = answer.text.replace(/\s+/g, " ").trim().slice(0, 200)
  const { error, message = error } = Option.getOrElse(body, () => ({ error: text, message: text }))
  const retryAfter = retryAfterOf(answer)
  const { maxAppendSize } = limitOf(answer)
  return new Refused({
    status: answer.status,
    error,
    message: `The server answered ${answer.status}${message === "" ? "" : `: ${message}`}`,
    ...(retryAfter === undefined ? {} : { retryAfter }),
    ...(maxAppendSize === undefined ? {} : { maxBody: maxAppendSize })
  })
}

const isStranger = ({ status }: Answer) => status < 400 || status === 511

/** Whether the name that came back is the one that was sent, in any of the ways servers read the header. */
const echoes = (sent: string, name: string, back: string): boolean =>
  back === sent || back === name || back === FileName.decode(sent)

const receiptOf = (
  answer: Answer,
  chunk: Omit<Chunk, "sentName">,
  sentName: string
): Option.Option<Receipt.Receipt> => {
  const body = json(answer.text)
  const receipt: Option.Option<Receipt.Receipt> = Option.isNone(body)
    ? Option.liftPredicate(/^Chunk received\s*$/.test(answer.text), Boolean).pipe(Option.map(() => ({
      message: Receipt.message,
      actualFilename: FileName.base(sentName),
      chunkIndex: chunk.index,
      clientFilename: sentName
    })))
    : "uploadId" in body.value
    ? Option.filter(
      decodeReceipt2(body.value),
      ({ uploadId }) => Option.exists(chunk.upload, ({ id }) => id === uploadId)
    )
    : decodeReceipt1(body.value)
  return Option.filter(
    receipt,
    ({ chunkIndex, clientFilename }) => chunkIndex === chunk.index && echoes(sentName, chunk.fileName, clientFilename)
  )
}

/** What came back for a chunk that was sent under a name. */
export const forChunk = (
  answer: Answer,
  chunk: Omit<Chunk, "sentName">,
  sentName: string
): Either.Either<Acknowledged, NoAnswer | Refused> => {
  if (!isStranger(answer)) return Either.left(refused(answer))
  const receipt = answer.status === 200 ? receiptOf(answer, chunk, sentName) : Option.none<Receipt.Receipt>()
  return Option.isSome(receipt)
    ? Either.right({
      receipt: receipt.value,
      limit: limitOf(answer),
      ...takenBy(answer)
    })
    : Either.left(stranger(answer))
}

/** A place in the answer to a batch, as far as it counts. */
interface Result {
  readonly status?: unknown
  readonly receipt?: Partial<Record<keyof Receipt.Receipt2, unknown>> | null
}

/** The server's name of a file that the server says it holds as a whole. Looked at by hand: there are many of them. */
const nameOf = (
  result: Result | null,
  { clientFilename, sha256, size, uploadId }: UploadBatch.BatchFile
): Option.Option<string> => {
  const receipt = result?.status === 200 ? result.receipt : undefined
  return receipt?.complete === true && receipt.uploadId === uploadId && receipt.clientFilename === clientFilename &&
      receipt.chunkIndex === 0 && receipt.size === size && receipt.sha256 === sha256 &&
      typeof receipt.actualFilename === "string"
    ? Option.some(receipt.actualFilename)
    : Option.none()
}

/** What came back for a batch: the server's name of each file that it holds as a whole. */
export const forBatch = (
  answer: Answer,
  files: ReadonlyArray<UploadBatch.BatchFile>
): Either.Either<ReadonlyArray<Option.Option<string>>, NoAnswer | Refused> => {
  if (!isStranger(answer)) return Either.left(refused(answer))
  const body: Option.Option<{ readonly results?: unknown }> = answer.status === 200 ? json(answer.text) : Option.none()
  const results = Option.getOrUndefined(body)?.results
  return Array.isArray(results) && results.length === files.length
    ? Either.right(files.map((file, at) => nameOf(results[at] as Result | null, file)))
    : Either.left(stranger(answer))
}

const saysUnknown = (answer: Answer): boolean =>
  answer.status === 404 &&
  Option.exists(Option.flatMap(json(answer.text), decodeError), ({ error }) => error === "Unknown upload")

/** What came back for `GET <endpoint>/<id>`. */
export const forState = (
  answer: Answer,
  id: UploadId
): Either.Either<Option.Option<UploadState>, NoAnswer | Refused> => {
  if (saysUnknown(answer)) return Either.right(Option.none())
  if (!isStranger(answer)) return Either.left(refused(answer))
  const state = answer.status === 200 ? Option.flatMap(json(answer.text), decodeState) : Option.none<UploadState>()
  return Option.exists(state, ({ uploadId }) => uploadId === id) ? Either.right(state) : Either.left(stranger(answer))
}

/** What came back for `DELETE <endpoint>/<id>`. */
export const forAbort = (answer: Answer): Either.Either<void, NoAnswer | Refused> =>
  answer.status === 204 || saysUnknown(answer)
    ? Either.right(undefined)
    : Either.left(isStranger(answer) ? stranger(answer) : refused(answer))
