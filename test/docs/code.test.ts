import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import { execFile, type ExecFileOptions } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import * as Cli from "../support/cli.ts"
import * as Pages from "../support/pages.ts"
import { environment, isWindows } from "../support/platform.ts"

const node = (args: ReadonlyArray<string>, options: ExecFileOptions = {}) =>
  promisify(execFile)(process.execPath, args, { ...options, encoding: "utf8" })
const tool = (...path: ReadonlyArray<string>) => Path.join(Pages.root, "node_modules", ...path)

/** A project of a reader, with the sources in the place of the installed package. */
const readersProject = async (): Promise<string> => {
  const folder = await Fs.realpath(await Fs.mkdtemp(Path.join(Os.tmpdir(), "indexedcp-reader-")))
  const modules = Path.join(folder, "node_modules")
  await Fs.mkdir(Path.join(modules, "indexedcp"), { recursive: true })
  for (const name of ["effect", "@effect", "@types"]) {
    await Fs.symlink(tool(name), Path.join(modules, name), "junction")
  }
  await Fs.symlink(Path.join(Pages.root, "src"), Path.join(modules, "indexedcp/src"), "junction")
  const exports = { ".": "./src/index.ts", "./*": "./src/*.ts" }
  await Fs.writeFile(Path.join(modules, "indexedcp/package.json"), JSON.stringify({ type: "module", exports }))
  await Fs.writeFile(Path.join(folder, "package.json"), JSON.stringify({ type: "module" }))
  const { compilerOptions } = JSON.parse(await Fs.readFile(Path.join(Pages.root, "tsconfig.json"), "utf8"))
  delete compilerOptions.plugins
  delete compilerOptions.noUnusedLocals
  await Fs.writeFile(Path.join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, include: ["*.ts"] }))
  return folder
}

describe("The code on the pages, and the examples of the entry points", { timeout: 120_000 }, () => {
  let folder: string
  beforeAll(async () => {
    folder = await readersProject()
  })
  afterAll(() => Fs.rm(folder, { recursive: true, force: true }))

  const run = async (name: string, code: string) => {
    const file = Path.join(folder, name)
    await Fs.writeFile(file, code)
    const { stdout } = await node([tool("tsx/dist/cli.mjs"), file], {
      cwd: folder,
      env: environment(folder)
    })
    return stdout
  }
  const packageAs = (name: string) => Fs.readFile(Path.join(folder, "received", name), "utf8")

  it("has the right types", async () => {
    const texts = [
      ...Pages.pages.map((page) => [page, Pages.read(page)] as const),
      ...Object.entries(Pages.entryPoints)
    ]
    const blocks = texts.flatMap(([name, text]) =>
      Pages.code(text, "ts").map((code, at) => [`${name.replaceAll(/\W/g, "-")}-${at}.ts`, code] as const)
    )
    expect(blocks.length).toBeGreaterThan(Object.keys(Pages.entryPoints).length)
    for (const [name, code] of blocks) await Fs.writeFile(Path.join(folder, name), code)
    const checked = node([tool("typescript/bin/tsc"), "--project", folder]).then(() => "", ({ stdout }) => stdout)
    expect(await checked).toBe("")
  })

  it("sends a file, with Effect", async () => {
    expect(await run("effect.ts", Pages.quickStarts.effect)).toContain("delivered")
    expect(await packageAs("package.json")).toContain("module")
  })

  it("sends a file, with Promises", async () => {
    await Fs.rm(Path.join(folder, "received"), { recursive: true, force: true })
    expect(await run("promises.ts", Pages.quickStarts.promises)).toContain("'package.json': 'package.json'")
    expect(await packageAs("package.json")).toContain("module")
  })

  it.skipIf(isWindows)("sends a file, on the command line", async () => {
    await Fs.rm(Path.join(folder, "received"), { recursive: true, force: true })
    const bin = Path.join(folder, "bin")
    await Fs.mkdir(bin)
    for (const name of ["indexcp", "indexcp-server"]) {
      await Fs.symlink(Path.join(Cli.bundle, "dist/bin", `${name}.js`), Path.join(bin, name))
    }
    expect(await Pages.runCommandLine(folder, bin)).toMatch(/hello\.txt -> hello\.txt\n(.*\n)*hello\n/)
  })
})
