/**
 * What may happen to a server, drawn by chance: requests, faults on their way, restarts, and what others do meanwhile.
 *
 * @module
 */
import { type Chunk, type Chunk1, type Chunk2, receive, upTo, type World } from "../proof/model.ts"
import type { Fuse } from "./proofFuse.ts"
import type { Chance } from "./proofRun.ts"

/** Plain data, so that a sequence can be printed, cut and run again. */
export type Command =
  | { readonly _tag: "send"; readonly kind: string; readonly chunk: Chunk }
  | { readonly _tag: "sendInto"; readonly kind: string; readonly chunk: Chunk; readonly fuse: Fuse }
  | { readonly _tag: "begin"; readonly kind: string; readonly chunk: Chunk; readonly slot: number }
  | {
    readonly _tag: "end"
    readonly kind: string
    readonly slot: number
    readonly how: "goes on" | "breaks" | "leaves"
  }
  | { readonly _tag: "burst"; readonly kind: string; readonly chunks: ReadonlyArray<Chunk> }
  /** Its client leaves after so many turns of the server, and at once sends the same again. */
  | { readonly _tag: "abandon"; readonly kind: string; readonly chunk: Chunk; readonly turns: number }
  | { readonly _tag: "look" | "abort"; readonly kind: string; readonly principal: string; readonly id: string }
  | { readonly _tag: "restart"; readonly kind: string; readonly crashes: boolean }
  | { readonly _tag: "outside"; readonly kind: string; readonly name: string; readonly bytes: string | undefined }
  | { readonly _tag: "pass"; readonly kind: string; readonly milliseconds: number }

/** Which kinds of steps are faults or restarts; all others are requests as a good client sends them. */
export const faults: ReadonlySet<string> = new Set([
  "repeat",
  "late",
  "re-cut",
  "cut",
  "flipped",
  "truncated",
  "stalled",
  "takeover",
  "broken off",
  "left",
  "at once",
  "abandoned",
  "restart",
  "killed",
  "killed within",
  "disk failed"
])

const hasGap = ({ uploads }: World, chunk: Chunk): boolean => {
  if (chunk.revision === 1) return false
  const upload = uploads.find(({ id, principal }) => id === chunk.id && principal === chunk.principal)
  return upTo(upload ?? { pieces: [] }, chunk.offset) === undefined
}

const withoutPrefix = (chunk: Chunk): Chunk => {
  if (chunk.revision === 1) return chunk
  const { prefix: _prefix, ...rest } = chunk
  return rest
}

/** Whether a chunk whose body stalls half-way is in flight then, holding a claim: not refused, not compared. */
export const isAwaited = (world: World, chunk: Chunk): boolean => {
  if (chunk.body.length <= (chunk.sized ? 0 : 1)) return false
  const { answer, world: after } = receive(world, chunk, 0)
  return answer === undefined && after.flights.find(({ slot }) => slot === 0)!.limit >= chunk.body.length / 2
}

const names = ["/data/a.txt", "/data/a.txt", "a.txt", "b", "C:\\x\\b"]
const addresses = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]
const hour = 3600 * 1000

/** A file that some client of revision 2 sends. */
interface File2 {
  readonly principal: string
  readonly id: string
  readonly name: string
  readonly content: string
  readonly chunkSize: number
}

/** Draws one command after the other. */
export class Commands {
  private readonly chance: Chance
  private readonly files: Array<File2> = []
  private readonly sent: Array<Chunk> = []
  private slots = 0

  constructor(chance: Chance) {
    this.chance = chance
  }

  /** The next command, drawn in view of what a world holds. */
  next(world: World): Command {
    const command = this.draw(world)
    // who comes with the hash of all bytes before waits for those, which nothing here does
    const waits = (chunk: Chunk) => world.flights.length > 0 || command._tag === "begin" || hasGap(world, chunk)
    const prompt = (chunk: Chunk) => waits(chunk) ? withoutPrefix(chunk) : chunk
    if (command._tag === "burst") return { ...command, chunks: command.chunks.map(prompt) }
    return "chunk" in command ? { ...command, chunk: prompt(command.chunk) } : command
  }

