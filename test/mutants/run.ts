/**
 * Plants bugs of the kind that matter, one at a time, in a copy of the sources, and runs the tests that should find them.
 * Ends with 1 when one survives, or when its place in the sources is no longer there.
 *
 * Run it with `npm run test:mutants`.
 */
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"

interface Mutant {
  readonly bug: string
  readonly file: string
  readonly find: string
  readonly replace: string
  readonly tests: ReadonlyArray<string>
}

const revision1 = "test/server/ReceiverRevision1.test.ts"
const revision2 = "test/server/ReceiverRevision2.test.ts"
const prefix = "test/server/PrefixDigest.test.ts"
const powerCut = "test/proof/powerCut.test.ts"
const abandoned = "test/server/Abandoned.test.ts"

const mutants: ReadonlyArray<Mutant> = [
  {
    bug: "acknowledges before the bytes are synced",
    file: "src/server/internal/disk.ts",
    find: `if (durability === "power") await handle.datasync()`,
    replace: "await handle.stat()",
    tests: [powerCut]
  },
  {
    bug: "does not record the name before it publishes under it",
    file: "src/server/internal/publish.ts",
    find: "yield* ledger.publishing(upload.key, numbered(free))",
    replace: "",
    tests: [powerCut]
  },
  {
    bug: "lets the older writer win",
    file: "src/server/internal/ledgerRules.ts",
    find: "if (!claims.holds(commit.key, fence)) {",
    replace: "if (fence < 0) {",
    tests: ["test/server/UploadLedger.test.ts"]
  },
  {
    bug: "appends behind a gap in revision 1",
    file: "src/server/internal/revision1.ts",
    find: "if (index > upload.chunks) return yield* expects(upload)",
    replace: "",
    tests: [revision1]
  },
  {
    bug: "does not check a chunk's digest",
    file: "src/server/internal/receiverParts.ts",
    find: "chunk.contentDigest.value === body.sha256",
    replace: "body.sha256.length > 0",
    tests: [revision2]
  },
  {
    bug: "does not check the hash of all bytes up to a chunk's end",
    file: "src/server/internal/wholeHash.ts",
    find: "hasher.copy().digest() !== extent.sha256",
    replace: "extent.length === 0",
    tests: [prefix]
  },
  {
    bug: "keeps in the hash of the whole what was not recorded",
    file: "src/server/internal/revision2.ts",
    find: "() => wholeHash.retract(upload.key, extent)",
    replace: "() => Effect.void",
    tests: [prefix]
  },
  {
    bug: "takes a chunk by the hash of all bytes up to its end without those before",
    file: "src/server/internal/wholeHash.ts",
    find: "if (running.at !== extent.offset) return Option.none()",
    replace: "",
    tests: [prefix]
  },
  {
    bug: "removes the file of a piece that is still needed",
    file: "src/client/internal/pieceFiles.ts",
    find: "sql`DELETE FROM loose WHERE name = ${name}`",
    replace: "sql`UPDATE loose SET owner = NULL WHERE name = ${name}`",
    tests: ["test/client/PieceFiles.test.ts"]
  },
  {
    bug: "does not check the digest of the whole file",
    file: "src/server/internal/publish.ts",
    find: "upload.sha256.value !== sha256",
    replace: "sha256.length === 0",
    tests: [revision2]
  },
  {
    bug: "publishes while a gap is left",
    file: "src/server/internal/ledgerRules.ts",
    find: "Option.isSome(size.right) && size.right.value === received",
    replace: "Option.isSome(size.right) && to === size.right.value",
    tests: [revision2]
  },
  {
    bug: "lets two requests finish an upload",
    file: "src/server/internal/publish.ts",
    find: "if (running !== undefined) return restore(Deferred.await(running))",
    replace: "",
    tests: [powerCut]
  },
  {
    bug: "uses a taken name again",
    file: "src/server/internal/publish.ts",
    find: `onConflict === "overwrite" ? "overwrite" : "exclusive"`,
    replace: `onConflict === "overwrite" ? "exclusive" : "overwrite"`,
    tests: [revision1, revision2]
  },
  {
    bug: "leaves the bytes of refused bodies behind the end of the file",
    file: "src/server/internal/publish.ts",
    find: "yield* store.trim(key, upload.received)",
    replace: "",
    tests: [revision2]
  },
  {
    bug: "shows an upload to another principal",
    file: "src/server/UploadLedger.ts",
    find: "upload.principal === principal && Option.contains(upload.id, id)",
    replace: "Option.contains(upload.id, id)",
    tests: [revision2]
  },
  {
    bug: "gives a claim up while an interrupted request still works",
    file: "src/server/internal/writers.ts",
    find: "const exit = yield* restore(Fiber.await(fiber)).pipe(Effect.onInterrupt(() => Fiber.interrupt(fiber)))",
    replace:
      "const exit = yield* restore(Fiber.await(fiber)).pipe(Effect.onInterrupt(() => Fiber.interruptFork(fiber)))",
    tests: [abandoned]
  },
  {
    bug: "gives a claim up that it took over before the older request has ended",
    file: "src/server/internal/writers.ts",
    find: "older === undefined ? Effect.void : stop(older, tookOver)",
    replace: "older === undefined ? Effect.void : Effect.interruptible(stop(older, tookOver))",
    tests: [abandoned]
  },
  {
    bug: "writes before the older request has ended",
    file: "src/server/internal/writers.ts",
    find: "return Deferred.await(writer.ended)",
    replace: "return Effect.void",
    tests: [abandoned]
  },
  {
    bug: "lets a write go on that was interrupted",
    file: "src/server/Body.ts",
    find: "return Effect.promise(() => writing?.ended ?? Promise.resolve())",
    replace: "return Effect.void",
    tests: [abandoned]
  },
  {
    bug: "undoes a new version that was committed",
    file: "src/server/internal/revision1.ts",
    find: "upload.chunks > index ? Effect.void : ",
    replace: "upload.chunks < 0 ? Effect.void : ",
    tests: [abandoned]
  },
  {
    bug: "leaves a completed upload to itself when its client has gone",
    file: "src/server/internal/revision2.ts",
    find: "Effect.map(finishInBackground(upload), (fiber) => ({ upload, duplicate, finishing: Fiber.join(fiber) }))",
    replace: "Effect.succeed({ upload, duplicate, finishing: finish(upload) })",
    tests: [abandoned]
  },
  {
    bug: "acknowledges at the next sync what a failed one may have lost",
    file: "src/server/internal/syncs.ts",
    find: "failures.set(key, { count: failed(key) + 1, cause })",
    replace: "",
    tests: ["test/server/Acknowledge.test.ts", "test/server/UploadStoreFileSystem.test.ts"]
  },
  {
    bug: "believes the sync of bytes that were begun before another one failed",
    file: "src/server/internal/syncs.ts",
    find: "const before = failed(key)",
    replace: "const before = Number.MAX_SAFE_INTEGER",
    tests: ["test/server/UploadStoreFileSystem.test.ts"]
  },
  {
    bug: "never answers whose sync has failed",
    file: "src/server/internal/acknowledge.ts",
    find: "? Effect.asVoid(Deferred.fail(batch[0]!.outcome, error))",
    replace: "? carryOut([])",
    tests: ["test/server/Acknowledge.test.ts"]
  },
  {
    bug: "publishes what a dead process trimmed and did not sync",
    file: "src/server/UploadStoreFileSystem.ts",
    find: "if (!isLonger && syncs.isSynced(key)) return",
    replace: "if (!isLonger) return",
    tests: ["test/server/UploadStoreFileSystem.test.ts"]
  },
  {
    bug: "leaves the syncs of the ledger to chance",
    file: "src/server/UploadLedgerSqlite.ts",
    find: "log.wrote()",
    replace: "",
    tests: ["test/server/UploadLedgerSqlite.test.ts"]
  },
  {
    bug: "tells what the ledger's disk does not have yet",
    file: "src/server/internal/ledgerRules.ts",
    find: "return durable === undefined ? outcome : Effect.zipRight(durable, outcome)",
    replace: "return durable === undefined || Either.isRight(outcome) ? outcome : Effect.zipRight(durable, outcome)",
    tests: ["test/server/UploadLedgerSqlite.test.ts"]
  },
  {
    bug: "trusts a sync of the ledger after one that failed",
    file: "src/server/internal/ledgerLog.ts",
    find: "durable: () => failed ?? (",
    replace: "durable: () => (",
    tests: ["test/server/UploadLedgerSqlite.test.ts"]
  },
  {
    bug: "seals a file whose pieces the disk does not have",
    file: "src/client/internal/pieceFiles.ts",
    find: "await Promise.all(unsynced.get(file) ?? [])",
    replace: "await Promise.resolve()",
    tests: ["test/client/PieceFiles.test.ts"]
  },
  {
    bug: "gives a file up over bytes that its dead predecessor has sent",
    file: "src/client/internal/deliver.ts",
    find: "if (covers(missing, turn.range)) return yield* turn.error",
    replace: "return yield* turn.error",
    tests: ["test/client/UploaderRestart.test.ts"]
  },
  {
    bug: "publishes bytes that are no longer those that came",
    file: "src/server/internal/wholeHash.ts",
    find: "if ((own ?? prefix?.copy())?.digest() !== extent.sha256) return false",
    replace: "",
    tests: ["test/server/Upkeep.test.ts"]
  },
  {
    bug: "does not see that part files were shortened",
    file: "src/server/internal/publish.ts",
    find: "const left = yield* ledger.shorten(key, length.value)",
    replace: "const left = upload",
    tests: ["test/server/Upkeep.test.ts"]
  },
  {
    bug: "calls a file delivered whose hash is another one",
    file: "src/client/internal/deliver.ts",
    find: " && (done.sha256 ?? sha256) === sha256",
    replace: "",
    tests: ["test/client/UploaderAnswers.test.ts"]
  },
  {
    bug: "sends a stored piece that was damaged",
    file: "src/client/internal/sqliteRead.ts",
    find: "&& Sha256.of(piece.data) === piece.sha256",
    replace: "",
    tests: ["test/client/ChunkStoreSqlite.test.ts"]
  },
  {
    bug: "sends an unconfirmed chunk to an old server again",
    file: "src/client/internal/deliverRevision1.ts",
    find: "Option.contains(sending, index) && !empty && !parts.resendUnconfirmed",
    replace: "index < 0",
    tests: ["test/client/UploaderRevision1.test.ts"]
  },
  {
    bug: "takes a login page for an acknowledgement",
    file: "src/client/internal/answer.ts",
    find: `/^Chunk received\\s*$/.test(answer.text)`,
    replace: `answer.text !== ""`,
    tests: ["test/client/answer.test.ts"]
  },
  {
    bug: "sends two files to an old server under one name",
    file: "src/client/internal/oldNames.ts",
    find: "number = 1; has(free)",
    replace: "number = 1; number < 1",
    tests: ["test/client/UploaderDirect.test.ts"]
  },
  {
    bug: "forgets which names an old server has when their files leave the buffer",
    file: "src/client/internal/sqliteSchema.ts",
    find: "ON files WHEN NEW.revision = 1 BEGIN",
    replace: "ON files WHEN NEW.revision = 3 BEGIN",
    tests: ["test/client/ChunkStoreSqlite.test.ts"]
  },
  {
    bug: "takes what there is no room for",
    file: "src/server/internal/limits.ts",
    find: "(isRoom) => isRoom ? Effect.void : Effect.fail(noRoom())",
    replace: "() => Effect.void",
    tests: ["test/server/Limits.test.ts"]
  },
  {
    bug: "believes for a moment that a disk is full which is not any more",
    file: "src/server/internal/limits.ts",
    find: "Effect.zipRight(forget, fits)",
    replace: "fits",
    tests: ["test/server/Limits.test.ts"]
  },
  {
    bug: "leaves half of a body in the file of a simple server",
    file: "src/server/SimpleServer.ts",
    find: "await Fs.truncate(outputFile, size)",
    replace: "await Promise.resolve(size)",
    tests: ["test/promise/programs.test.ts"]
  }
]

