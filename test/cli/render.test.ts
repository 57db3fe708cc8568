/**
 * How an upload looks: texts, sums, and what is on a terminal after all was written to it.
 *
 * @module
 */
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, type Console, Effect, FastCheck, Fiber, Option, TestClock } from "effect"
import * as Bars from "../../src/cli/Bars.ts"
import * as Progress from "../../src/cli/Progress.ts"
import * as Screen from "../../src/cli/Screen.ts"
import * as Table from "../../src/cli/table.ts"
import * as Tally from "../../src/cli/Tally.ts"
import * as Text from "../../src/cli/text.ts"
import { FileId } from "../../src/client/ChunkStore.ts"
import * as UploadEvent from "../../src/client/UploadEvent.ts"
import * as Sha256 from "../../src/protocol/Sha256.ts"
import * as FakeTerminal from "../support/FakeTerminal.ts"

const file = (id: number, path: string, size = 1000) => ({ file: FileId.make(id), path, size })

const finished = (id: number, path: string, size = 1000) =>
  UploadEvent.Finished({
    ...file(id, path, size),
    sha256: Option.some(Sha256.empty),
    state: "delivered",
    serverName: Option.some(path),
    error: Option.none()
  })

describe("texts", () => {
  it("write out what could harm a terminal", () => {
    assert.strictEqual(Text.visible("a\u001b[2Jb\nc\r\t\u007f\u009b\u202e"), "a\\x1b[2Jb\\nc\\r\\t\\x7f\\x9b\\u202e")
    assert.strictEqual(Text.visible("é 日本 👍.txt"), "é 日本 👍.txt")
  })

  it("are cut at a column, never within a letter", () => {
    assert.strictEqual(Text.cutEnd("abcdef", 4), "abc…")
    assert.strictEqual(Text.cutStart("photos/2020/a.jpg", 8), "…0/a.jpg")
    assert.strictEqual(Text.cutEnd("日本語", 4), "日…")
    assert.strictEqual(Text.cutStart("日本語", 4), "…語")
    assert.strictEqual(Text.cutStart("👨‍👩‍👧.jpg", 5), "….jpg")
  })

  it("say times as people do", () => {
    assert.deepStrictEqual(
      [10, 12_000, 100_000, 3_600_000, 7_500_000, 100_000_000].map(Text.span),
      ["1 s", "12 s", "2 min", "1 h", "2 h 5 min", "1 d 3 h"]
    )
    assert.deepStrictEqual([0, 12_000, 723_000, 7_510_000].map(Text.clock), ["0:00", "0:12", "12:03", "2:05:10"])
  })

  it("say sizes in one unit where they can", () => {
    assert.strictEqual(Text.sizeOf(1024 * 1024, 10 * 1024 * 1024), "1.0 of 10.0 MiB")
    assert.strictEqual(Text.sizeOf(100_000, 10 * 1024 * 1024), "0.1 of 10.0 MiB")
    assert.strictEqual(Text.sizeOf(0, 1000), "0 of 1000 B")
  })

  it("say 100 % only when nothing is missing", () => {
    const parts = [[999_999, 1_000_000], [1, 1], [2, 1], [0, 0]] as const
    assert.deepStrictEqual(parts.map(([part, whole]) => Text.percent(part, whole)), [99, 100, 100, 0])
  })
})

