/**
 * Looks at the package as a stranger does: packs it, has it looked at by the tools that know what goes wrong, installs it into an
 * empty project outside the tree, and uses each entry point and both programs from there. Ends with 1 when something is not as
 * it should be.
 *
 * Run it with `npm run test:package`. It builds first.
 */
import * as Assert from "node:assert/strict"
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { promisify } from "node:util"
import manifest from "../../package.json" with { type: "json" }
import * as Pages from "../support/pages.ts"
import { environment, isWindows } from "../support/platform.ts"

const exec = promisify(execFile)
const installed = (...path: ReadonlyArray<string>) => Path.join(Pages.root, "node_modules", ...path)

/** One thing of each entry point. */
const things: Readonly<Record<string, string>> = {
  ".": "Uploader",
  "./protocol": "Receipt",
  "./client": "Source",
  "./client-node": "ChunkStoreSqlite",
  "./server": "Receiver",
  "./server-node": "NodeServer",
  "./promise": "IndexCPClient",
  "./testing": "TransportInProcess"
}

const entries = Object.keys(manifest.exports).filter((entry) => entry !== "./package.json")
const nameOf = (entry: string) => Path.posix.join("indexedcp", entry)

const step = async (what: string, run: () => Promise<void>) => {
  process.stdout.write(`${what} … `)
  await run()
  process.stdout.write("good\n")
}

/** Runs a program; what it says is in the error when it fails. */
const run = async (cwd: string, command: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const options = {
    cwd,
    // npm's cache stays where it is; the programs' own files do not go to the user's home
    env: command === "npm" ? process.env : environment(cwd),
    // Windows runs npm, and what it has installed, only so
    shell: isWindows && command !== process.execPath,
    maxBuffer: 2 ** 26
  }
  const { stdout } = await exec(command, args, options).catch(
    (error: { readonly stdout: string; readonly stderr: string }) => {
      throw new Error(`${command} ${args.join(" ")}\n${error.stdout}${error.stderr}`, { cause: error })
    }
  )
  return stdout
}

const folder = await Fs.realpath(await Fs.mkdtemp(Path.join(Os.tmpdir(), "indexedcp-package-")))
const project = Path.join(folder, "project")
const write = (name: string, content: string) => Fs.writeFile(Path.join(project, name), content)
const bin = Path.join(project, "node_modules/.bin")