  private draw(world: World): Command {
    const { chance } = this
    const inFlight = world.flights.length > 0
    const what = chance.weighted({
      chunk: 40,
      repeat: 7,
      late: 4,
      recut: 5,
      cut: 6,
      flipped: 4,
      truncated: 3,
      stalled: 4,
      flight: inFlight ? 30 : 0,
      takeover: inFlight ? 12 : 0,
      burst: inFlight ? 0 : 1,
      abandon: inFlight ? 0 : 1,
      restart: 2,
      killed: 2,
      killedWithin: inFlight ? 0 : 5,
      diskFailed: inFlight ? 0 : 3,
      look: 5,
      abort: 1.2,
      outside: 1.5,
      pass: 0.5
    })
    switch (what) {
      case "repeat":
      case "late": {
        const from = what === "repeat" ? this.sent.slice(-2) : this.sent
        const chunk = from.length === 0 ? this.chunk(world) : chance.pick(from)
        return { _tag: "send", kind: what, chunk }
      }
      case "recut":
        return { _tag: "send", kind: "re-cut", chunk: this.recut(world) }
      case "cut": {
        const chunk = this.chunk(world)
        return { _tag: "send", kind: "cut", chunk: { ...chunk, arrives: chance.below(chunk.body.length + 1) } }
      }
      case "flipped":
        return { _tag: "send", kind: "flipped", chunk: this.flipped(this.chunk(world)) }
      case "truncated": {
        const chunk = this.chunk(world)
        const digest = chance.odds(0.8) ? { digest: chunk.body } : {}
        const body = chunk.body.slice(0, chance.below(chunk.body.length + 1))
        return { _tag: "send", kind: "truncated", chunk: { ...chunk, ...digest, body } }
      }
      case "stalled": {
        const chunk = this.chunk(world)
        return isAwaited(world, chunk)
          ? { _tag: "begin", kind: "stalled", chunk, slot: ++this.slots }
          : { _tag: "send", kind: `revision ${chunk.revision}`, chunk }
      }
      case "flight": {
        const { slot } = chance.pick(world.flights)
        const how = chance.weighted({ "goes on": 5, breaks: 2, leaves: 2 })
        return { _tag: "end", kind: { "goes on": "", breaks: "broken off", leaves: "left" }[how], slot, how }
      }
      case "takeover": {
        const { chunk } = chance.pick(world.flights)
        if (chunk.revision === 2 && chance.odds(0.3)) {
          // somebody says another size meanwhile
          const size = chunk.offset + chunk.body.length + chance.below(3)
          return { _tag: "send", kind: "takeover", chunk: { ...chunk, body: "", size } }
        }
        return chance.odds(0.4) && isAwaited(world, chunk)
          ? { _tag: "begin", kind: "takeover", chunk, slot: ++this.slots }
          : { _tag: "send", kind: "takeover", chunk }
      }
      case "burst": {
        const first = this.chunk(world)
        // under `reject` only one client at once: for a moment between its record and its file, a first chunk of revision
        // 1 does not claim its name, and which of two clients gets it is not modelled
        const again = world.policy === "reject" ? 1 : 0.4
        const others = Array.from(
          { length: chance.odds(0.25) ? 2 : 1 },
          () => chance.odds(again) ? this.other(first) : chance.odds(0.5) ? this.recut(world) : this.chunk(world)
        )
        return { _tag: "burst", kind: "at once", chunks: [first, ...others] }
      }
      case "abandon":
        return { _tag: "abandon", kind: "abandoned", chunk: this.chunk(world), turns: chance.below(20) }
      case "restart":
        return { _tag: "restart", kind: "restart", crashes: false }
      case "killed":
        return { _tag: "restart", kind: "killed", crashes: true }
      case "killedWithin":
      case "diskFailed": {
        const kind = chance.pick(what === "diskFailed" ? ["failure", "full"] as const : ["before", "after"] as const)
        const fuse = { call: 1 + chance.below(16), kind }
        return {
          _tag: "sendInto",
          kind: what === "diskFailed" ? "disk failed" : "killed within",
          chunk: this.chunk(world),
          fuse
        }
      }
      case "look":
      case "abort": {
        const { id, principal } = this.file()
        return { _tag: what, kind: what, principal: chance.odds(0.1) ? "other" : principal, id }
      }
      case "outside": {
        const there = Object.keys(world.names)
        const name = there.length > 0 && chance.odds(0.8) ? chance.pick(there) : chance.pick(["a.txt", "b", "b (1)"])
        return { _tag: "outside", kind: "", name, bytes: chance.odds(0.5) ? undefined : chance.text(chance.below(9)) }
      }
      case "pass": {
        const days = chance.pick([1 / 24, 1, 25 / 24, 6, 8, 31])
        return { _tag: "pass", kind: "", milliseconds: 24 * hour * (chance.odds(0.02) ? 366 : days) }
      }
      default: {
        const chunk = this.chunk(world)
        return { _tag: "send", kind: chunk.revision === 1 ? "revision 1" : "revision 2", chunk }
      }
    }
  }

  private chunk(world: World): Chunk {
    const chunk = this.chance.odds(0.4) ? this.chunk1(world) : this.chunk2(world)
    this.sent.push(chunk)
    return chunk
  }

