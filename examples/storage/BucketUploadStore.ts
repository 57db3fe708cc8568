/**
 * Uploads in an object store: each piece that was written is an object, and a final name is an object that tells where the
 * pieces are. Memory is needed for one piece of each request, so give the server a `maxChunkSize` that fits.
 */
import { Effect, Layer, Option } from "effect"
import { ProtocolError, Sha256 } from "indexedcp/protocol"
import { Body, UploadStore } from "indexedcp/server"

/** What an object store can do, be it S3, a database table or a map. What was put is durable. */
export interface Bucket {
  readonly get: (name: string) => Promise<Uint8Array | undefined>
  readonly put: (name: string, bytes: Uint8Array) => Promise<void>
  /** False when there is an object of that name already (`If-None-Match: *`). */
  readonly putNew: (name: string, bytes: Uint8Array) => Promise<boolean>
  readonly remove: (name: string) => Promise<void>
  /** The names that begin like this, sorted. */
  readonly list: (prefix: string) => Promise<ReadonlyArray<string>>
}

const encode = (text: string) => new TextEncoder().encode(text)

const tellTale = async (bucket: Bucket, name: string): Promise<string | undefined> => {
  const bytes = await bucket.get(name)
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes)
}

/** `staging/<key>` tells the folder of an upload, which no other upload ever has. */
const stagingOf = (key: string) => `staging/${key}`
/** `names/<final name>` tells the folder of the upload that it leads to. */
const nameOf = (name: string) => `names/${name}`
/** Sorted by name, the pieces of a folder are sorted by offset. */
const pieceOf = (folder: string, offset: number) => `bytes/${folder}/${String(offset).padStart(16, "0")}`

const offsetOf = (piece: string) => Number(piece.slice(-16))

/** The pieces of a folder from the beginning on, as far as each begins where the one before it ends. */
export const piecesOf = async function*(bucket: Bucket, folder: string): AsyncGenerator<Uint8Array> {
  let end = 0
  for (const piece of await bucket.list(`bytes/${folder}/`)) {
    if (offsetOf(piece) !== end) continue
    const bytes = await bucket.get(piece) ?? new Uint8Array(0)
    end += bytes.length
    yield bytes
  }
}