describe("the tally", () => {
  const anyEvent = FastCheck.record({
    id: FastCheck.integer({ min: 0, max: 4 }),
    kind: FastCheck.constantFrom("Started", "Progress", "Waiting", "Finished"),
    acknowledged: FastCheck.integer({ min: 0, max: 1500 })
  })

  it.prop("never falls and never passes the whole", [FastCheck.array(anyEvent)], ([events]) => {
    const tally = Tally.make({ files: 2, size: 2000, acknowledged: 100, newest: 1 }, 0)
    let before = 0
    const of = new Map<string, number>()
    events.forEach(({ acknowledged, id, kind }, index) => {
      const about = file(id, `f${id}`)
      tally.on(
        kind === "Started"
          ? UploadEvent.Started({ ...about, acknowledged })
          : kind === "Progress"
          ? UploadEvent.Progress({ ...about, acknowledged })
          : kind === "Waiting"
          ? UploadEvent.Waiting({ ...about, reason: "r", delay: 1 })
          : finished(id, `f${id}`),
        index * 100
      )
      const total = tally.total(index * 100)
      assert.isAtMost(total.acknowledged, total.size)
      assert.isAtLeast(total.acknowledged, before)
      before = total.acknowledged
      const rows = tally.rows(index * 100)
      for (const path of of.keys()) if (!rows.some((row) => row.path === path)) of.delete(path)
      for (const row of rows) {
        assert.isAtMost(row.acknowledged, row.size)
        if (kind !== "Started") assert.isAtLeast(row.acknowledged, of.get(row.path) ?? 0)
        of.set(row.path, row.acknowledged)
      }
    })
  })

  it("has what was there at the start, and grows with what comes", () => {
    const tally = Tally.make({ files: 2, size: 2000, acknowledged: 500, newest: 7 }, 0)
    assert.deepInclude(tally.total(0), { files: 2, ended: 0, size: 2000, acknowledged: 500 })
    tally.on(UploadEvent.Started({ ...file(7, "a"), acknowledged: 500 }), 0)
    tally.on(UploadEvent.Started({ ...file(8, "b", 100), acknowledged: 0 }), 0)
    assert.deepInclude(tally.total(0), { files: 3, size: 2100, acknowledged: 500 })
    tally.on(finished(7, "a"), 1000)
    assert.deepInclude(tally.total(1000), { files: 3, ended: 1, acknowledged: 1000 })
  })

  it("counts the rate over the last ten seconds, without what was there before", () => {
    const tally = Tally.make(Tally.nothing, 0)
    tally.on(UploadEvent.Started({ ...file(1, "a", 100_000), acknowledged: 50_000 }), 0)
    assert.include(tally.rows(1000)[0]!, { rate: 0, left: undefined })
    for (let second = 1; second <= 20; second++) {
      tally.on(UploadEvent.Progress({ ...file(1, "a", 100_000), acknowledged: 50_000 + second * 1000 }), second * 1000)
    }
    assert.deepInclude(tally.rows(20_000)[0], { rate: 1000, left: 30_000 })
    assert.deepInclude(tally.rows(25_000)[0], { rate: 500 })
    assert.deepInclude(tally.rows(31_000)[0], { rate: 0, left: undefined })
  })
})