try {
  let tarball = ""
  await step("pack", async () => {
    const [packed] = JSON.parse(
      await run(Pages.root, "npm", "pack", "--json", "--silent", "--pack-destination", folder)
    )
    tarball = Path.join(folder, packed.filename)
    const files: ReadonlyArray<string> = packed.files.map(({ path }: { readonly path: string }) => path)
    const wanted = /^(dist|src)\/|^docs\/[A-Z]+\.md$|^(package\.json|LICENSE|README\.md|CHANGELOG\.md)$/
    Assert.deepEqual(files.filter((file) => !wanted.test(file) || /\/cli\/|tsconfig/.test(file)), [])
    Assert.ok(files.includes("dist/bin/THIRD-PARTY-NOTICES.txt"))
    // from what a debugger or an editor shows, the way leads to sources that are there
    for (const map of files.filter((file) => file.endsWith(".map"))) {
      const { sources } = JSON.parse(await Fs.readFile(Path.join(Pages.root, map), "utf8"))
      for (const source of sources) Assert.ok(files.includes(Path.posix.join(Path.posix.dirname(map), source)), map)
    }
  })

  await step("publint", async () => {
    await run(Pages.root, process.execPath, installed("publint/src/cli.js"), "--strict", tarball)
  })

  await step("npm would publish it as it is", async () => {
    const { stderr } = await exec("npm", ["publish", "--dry-run", "--ignore-scripts", tarball], {
      cwd: folder,
      shell: isWindows
    })
    Assert.doesNotMatch(stderr, /auto-corrected/)
  })

  await step("attw", async () => {
    const attw = installed("@arethetypeswrong/cli/dist/index.js")
    await run(Pages.root, process.execPath, attw, "--profile", "esm-only", tarball)
  })

  await step("install it into an empty project", async () => {
    await Fs.mkdir(project)
    await write("package.json", JSON.stringify({ private: true, type: "module" }))
    const packages = [tarball, "typescript@5.9.3", `@types/node@${manifest.devDependencies["@types/node"]}`]
    await run(project, "npm", "install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", ...packages)
    await compiledSqlite()
  })

  await step("each entry point from ESM and CommonJS: one module for both", async () => {
    Assert.deepEqual(entries.toSorted(), Object.keys(things).toSorted())
    await write(
      "use.mjs",
      `import { createRequire } from "node:module"
const require = createRequire(import.meta.url)
for (const [name, thing] of ${JSON.stringify(entries.map((entry) => [nameOf(entry), things[entry]]))}) {
  const module = await import(name)
  if (module[thing] === undefined) throw new Error(\`\${name} has no \${thing}\`)
  if (require(name)[thing] !== module[thing]) throw new Error(\`\${name} is another one for CommonJS\`)
}`
    )
    await run(project, process.execPath, "use.mjs")
    const requires = entries.map((entry) => `require("${nameOf(entry)}").${things[entry]}.constructor`)
    await write("use.cjs", requires.join("\n"))
    await run(project, process.execPath, "use.cjs")
  })

  await step("each entry point from TypeScript, with nodenext and with bundler resolution", async () => {
    const uses = entries.map((entry, at) => [
      `import * as Entry${at} from "${nameOf(entry)}"`,
      `export const thing${at}: object = Entry${at}.${things[entry]}`,
      "// @ts-expect-error -- it has a type",
      `export const not${at}: "${at}" = Entry${at}.${things[entry]}`
    ])
    const common = uses.map(([, use, ...not], at) =>
      [`import Entry${at} = require("${nameOf(entries[at]!)}")`, use, ...not].join("\n")
    )
    await write("use.ts", uses.flat().join("\n"))
    await write("common.cts", common.join("\n"))
    const settings = [
      { module: "nodenext", include: ["use.ts", "common.cts"] },
      { module: "esnext", moduleResolution: "bundler", include: ["use.ts"] }
    ]
    // with the declarations themselves, which most projects leave unchecked
    for (const { include, ...resolution } of settings) await compile({ ...resolution, noEmit: true }, include)
  })

  await step("the README's quick starts, letter by letter", async () => {
    for (const [at, block] of Object.values(Pages.quickStarts).slice(1).entries()) {
      await write(`quick-start-${at}.ts`, block)
    }
    // the declarations of the packages it imports lack some of theirs
    await compile({ module: "nodenext", outDir: "out", skipLibCheck: true }, ["quick-start-*.ts"])
    for (const at of Object.values(Pages.quickStarts).slice(1).keys()) {
      Assert.match(await run(project, process.execPath, `out/quick-start-${at}.js`), /package\.json/)
      const received = Path.join(project, "received")
      Assert.equal(
        await Fs.readFile(Path.join(received, "package.json"), "utf8"),
        await Fs.readFile(Path.join(project, "package.json"), "utf8")
      )
      await Fs.rm(received, { recursive: true })
    }
    if (!isWindows) Assert.match(await Pages.runCommandLine(project, bin), /hello\.txt -> hello\.txt\n(.*\n)*hello\n/)
  })

  await step("both programs tell their version", async () => {
    for (const name of Object.keys(manifest.bin)) {
      Assert.equal((await run(project, Path.join(bin, name), "--version")).trim(), manifest.version)
    }
  })
} finally {
  await Fs.rm(folder, { recursive: true, force: true })
}

async function compile(options: object, include: ReadonlyArray<string>) {
  const common = {
    target: "es2022",
    lib: ["es2023", "dom"],
    strict: true,
    exactOptionalPropertyTypes: true,
    types: ["node"]
  }
  await write("tsconfig.json", JSON.stringify({ compilerOptions: { ...common, ...options }, include }))
  await run(project, process.execPath, "node_modules/typescript/bin/tsc", "--project", ".")
}

/** SQLite was compiled for this project already, which takes minutes; another version is compiled anew. */
async function compiledSqlite() {
  const versionIn = async (modules: string) =>
    JSON.parse(await Fs.readFile(Path.join(modules, "better-sqlite3/package.json"), "utf8")).version
  const [ours, theirs] = [installed(), Path.join(project, "node_modules")]
  if (await versionIn(ours) !== await versionIn(theirs)) {
    await run(project, "npm", "rebuild", "better-sqlite3")
    return
  }
  const built = "better-sqlite3/build/Release/better_sqlite3.node"
  await Fs.mkdir(Path.dirname(Path.join(theirs, built)), { recursive: true })
  await Fs.copyFile(Path.join(ours, built), Path.join(theirs, built))
}
