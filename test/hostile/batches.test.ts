import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as UploadBatch from "../../src/protocol/UploadBatch.ts"
import { UploadId } from "../../src/protocol/UploadId.ts"
import { type Headers, one, raw, type Row, run, world } from "../support/hostile.ts"
import { authorized, head } from "../support/rawHttp.ts"

const text = (words: string) => new TextEncoder().encode(words)

let files = 0

const file = (name: string, more: Partial<UploadBatch.Whole> = {}): UploadBatch.Whole => {
  const bytes = more.bytes ?? text("abc")
  return {
    uploadId: UploadId.make(`b${++files}`),
    clientFilename: name,
    size: bytes.length,
    sha256: Sha256.of(bytes),
    bytes,
    ...more
  }
}

const path = `/upload${UploadBatch.path}`

const row = (
  name: string,
  body: Uint8Array,
  statuses: ReadonlyArray<number>,
  appears: ReadonlyArray<string> = [],
  headers: Headers = {}
): Row => one(name, headers, statuses, { body, path, appears })

/** A body whose manifest is said to have so many bytes. */
const saying = (length: number, body: Uint8Array): Uint8Array => {
  const changed = body.slice()
  new DataView(changed.buffer).setUint32(0, length)
  return changed
}

const good = () => UploadBatch.toBody([file("good.txt")])

const manifest = (words: string, rest = "") => saying(text(words).length, text(`\0\0\0\0${words}${rest}`))

const twice = file("twice.txt")

const frames: ReadonlyArray<Row> = [
  row("nothing", new Uint8Array(0), [400]),
  row("half a length", Uint8Array.of(0, 0), [400]),
  row("a manifest longer than the body", saying(2 ** 32 - 1, good()), [400]),
  row("a manifest one byte longer than the body", saying(good().length - 3, good()), [400]),
  row("a manifest of no bytes", saying(0, good()), [400]),
  row("a manifest that is no JSON", manifest("{files:[]}"), [400]),
  row("a manifest of very many brackets", manifest("[".repeat(100_000)), [400]),
  row("files under the name of what objects have", manifest("{\"__proto__\":{\"files\":[]}}"), [400]),
  row("a file that is a number", manifest("{\"files\":[1]}"), [400]),
  row("a size as long as a disk", manifest(JSON.stringify({ files: [{ ...file("x"), size: 2 ** 53 - 1 }] })), [400]),
  row("a negative size", manifest(JSON.stringify({ files: [{ ...file("x"), size: -3 }] }), "abc"), [400]),
  row("sizes that are too small together", UploadBatch.toBody([file("x"), file("y")]).slice(0, -1), [400]),
  row("bytes behind the last file", Uint8Array.of(...good(), 1), [400]),
  row("an id twice", UploadBatch.toBody([twice, { ...twice, clientFilename: "other.txt" }]), [400]),
  row("more files than may be", UploadBatch.toBody(Array.from({ length: 257 }, (_, at) => file(`${at}`))), [400]),
  row("a coded body", good(), [415], [], { "content-encoding": "gzip" }),
  row("no key", good(), [401], [], { authorization: "Bearer other" }),
  one("another method", {}, [404], { path, method: "PUT" }),
  one("a longer path", {}, [404], { path: `${path}/x` }),
  raw("more bytes than may be, none of which come", [
    head("POST", path, { ...authorized, "content-length": 2 ** 40 })
  ], [413]),
  raw("no length", [head("POST", path, { ...authorized, "transfer-encoding": "chunked" }), "0\r\n\r\n"], [400]),
  row("a good one, after all of these", good(), [200], ["good.txt"])
]

const names = [
  "",
  ".",
  "..",
  "../x",
  "/",
  "\\",
  "con",
  ".indexedcp/x",
  "\u0000",
  "a\u0000b",
  "\ud800",
  "x".repeat(9000)
]

const contents: ReadonlyArray<Row> = [
  row(
    "a wrong digest among right ones",
    UploadBatch.toBody([file("a.txt"), file("wrong.txt", { sha256: Sha256.empty }), file("c.txt")]),
    [200],
    ["a.txt", "c.txt"]
  ),
  row("no files", UploadBatch.toBody([]), [200]),
  row("an empty file", UploadBatch.toBody([file("empty.txt", { bytes: text("") })]), [200], ["empty.txt"]),
  row(
    "a name of what is there already, as a link, a pipe, a folder",
    UploadBatch.toBody(["link", "pipe", "folder", "linked.txt"].map((name) => file(name))),
    [200],
    ["folder (1)", "link (1)", "linked (1).txt", "pipe (1)"]
  )
]

const badNames = UploadBatch.toBody(
  Array.from({ length: 250 }, (_, at) => file(["..", ".", "", "x/..", `${"y".repeat(5000)}${at}`][at % 5]!))
)

describe("Hostile batches", () => {
  it.scopedLive(
    "that do not fit together are refused, and nothing of them is kept",
    () => Effect.flatMap(world(), (hostile) => run(hostile, frames)),
    60_000
  )

  it.scopedLive(
    "keep nothing of the files that are wrong, and all others",
    () => Effect.flatMap(world(), (hostile) => run(hostile, contents)),
    60_000
  )

  it.scopedLive(
    "of bad names leave nothing behind",
    () =>
      Effect.flatMap(
        world(),
        (hostile) => run(hostile, Array.from({ length: 4 }, () => row("250 bad names", badNames, [200])))
      ),
    60_000
  )

  it.scopedLive("of odd names stay inside", () =>
    Effect.flatMap(world(), (hostile) =>
      run(hostile, [
        one("odd names", {}, [200], {
          path,
          body: UploadBatch.toBody(names.map((name) => file(name))),
          appears: /^[^/]+$/
        })
      ])), 60_000)
})
