/**
 * A disk in memory that keeps apart what is there now and what is durable, and can tell what a power cut would leave of it.
 * It stands in for `node:fs/promises` under `UploadStoreFileSystem`.
 *
 * Durable is a file's content after `datasync` or `sync` of the file, and a name after `sync` of its folder. Everything else
 * may survive or not: each write whole, not at all or sector by sector, its growth of the file for itself, each name for
 * itself. A rename alone is kinder: its old name goes only once the new one is there.
 *
 * @example
 * ```ts
 * const disk = PowerCutDisk.make()
 * const storage = UploadStoreFileSystem.layer({ outputDir: "/files", calls: disk.calls })
 * // … uploads …
 * const found = disk.powerCut(1)
 * // … a server over found.calls must still have all that was acknowledged …
 * ```
 *
 * @module
 */
import { constants } from "node:fs"
import type { FolderOptions } from "../server/UploadStoreFileSystem.ts"
import { generator } from "./internal/chance.ts"

/** The calls that the storage in a folder makes on its disk. */
export type FileSystemCalls = NonNullable<FolderOptions["calls"]>

/** What survives of that which was not synced: nothing, everything, or by chance that begins with this number. */
export type Survivors = "nothing" | "everything" | number

/** What a test does at each call of the disk. */
export interface Options {
  /**
   * Told of each call that changes the disk or makes something durable, just before it does, as `link /from /to`. What it
   * throws, the call fails with.
   */
  readonly before?: (call: string) => void
  /** Awaited before each call, so that several are under way at once. */
  readonly pause?: () => Promise<void>
}

/** A disk, see the module. */
export interface PowerCutDisk {
  /** What `UploadStoreFileSystem.layer` takes as its `calls`. */
  readonly calls: FileSystemCalls
  /** The disk as it is found when the power is back, were it cut now. This one stays as it is. */
  readonly powerCut: (survivors: Survivors, options?: Options) => PowerCutDisk
  /** The same disk once more, as it is found after the death of a process: nothing is lost, nothing more is durable. */
  readonly copy: (options?: Options) => PowerCutDisk
  /** The files under a folder, by their paths in it. */
  readonly files: (folder: string) => ReadonlyMap<string, Uint8Array>
  /** Puts a file there, durably, as somebody else would. Its folder must be there. */
  readonly put: (path: string, bytes: Uint8Array) => void
  /** Takes a name away, durably, as somebody else would. */
  readonly remove: (path: string) => void
}

type Change = { readonly at: number; readonly bytes: Uint8Array } | { readonly length: number }

interface File {
  readonly kind: "file"
  readonly ino: number
  bytes: Uint8Array
  synced: Uint8Array
  unsynced: Array<Change>
}

interface Entry {
  readonly name: string
  /** Nothing: the name is gone. */
  readonly node: Node | undefined
  readonly renamedTo?: Entry
  durable: boolean
}

interface Folder {
  readonly kind: "folder"
  readonly ino: number
  entries: Map<string, Node>
  synced: Map<string, Node>
  unsynced: Array<Entry>
}

type Node = File | Folder

/** Plain data, so that `structuredClone` copies a disk with its links. */
interface State {
  inodes: number
  readonly root: Folder
}

const sector = 512

const accessMode = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR

const folder = (ino: number): Folder => ({ kind: "folder", ino, entries: new Map(), synced: new Map(), unsynced: [] })

const file = (ino: number, bytes = new Uint8Array(0)): File => ({
  kind: "file",
  ino,
  bytes,
  synced: bytes,
  unsynced: []
})

const failed = (code: string, path: string) => Object.assign(new Error(`${code}: ${path}`), { code })

const resized = (bytes: Uint8Array, length: number): Uint8Array => {
  const made = new Uint8Array(length)
  made.set(bytes.subarray(0, length))
  return made
}

const written = (bytes: Uint8Array, at: number, more: Uint8Array): Uint8Array => {
  const made = resized(bytes, Math.max(bytes.length, at + more.length))
  made.set(more, at)
  return made
}

/** Seeded chance; how much survives is a matter of the seed, too. */
const chanceOf = (seed: number): () => boolean => {
  const next = generator(seed)
  const odds = [0.2, 0.5, 0.8][Math.floor(next() * 3)]!
  return () => next() < odds
}

/** What a file holds after a power cut. */
const contentAfter = ({ synced, unsynced }: File, survives: () => boolean): Uint8Array => {
  let bytes = synced
  let size = synced.length
  for (const change of unsynced) {
    if ("length" in change) {
      if (!survives()) continue
      bytes = resized(bytes, change.length)
      size = change.length
      continue
    }
    const end = change.at + change.bytes.length
    if (end > size && survives()) size = end
    if (!survives()) continue
    const whole = survives()
    for (let from = change.at; from < end;) {
      const to = Math.min(end, from - (from % sector) + sector)
      if (whole || survives()) bytes = written(bytes, from, change.bytes.subarray(from - change.at, to - change.at))
      from = to
    }
  }
  return resized(bytes, size)
}

