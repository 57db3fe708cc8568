import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import { one, type Row, run, together, world } from "../support/hostile.ts"
import { authorized } from "../support/rawHttp.ts"

/** What is no number as the protocol writes it. */
const noNumbers = [
  "-1",
  "-0",
  "+1",
  "1.5",
  "1.0",
  "1.",
  ".5",
  "1e3",
  "1E3",
  "0x10",
  "0b1",
  "0o7",
  "010",
  "00",
  "1,0",
  "1 0",
  "1_0",
  "1;2",
  "0, 1",
  "\u0661",
  "\u0967",
  "\uff11",
  "\u00b2",
  "\u{1d7cf}",
  "0\u0301",
  "NaN",
  "Infinity",
  "-Infinity",
  "null",
  "undefined",
  "true",
  "[]",
  "{}",
  "\"1\"",
  "1n",
  "*",
  "9007199254740992",
  "9007199254740993",
  "18446744073709551616",
  "1" + "0".repeat(308),
  "9".repeat(8000)
]

const revision2 = (id: string) => ({ "x-file-name": "n.txt", "x-upload-id": id, "x-chunk-offset": 0 })

const numbers: ReadonlyArray<Row> = noNumbers.map((text) => {
  const shown = text.slice(0, 20)
  return together(shown, [400], [
    one(`index ${shown}`, { "x-file-name": "n.txt", "x-chunk-index": text }, [400]),
    one(`index ${shown}, revision 2`, { ...revision2("index"), "x-chunk-index": text }, [400]),
    one(`offset ${shown}`, { ...revision2("offset"), "x-chunk-offset": text }, [400]),
    one(`size ${shown}`, { ...revision2("size"), "x-file-size": text }, [400])
  ])
})

const most = Number.MAX_SAFE_INTEGER

const bounds: ReadonlyArray<Row> = [
  one("index far beyond", { "x-file-name": "n.txt", "x-chunk-index": most }, [409]),
  one("index 1 of nothing", { "x-file-name": "n.txt", "x-chunk-index": 1 }, [409]),
  one("index far beyond, where it means nothing", { ...revision2("far"), "x-chunk-index": most }, [200]),
  one("offset far beyond", { ...revision2("b0"), "x-chunk-offset": most }, [413]),
  one("offset and length that pass 2^53", { ...revision2("b1"), "x-chunk-offset": most - 1 }, [413]),
  one("size beyond the limit", { ...revision2("b2"), "x-file-size": most }, [413]),
  one("size one beyond the limit", { ...revision2("b3"), "x-file-size": 5 * 1024 ** 4 + 1 }, [413]),
  // the upload is open, but has none of these bytes
  one("bytes beyond the size", { ...revision2("b4"), "x-file-size": 2 }, [409], { staged: 1 }),
  one("offset beyond the size", { ...revision2("b5"), "x-chunk-offset": 9, "x-file-size": 2 }, [409], { staged: 1 }),
  one("an offset without an id, which is passed over", { "x-file-name": "n.txt", "x-chunk-offset": "-1" }, [200], {
    appears: ["n.txt"]
  }),
  one("an id without an offset", { "x-file-name": "n.txt", "x-upload-id": "b6" }, [400]),
  one("a name beyond the limit", { "x-file-name": "x".repeat(5000) }, [400]),
  one("an empty body that is a file", { ...revision2("b7"), "x-file-size": 0 }, [200], {
    body: "",
    appears: ["n.txt"]
  }),
  one("a body where none can be", { ...revision2("b8"), "x-file-size": 0 }, [409], { staged: 1 })
]

const sha256 = (body: string) => `sha-256=:${createHash("sha256").update(body).digest("base64")}:`

/** Values that each header may have, so that nothing but its coming twice is wrong with it. */
const right: Readonly<Record<string, string>> = {
  "x-chunk-index": "0",
  "x-file-name": "n.txt",
  "x-upload-id": "twice",
  "x-chunk-offset": "0",
  "x-file-size": "3",
  "x-file-name-encoding": "percent",
  "content-digest": sha256("abc"),
  "repr-digest": sha256("abc"),
  "if-match": "*"
}

const repeated: ReadonlyArray<Row> = [
  ...Object.entries(right).map(([name, value]) => {
    const { [name]: _, ...others } = { ...revision2("twice") } as Readonly<Record<string, string | number>>
    return together(name, [400], [
      one(`${name} twice, the same`, { ...others, [name]: [value, value] }, [400]),
      one(`${name} twice, another`, { ...others, [name]: [value, "1"] }, [400]),
      one(`${name} twice, in another case`, { ...others, [name]: value, [name.toUpperCase()]: value }, [400]),
      one(`${name} twice, once empty`, { ...others, [name]: [value, ""] }, [400]),
      one(`${name} empty`, { ...others, [name]: "" }, [400]),
      one(`${name} blank`, { ...others, [name]: " \t " }, [400])
    ])
  }),
  one("a key twice", { authorization: [authorized.authorization, authorized.authorization] }, [400]),
  one("a wrong key behind a right one", { authorization: [authorized.authorization, "Bearer wrong"] }, [400, 401]),
  one("a right key behind a wrong one", { authorization: ["Bearer wrong", authorized.authorization] }, [400, 401]),
  one("a right key behind an empty one", { authorization: ["", authorized.authorization] }, [400, 401]),
  one("other headers twice", { ...revision2("others"), accept: ["a", "b"], cookie: ["a=b", "c=d"] }, [200])
]