const root = Path.join(import.meta.dirname, "../..")

const vitest = (folder: string, tests: ReadonlyArray<string>): Promise<boolean> =>
  new Promise((resolve) => {
    execFile(
      process.execPath,
      ["node_modules/vitest/vitest.mjs", "run", "--bail=1", "--testTimeout=20000", ...tests],
      { cwd: folder, maxBuffer: 1e8 },
      (error) => resolve(error === null)
    )
  })

/** Whether the bug was found. */
const isKilled = async ({ file, find, replace, tests }: Mutant): Promise<boolean | "lost"> => {
  const folder = await Fs.mkdtemp(Path.join(Os.tmpdir(), "indexedcp-mutant-"))
  try {
    for (const name of ["src", "test", "scripts", "package.json", "tsconfig.json", "vitest.config.ts"]) {
      await Fs.cp(Path.join(root, name), Path.join(folder, name), { recursive: true })
    }
    await Fs.symlink(Path.join(root, "node_modules"), Path.join(folder, "node_modules"))
    const path = Path.join(folder, file)
    const source = await Fs.readFile(path, "utf8")
    if (source.split(find).length !== 2) return "lost"
    await Fs.writeFile(path, source.replace(find, () => replace))
    return !(await vitest(folder, tests))
  } finally {
    await Fs.rm(folder, { recursive: true, force: true })
  }
}

const wanted = process.argv.slice(2)
const queue = mutants.filter(({ bug }) => wanted.length === 0 || wanted.some((word) => bug.includes(word)))
let failures = 0

const work = async (): Promise<void> => {
  for (let mutant = queue.shift(); mutant !== undefined; mutant = queue.shift()) {
    const killed = await isKilled(mutant)
    if (killed !== true) failures += 1
    const verdict = killed === "lost" ? "ITS PLACE IS NOT THERE" : killed ? "found" : "SURVIVES"
    process.stdout.write(`${verdict}: a program that ${mutant.bug}\n`)
  }
}

const started = Date.now()
// a test that fails anyhow finds nothing
const control = { ...mutants[0]!, replace: mutants[0]!.find, tests: [...new Set(queue.flatMap(({ tests }) => tests))] }
if (await isKilled(control)) {
  process.stdout.write("The tests fail without any planted bug\n")
  process.exit(1)
}
await Promise.all([work(), work()])
process.stdout.write(`${failures} of the planted bugs not found, ${Math.round((Date.now() - started) / 1000)} s\n`)
process.exitCode = failures > 0 ? 1 : 0
