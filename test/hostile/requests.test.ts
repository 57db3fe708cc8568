import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Zlib from "node:zlib"
import { one, raw, type Row, run, world } from "../support/hostile.ts"
import { authorized, connect, head } from "../support/rawHttp.ts"

const revision2 = { "x-file-name": "n.txt", "x-upload-id": "n", "x-chunk-offset": 0 }

/** What is no number as the protocol writes it. */
const noNumbers = [
  "-1",
  "+1",
  "1.5",
  "1.0",
  "1e3",
  "0x10",
  "0b1",
  "0o7",
  "01",
  "00",
  "1,0",
  "1 0",
  "1_0",
  "\u0661",
  "\uff11",
  "\u00b2",
  "NaN",
  "Infinity",
  "null",
  "9007199254740992",
  "18446744073709551616",
  "9".repeat(400),
  "1;2",
  "true",
  "[]"
]

const latin1 = (text: string) => Buffer.from(text, "utf8").toString("latin1")

const numbers: ReadonlyArray<Row> = noNumbers.flatMap((text) => {
  const shown = text.slice(0, 20)
  return [
    one(`index ${shown}`, { "x-file-name": "n.txt", "x-chunk-index": latin1(text) }, [400]),
    one(`offset ${shown}`, { ...revision2, "x-chunk-offset": latin1(text) }, [400]),
    one(`size ${shown}`, { ...revision2, "x-file-size": latin1(text) }, [400])
  ]
})

const protocolHeaders = [
  "authorization",
  "x-chunk-index",
  "x-file-name",
  "x-upload-id",
  "x-chunk-offset",
  "x-file-size",
  "x-file-name-encoding",
  "content-digest",
  "repr-digest",
  "if-match"
]

const digest = (bytes: number) => `sha-256=:${Buffer.alloc(bytes, 7).toString("base64")}:`

const headers: ReadonlyArray<Row> = [
  one("index far beyond", { "x-file-name": "n.txt", "x-chunk-index": "9007199254740991" }, [409]),
  one("offset far beyond", { ...revision2, "x-chunk-offset": "9007199254740991" }, [413]),
  one("size beyond the limit", { ...revision2, "x-file-size": "9007199254740991" }, [413]),
  one("bytes beyond the size", { ...revision2, "x-file-size": 2 }, [409]),
  one("offset beyond the size", { ...revision2, "x-chunk-offset": 9, "x-file-size": 2 }, [409]),
  ...protocolHeaders.flatMap((name) => [
    one(`${name} twice`, {
      ...revision2,
      ...(name === "authorization"
        ? { authorization: [authorized.authorization, authorized.authorization] }
        : { [name]: ["1", "2"] })
    }, [400]),
    ...(name === "authorization" ? [] : [one(`${name} empty`, { ...revision2, [name]: "" }, [400])])
  ]),
  one("a right key behind a wrong one", { authorization: ["Bearer wrong", authorized.authorization] }, [400, 401]),
  ...[
    "../n",
    "..",
    "a/b",
    "a.b",
    "a b",
    "a\\b",
    "%2e%2e",
    "x".repeat(129),
    latin1("ä"),
    "a;b",
    "a,b",
    "*"
  ].map((id) => one(`id ${id.slice(0, 10)}`, { ...revision2, "x-upload-id": id }, [400])),
  ...["__proto__", "constructor", "prototype", "hasOwnProperty", "-", "_"].map((id) =>
    one(`id ${id}, which is one like any other`, { ...revision2, "x-upload-id": id, "x-file-name": "n.txt" }, [200])
  ),
  ...[
    "sha-256",
    "sha-256=",
    "sha-256=:!!:",
    "sha-256=abc",
    "sha-256=:YQ==:",
    digest(31),
    digest(33),
    "sha-256=?1",
    "=",
    "\"",
    "sha-256=:" + "A".repeat(9000) + ":"
  ]
    .flatMap((value) => [
      one(`content-digest ${value.slice(0, 20)}`, { ...revision2, "content-digest": value }, [400]),
      one(`repr-digest ${value.slice(0, 20)}`, { ...revision2, "repr-digest": value }, [400])
    ]),
  one("a digest of other bytes", { ...revision2, "content-digest": digest(32) }, [422]),
  one("a digest of other bytes, revision 1", { "x-file-name": "n.txt", "content-digest": digest(32) }, [422]),
  one("digests of unknown kinds only", { ...revision2, "x-upload-id": "kinds", "content-digest": "md5=:YQ==:" }, [200]),
  one("if-match of an entity", { ...revision2, "if-match": "\"abc\"" }, [400]),
  one("if-match for an upload that is not there", { ...revision2, "x-upload-id": "nowhere", "if-match": "*" }, [412]),
  ...["gzip", "br", "deflate", "identity, gzip", "x-unknown"].map((coding) =>
    one(`content-encoding ${coding}`, { ...revision2, "content-encoding": coding }, [415], {
      body: Zlib.gzipSync(Buffer.alloc(1_000_000))
    })
  ),
  one("another method by a header", { ...revision2, "x-upload-id": "method", "x-http-method-override": "DELETE" }, [
    200
  ]),
  one("a path by a header", {
    ...revision2,
    "x-upload-id": "rewritten",
    "x-original-url": "/metrics",
    "x-rewrite-url": "/../x"
  }, [200]),
  one("another host", {
    ...revision2,
    "x-upload-id": "host",
    "x-forwarded-host": "evil.example",
    "x-forwarded-for": "127.0.0.1"
  }, [200]),
  one("a range", {
    ...revision2,
    "x-upload-id": "range",
    "content-range": "bytes 0-2/9999999999999",
    range: "bytes=0-99999999999"
  }, [200]),
  one(
    "a multipart body",
    { ...revision2, "x-upload-id": "multipart", "content-type": "multipart/form-data; boundary=x" },
    [200],
    {
      body: "--x\r\ncontent-disposition: form-data; name=f; filename=../../x\r\n\r\nabc\r\n--x--"
    }
  ),
  one("headers that are too long", { ...revision2, "x-long": "x".repeat(20_000) }, [431]),
  one("very many headers", Object.fromEntries(Array.from({ length: 3000 }, (_, at) => [`x-h${at}`, "1"])), [431]),
  one("a name beyond the limit", { "x-file-name": "x".repeat(5000) }, [400]),
  one(
    "a request id that forges a line",
    { ...revision2, "x-upload-id": "lines", "x-request-id": "a b=c level=ERROR" },
    [200]
  )
]

