import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { PathMode } from "../../src/server/FilenameGenerator.ts"
import { one, type Row, run, world } from "../support/hostile.ts"

/** What becomes of a name: the name of the file, or nothing. */
type Made = string | undefined

/** A client's name, what `sanitize` makes of it, and what `allow-paths` does where that is another. */
const names: ReadonlyArray<readonly [sent: string, sanitized: Made, path?: Made]> = [
  ["", undefined],
  [".", undefined],
  ["..", undefined],
  ["...", undefined],
  [". .", undefined],
  [" ", undefined],
  ["/", undefined],
  ["\\", undefined],
  ["a/..", undefined],
  ["../x", "x", undefined],
  ["../../x", "x", undefined],
  ["../".repeat(40) + "etc/passwd", "passwd", undefined],
  ["../".repeat(1000) + "x", "x", undefined],
  ["/../x", "x", undefined],
  ["./../x", "x", undefined],
  ["a/../../x", "x", undefined],
  ["folder/../../x", "x", undefined],
  ["..\\x", "x", undefined],
  ["..\\..\\..\\windows\\win.ini", "win.ini", undefined],
  ["a\\..\\..\\x", "x", undefined],
  ["..\\/x", "x", undefined],
  ["....//x", "x", undefined],
  ["..../x", "x", undefined],
  ["..;/x", "x", "..;/x"],
  ["/etc/passwd", "passwd", "etc/passwd"],
  ["//etc/passwd", "passwd", "etc/passwd"],
  ["x/", "x"],
  ["a//b", "b", "a/b"],
  ["./x", "x"],
  // decoded once, and no more
  ["..%2fx", "..%2fx"],
  ["..%5cx", "..%5cx"],
  ["%2e%2e/x", "x", "%2e%2e/x"],
  ["%2e%2e%2fx", "%2e%2e%2fx"],
  ["..%252fx", "..%252fx"],
  ["%25252e%25252e%25252fx", "%25252e%25252e%25252fx"],
  ["..%c0%afx", "..%c0%afx"],
  ["..%u2215x", "..%u2215x"],
  ["..%00/x", "x", "..%00/x"],
  ["a%00b", "a%00b"],
  ["..%0d%0ax", "..%0d%0ax"],
  // what only looks like dots and separators
  ["\u2025/x", "x", "\u2025/x"],
  ["\u2024\u2024/x", "x", "\u2024\u2024/x"],
  ["\uff0e\uff0e/x", "x", "\uff0e\uff0e/x"],
  ["..\u200b/x", "x", "..\u200b/x"],
  ["..\u2215x", "..\u2215x"],
  ["..\u2216x", "..\u2216x"],
  ["..\uff0fx", "..\uff0fx"],
  ["..\u29f5x", "..\u29f5x"],
  // roots, drives and streams
  ["file:///etc/passwd", "passwd", "file_/etc/passwd"],
  ["\\\\server\\share\\x", "x", "server/share/x"],
  ["C:\\x", "x", "C_/x"],
  ["C:x", "C_x"],
  ["C:", "C_"],
  ["~/x", "x", "~/x"],
  ["x.txt:stream", "x.txt_stream"],
  ["x.txt::$DATA", "x.txt__$DATA"],
  ["x.txt:com", "x.txt_com"],
  // what a shell, a database or a template would run
  ["$HOME/x", "x", "$HOME/x"],
  ["`id`", "`id`"],
  ["$(id)", "$(id)"],
  ["; rm -rf x", "; rm -rf x"],
  ["-rf", "-rf"],
  ["--output=x", "--output=x"],
  ["%s%n%d", "%s%n%d"],
  ["'; DROP TABLE uploads; --", "'; DROP TABLE uploads; --"],
  ["{{7*7}}", "{{7*7}}", "{{7*7}}"],
  // devices of Windows, and what it does to ends of names
  ["con", "_con"],
  ["CON", "_CON"],
  ["con.", "_con"],
  ["con .txt", "_con .txt"],
  ["nul.txt", "_nul.txt"],
  ["NUL ", "_NUL"],
  ["aux.tar.gz", "_aux.tar.gz"],
  ["com1", "_com1"],
  ["COM\u00b9.txt", "_COM\u00b9.txt"],
  ["lpt9.log", "_lpt9.log"],
  ["conin$", "_conin$"],
  ["aux/x", "x", "_aux/x"],
  ["x/nul", "_nul", "x/_nul"],
  ["x.txt.", "x.txt"],
  ["x.txt ", "x.txt"],
  ["x.txt. . .", "x.txt"],
  // what ends a text, moves a cursor, or turns a line around
  ["x\0.txt", "x_.txt"],
  ["x.txt\0.jpg", "x.txt_.jpg"],
  ["../x\0", "x_", undefined],
  ["x\n.txt", "x_.txt"],
  ["x\r\nset-cookie: a=b", "x__set-cookie_ a=b"],
  ["x\tb", "x_b"],
  ["x\bb", "x_b"],
  ["x\u001b[2Jy", "x_[2Jy"],
  ["x\u007f", "x_"],
  ["x\u0085y", "x_y"],
  ["\u009bx", "_x"],
  ["x\u2028y", "x_y"],
  ["photo\u202egpj.exe", "photo_gpj.exe"],
  ["\u2066x", "_x"],
  ["\u061cx", "_x"],
  ["\u200e", "_"],
  // the server's own folder, by every other name of it
  [".indexedcp", undefined],
  [".indexedcp ", undefined],
  [".index\u200bedcp", undefined],
  ["\uff0eindexedcp", undefined],
  [".\u0131ndexedcp", undefined],
  [".indexedcp/ledger.db", "ledger.db", undefined],
  [".INDEXEDCP/keys.db", "keys.db", undefined],
  [".IndexedCP\\keys.db", "keys.db", undefined],
  [".indexedcp./x", "x", undefined],
  ["./.indexedcp/parts/x", "x", undefined],
  ["x/.indexedcp/y", "y", "x/.indexedcp/y"],
  // what is there
  ["folder", "folder (1)"],
  ["folder/inside.txt", "inside.txt", "folder/inside (1).txt"],
  ["link", "link (1)"],
  ["link/x", "x", "link (1)/x"],
  ["link/file", "file", "link (1)/file"],
  ["linked.txt", "linked (1).txt"],
  ["linked.txt/x", "x", "linked.txt (1)/x"],
  ["there.txt", "there (1).txt"],
  ["there.txt/x", "x", "there.txt (1)/x"],
  ["pipe", "pipe (1)"],
  ["pipe/x", "x", "pipe (1)/x"],
  // names of objects, and of files that programs heed
  ["__proto__", "__proto__"],
  ["constructor", "constructor"],
  ["toString/x", "x", "toString/x"],
  [".htaccess", ".htaccess"],
  [".ssh/authorized_keys", "authorized_keys", ".ssh/authorized_keys"],
  // too long
  ["a".repeat(255), "a".repeat(255)],
  ["a".repeat(256), "a".repeat(255)],
  ["a".repeat(4096), "a".repeat(255)],
  ["a".repeat(4097), undefined],
  [`${"a".repeat(252)}.txt`, `${"a".repeat(251)}.txt`],
  [`a.${"b".repeat(255)}`, `a.${"b".repeat(253)}`],
  ["\u20ac".repeat(86), "\u20ac".repeat(85)],
  ["\u{1f600}".repeat(64), "\u{1f600}".repeat(63)],
  [`${"a/".repeat(300)}x`, "x", `${"a/".repeat(300)}x`],
  // one name in two forms
  ["Caf\u00e9", "Caf\u00e9"],
  ["Cafe\u0301", "Caf\u00e9"],
  ["\u212b", "\u00c5"]
]