/** The store of an output without a file system. */
export const layer = (bucket: Bucket): Layer.Layer<UploadStore.UploadStore> => {
  const ask = <A>(question: () => Promise<A>): Effect.Effect<A, ProtocolError.ServerFailure> =>
    Effect.tryPromise({
      try: question,
      catch: (cause) => new ProtocolError.ServerFailure({ message: "The bucket cannot be used", cause })
    })

  const folderOf = (key: string): Effect.Effect<string, ProtocolError.ServerFailure> =>
    Effect.flatMap(ask(() => tellTale(bucket, stagingOf(key))), (folder) =>
      folder === undefined
        ? Effect.fail(new ProtocolError.ServerFailure({ message: `There is no upload ${key}` }))
        : Effect.succeed(folder))

  /** The part of a name that another name has: a name and a folder cannot be the same. */
  const taken = async (name: string): Promise<string | undefined> => {
    const parts = name.split("/")
    for (let length = 1; length < parts.length; length++) {
      const above = parts.slice(0, length).join("/")
      if (await bucket.get(nameOf(above)) !== undefined) return above
    }
    return (await bucket.list(nameOf(`${name}/`))).length > 0 ? name : undefined
  }

  const nameTaken = (name: string) =>
    Effect.fail(new UploadStore.NameTaken({ name, message: `There is a file ${name} already` }))

  return Layer.succeed(
    UploadStore.UploadStore,
    UploadStore.oneByOne({
      limits: { minPiece: 1, maxPiece: 64 * 1024 * 1024, append: true },
      free: Effect.succeedNone,
      probe: ask(async () => {
        await bucket.put("probe", new Uint8Array(0))
        await bucket.remove("probe")
      }),
      reserve: (key) =>
        Effect.flatMap(
          ask(() => bucket.putNew(stagingOf(key), encode(crypto.randomUUID()))),
          (isNew) =>
            isNew ? Effect.void : new ProtocolError.ServerFailure({ message: `There is an upload ${key} already` })
        ),
      write: ({ key, limit, offset }, body) =>
        Effect.gen(function*() {
          const folder = yield* folderOf(key)
          const pieces: Array<Uint8Array> = []
          const { length, sha256 } = yield* Body.consume(body, {
            limit,
            write: async (some) => void pieces.push(...some.map((bytes) => bytes.slice())),
            onWriteError: (cause) => new ProtocolError.ServerFailure({ message: "No memory for a piece", cause })
          })
          const locator = pieceOf(folder, offset)
          if (length > 0) {
            yield* ask(() => bucket.put(locator, Buffer.concat(pieces)))
          }
          return { offset, length, sha256, locator }
        }),
      sync: () => Effect.void,
      read: (key, _extents, [from, to], take) =>
        Effect.flatMap(folderOf(key), (folder) =>
          Effect.filterOrFail(
            ask(async () => {
              let at = 0
              for await (const bytes of piecesOf(bucket, folder)) {
                if (at + bytes.length > from && at < to) take(bytes.subarray(Math.max(0, from - at), to - at))
                at += bytes.length
              }
              return at
            }),
            (end) => end >= to,
            () => new ProtocolError.ServerFailure({ message: `Upload ${key} ends early` })
          )),
      contentOf: (name) =>
        ask(async () => {
          const folder = await tellTale(bucket, nameOf(name))
          if (folder === undefined) return Option.none()
          const hasher = Sha256.make()
          for await (const bytes of piecesOf(bucket, folder)) hasher.update(bytes)
          return Option.some(hasher.digest())
        }),
      length: (key) =>
        ask(async () => {
          const folder = await tellTale(bucket, stagingOf(key))
          if (folder === undefined) return Option.none()
          const last = (await bucket.list(`bytes/${folder}/`)).at(-1)
          return Option.some(last === undefined ? 0 : offsetOf(last) + (await bucket.get(last))!.length)
        }),
      keys: ask(async () =>
        (await bucket.list(stagingOf(""))).map((name) => UploadStore.UploadKey.make(name.slice(stagingOf("").length)))
      ),
      publish: (key, _extents, name, mode) =>
        Effect.gen(function*() {
          const folder = yield* folderOf(key)
          const blocked = yield* ask(() => taken(name))
          if (blocked !== undefined) return yield* nameTaken(blocked)
          if (mode === "overwrite") return yield* ask(() => bucket.put(nameOf(name), encode(folder)))
          if (yield* ask(() => bucket.putNew(nameOf(name), encode(folder)))) return
          if ((yield* ask(() => tellTale(bucket, nameOf(name)))) !== folder) return yield* nameTaken(name)
        }),
      holder: (key, name) =>
        ask(async () => {
          if (await taken(name) !== undefined) return "other"
          const folder = await tellTale(bucket, nameOf(name))
          if (folder === undefined) return "nobody"
          return folder === await tellTale(bucket, stagingOf(key)) ? "upload" : "other"
        }),
      carry: (from, extents, to) =>
        Effect.gen(function*() {
          const [source, target] = [yield* folderOf(from), yield* folderOf(to)]
          return yield* Effect.forEach(extents, (extent) => {
            const locator = pieceOf(target, extent.offset)
            const copy = ask(async () => {
              const bytes = await bucket.get(pieceOf(source, extent.offset))
              await bucket.put(locator, bytes!.slice(0, extent.length))
            })
            return Effect.as(copy, { ...extent, locator })
          })
        }),
      trim: (key, length) =>
        Effect.flatMap(folderOf(key), (folder) =>
          ask(async () => {
            for (const piece of await bucket.list(`bytes/${folder}/`)) {
              const offset = offsetOf(piece)
              if (offset >= length) await bucket.remove(piece)
              else {
                const bytes = (await bucket.get(piece))!
                if (offset + bytes.length > length) await bucket.put(piece, bytes.slice(0, length - offset))
              }
            }
          })),
      drop: (key) =>
        ask(async () => {
          const folder = await tellTale(bucket, stagingOf(key))
          if (folder === undefined) return
          const names = await Promise.all((await bucket.list(nameOf(""))).map((name) => tellTale(bucket, name)))
          if (!names.includes(folder)) {
            for (const piece of await bucket.list(`bytes/${folder}/`)) await bucket.remove(piece)
          }
          await bucket.remove(stagingOf(key))
        })
    })
  )
}

/** A bucket in memory. */
export const memory = (): Bucket => {
  const objects = new Map<string, Uint8Array>()
  const bucket: Bucket = {
    get: async (name) => objects.get(name),
    put: async (name, bytes) => void objects.set(name, bytes),
    putNew: async (name, bytes) => !objects.has(name) && objects.set(name, bytes).size > 0,
    remove: async (name) => void objects.delete(name),
    list: async (prefix) => [...objects.keys()].filter((name) => name.startsWith(prefix)).sort()
  }
  return bucket
}

/** What stands under a final name. */
export const read = async (bucket: Bucket, name: string): Promise<Uint8Array | undefined> => {
  const folder = await tellTale(bucket, nameOf(name))
  if (folder === undefined) return undefined
  const pieces: Array<Uint8Array> = []
  for await (const bytes of piecesOf(bucket, folder)) pieces.push(bytes)
  return Buffer.concat(pieces)
}