const post = { ...authorized, "x-file-name": "n.txt" }

/** Sends a part of a body, then closes in a way; nothing is answered. */
const aborted = (name: string, sent: Readonly<Record<string, string | number>>, how: "destroy" | "end"): Row => ({
  name,
  statuses: [400],
  send: ({ port }) =>
    Effect.gen(function*() {
      const connection = yield* connect(port)
      yield* connection.write(head("POST", "/upload", { ...post, ...sent }), "abc")
      yield* how === "destroy" ? connection.destroy : connection.end
      return []
    })
})

const framing: ReadonlyArray<Row> = [
  aborted("a body that is cut", { "content-length": 1000 }, "destroy"),
  aborted("a body that ends early", { "content-length": 1000 }, "end"),
  aborted(
    "a body of revision 2 that is cut",
    { ...revision2, "x-upload-id": "cut", "content-length": 1000 },
    "destroy"
  ),
  aborted("a chunked body that is cut", { "transfer-encoding": "chunked" }, "destroy"),
  raw("a chunk size that is none", [
    head("POST", "/upload", { ...post, "transfer-encoding": "chunked" }),
    "zz\r\nabc\r\n0\r\n\r\n"
  ], [400]),
  raw("a negative chunk size", [
    head("POST", "/upload", { ...post, "transfer-encoding": "chunked" }),
    "-3\r\nabc\r\n0\r\n\r\n"
  ], [400]),
  raw("a chunk size beyond all numbers", [
    head("POST", "/upload", { ...post, "transfer-encoding": "chunked" }),
    `${"f".repeat(40)}\r\nabc`
  ], [400]),
  raw("a length and a coding", [
    head("POST", "/upload", { ...post, "content-length": 3, "transfer-encoding": "chunked" }),
    "0\r\n\r\nGET /health HTTP/1.1\r\n\r\n"
  ], [400]),
  raw("two lengths", [head("POST", "/upload", { ...post, "content-length": ["3", "4"] }), "abcd"], [400]),
  raw("lengths in a list", [head("POST", "/upload", { ...post, "content-length": "3, 3" }), "abc"], [400]),
  ...["-1", "1e1", "0x3", "+3", "3 3", "99999999999999999999"].map((length) =>
    raw(`length ${length}`, [head("POST", "/upload", { ...post, "content-length": length }), "abc"], [400, 413])
  ),
  raw("a length beyond the limit, nothing sent", [head("POST", "/upload", { ...post, "content-length": 2 ** 40 })], [
    413
  ]),
  raw(
    "a refused upload with an upload behind it",
    [
      head("POST", "/upload", { "x-file-name": "smuggled.txt", "content-length": 3 }),
      "abc",
      head("POST", "/upload", { ...post, "x-file-name": "behind.txt", "content-length": 3 }),
      "abc"
    ],
    [401],
    ["behind.txt"]
  ),
  raw("a request in the body of a refused one", [
    head("POST", "/upload", { "content-length": 400 }),
    head("POST", "/upload", { ...post, "x-file-name": "smuggled.txt", "content-length": 3 }),
    "abc"
  ], [401]),
  raw("a coding that others might not know", [
    head("POST", "/upload", { ...post, "transfer-encoding": "\u000bchunked" }),
    "0\r\n\r\n"
  ], [400]),
  raw(
    "a name with a line in it",
    [`POST /upload HTTP/1.1\r\nhost: x\r\nx-file-name: a\r\n b\r\nauthorization: ${authorized.authorization}\r\ncontent-length: 3\r\n\r\nabc`],
    [200, 400],
    ["a b", "a_b", "a  b"]
  ),
  raw("no HTTP at all", ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"], [400]),
  raw("HTTP/2", ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], [400])
]

describe("Hostile requests", () => {
  it.scopedLive("with numbers that are none", () => Effect.flatMap(world(), (hostile) => run(hostile, numbers)), 60_000)

  it.scopedLive("with headers that are not what they should be", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ maxOpenUploads: 1_000_000 })
      yield* run(hostile, headers.map((row) => ({ ...row, appears: /^n( \(\d+\))?\.txt$/ })))
    }), 60_000)

  it.scopedLive(
    "with bodies that lie about themselves",
    () => Effect.flatMap(world(), (hostile) => run(hostile, framing)),
    60_000
  )
})