  /** One of the files that are being sent, or a new one. */
  private file(): File2 {
    const { chance } = this
    if (this.files.length === 0 || chance.odds(0.06)) {
      this.files.push({
        principal: chance.odds(0.8) ? "default" : "other",
        // now and then two principals have the same id
        id: `u${this.files.length + 1 - (chance.odds(0.1) ? 1 : 0)}`,
        name: chance.odds(0.02) ? chance.pick(["..", ".indexedcp", "/"]) : chance.pick(names),
        content: chance.text(chance.odds(0.1) ? 0 : chance.below(24)),
        chunkSize: 1 + chance.below(9)
      })
    }
    return chance.pick(this.files.slice(-3))
  }

  private chunk2(world: World): Chunk2 {
    const { chance } = this
    const file = this.file()
    const upload = world.uploads.find(({ id, principal }) => id === file.id && principal === file.principal)
    const size = file.content.length
    const starts = Array.from({ length: Math.ceil(size / file.chunkSize) }, (_, at) => at * file.chunkSize)
    const lacking = starts.filter((at) => upload?.pieces.every(({ offset }) => offset !== at) ?? true)
    // mostly what is missing, in order or not; else anything
    const from = lacking.length === 0
      ? chance.odds(0.5) ? size : chance.below(size + 1)
      : chance.odds(0.7)
      ? lacking[0]!
      : chance.pick(lacking)
    const to = Math.min(from + file.chunkSize, size)
    const isLast = lacking.length <= 1
    return this.about(file, from, file.content.slice(from, to), isLast ? 0.9 : 0.4, upload !== undefined)
  }

  private about(file: File2, offset: number, body: string, tells: number, isKnown: boolean): Chunk2 {
    const { chance } = this
    const wrong = chance.odds(0.02)
    return {
      revision: 2,
      principal: file.principal,
      id: file.id,
      name: chance.odds(0.05) ? chance.pick(names) : file.name,
      index: chance.below(5),
      offset,
      body: chance.odds(0.03) ? chance.text(body.length + chance.below(2)) : body,
      sized: chance.odds(0.8),
      known: chance.odds(isKnown ? 0.6 : 0.03),
      ...(chance.odds(0.4) ? { digest: body } : {}),
      ...(chance.odds(0.5) ? { prefix: file.content.slice(0, offset) + body } : {}),
      ...(chance.odds(tells) ? { size: file.content.length + (wrong ? chance.below(3) : 0) } : {}),
      ...(chance.odds(tells * 0.7) ? { whole: wrong ? "something else" : file.content } : {})
    }
  }

  /** The same chunk, now and then saying another size. */
  private other(chunk: Chunk): Chunk {
    return chunk.revision === 2 && chunk.size !== undefined && this.chance.odds(0.2)
      ? { ...chunk, size: chunk.size + 1 }
      : chunk
  }

  /** Any range of a file, or an empty chunk. */
  private recut(world: World): Chunk2 {
    const { chance } = this
    const file = this.file()
    const from = chance.below(file.content.length + 2)
    const to = from + chance.below(file.content.length + 2 - from)
    const isKnown = world.uploads.some(({ id }) => id === file.id)
    const chunk = this.about(file, from, file.content.slice(from, to), 0.5, isKnown)
    this.sent.push(chunk)
    return chunk
  }

  private flipped(chunk: Chunk): Chunk {
    const { chance } = this
    const at = chance.below(chunk.body.length)
    const flip = (text: string) =>
      text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ (1 << chance.below(5))) + text.slice(at + 1)
    return {
      ...chunk,
      body: chunk.body === "" ? "" : flip(chunk.body),
      ...(chance.odds(0.85) ? { digest: chunk.body } : {})
    }
  }

  private chunk1(world: World): Chunk1 {
    const { chance } = this
    const client = {
      principal: chance.odds(0.9) ? "default" : "other",
      name: chance.odds(0.02) ? ".." : chance.pick(names),
      address: chance.pick(addresses)
    }
    const upload = world.uploads.findLast(({ address, clientName, id, principal }) =>
      id === undefined && address === client.address && clientName === client.name && principal === client.principal
    )
    const pieces = upload?.pieces ?? []
    const index = chance.weighted({ next: 60, first: 15, cursor: 12, any: 10, past: 3 })
    const at = {
      next: pieces.length,
      first: 0,
      cursor: Math.max(0, upload?.replayCursor ?? 0),
      any: chance.below(pieces.length + 1),
      past: pieces.length + 1 + chance.below(3)
    }[index]
    const there = pieces[at]?.bytes
    const body = there !== undefined && chance.odds(0.75) ? there : chance.text(chance.below(5))
    return {
      revision: 1,
      ...client,
      index: at,
      body,
      sized: chance.odds(0.8),
      ...(chance.odds(0.3) ? { digest: body } : {})
    }
  }
}
