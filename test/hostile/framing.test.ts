import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Zlib from "node:zlib"
import { all, type Headers, one, raw, type Row, run, world } from "../support/hostile.ts"
import { authorized, connect, head } from "../support/rawHttp.ts"

const post = { ...authorized, "x-file-name": "n.txt" }
const revision2 = (id: string) => ({ ...post, "x-upload-id": id, "x-chunk-offset": 0 })
const chunked = { ...post, "transfer-encoding": "chunked" }

/** An upload by whose file it would be seen that somebody has executed it. */
const smuggled = head("POST", "/upload", { ...post, "x-file-name": "smuggled.txt", "content-length": 3 }) + "bad"

/** Sends a part of a body, then closes in a way. Who still listens is told that the request was not whole. */
const aborted = (name: string, sent: Headers, how: "destroy" | "end", body: string | Uint8Array = "abc"): Row => ({
  name: `${name}, ${how}`,
  statuses: [400],
  // the upload may be open, and has none of these bytes
  staged: "x-upload-id" in sent ? 1 : 0,
  send: ({ port }) =>
    Effect.gen(function*() {
      const connection = yield* connect(port)
      yield* connection.write(head("POST", "/upload", sent), body)
      yield* how === "destroy" ? connection.destroy : connection.end
      return how === "end" ? [yield* connection.answer] : []
    })
})

const cut: ReadonlyArray<Row> = (["destroy", "end"] as const).flatMap((how) => [
  aborted("a body that is cut before its first byte", { ...post, "content-length": 1000 }, how, ""),
  aborted("a body that is cut", { ...post, "content-length": 1000 }, how),
  aborted("a body that is cut one byte before its end", { ...post, "content-length": 4 }, how),
  aborted("a long body that is cut", { ...post, "content-length": 2 ** 28 }, how, Buffer.alloc(3_000_000, "x")),
  aborted("a body that says it has 1 GiB", { ...post, "content-length": 2 ** 30 }, how),
  aborted("a body of revision 2 that is cut", { ...revision2(`cut-${how}`), "content-length": 1000 }, how),
  aborted("a body that is the whole file and is cut", {
    ...revision2(`whole-${how}`),
    "x-file-size": 1000,
    "content-length": 1000
  }, how),
  aborted("a chunked body that is cut within a piece", chunked, how, "10\r\nabc"),
  aborted("a chunked body that is cut within a size", chunked, how, "3\r\nabc\r\n1"),
  aborted("a chunked body without its end", chunked, how, "3\r\nabc\r\n"),
  aborted("a chunked body without its last line", chunked, how, "3\r\nabc\r\n0\r\n"),
  aborted("a chunked body of revision 2 that is cut", { ...chunked, ...revision2(`pieces-${how}`) }, how, "9\r\nabc")
])

const lying: ReadonlyArray<Row> = [
  ...["-1", "1e1", "0x3", "+3", "3 3", "3.0", "3,3", "3;3", "\"3\"", "", "\u00b3", "99999999999999999999"]
    .map((length) =>
      raw(`length ${length}`, [head("POST", "/upload", { ...post, "content-length": length }), "abc", smuggled], [400])
    ),
  raw("two lengths", [head("POST", "/upload", { ...post, "content-length": ["3", "4"] }), "abc", smuggled], [400]),
  raw("a length far beyond the limit", [head("POST", "/upload", { ...post, "content-length": 2 ** 40 })], [413]),
  raw("a length one beyond the limit", [head("POST", "/upload", { ...post, "content-length": 2 ** 30 + 1 })], [413]),
  raw("a length beyond 2^53", [head("POST", "/upload", { ...post, "content-length": "9007199254740993" })], [400]),
  all("a body without a length, which has none", [head("POST", "/upload", post), smuggled], [200, 200, 200], {
    appears: ["n.txt", "smuggled.txt"]
  }),
  raw("a length and a coding", [
    head("POST", "/upload", { ...chunked, "content-length": 3 }),
    "0\r\n\r\n",
    smuggled
  ], [400]),
  raw("a coding that others might not know", [
    head("POST", "/upload", { ...post, "transfer-encoding": "\x0bchunked" }),
    "0\r\n\r\n",
    smuggled
  ], [400]),
  ...["zz", "-3", "0x3", "3 ", "", "f".repeat(17), "f".repeat(400), "3\0"].map((size) =>
    raw(`a piece of size ${size.slice(0, 20)}`, [head("POST", "/upload", chunked), `${size}\r\nabc\r\n0\r\n\r\n`], [
      400
    ])
  ),
  raw("a piece longer than it says", [head("POST", "/upload", chunked), "2\r\nabc\r\n0\r\n\r\n", smuggled], [400]),
  raw("extensions without end", [
    head("POST", "/upload", chunked),
    `3;${"a=b;".repeat(10_000)}\r\nabc\r\n0\r\n\r\n`
  ], [400]),
  all(
    "trailers that look like headers of the protocol, and count for nothing",
    [
      head("POST", "/upload", chunked),
      "3\r\nabc\r\n0\r\nx-file-name: ../x\r\nx-upload-id: trailer\r\nauthorization: Bearer x\r\n\r\n"
    ],
    [200, 200],
    { appears: ["n.txt"] }
  ),
  raw("trailers without end", [
    head("POST", "/upload", chunked),
    `3\r\nabc\r\n0\r\n${"x-a: b\r\n".repeat(5000)}\r\n`
  ], [400, 431])
]

