import { describe, expect, it } from "@effect/vitest"
import { Effect, Either, FastCheck, TestClock } from "effect"
import { Identifiers } from "../../src/protocol/UploadId.ts"
import * as FilenameGenerator from "../../src/server/FilenameGenerator.ts"
import * as SafeName from "../../src/server/SafeName.ts"

const modes = ["sanitize", "ignore", "allow-paths", "timestamp"] as const

const request: FilenameGenerator.GeneratorRequest = {
  headers: {},
  method: "POST",
  url: "/upload",
  remoteAddress: "10.0.0.1",
  keyName: "default"
}

const generate = (mode: FilenameGenerator.PathMode, clientName: string) =>
  Effect.flatMap(FilenameGenerator.FilenameGenerator, (generator) => generator.generate(clientName, 0, request)).pipe(
    Effect.provide(FilenameGenerator.layerPathMode(mode)),
    Effect.provideService(Identifiers, { next: Effect.succeed("0123456789abcdef0123456789abcdef") })
  )

/** The second as which each test runs. */
const now = 1_767_225_600_123
const stamp = "1767225600"
const unique = `${now}_01234567_`

/** A client's name, and what becomes of it in each mode; `undefined` is 400. */
const table: ReadonlyArray<readonly [string, { readonly [mode in FilenameGenerator.PathMode]: string | undefined }]> = [
  ["a.txt", {
    sanitize: "a.txt",
    ignore: `${unique}a.txt`,
    "allow-paths": "a.txt",
    timestamp: `a_${stamp}.txt`
  }],
  ["/data/scans/a.tar.gz", {
    sanitize: "a.tar.gz",
    ignore: `${unique}_data_scans_a.tar.gz`,
    "allow-paths": "data/scans/a.tar.gz",
    timestamp: `a.tar_${stamp}.gz`
  }],
  ["C:\\Users\\x\\b.pdf", {
    sanitize: "b.pdf",
    ignore: `${unique}C__Users_x_b.pdf`,
    "allow-paths": "C_/Users/x/b.pdf",
    timestamp: `b_${stamp}.pdf`
  }],
  ["./a//./b/", {
    sanitize: "b",
    ignore: `${unique}._a__._b_`,
    "allow-paths": "a/b",
    timestamp: `b_${stamp}`
  }],
  ["../../etc/passwd", {
    sanitize: "passwd",
    ignore: `${unique}.._.._etc_passwd`,
    "allow-paths": undefined,
    timestamp: `passwd_${stamp}`
  }],
  ["a\\..\\b", {
    sanitize: "b",
    ignore: `${unique}a_.._b`,
    "allow-paths": undefined,
    timestamp: `b_${stamp}`
  }],
  ["a/..", { sanitize: undefined, ignore: `${unique}a_`, "allow-paths": undefined, timestamp: undefined }],
  [".. /a", {
    sanitize: "a",
    ignore: `${unique}.. _a`,
    "allow-paths": undefined,
    timestamp: `a_${stamp}`
  }],
  ["...", { sanitize: undefined, ignore: unique, "allow-paths": undefined, timestamp: undefined }],
  ["/", { sanitize: undefined, ignore: `${unique}_`, "allow-paths": undefined, timestamp: undefined }],
  ["", { sanitize: undefined, ignore: unique, "allow-paths": undefined, timestamp: undefined }],
  [".profile", {
    sanitize: ".profile",
    ignore: `${unique}.profile`,
    "allow-paths": ".profile",
    timestamp: `.profile_${stamp}`
  }],
  ["logs/aux.txt", {
    sanitize: "_aux.txt",
    ignore: `${unique}logs_aux.txt`,
    "allow-paths": "logs/_aux.txt",
    timestamp: `_aux_${stamp}.txt`
  }],
  ["nul/x\0\x1b[2J\u202e.txt:stream. ", {
    sanitize: "x__[2J_.txt_stream",
    ignore: `${unique}nul_x__[2J_.txt_stream`,
    "allow-paths": "_nul/x__[2J_.txt_stream",
    timestamp: `x__[2J__${stamp}.txt_stream`
  }],
  ["e\u0301/A\u030a.txt", {
    sanitize: "\u00c5.txt",
    ignore: `${unique}\u00e9_\u00c5.txt`,
    "allow-paths": "\u00e9/\u00c5.txt",
    timestamp: `\u00c5_${stamp}.txt`
  }],
  [".IndexedCP/ledger.db", {
    sanitize: "ledger.db",
    ignore: `${unique}.IndexedCP_ledger.db`,
    "allow-paths": undefined,
    timestamp: `ledger_${stamp}.db`
  }],
  [".indexedcp", {
    sanitize: undefined,
    ignore: `${unique}.indexedcp`,
    "allow-paths": undefined,
    timestamp: undefined
  }],
  [`${"x".repeat(300)}.txt`, {
    sanitize: `${"x".repeat(251)}.txt`,
    ignore: `${unique}${"x".repeat(251 - unique.length)}.txt`,
    "allow-paths": `${"x".repeat(251)}.txt`,
    timestamp: `${"x".repeat(240)}_${stamp}.txt`
  }],
  ["x/".repeat(2048) + "x", {
    sanitize: "x",
    ignore: `${unique}${"x_".repeat(200)}`.slice(0, 255),
    "allow-paths": undefined,
    timestamp: `x_${stamp}`
  }]
]

describe("FilenameGenerator", () => {
  for (const [name, made] of table) {
    it.effect(`names ${JSON.stringify(name.slice(0, 40))} by each path mode, or refuses it`, () =>
      Effect.gen(function*() {
        yield* TestClock.setTime(now)
        for (const mode of modes) {
          const named = yield* Effect.either(generate(mode, name))
          expect([mode, Either.getOrElse(named, ({ _tag }) => _tag)]).toEqual([mode, made[mode] ?? "Malformed"])
        }
      }))
  }

  it.effect.prop(
    "makes of any name a safe one, or says that it cannot",
    { name: FastCheck.string({ unit: "binary", maxLength: 60 }), mode: FastCheck.constantFrom(...modes) },
    ({ mode, name }) =>
      Effect.gen(function*() {
        const named = yield* Effect.either(generate(mode, name))
        expect(Either.isRight(named) ? SafeName.check(named.right) : Either.left(named.left._tag)).toEqual(
          Either.mapLeft(named, () => "Malformed")
        )
      }),
    { fastCheck: { numRuns: 60 } }
  )

  it.effect("asks for another identifier each time", () =>
    Effect.gen(function*() {
      const generator = yield* FilenameGenerator.FilenameGenerator
      const names = yield* Effect.replicateEffect(generator.generate("a", 0, request), 20)
      expect(new Set(names).size).toBe(20)
    }).pipe(Effect.provide(FilenameGenerator.layerPathMode("ignore"))))
})
