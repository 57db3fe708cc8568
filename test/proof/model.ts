/**
 * The reference model: what a server holds, and what it must answer, by PROTOCOL.md, "3. Promises and rules of a server".
 *
 * Pure: `receive`, `resume`, `abort`… take a world and return an answer and the next world. Bytes are ASCII texts, and a
 * digest is stood for by the text that it is of. Comments in quotation marks are sentences of PROTOCOL.md.
 *
 * What the section says and this model does not:
 * - "Refused requests": "A refused request is answered before any of its body is kept; what the client is still sending is
 *   drained up to a small bound". Here a refusal keeps nothing; there are no connections that could be drained. Shown by
 *   `test/server/NodeServer.test.ts`, over sockets.
 * - "If that takes longer than 5 s (hashing a large file), its answer is `complete:false` all the same, and the client polls
 *   GET. While an upload finishes, chunks get `duplicate`, `complete:false`": here finishing takes no time, and `finishing`
 *   is seen only after a crash in it. Shown by `test/server/ReceiverRevision2.test.ts`, "finishing".
 * - "503 with `Retry-After`" and the `Retry-After` of an upload that finishes: here a refusal is its status. Shown by
 *   `test/server/ReceiverRevision2.test.ts` and, as the header, by `test/server/NodeServer.test.ts`.
 * - What somebody does to part files: shown by `test/server/Upkeep.test.ts`.
 *
 * @module
 */

export type Policy = "rename" | "overwrite" | "reject"

/** A chunk on its way. `body` is what is sent, `arrives` how many bytes of it come before the connection breaks. */
interface AnyChunk {
  readonly principal: string
  readonly name: string
  readonly index: number
  readonly body: string
  /** Whether the request says how long its body is. */
  readonly sized: boolean
  readonly arrives?: number
  /** The text that `Content-Digest` is of. */
  readonly digest?: string
}

export interface Chunk1 extends AnyChunk {
  readonly revision: 1
  readonly address: string
}

export interface Chunk2 extends AnyChunk {
  readonly revision: 2
  readonly id: string
  readonly offset: number
  readonly size?: number
  /** The text that `Repr-Digest` is of. */
  readonly whole?: string
  /** The text that `Prefix-Digest` is of; it counts where there is no `digest`. */
  readonly prefix?: string
  /** `If-Match: *` */
  readonly known: boolean
}

export type Chunk = Chunk1 | Chunk2

export interface Piece {
  readonly offset: number
  readonly bytes: string
  /** It came with the hash of all bytes up to its end. */
  readonly isPrefix?: boolean
}

export interface Upload {
  readonly key: number
  readonly principal: string
  /** `undefined` in revision 1. */
  readonly id: string | undefined
  readonly clientName: string
  readonly plannedName: string
  readonly name: string
  readonly size: number | undefined
  readonly whole: string | undefined
  readonly state: "receiving" | "finishing" | "complete" | "failed" | "deleted"
  /** By offset; in revision 1 the chunks by index. */
  readonly pieces: ReadonlyArray<Piece>
  readonly replayCursor: number
  readonly address: string
  readonly touchedAt: number
}

/** A request whose body has not come to its end. It holds a claim. */
export interface Flight {
  readonly slot: number
  readonly key: number
  readonly chunk: Chunk
  readonly from: number
  readonly to: number
  /** How many bytes there are for a body of unknown length. */
  readonly limit: number
}

export interface World {
  readonly policy: Policy
  /** Milliseconds. */
  readonly now: number
  readonly lastKey: number
  readonly uploads: ReadonlyArray<Upload>
  readonly flights: ReadonlyArray<Flight>
  /** What each visible name leads to: an upload's own file, or bytes that somebody else put there. */
  readonly names: Readonly<Record<string, number | { readonly outside: string }>>
}

export interface Receipt {
  readonly actualFilename: string
  readonly chunkIndex: number
  readonly clientFilename: string
  readonly uploadId?: string
  readonly duplicate?: boolean
  readonly bytesReceived?: number
  readonly complete?: boolean
  /** Milliseconds, while it is not complete. */
  readonly expiresAt?: number
  /** The bytes whose size and hash are told once complete. */
  readonly file?: string
}

