import { describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { PathMode } from "../../src/server/FilenameGenerator.ts"
import { one, type Row, run, world } from "../support/hostile.ts"

const percent = (name: string): string =>
  Array.from(new TextEncoder().encode(name), (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")

/** Names as they are meant; each is sent as it stands where a header can hold it, in UTF-8, and percent-encoded. */
const names: ReadonlyArray<string> = [
  "",
  ".",
  "..",
  "...",
  "../x",
  "../../x",
  "../".repeat(40) + "etc/passwd",
  "/../x",
  "/etc/passwd",
  "//etc/passwd",
  "a/../../x",
  "a/..",
  "./../x",
  "..\\x",
  "..\\..\\x",
  "a\\..\\..\\x",
  "..\\/x",
  "..;/x",
  "....//x",
  "..../x",
  "..%2fx",
  "%2e%2e/x",
  "%2e%2e%2fx",
  "..%252fx",
  "..%c0%afx",
  "..%u2215x",
  "\u2025/x",
  "\uff0e\uff0e/x",
  "..\u2215x",
  "..\uff0fx",
  "..\u29f5x",
  "file:///etc/passwd",
  "\\\\server\\share\\x",
  "\\\\?\\C:\\x",
  "C:\\x",
  "C:x",
  "C:",
  "~/x",
  "$HOME/x",
  "`id`",
  "$(id)",
  "; rm -rf x",
  "| id",
  "-rf",
  "--",
  "con",
  "CON",
  "nul.txt",
  "NUL ",
  "aux.tar.gz",
  "com1",
  "COM¹.txt",
  "lpt9.log",
  "conin$",
  "x.txt:stream",
  "x.txt::$DATA",
  "x.txt.",
  "x.txt ",
  "x.txt. . .",
  " ",
  "x\0.txt",
  "x.txt\0.jpg",
  "../x\0",
  "x\n.txt",
  "x\r\nset-cookie: a=b",
  "x\u001b[2Jy",
  "x\u007f",
  "x\u0085y",
  "x\u2028y",
  "photo\u202egpj.exe",
  "\u2066x",
  "\ufeffx",
  ".indexedcp",
  ".indexedcp/ledger.db",
  ".INDEXEDCP/keys.db",
  ".indexedcp./x",
  ".index\u200bedcp",
  "\uff0eindexedcp",
  "folder",
  "link",
  "link/x",
  "linked.txt",
  "there.txt/x",
  "folder/../../x",
  "__proto__",
  "constructor",
  "toString",
  ".htaccess",
  ".ssh/authorized_keys",
  "a".repeat(256),
  "a".repeat(4096),
  "€".repeat(86),
  "é".repeat(300),
  `${"a/".repeat(300)}x`,
  "x".repeat(8000),
  "<script>alert(1)</script>.html",
  "a?b*c|d\"e",
  "\u{1f600}.txt",
  "A.txt",
  "a.txt",
  "Caf\u00e9",
  "Cafe\u0301"
]

const isHeader = (name: string) => name.trim() !== "" && name === name.trim() && !/[\0\r\n]/.test(name)

const rows = (name: string, at: number): ReadonlyArray<Row> => {
  const shown = JSON.stringify(name.slice(0, 40))
  const utf8 = Buffer.from(name, "utf8").toString("latin1")
  const id = (kind: string) => ({ "x-upload-id": `${kind}${at}`, "x-chunk-offset": 0, "x-file-size": 3 })
  const statuses = [200, 400]
  // any file that appears is a plain one: no row can make more than its own, and none of a name that is not safe
  const appears = /^(?!.*(^|\/)\.{1,2}(\/|$))(?!.*[. ](\/|$))[^\p{Cc}\\:\u202a-\u202e\u2066-\u2069]+$/u
  return [
    ...(isHeader(utf8) ? [one(`revision 1: ${shown}`, { "x-file-name": utf8 }, statuses, { appears })] : []),
    ...(name === "" ? [] : [
      one(
        `percent: ${shown}`,
        { "x-file-name": percent(name), "x-file-name-encoding": "percent", ...id("p") },
        // a header that does not fit is 431
        [...statuses, 431],
        { appears }
      )
    ])
  ]
}

const modes: ReadonlyArray<PathMode> = ["sanitize", "ignore", "allow-paths", "timestamp"]

describe("Hostile names", () => {
  it.scopedLive.each(modes)("never lead out of the output folder (%s)", (pathMode) =>
    Effect.gen(function*() {
      const hostile = yield* world({ pathMode })
      const all = names.flatMap(rows)
      // what a header can hold is read the same way in every mode
      yield* run(hostile, pathMode === "sanitize" ? all : all.filter(({ name }) => name.startsWith("percent")))
    }), 60_000)

  it.scopedLive.each(["overwrite", "reject"] as const)(
    "nor under the policy %s, which replaces nothing but files",
    (onConflict) =>
      Effect.gen(function*() {
        const hostile = yield* world({ pathMode: "allow-paths", onConflict })
        const targets = names.filter((name) => /^(folder|link|there|caf|a\.txt)/i.test(name))
        yield* run(
          hostile,
          targets.flatMap(rows).map((row) => ({ ...row, statuses: [...row.statuses, 409] }))
        )
      }),
    60_000
  )

  it.scopedLive("are refused when their encoding is wrong", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const encoded = ["%", "%0", "%zz", "%ff", "%c0%af", "%ed%a0%80", "a b", "%e2%82", "\u00e9"]
      yield* run(
        hostile,
        encoded.map((name, at) =>
          one(
            `percent-encoded ${name}`,
            { "x-file-name": name, "x-file-name-encoding": "percent", "x-upload-id": `e${at}`, "x-chunk-offset": 0 },
            [400]
          )
        )
      )
      yield* run(
        hostile,
        ["base64", "PERCENT", "percent, percent", ""].map((coding) =>
          one(
            `encoding ${coding}`,
            { "x-file-name": "a", "x-file-name-encoding": coding, "x-upload-id": "c", "x-chunk-offset": 0 },
            [400]
          )
        )
      )
    }))
})