const percent = (name: string): string =>
  Array.from(new TextEncoder().encode(name), (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")

/** A name and the folders that are made for it. */
const withFolders = (name: string): ReadonlyArray<string> =>
  name.split("/").map((_, at, parts) => parts.slice(0, at + 1).join("/")).filter((path) => path !== "folder")

const expected = (made: Made) => ({
  statuses: [made === undefined ? 400 : 200],
  appears: made === undefined ? [] : withFolders(made)
})

/** A header holds a name if nothing is cut from its ends and its parser takes all in it. */
const isHeader = (name: string) => name !== "" && name === name.trim() && !/[\0\r\n]/.test(name)

/** As `curl` sends it, by revision 1: Node's parser itself refuses control characters. */
const plain = ([sent, sanitized]: typeof names[number]): ReadonlyArray<Row> => {
  if (!isHeader(sent)) return []
  // oxlint-disable-next-line no-control-regex -- what a header cannot hold
  const made = /[\x01-\x08\x0a-\x1f\x7f]/.test(sent) ? undefined : sanitized
  const { appears, statuses } = expected(made)
  return [
    one(
      `revision 1: ${JSON.stringify(sent.slice(0, 40))}`,
      {
        "x-file-name": sent
      },
      statuses,
      { appears }
    )
  ]
}

let ids = 0

/** Percent-encoded, by revision 2, as a whole file. */
const encoded = (sent: string, statuses: ReadonlyArray<number>, appears: Row["appears"] = []): Row =>
  one(
    `percent: ${JSON.stringify(sent.slice(0, 40))}`,
    {
      "x-file-name": percent(sent),
      "x-file-name-encoding": "percent",
      "x-upload-id": `n${++ids}`,
      "x-chunk-offset": 0,
      "x-file-size": 3
    },
    statuses,
    { appears }
  )

const modes: Readonly<Record<PathMode, ReadonlyArray<Row>>> = {
  sanitize: names.flatMap((row, at) => {
    const { appears, statuses } = expected(row[1])
    return [...at % 2 === 0 ? plain(row) : [], encoded(row[0], statuses, appears)]
  }),
  // a name without folders is made as above
  "allow-paths": names.filter(([sent, ...made]) => made.length > 1 || /[/\\]|^\.|^(folder|link|there|pipe)/.test(sent))
    .flatMap((row) => {
      const [sent, sanitized] = row
      // no path in the table means the same one
      const { appears, statuses } = expected(row.length === 3 ? row[2] : sanitized)
      return [encoded(sent, statuses, appears)]
    }),
  timestamp: names.filter((_, at) => at % 5 === 0).map(([sent, sanitized]) =>
    encoded(sent, [sanitized === undefined ? 400 : 200], /^[^/\\:\p{Cc}]*_\d{10}(\.[^/\\:\p{Cc}]+)?$/u)
  ),
  ignore: names.filter(([sent], at) => at % 5 === 1 && Buffer.byteLength(sent) <= 4096).map(([sent]) =>
    encoded(sent, [sent === "" ? 400 : 200], /^\d{13}_[0-9a-f]{8}_[^/\\:\p{Cc}]*$/u)
  )
}

describe("Hostile names", () => {
  it.scopedLive.each(["sanitize", "allow-paths", "timestamp", "ignore"] as const)(
    "become safe ones or are refused (%s)",
    (pathMode) => Effect.flatMap(world({ pathMode }), (hostile) => run(hostile, modes[pathMode])),
    60_000
  )

  it.scopedLive("replace nothing but files under the policy overwrite", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ pathMode: "allow-paths", onConflict: "overwrite" })
      yield* run(hostile, [
        encoded("folder", [200], ["folder (1)"]),
        encoded("link", [200], ["link (1)"]),
        encoded("link/x", [200], withFolders("link (1)/x")),
        encoded("link/file", [200], withFolders("link (1)/file")),
        encoded("linked.txt", [200], ["linked (1).txt"]),
        encoded("pipe", [200], ["pipe (1)"]),
        encoded("there.txt/x", [200], withFolders("there.txt (1)/x")),
        encoded("../x", [400])
      ])
    }))

  it.scopedLive("that are taken are refused under the policy reject", () =>
    Effect.gen(function*() {
      const hostile = yield* world({ pathMode: "allow-paths", onConflict: "reject" })
      const taken = [
        "folder",
        "link",
        "link/x",
        "link/file",
        "linked.txt",
        "linked.txt/x",
        "pipe",
        "pipe/x",
        "there.txt"
      ]
      yield* run(hostile, taken.map((name) => encoded(name, [409])))
    }))

  it.scopedLive("are refused when their encoding is wrong", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const chunk = { "x-upload-id": "e", "x-chunk-offset": 0 }
      const wrong = [
        "%",
        "%0",
        "%zz",
        "%ff",
        "%c0%af",
        "%c0%ae",
        "%ed%a0%80",
        "%f4%90%80%80",
        "%e2%82",
        "a b",
        "\u00e9"
      ]
      yield* run(hostile, [
        ...wrong.map((name) =>
          one(`percent-encoded ${name}`, { ...chunk, "x-file-name": name, "x-file-name-encoding": "percent" }, [400])
        ),
        ...["base64", "PERCENT", "utf-8", "percent, percent", ""].map((coding) =>
          one(`encoding ${coding}`, { ...chunk, "x-file-name": "a", "x-file-name-encoding": coding }, [400])
        ),
        one("a header beyond the limit", {
          ...chunk,
          "x-file-name": percent("x".repeat(8000)),
          "x-file-name-encoding": "percent"
        }, [431])
      ])
    }))
})