export type Answer =
  | { readonly status: 200; readonly receipt: Receipt }
  /** `names` must be in the message. */
  | { readonly status: 400 | 404 | 409 | 412 | 422 | 503; readonly names?: string }
  | { readonly status: 204 }
  /** The connection is gone: nobody is left to answer. */
  | { readonly status: 0 }

export interface Outcome {
  /** `undefined`: the rest of the body is awaited. */
  readonly answer: Answer | undefined
  readonly world: World
  /** Requests in flight that were stopped; they are answered 503. */
  readonly stopped: ReadonlyArray<number>
  /** The worlds a crash on the way may leave behind, the first and the last included. */
  readonly passed: ReadonlyArray<World>
}

const day = 24 * 3600 * 1000

/**
 * The defaults, in milliseconds. Of revision 1: "After a time without chunks (default 24 h) index 0 starts a new file
 * whatever its bytes; the next expected index is still accepted as long as the record exists (default 1 year)".
 */
export const times = { idle: day, unfinished: 7 * day, ended: 30 * day, revision1: 365 * day }

export const empty = (policy: Policy): World => ({
  policy,
  now: 0,
  lastKey: 0,
  uploads: [],
  flights: [],
  names: {}
})

// ---- what can be seen

export const bytesOf = ({ pieces }: Upload): string => pieces.map(({ bytes }) => bytes).join("")

const received = ({ pieces }: Upload): number => pieces.reduce((sum, { bytes }) => sum + bytes.length, 0)

const end = (piece: Piece): number => piece.offset + piece.bytes.length

/**
 * The visible files. "Before that a revision-2 upload is nowhere to be seen under its final name"; of revision 1, the
 * "length is the acknowledged bytes after every chunk, failed or written, and at start".
 */
export const visible = (world: World): Record<string, string> =>
  Object.fromEntries(
    Object.entries(world.names).map(([name, there]) => [
      name,
      typeof there === "number" ? bytesOf(world.uploads.find(({ key }) => key === there)!) : there.outside
    ])
  )

export interface State {
  readonly actualFilename: string
  readonly clientFilename: string
  readonly size: number | null
  readonly bytesReceived: number
  readonly missing: ReadonlyArray<readonly [number, number]>
  readonly state: Upload["state"]
}

const missing = (upload: Upload): ReadonlyArray<readonly [number, number]> => {
  // "with unknown size the list ends at the last byte received"
  const size = upload.size ?? Math.max(0, ...upload.pieces.map(end))
  const edges = [0, ...upload.pieces.flatMap((piece) => [piece.offset, end(piece)]), size]
  return edges.flatMap((from, at) => at % 2 === 0 && from < edges[at + 1]! ? [[from, edges[at + 1]!] as const] : [])
}

/** GET: "another principal's upload is unknown"; a deleted one is too. */
export const state = (world: World, principal: string, id: string): State | undefined => {
  const upload = known(world, principal, id)
  return upload === undefined || upload.state === "deleted" ? undefined : {
    actualFilename: upload.name,
    clientFilename: upload.clientName,
    size: upload.size ?? null,
    bytesReceived: received(upload),
    missing: upload.state === "complete" ? [] : missing(upload),
    state: upload.state
  }
}

/** GET, and what it sets going: an upload that is finishing is carried on. */
export const look = (world: World, principal: string, id: string) => {
  const step = new Step(world)
  const upload = known(world, principal, id)
  if (upload?.state === "finishing") finish(step, upload.key)
  return { state: state(world, principal, id), world: step.world }
}

// ---- a step, and what it is made of

/** A step on its way; made and thrown away within one function, so that from outside all is pure. */
class Step {
  world: World
  readonly passed: Array<World>
  readonly stopped: Array<number> = []

  constructor(world: World) {
    this.world = world
    this.passed = [world]
  }

  /** What has become durable. */
  to(change: Partial<World>): void {
    this.world = { ...this.world, ...change }
    this.passed.push(this.world)
  }

  put(upload: Upload): Upload {
    this.to({ uploads: this.world.uploads.map((old) => old.key === upload.key ? upload : old) })
    return upload
  }

  get(key: number): Upload | undefined {
    return this.world.uploads.find((upload) => upload.key === key)
  }

