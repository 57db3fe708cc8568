// Bundles the two programs into a folder (dist/bin, or the one named), each split into what it needs at every start and what it
// needs only sometimes: a program in one file reads and compiles all of it at every start, and so it would what only the
// other one needs if they were split together.
import { build } from "esbuild"
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const outdir = process.argv[2] ?? "dist/bin"
rmSync(outdir, { recursive: true, force: true })

/** The folder of the package that a file belongs to; nothing for our own. */
const packageOf = (file) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0]

const packages = new Set()

for (const program of ["indexcp", "indexcp-server"]) {
  const { metafile } = await build({
    metafile: true,
    entryPoints: [`src/cli/bin/${program}.ts`],
    outdir,
    bundle: true,
    splitting: true,
    platform: "node",
    target: "node20.19",
    format: "esm",
    sourcemap: true,
    legalComments: "none",
    logLevel: "warning",
    // better-sqlite3 is native, and the watcher optional
    external: ["better-sqlite3", "@parcel/watcher"],
    // for the CommonJS among what is bundled
    banner: { js: "import { createRequire as createRequire_ } from \"node:module\"; const require = createRequire_(import.meta.url);" }
  })
  for (const file of Object.keys(metafile.inputs)) packages.add(packageOf(file))
}

// licences ask that their text goes with what is copied
const notices = [...packages].filter((folder) => folder !== undefined).sort().map((folder) => {
  const { license, name, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
  const text = readdirSync(folder).find((file) => /^licen[cs]e/i.test(file))
  return `${name} ${version} (${license})\n\n${text === undefined ? "" : readFileSync(join(folder, text), "utf8").trim()}\n`
})
writeFileSync(join(outdir, "THIRD-PARTY-NOTICES.txt"), notices.join(`\n${"-".repeat(80)}\n\n`))