const smuggling: ReadonlyArray<Row> = [
  all("an upload behind a refused one", [
    head("POST", "/upload", { "x-file-name": "n.txt", "content-length": 3 }),
    "abc",
    smuggled
  ], [401]),
  all("an upload in the place of a refused body", [
    head("POST", "/upload", { "content-length": smuggled.length + 1 }),
    smuggled
  ], [401]),
  all(
    "an upload within the body of one",
    [
      head("POST", "/upload", { ...post, "content-length": smuggled.length }),
      smuggled
    ],
    [200, 200],
    { appears: ["n.txt"] }
  ),
  all(
    "an upload within a piece",
    [
      head("POST", "/upload", chunked),
      `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`
    ],
    [200, 200],
    { appears: ["n.txt"] }
  ),
  all("an upload in the body of a GET", [head("GET", "/health", { "content-length": smuggled.length }), smuggled], [
    200
  ]),
  all("an upload in the body of a DELETE", [
    head("DELETE", "/upload/none", { ...authorized, "content-length": smuggled.length }),
    smuggled
  ], [404]),
  // Node's parser drops what comes with an upgrade, though none is offered
  raw("an upload behind an upgrade", [
    head("GET", "/health", { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAAA" }),
    smuggled
  ], [200]),
  all("an upload behind a request that closes", [head("GET", "/health", { connection: "close" }), smuggled], [200]),
  raw("an upload behind a tunnel", [head("CONNECT", "evil.example:443"), smuggled], [400]),
  raw("a header that goes on in the next line", [
    `POST /upload HTTP/1.1\r\nhost: x\r\nx-file-name: a\r\n b\r\nauthorization: ${authorized.authorization}\r\n` +
    "content-length: 3\r\n\r\nabc",
    smuggled
  ], [400]),
  raw("a header that ends with LF alone", [
    `POST /upload HTTP/1.1\r\nhost: x\r\nx-a: b\nx-file-name: ../x\r\nauthorization: ${authorized.authorization}\r\n` +
    "content-length: 3\r\n\r\nabc",
    smuggled
  ], [400]),
  raw("a name with a NUL in it", [
    `POST /upload HTTP/1.1\r\nhost: x\r\nx-file-name: a\0b\r\nauthorization: ${authorized.authorization}\r\n` +
    "content-length: 3\r\n\r\nabc",
    smuggled
  ], [400]),
  raw("no HTTP at all", ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], [400]),
  raw("HTTP/2", ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], [400]),
  all("a hundred requests at once with rubbish in their middle", [
    head("GET", "/health").repeat(50),
    "rubbish\r\n\r\n",
    smuggled.repeat(50)
  ], [...Array.from({ length: 50 }, () => 200), 400])
]

const bomb = Zlib.gzipSync(Buffer.alloc(20_000_000))

const codings: ReadonlyArray<Row> = [
  ...[
    "gzip",
    "GZIP",
    "x-gzip",
    "br",
    "deflate",
    "compress",
    "zstd",
    "identity, gzip",
    "gzip, gzip",
    "x-unknown",
    "none"
  ]
    .map((coding) =>
      one(`content-encoding ${coding}`, { ...revision2("coded"), "content-encoding": coding }, [415], { body: bomb })
    ),
  one("content-encoding twice", { ...revision2("coded"), "content-encoding": ["identity", "gzip"] }, [415], {
    body: bomb
  }),
  raw("transfer-encoding gzip", [head("POST", "/upload", { ...post, "transfer-encoding": "gzip, chunked" }), bomb], [
    400
  ]),
  one(
    "compressed bytes, which stay what they are",
    {
      ...revision2("plain"),
      "content-type": "application/gzip",
      "x-file-size": bomb.length
    },
    [200],
    { body: bomb, appears: ["n.txt"] }
  ),
  one("headers that are too long", { ...revision2("long"), "x-long": "x".repeat(20_000) }, [431]),
  one("a key that is too long", { authorization: `Bearer ${"x".repeat(20_000)}` }, [431]),
  one("very many headers", Object.fromEntries(Array.from({ length: 3000 }, (_, at) => [`x-h${at}`, "1"])), [431])
]

const table = (rows: ReadonlyArray<Row>) => Effect.flatMap(world(), (hostile) => run(hostile, rows))

describe("Hostile framing", () => {
  it.scopedLive("by bodies that are cut keeps nothing of them", () => table(cut), 60_000)
  it.scopedLive("by lengths that lie is refused", () => table(lying), 60_000)
  it.scopedLive("hides no request", () => table(smuggling), 60_000)
  it.scopedLive("by codings unfolds nothing", () => table(codings), 60_000)
})