  /** Stops requests in flight. In revision 1 a first chunk that failed leaves no trace. */
  stop(which: (flight: Flight) => boolean): void {
    for (const flight of this.world.flights.filter(which)) {
      this.stopped.push(flight.slot)
      this.to({ flights: this.world.flights.filter(({ slot }) => slot !== flight.slot) })
      this.forgetEmpty(flight.key)
    }
  }

  forgetEmpty(key: number): void {
    const upload = this.get(key)
    if (upload !== undefined && upload.id === undefined && upload.pieces.length === 0) {
      this.to({ uploads: this.world.uploads.filter((other) => other.key !== key) })
    }
  }

  end(answer: Answer | undefined): Outcome {
    return { answer, world: this.world, stopped: this.stopped, passed: this.passed }
  }
}

const refuse = (status: 400 | 404 | 409 | 412 | 422 | 503, names?: string): Answer => ({
  status,
  ...(names === undefined ? {} : { names })
})
const gone: Answer = { status: 0 }

const isCut = (chunk: Chunk) => chunk.arrives !== undefined && chunk.arrives < chunk.body.length

// ---- "Whose an upload is"

/** "An id is looked up as (principal, id)". */
const known = (world: World, principal: string, id: string): Upload | undefined =>
  world.uploads.find((upload) => upload.principal === principal && upload.id === id)

// ---- "Names and conflicts"

const base = (name: string): string => name.split(/[/\\]/).findLast((part) => part !== "") ?? ""

const numbered = (name: string, number: number): string => {
  const dot = name.lastIndexOf(".")
  return dot > 0 ? `${name.slice(0, dot)} (${number})${name.slice(dot)}` : `${name} (${number})`
}

/** "`reject` (409, the name being taken from the first chunk of the upload that claims it on)". */
const isTaken = (world: World, name: string): boolean =>
  world.names[name] !== undefined ||
  world.uploads.some((upload) =>
    upload.name === name && (upload.state === "receiving" || upload.state === "finishing") &&
    (upload.id !== undefined || upload.pieces.length === 0)
  )

/** "The name is settled at the first chunk and stays": makes the record, or refuses the name. */
const create = (
  step: Step,
  fresh: Pick<Upload, "principal" | "id" | "clientName" | "plannedName" | "address">
): Upload | Answer => {
  if (step.world.policy === "reject" && isTaken(step.world, fresh.plannedName)) return refuse(409)
  const upload: Upload = {
    ...fresh,
    key: step.world.lastKey + 1,
    name: fresh.plannedName,
    size: undefined,
    whole: undefined,
    state: "receiving",
    pieces: [],
    replayCursor: -1,
    touchedAt: step.world.now
  }
  step.to({ lastKey: upload.key, uploads: [...step.world.uploads, upload] })
  return upload
}

const firstOf = (step: Step, chunk: Chunk, address: string): Upload | Answer => {
  const plannedName = base(chunk.name)
  return plannedName === "" || plannedName === ".." || plannedName.startsWith(".indexedcp")
    ? refuse(400)
    : create(step, {
      principal: chunk.principal,
      id: chunk.revision === 2 ? chunk.id : undefined,
      clientName: chunk.name,
      plannedName,
      address
    })
}

/**
 * "A final name that is taken (by what the file system says) is settled by the conflict policy"; "If something outside the
 * server takes a name later, the upload is published as `rename` would".
 */
const publish = (step: Step, key: number): Upload => {
  let upload = step.get(key)!
  const { names, policy } = step.world
  const free = (name: string) => names[name] === undefined || names[name] === key
  if (!free(upload.name) && policy !== "overwrite") {
    let number = 1
    while (!free(numbered(upload.plannedName, number))) number++
    upload = step.put({ ...upload, name: numbered(upload.plannedName, number) })
  }
  if (names[upload.name] !== key) step.to({ names: { ...names, [upload.name]: key } })
  return upload
}

// ---- "Revision 2: repeats, conflicts, races"

const receipt2 = (upload: Upload, chunk: Chunk2, duplicate: boolean): Answer => {
  const complete = upload.state === "complete"
  return {
    status: 200,
    receipt: {
      actualFilename: upload.name,
      chunkIndex: chunk.index,
      clientFilename: chunk.name,
      uploadId: chunk.id,
      duplicate,
      bytesReceived: received(upload),
      complete,
      ...(complete ? { file: bytesOf(upload) } : {}),
      ...(upload.state === "receiving" ? { expiresAt: expiresAt(upload) } : {})
    }
  }
}

