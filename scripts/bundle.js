// Bundles the two programs into a folder (dist/bin, or the one named), each split into what it needs at every start and what it
// needs only sometimes: a program in one file reads and compiles all of it at every start, and so it would what only the
// other one needs if they were split together.
import { build } from "esbuild"
import { rmSync } from "node:fs"

const outdir = process.argv[2] ?? "dist/bin"
rmSync(outdir, { recursive: true, force: true })

for (const program of ["indexcp", "indexcp-server"]) {
  await build({
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
}