const ids: ReadonlyArray<Row> = [
  ...[
    "../n",
    "..",
    ".",
    "../../../etc/passwd",
    "..\\n",
    "a/b",
    "/etc/passwd",
    "a.b",
    "a b",
    "a\\b",
    "a:b",
    "%2e%2e",
    "%61",
    "a%00",
    "x".repeat(129),
    "x".repeat(8000),
    "\u00e4",
    "\uff55",
    "\u0131d",
    "a;b",
    "a,b",
    "'; DROP TABLE uploads; --",
    "\" OR \"\"=\"",
    "*",
    "{}",
    "${jndi:ldap://127.0.0.1/a}"
  ].map((id) => one(`id ${id.slice(0, 10)}`, { ...revision2("n"), "x-upload-id": id }, [400])),
  ...["__proto__", "constructor", "prototype", "hasOwnProperty", "toString", "-", "_", "--help", "CON", "x".repeat(128)]
    .flatMap((id) => [
      one(`id ${id} before there is one`, {}, [404], { method: "GET", path: `/upload/${id}`, body: "" }),
      one(`id ${id}, which is one like any other`, { ...revision2(id), "x-file-size": 3 }, [200], {
        appears: ["n.txt"]
      }),
      one(`id ${id} asked for`, {}, [200], { method: "GET", path: `/upload/${id}`, body: "" })
    ])
]

const digest = (bytes: number) => `sha-256=:${Buffer.alloc(bytes, 7).toString("base64")}:`

const digests: ReadonlyArray<Row> = [
  ...[
    "sha-256",
    "sha-256=",
    "sha-256=::",
    "sha-256=:!!:",
    "sha-256=abc",
    "sha-256=:YQ==:",
    digest(31),
    digest(33),
    digest(32).slice(0, -1),
    digest(32).replace(":", "\""),
    "sha-256=?1",
    "sha-256=()",
    "sha-256=1.5",
    "=",
    "\"",
    ",",
    "sha-256=:" + "A".repeat(9000) + ":",
    "sha-256=:" + "=".repeat(9000) + ":",
    "(".repeat(9000),
    `a=${"\"".repeat(9001)}`,
    "sha-256=\u00e9"
  ].map((value) =>
    together(value.slice(0, 20), [400], [
      one(`content-digest ${value.slice(0, 20)}`, { ...revision2("d"), "content-digest": value }, [400]),
      one(`content-digest ${value.slice(0, 20)}, revision 1`, { "x-file-name": "n.txt", "content-digest": value }, [
        400
      ]),
      one(`repr-digest ${value.slice(0, 20)}`, { ...revision2("d"), "repr-digest": value }, [400])
    ])
  ),
  // "nothing was kept": the upload is open, and has none of these bytes
  one("a digest of other bytes", { ...revision2("d1"), "content-digest": digest(32) }, [422], { staged: 1 }),
  one("a digest of other bytes, revision 1", { "x-file-name": "n.txt", "content-digest": digest(32) }, [422]),
  one("a digest of a longer body", { ...revision2("d2"), "content-digest": sha256("abcd") }, [422], { staged: 1 }),
  one("a whole file of another digest", { ...revision2("d3"), "x-file-size": 3, "repr-digest": digest(32) }, [409], {
    staged: 1
  }),
  one(
    "a second digest of the same kind, which counts",
    {
      ...revision2("d4"),
      "content-digest": `${sha256("abc")}, ${digest(32)}`
    },
    [422],
    { staged: 1 }
  ),
  one("digests of unknown kinds only", { ...revision2("d5"), "content-digest": "md5=:YQ==:" }, [200]),
  one("digests under the names of objects", { ...revision2("d6"), "content-digest": "constructor=:YQ==:" }, [200]),
  one("the old names of digests", { ...revision2("d7"), digest: "sha-256=x", "content-md5": "x" }, [200]),
  one("very many digests", { ...revision2("d10"), "content-digest": "a=1, ".repeat(1500) + "b=1" }, [200]),
  one("if-match of an entity", { ...revision2("d8"), "if-match": "\"abc\"" }, [400]),
  one("if-match of many", { ...revision2("d8"), "if-match": "*, *" }, [400]),
  one("if-match for an upload that is not there", { ...revision2("d8"), "if-match": "*" }, [412]),
  one("if-none-match, which means nothing", { ...revision2("d9"), "if-none-match": "*" }, [200])
]

const table = (rows: ReadonlyArray<Row>) => Effect.flatMap(world(), (hostile) => run(hostile, rows))

describe("Hostile values", () => {
  it.scopedLive("that are no numbers are refused", () => table(numbers), 60_000)
  it.scopedLive("that are numbers beyond all bounds are refused", () => table(bounds), 60_000)
  it.scopedLive("of headers that come twice or empty are refused", () => table(repeated), 60_000)
  it.scopedLive("of upload ids lead nowhere", () => table(ids), 60_000)
  it.scopedLive("of digests are refused, or keep nothing of the body", () => table(digests), 60_000)
})