/** "An unfinished upload is kept until it … passes its `expiresAt`, counted from its last chunk." */
const expiresAt = (upload: Upload): number => upload.touchedAt + times.unfinished

/** "a size that changes … a second value of `Repr-Digest`: 409, nothing lost". */
const contradicts = (upload: Upload, { size, whole }: Chunk2): boolean =>
  (upload.size !== undefined && size !== undefined && upload.size !== size) ||
  (upload.whole !== undefined && whole !== undefined && upload.whole !== whole)

/**
 * "Exactly one request finds nothing missing and finishes the upload." "A whole file that is not what `Repr-Digest` says:
 * 409, state `failed`, not published".
 */
const finish = (step: Step, key: number): Upload => {
  step.stop((flight) => flight.key === key)
  const upload = step.get(key)!
  if (upload.whole !== undefined && upload.whole !== bytesOf(upload)) return step.put({ ...upload, state: "failed" })
  // from now on the hash of the whole is known, sent or not
  return step.put({
    ...publish(step, key),
    state: "complete",
    whole: bytesOf(upload),
    touchedAt: step.world.now
  })
}

const prefixOf = (chunk: Chunk2): string | undefined => chunk.digest === undefined ? chunk.prefix : undefined

/** All bytes up to a place, if they are here. */
export const upTo = ({ pieces }: Pick<Upload, "pieces">, to: number): string | undefined => {
  let text = ""
  for (const { bytes, offset } of pieces) {
    if (text.length >= to || offset !== text.length) break
    text += bytes
  }
  return text.length === to ? text : undefined
}

/** Makes true what a chunk brought and said: its bytes, the size, the hash of the whole. */
const commit2 = (step: Step, key: number, chunk: Chunk2, duplicate: boolean): Answer => {
  const upload = step.get(key)!
  const brought = duplicate || chunk.body === ""
    ? []
    : [{ offset: chunk.offset, bytes: chunk.body, isPrefix: prefixOf(chunk) !== undefined }]
  const pieces = [...upload.pieces, ...brought].sort((a, b) => a.offset - b.offset)
  const size = upload.size ?? chunk.size
  // "bytes past the size: 409"
  if (contradicts(upload, chunk) || (size !== undefined && Math.max(0, ...pieces.map(end)) > size)) return refuse(409)
  const changed: Upload = { ...upload, pieces, size, whole: upload.whole ?? chunk.whole, touchedAt: step.world.now }
  const lacks = received(changed) !== size
  step.put({ ...changed, state: lacks ? "receiving" : "finishing" })
  const settled = lacks ? changed : finish(step, key)
  return settled.state === "failed" ? refuse(409) : receipt2(settled, chunk, duplicate)
}

/** "The same range with the same bytes: `duplicate:true`, nothing is written." */
const repeat2 = (step: Step, upload: Upload, chunk: Chunk2, there: Piece): Answer => {
  if (isCut(chunk)) return gone
  if (chunk.digest !== undefined && chunk.digest !== chunk.body) return refuse(422)
  const prefix = there.isPrefix === true ? prefixOf(chunk) : undefined
  // "A repeat of such a chunk is told by the same `Prefix-Digest`, or by its bytes"
  const isSame = prefix === undefined
    ? chunk.body === there.bytes
    : chunk.body.length === there.bytes.length && prefix === upTo(upload, end(there))
  if (!isSame) return refuse(409)
  const news = upload.state === "receiving" &&
    ((upload.size === undefined && chunk.size !== undefined) ||
      (upload.whole === undefined && chunk.whole !== undefined))
  return news ? commit2(step, upload.key, chunk, true) : receipt2(upload, chunk, true)
}