describe("lines of bars", () => {
  const look = { columns: 80, rows: 24, colour: false, endless: false }
  const twoFiles = () => {
    const tally = Tally.make({ files: 3, size: 3_000_000, acknowledged: 0, newest: 3 }, 0)
    tally.on(UploadEvent.Started({ ...file(1, "photos/2020/a.jpg", 1_000_000), acknowledged: 0 }), 0)
    tally.on(UploadEvent.Started({ ...file(2, "b.jpg", 1_000_000), acknowledged: 0 }), 0)
    tally.on(UploadEvent.Progress({ ...file(1, "photos/2020/a.jpg", 1_000_000), acknowledged: 455_000 }), 5000)
    tally.on(
      UploadEvent.Waiting({ ...file(2, "b.jpg", 1_000_000), reason: "s:1 cannot be reached", delay: 8000 }),
      5000
    )
    return tally
  }

  it("show each file in flight, what it waits for, and a total, in 80 columns", () => {
    const lines = Bars.lines(twoFiles(), 5000, look)
    assert.deepStrictEqual(lines.map((line) => line.replace(/ {2,}/g, "  ")), [
      "photos/2020/a.jpg  45%  ████░░░░░░  444.3 of 976.6 KiB  88.9 KiB/s  0:06",
      "b.jpg  0%  next try in 8 s: s:1 cannot be reached",
      "0 of 3 files  15%  █░░░░░░░░░  0.4 of 2.9 MiB  88.9 KiB/s  0:28"
    ])
    assert.isTrue(lines.every((line) => line.length < 80))
    const grown = twoFiles()
    grown.on(UploadEvent.Started({ ...file(9, "c", 10), acknowledged: 0 }), 5000)
    assert.strictEqual(
      Bars.lines(grown, 5000, look).at(-1)!.replace(/ {2,}/g, "  "),
      "0 of 4 files so far  444.34 KiB sent  88.9 KiB/s"
    )
  })

  it.prop(
    "fit into any terminal, whatever the names",
    [
      FastCheck.integer({ min: 2, max: 300 }),
      FastCheck.integer({ min: 1, max: 40 }),
      FastCheck.array(FastCheck.fullUnicodeString())
    ],
    ([columns, rows, names]) => {
      const tally = Tally.make(Tally.nothing, 0)
      names.forEach((name, id) => {
        tally.on(UploadEvent.Started({ ...file(id, name), acknowledged: id }), 0)
        if (id % 3 === 0) tally.on(UploadEvent.Waiting({ ...file(id, name), reason: name, delay: 1 }), 0)
      })
      const lines = Bars.lines(tally, 1000, { ...look, columns, rows, colour: true })
      assert.isBelow(lines.length, Math.max(rows, 4))
      for (const line of lines) {
        assert.isBelow(Text.width(line), columns)
        // oxlint-disable-next-line no-control-regex
        assert.notMatch(line.replace(/^\x1b\[33m|\x1b\[0m$/g, ""), /[\x00-\x1f\x7f-\x9f]/)
      }
    }
  )
})

describe("the screen", () => {
  it("draws in place, and lets what is written stay above", () => {
    const terminal = FakeTerminal.make(40, 10)
    const screen = Screen.make(terminal)
    terminal.write("$ upload\n")
    screen.draw(["a 1%", "b 1%", "total"])
    screen.draw(["a 2%", "total"])
    const again = screen.hide()
    terminal.write("c: is slow\n")
    again()
    screen.draw(["a 3%", "total"])
    assert.deepStrictEqual(terminal.lines(), ["$ upload", "c: is slow", "a 3%", "total"])
    screen.clear()
    assert.deepStrictEqual(terminal.lines(), ["$ upload", "c: is slow"])
  })

  it("survives a terminal that becomes narrower, where old lines take several rows", () => {
    const terminal = FakeTerminal.make(40, 10)
    const screen = Screen.make(terminal)
    terminal.write("$ upload\n")
    screen.draw(["x".repeat(39), "y".repeat(39)])
    terminal.resize(15)
    screen.draw(["x".repeat(14), "y".repeat(14)])
    assert.deepStrictEqual(terminal.lines(), ["$ upload", "x".repeat(14), "y".repeat(14)])
  })
})

/** Progress, and what it printed on a pipe or put on a terminal. */
const shown = (terminal: FakeTerminal.FakeTerminal | undefined, options: Partial<Progress.Options> = {}) =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const console = yield* Effect.console
    const recorded: Console.Console = {
      ...console,
      error: (line) =>
        Effect.sync(() => {
          told.push(String(line))
          terminal?.write(`${String(line)}\n`)
        })
    }
    const progress = yield* Progress.make({
      silent: false,
      start: Tally.nothing,
      ...(terminal === undefined ? {} : { terminal }),
      ...options
    }).pipe(Effect.withConsole(recorded))
    const on = (event: UploadEvent.UploadEvent) =>
      progress.on(event).pipe(progress.around, Effect.withConsole(recorded))
    return { told, on }
  })

describe("progress on a pipe", () => {
  it.scoped("is a line at the beginning, when the reason to wait changes, and each ten seconds", () =>
    Effect.gen(function*() {
      const { on, told } = yield* shown(undefined)
      const about = file(1, "a\n", 100_000)
      const waiting = (reason: string) => UploadEvent.Waiting({ ...about, reason, delay: 2000 })
      yield* on(UploadEvent.Started({ ...about, acknowledged: 1024 }))
      for (const reason of ["no way", "no way", "busy", "busy"]) yield* on(waiting(reason))
      for (let second = 1; second <= 25; second++) {
        yield* TestClock.adjust("1 second")
        yield* on(UploadEvent.Progress({ ...about, acknowledged: 1024 + second * 1000 }))
      }
      yield* on(waiting("busy"))
      yield* on(finished(1, "a\n", 100_000))
      assert.deepStrictEqual(told, [
        "a\\n: sending 97.66 KiB, 1.00 KiB of them sent before",
        "a\\n: no way; next try in 2 s",
        "a\\n: busy; next try in 2 s",
        "a\\n: 11% (10.8 of 97.7 KiB), 1000 B/s, 1:29 left",
        "a\\n: 21% (20.5 of 97.7 KiB), 1000 B/s, 1:19 left",
        "a\\n: busy; next try in 2 s"
      ])
    }))

  it.scoped("says no percentage of a whole that nobody knows", () =>
    Effect.gen(function*() {
      const { on, told } = yield* shown(undefined)
      yield* on(UploadEvent.Started({ ...file(1, "a"), acknowledged: 0 }))
      yield* on(UploadEvent.Started({ ...file(2, "b"), acknowledged: 0 }))
      yield* TestClock.adjust("10 seconds")
      yield* on(UploadEvent.Progress({ ...file(1, "a"), acknowledged: 600 }))
      assert.strictEqual(told.at(-1), "0 of 2 files so far, 600 B sent, 60 B/s")
    }))

  it.scoped("sums up when there are several files", () =>
    Effect.gen(function*() {
      const { on, told } = yield* shown(undefined, { start: { files: 3, size: 3000, acknowledged: 0, newest: 9 } })
      yield* on(UploadEvent.Started({ ...file(1, "a"), acknowledged: 0 }))
      yield* TestClock.adjust("10 seconds")
      yield* on(UploadEvent.Progress({ ...file(1, "a"), acknowledged: 600 }))
      assert.strictEqual(
        told.at(-1),
        "0 of 3 files, 20% (0.6 of 2.9 KiB), 60 B/s, 0:40 left"
      )
    }))
})