const cut = (state: State, survives: () => boolean): void => {
  const decided = new Map<Entry, boolean>()
  const survived = (entry: Entry): boolean => {
    if (entry.durable) return true
    const known = decided.get(entry)
    if (known !== undefined) return known
    const outcome = survives() && (entry.renamedTo === undefined || survived(entry.renamedTo))
    decided.set(entry, outcome)
    return outcome
  }
  const settled = new Set<Node>()
  const settle = (node: Node): void => {
    if (settled.has(node)) return
    settled.add(node)
    if (node.kind === "file") {
      node.bytes = contentAfter(node, survives)
      node.synced = node.bytes
    } else {
      const found = new Map(node.synced)
      for (const entry of node.unsynced.filter(survived)) {
        if (entry.node === undefined) found.delete(entry.name)
        else found.set(entry.name, entry.node)
      }
      node.entries = found
      node.synced = new Map(found)
      found.forEach(settle)
    }
    node.unsynced = []
  }
  settle(state.root)
}

const partsOf = (path: string) => path.split(/[/\\]/).filter((part) => part !== "" && part !== ".")

const find = (state: State, path: string): Node | undefined => {
  let node: Node | undefined = state.root
  for (const part of partsOf(path)) {
    if (node?.kind === "file") throw failed("ENOTDIR", path)
    node = node?.entries.get(part)
  }
  return node
}

const existing = (state: State, path: string): Node => {
  const node = find(state, path)
  if (node === undefined) throw failed("ENOENT", path)
  return node
}

const existingFile = (state: State, path: string): File => {
  const node = existing(state, path)
  if (node.kind === "folder") throw failed("EISDIR", path)
  return node
}

/** The folder of a path, and the name in it. */
const placeOf = (state: State, path: string): readonly [Folder, string] => {
  const parts = partsOf(path)
  const parent = existing(state, parts.slice(0, -1).join("/"))
  if (parent.kind === "file") throw failed("ENOTDIR", path)
  return [parent, parts.at(-1) ?? ""]
}

const enter = (parent: Folder, name: string, node: Node | undefined, renamedTo?: Entry): Entry => {
  const entry: Entry = { name, node, durable: false, ...(renamedTo === undefined ? {} : { renamedTo }) }
  if (node === undefined) parent.entries.delete(name)
  else parent.entries.set(name, node)
  parent.unsynced.push(entry)
  return entry
}

const sync = (node: Node): void => {
  if (node.kind === "file") {
    node.synced = node.bytes
  } else {
    node.synced = new Map(node.entries)
    for (const entry of node.unsynced) entry.durable = true
  }
  node.unsynced = []
}

const change = (target: File, made: Change): void => {
  target.bytes = "length" in made ? resized(target.bytes, made.length) : written(target.bytes, made.at, made.bytes)
  target.unsynced.push(made)
}