/** "chunks of a completed one `duplicate`, `complete`, so a lost last answer costs nothing". */
const afterComplete = (step: Step, upload: Upload, chunk: Chunk2): Answer => {
  if (chunk.body === "") return receipt2(upload, chunk, true)
  const length = chunk.sized ? chunk.body.length : 0
  if (chunk.offset + length > received(upload)) return refuse(409)
  const there = upload.pieces.find(({ offset }) => offset === chunk.offset)
  const isSame = there !== undefined && (!chunk.sized || length === there.bytes.length) &&
    // its own bytes are not hashed, and no longer where they could be
    (there.isPrefix !== true || prefixOf(chunk) !== undefined)
  return isSame ? repeat2(step, upload, chunk, there) : receipt2(upload, chunk, true)
}

/** The end of a body that was given room: the bytes are taken, or nothing is. */
const written2 = (step: Step, flight: Flight, chunk: Chunk2): Answer => {
  if (Math.min(chunk.arrives ?? chunk.body.length, chunk.body.length) > flight.limit) return refuse(409)
  // "Bytes that were cut off or whose digest is wrong" are never kept
  if (isCut(chunk)) return gone
  if (chunk.digest !== undefined && chunk.digest !== chunk.body) return refuse(422)
  const prefix = prefixOf(chunk)
  if (prefix !== undefined) {
    // "The bytes before must be here"
    const before = upTo(step.get(flight.key)!, chunk.offset)
    if (before === undefined) return refuse(503)
    if (prefix !== before + chunk.body) return refuse(422)
  }
  return commit2(step, flight.key, chunk, false)
}

const receive2 = (step: Step, chunk: Chunk2, slot: number | undefined): Answer | undefined => {
  // of a body of unknown length the first bytes are awaited before anything else
  if (!chunk.sized && isCut(chunk) && chunk.arrives === 0) return gone
  const found = known(step.world, chunk.principal, chunk.id)
  // "chunks for a deleted one get 412"; `If-Match`: "A server that does not answers 412 and keeps nothing"
  if (found?.state === "deleted" || (found === undefined && chunk.known)) return refuse(412)
  const opened = found ?? firstOf(step, chunk, "")
  if ("status" in opened) return opened
  const upload = opened.state === "finishing" ? finish(step, opened.key) : opened
  if (contradicts(upload, chunk) || upload.state === "failed") return refuse(409)
  if (upload.state === "complete") return afterComplete(step, upload, chunk)
  // "An empty body stores nothing and is never a repeat or an overlap"
  if (chunk.body === "") {
    return chunk.digest !== undefined && chunk.digest !== "" ? refuse(422) : commit2(step, upload.key, chunk, false)
  }
  const from = chunk.offset
  const there = upload.pieces.find(({ offset }) => offset === from)
  if (there !== undefined && (!chunk.sized || end(there) === from + chunk.body.length)) {
    return repeat2(step, upload, chunk, there)
  }
  // "Anything else that touches committed bytes … bytes past the size … : 409, nothing lost"
  const next = Math.min(
    upload.size ?? Infinity,
    ...upload.pieces.map(({ offset }) => offset).filter((at) => at >= from)
  )
  const wants = chunk.sized ? from + chunk.body.length : from
  if (wants > next || upload.pieces.some((piece) => piece.offset <= from && end(piece) > from)) return refuse(409)
  // "A newer request for exactly the same range takes over at once"; "overlaps a claimed range in another way gets 503"
  const to = chunk.sized ? wants : Infinity
  const touching = step.world.flights.filter((flight) =>
    flight.key === upload.key && flight.from < to && from < flight.to
  )
  if (touching.some((flight) => flight.from !== from || flight.to !== to)) return refuse(503)
  step.stop((flight) => touching.includes(flight))
  const flight = { slot: slot ?? -1, key: upload.key, chunk, from, to, limit: next - from }
  if (slot === undefined) return written2(step, flight, chunk)
  step.to({ flights: [...step.world.flights, flight] })
  return undefined
}

// ---- "Revision 1: what a chunk means"

const receipt1 = (chunk: Chunk1, name: string): Answer => ({
  status: 200,
  receipt: { actualFilename: name, chunkIndex: chunk.index, clientFilename: chunk.name }
})