describe("progress on a terminal", () => {
  const plain = Effect.withConfigProvider(ConfigProvider.fromMap(new Map([["NO_COLOR", "1"]])))

  it.scoped("changes in place, counts waits down, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const terminal = FakeTerminal.make(80, 24)
      const inner = yield* Effect.scope
      const work = yield* Effect.scoped(Effect.gen(function*() {
        const { on } = yield* shown(terminal)
        yield* on(UploadEvent.Started({ ...file(1, "a"), acknowledged: 0 }))
        yield* TestClock.adjust("1 second")
        assert.match(terminal.lines().join("\n"), /^a +0% /)
        yield* on(UploadEvent.Progress({ ...file(1, "a"), acknowledged: 500 }))
        yield* on(UploadEvent.Waiting({ ...file(1, "a"), reason: "s cannot be reached", delay: 8000 }))
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(terminal.lines(), [
          "a: s cannot be reached",
          "a  50%  next try in 7 s: s cannot be reached"
        ])
        yield* TestClock.adjust("3 seconds")
        assert.deepStrictEqual(terminal.lines().at(-1), "a  50%  next try in 4 s: s cannot be reached")
        assert.notInclude(terminal.written(), "\u001b[33m")
      })).pipe(Effect.forkIn(inner))
      yield* Fiber.join(work)
      assert.deepStrictEqual(terminal.lines(), ["a: s cannot be reached"])
    }).pipe(plain))

  it.scoped("is coloured, unless NO_COLOR is set", () =>
    Effect.gen(function*() {
      const terminal = FakeTerminal.make(80, 24)
      const { on } = yield* shown(terminal)
      yield* on(UploadEvent.Started({ ...file(1, "a"), acknowledged: 0 }))
      yield* on(UploadEvent.Waiting({ ...file(1, "a"), reason: "busy", delay: 8000 }))
      yield* TestClock.adjust("1 second")
      assert.include(terminal.written(), "\u001b[33m")
    }).pipe(Effect.withConfigProvider(ConfigProvider.fromMap(new Map()))))
})

describe("a table", () => {
  const columns: ReadonlyArray<Table.Column> = [{ title: "NAME" }, { title: "SIZE", align: "right" }, {
    title: "ERROR",
    optional: true
  }]

  it("is as wide as its first rows need, and leaves out what says nothing", () => {
    const rows = [["日本", "1 B", "-"], ["abcdef", "10 KiB", "-"]]
    const table = Table.make(columns, rows, { all: true, fit: undefined })
    assert.deepStrictEqual([table.header, ...rows.map(table.row)], [
      "NAME      SIZE",
      "日本       1 B",
      "abcdef  10 KiB"
    ])
    assert.strictEqual(Table.make(columns, rows, { all: false, fit: undefined }).header, "NAME      SIZE  ERROR")
  })

  it("never cuts a name, and cuts its last column on a terminal only", () => {
    const rows = [["n".repeat(100), "1 B", "-"], ["a", "1 B", "no ".repeat(30)]]
    const wide = Table.make(columns, rows, { all: true, fit: undefined })
    const narrow = Table.make(columns, rows, { all: true, fit: 80 })
    assert.isTrue(narrow.row(rows[0]!).startsWith("n".repeat(100)))
    assert.strictEqual(Text.width(narrow.row(rows[1]!)), 80)
    assert.isTrue(narrow.row(rows[1]!).endsWith("…"))
    assert.include(wide.row(rows[1]!), "no ".repeat(30).trim())
  })
})