const callsOf = (state: State, { before, pause }: Options): FileSystemCalls => {
  /** One call: its pause, then all of it at once. `says` names it where it changes something. */
  const call = async <A>(says: string | undefined, run: () => A): Promise<A> => {
    await pause?.()
    if (says !== undefined) before?.(says)
    return run()
  }

  const handleOf = (node: Node, path: string) => {
    const write = (pieces: ReadonlyArray<Uint8Array>, at: number) =>
      call(`write ${path} at ${at}`, () => {
        if (node.kind === "folder") throw failed("EISDIR", path)
        const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
        let offset = 0
        for (const piece of pieces) {
          bytes.set(piece, offset)
          offset += piece.length
        }
        change(node, { at, bytes })
        return { bytesWritten: bytes.length }
      })
    return {
      writev: write,
      write: (bytes: Uint8Array, from: number, length: number, at: number) =>
        write([bytes.subarray(from, from + length)], at),
      read: (into: Uint8Array, offset: number, length: number, at: number) =>
        call(undefined, () => {
          if (node.kind === "folder") throw failed("EISDIR", path)
          const bytes = node.bytes.subarray(at, at + length)
          into.set(bytes, offset)
          return { bytesRead: bytes.length }
        }),
      datasync: () => call(`sync ${path}`, () => sync(node)),
      sync: () => call(`sync ${path}`, () => sync(node)),
      truncate: (length: number) =>
        call(`truncate ${path} to ${length}`, () => {
          if (node.kind === "folder") throw failed("EISDIR", path)
          change(node, { length })
        }),
      // modes are not kept
      chmod: () => call(undefined, () => {}),
      stat: () =>
        call(undefined, () => ({
          size: node.kind === "file" ? node.bytes.length : 0,
          isFile: () => node.kind === "file"
        })),
      close: () => call(undefined, () => {})
    }
  }

  const calls = {
    open: (path: string, flags: string | number = "r") => {
      if (flags !== "wx") {
        return call(undefined, () => {
          const writes = flags === "r+" || (Number(flags) & accessMode) === constants.O_RDWR
          if (flags !== "r" && !writes && (Number(flags) & accessMode) !== constants.O_RDONLY) {
            throw failed("EINVAL", path)
          }
          return handleOf(writes ? existingFile(state, path) : existing(state, path), path)
        })
      }
      return call(`create ${path}`, () => {
        const [parent, name] = placeOf(state, path)
        if (parent.entries.has(name)) throw failed("EEXIST", path)
        const made = file(++state.inodes)
        enter(parent, name, made)
        return handleOf(made, path)
      })
    },
    link: (from: string, to: string) =>
      call(`link ${from} ${to}`, () => {
        const source = existingFile(state, from)
        const [parent, name] = placeOf(state, to)
        if (parent.entries.has(name)) throw failed("EEXIST", to)
        enter(parent, name, source)
      }),
    rename: (from: string, to: string) =>
      call(`rename ${from} ${to}`, () => {
        const source = existing(state, from)
        const [parent, name] = placeOf(state, to)
        const there = parent.entries.get(name)
        // two names of one file: nothing to do, says POSIX
        if (there === source) return
        if (there?.kind === "folder") throw failed("EISDIR", to)
        const made = enter(parent, name, source)
        enter(...placeOf(state, from), undefined, made)
      }),
    rm: (path: string, options: { readonly force?: boolean } = {}) =>
      call(`remove ${path}`, () => {
        if (find(state, path) === undefined && options.force === true) return
        existingFile(state, path)
        enter(...placeOf(state, path), undefined)
      }),
    mkdir: (path: string, options: { readonly recursive?: boolean } = {}) =>
      call(`mkdir ${path}`, () => {
        const parts = partsOf(path)
        const first = options.recursive === true ? 1 : Math.max(1, parts.length)
        for (let length = first; length <= parts.length; length++) {
          const step = parts.slice(0, length).join("/")
          const there = find(state, step)
          if (there?.kind === "folder" && options.recursive === true) continue
          if (there !== undefined) throw failed("EEXIST", path)
          enter(...placeOf(state, step), folder(++state.inodes))
        }
      }),
    readdir: (path: string) =>
      call(undefined, () => {
        const node = existing(state, path)
        if (node.kind === "file") throw failed("ENOTDIR", path)
        return [...node.entries.keys()]
      }),
    lstat: (path: string, options: { readonly bigint?: boolean } = {}) =>
      call(undefined, () => {
        const node = existing(state, path)
        const numbers = { dev: 1, ino: node.ino, mode: node.kind === "file" ? 0o100640 : 0o40750 }
        return {
          ...(options.bigint === true
            ? { dev: 1n, ino: BigInt(numbers.ino), mode: BigInt(numbers.mode) }
            : { ...numbers, size: node.kind === "file" ? node.bytes.length : 0 }),
          isDirectory: () => node.kind === "folder",
          isFile: () => node.kind === "file"
        }
      })
  }
  return calls as unknown as FileSystemCalls
}

const fromState = (state: State, options: Options): PowerCutDisk => {
  const outside = (path: string, node: Node | undefined) => {
    const [parent, name] = placeOf(state, path)
    parent.unsynced = parent.unsynced.filter((entry) => entry.name !== name)
    for (const names of [parent.entries, parent.synced]) {
      if (node === undefined) names.delete(name)
      else names.set(name, node)
    }
  }
  return {
    calls: callsOf(state, options),
    powerCut: (survivors, options = {}) => {
      const found = structuredClone(state)
      cut(found, typeof survivors === "number" ? chanceOf(survivors) : () => survivors === "everything")
      return fromState(found, options)
    },
    copy: (options = {}) => fromState(structuredClone(state), options),
    files: (path) => {
      const found = new Map<string, Uint8Array>()
      const walk = (node: Node, at: string) => {
        if (node.kind === "file") found.set(at, node.bytes)
        else node.entries.forEach((below, name) => walk(below, at === "" ? name : `${at}/${name}`))
      }
      const top = find(state, path)
      if (top !== undefined) walk(top, "")
      return found
    },
    put: (path, bytes) => outside(path, file(++state.inodes, bytes.slice())),
    remove: (path) => outside(path, undefined)
  }
}

/** An empty disk. */
export const make = (options: Options = {}): PowerCutDisk => fromState({ inodes: 1, root: folder(1) }, options)