/** The upload a chunk belongs to, by name, address and index; `undefined`: it starts one of its own. */
const select = (world: World, chunk: Chunk1): Upload | Answer | undefined => {
  const candidates = world.uploads
    .filter(({ clientName, id, principal }) =>
      id === undefined && principal === chunk.principal && clientName === chunk.name
    )
    .toReversed()
    .sort((a, b) => b.touchedAt - a.touchedAt)
  const last = candidates.find(({ address }) => address === chunk.address)
  if (chunk.index === 0) {
    // "After a time without chunks (default 24 h) index 0 starts a new file whatever its bytes"; "Index 0 from another
    // address starts an upload of its own"
    return last !== undefined && world.now - last.touchedAt > times.idle ? undefined : last
  }
  // "Any other index goes to the upload last written from that address; if there is none, to the only open upload of that
  // name that expects this index; if that does not decide, 409"
  if (last !== undefined) return last
  const expecting = candidates.filter(({ pieces }) => pieces.length === chunk.index)
  return expecting.length === 1 ? expecting[0]! : refuse(409)
}

/** "The next expected index is written." */
const next1 = (step: Step, upload: Upload, chunk: Chunk1): Answer => {
  step.put({
    ...upload,
    pieces: [...upload.pieces, { offset: received(upload), bytes: chunk.body }],
    address: chunk.address,
    touchedAt: step.world.now
  })
  // "If that was overwritten or removed, the next chunk links it again by the conflict policy"
  return receipt1(chunk, publish(step, upload.key).name)
}

/**
 * "An earlier index with the same bytes is a repeat and moves a replay cursor. Other bytes start a new version of the file
 * only at index 0 or at the replay cursor: what precedes that chunk is carried over; anywhere else they are 409."
 */
const earlier1 = (step: Step, upload: Upload, chunk: Chunk1): Answer => {
  const isSame = upload.pieces[chunk.index]!.bytes === chunk.body
  const mayStart = chunk.index === 0 || chunk.index === upload.replayCursor
  if (!isSame && !mayStart) return refuse(409, `chunk ${upload.pieces.length}`)
  // "a repeat counts only while the name still leads to that file, else index 0 starts a new one"
  if (isSame && (!mayStart || step.world.names[upload.name] === upload.key)) {
    step.put({ ...upload, replayCursor: chunk.index + 1, address: chunk.address, touchedAt: step.world.now })
    return receipt1(chunk, upload.name)
  }
  // "A new version gets the next free name under `rename`, takes the name under `overwrite`, is 409 under `reject`."
  const { clientName, plannedName, principal } = upload
  const version = create(step, { principal, id: undefined, clientName, plannedName, address: chunk.address })
  if ("status" in version) return version
  return next1(step, step.put({ ...version, pieces: upload.pieces.slice(0, chunk.index) }), chunk)
}

const written1 = (step: Step, key: number, chunk: Chunk1): Answer => {
  const upload = step.get(key)!
  const answer = isCut(chunk)
    ? gone
    : chunk.digest !== undefined && chunk.digest !== chunk.body
    ? refuse(422)
    : chunk.index === upload.pieces.length
    ? next1(step, upload, chunk)
    : earlier1(step, upload, chunk)
  step.forgetEmpty(key)
  return answer
}

const receive1 = (step: Step, chunk: Chunk1, slot: number | undefined): Answer | undefined => {
  let selected = select(step.world, chunk)
  // one chunk at a time: a newer request means that the older one is dead, whose empty upload is forgotten
  if (selected !== undefined && !("status" in selected)) {
    const { key } = selected
    step.stop((flight) => flight.key === key)
    if (step.get(key) === undefined) selected = select(step.world, chunk)
  }
  const upload = selected ?? firstOf(step, chunk, chunk.address)
  if ("status" in upload) return upload
  // "An index past the next one: 409, naming the index expected."
  if (chunk.index > upload.pieces.length) {
    step.forgetEmpty(upload.key)
    return refuse(409, `chunk ${upload.pieces.length}`)
  }
  if (chunk.index > 0 && chunk.index < upload.pieces.length) publish(step, upload.key)
  if (slot === undefined) return written1(step, upload.key, chunk)
  step.to({
    flights: [...step.world.flights, { slot, key: upload.key, chunk, from: 0, to: Infinity, limit: Infinity }]
  })
  return undefined
}

// ---- requests and what else happens

/** A chunk comes. With a `slot` its body stalls before its end, and it is in flight when it was not answered before. */
export const receive = (world: World, chunk: Chunk, slot?: number): Outcome => {
  const step = new Step(world)
  return step.end(chunk.revision === 1 ? receive1(step, chunk, slot) : receive2(step, chunk, slot))
}

/** The body of a request in flight comes to its end, or breaks off. */
export const resume = (world: World, slot: number, breaks: boolean): Outcome => {
  const step = new Step(world)
  const flight = world.flights.find((flight) => flight.slot === slot)
  if (flight === undefined) return step.end(gone)
  step.to({ flights: world.flights.filter((other) => other !== flight) })
  const chunk = breaks ? { ...flight.chunk, arrives: 0 } : flight.chunk
  return step.end(chunk.revision === 1 ? written1(step, flight.key, chunk) : written2(step, flight, chunk))
}

/** DELETE: "204, the partial bytes are gone; 404; 409 once complete". */
export const abort = (world: World, principal: string, id: string): Outcome => {
  const step = new Step(world)
  const found = known(world, principal, id)
  if (found === undefined || found.state === "deleted") return step.end(refuse(404))
  const upload = found.state === "finishing" ? finish(step, found.key) : found
  if (upload.state === "complete") return step.end(refuse(409))
  step.put({ ...upload, state: "deleted", pieces: [], touchedAt: step.world.now })
  step.stop(({ key }) => key === upload.key)
  return step.end({ status: 204 })
}

/**
 * What expired is ended, unless somebody is writing to it: unfinished uploads are remembered as deleted; "A deleted upload
 * and a completed one are remembered (default 30 days)", those of revision 1 for a year. Their files stay.
 */
const expire = (world: World): World => {
  const isOver = (upload: Upload, time: number) =>
    upload.touchedAt < world.now - time && world.flights.every(({ key }) => key !== upload.key)
  const forgotten = world.uploads.filter((upload) =>
    upload.id === undefined
      ? isOver(upload, times.revision1)
      : (upload.state === "complete" || upload.state === "deleted") && isOver(upload, times.ended)
  )
  const names = Object.entries(world.names).map(([name, there]) => {
    const upload = forgotten.find(({ key }) => key === there)
    return [name, upload === undefined ? there : { outside: bytesOf(upload) }] as const
  })
  return {
    ...world,
    names: Object.fromEntries(names),
    uploads: world.uploads.filter((upload) => !forgotten.includes(upload)).map((upload) =>
      upload.id !== undefined && (upload.state === "receiving" || upload.state === "failed") &&
        isOver(upload, times.unfinished)
        ? { ...upload, state: "deleted", pieces: [], touchedAt: world.now }
        : upload
    )
  }
}

/** "A crash at any point is carried on at the next start, chunk or GET." */
export const carryOn = (world: World): World => {
  const step = new Step(world)
  for (const { key, state } of world.uploads) if (state === "finishing") finish(step, key)
  return step.world
}

/** The server ends in order: who was in flight is gone as if its client had left. */
export const restart = (world: World): World => {
  const step = new Step(world)
  step.stop(() => true)
  return expire(carryOn(step.world))
}

/** A first chunk of revision 1 that failed leaves no trace, wherever the failure struck. */
const withoutTrace = (world: World): World => {
  const step = new Step(world)
  for (const { key } of world.uploads) step.forgetEmpty(key)
  return step.world
}

/** The server dies: what was durable stays as it was, and the next start looks after it. */
export const crash = (world: World): World => expire(carryOn(withoutTrace({ ...world, flights: [] })))

/**
 * The server's disk failed at some call of a request, which was answered 500 or 507: any of the worlds on the way. The
 * failure may have kept the server from clearing up.
 */
export const failed = (passed: ReadonlyArray<World>): ReadonlyArray<World> =>
  passed.flatMap((world) => [world, withoutTrace(world)])

/** Time passes; a server looks every hour for what has expired. */
export const pass = (world: World, milliseconds: number): World => {
  const later = { ...world, now: world.now + milliseconds }
  return milliseconds >= 3600 * 1000 ? expire(later) : later
}

/** Somebody outside the server writes a file under a name, or removes it. */
export const outside = (world: World, name: string, bytes: string | undefined): World => {
  const { [name]: _, ...others } = world.names
  return { ...world, names: bytes === undefined ? others : { ...others, [name]: { outside: bytes } } }
}
