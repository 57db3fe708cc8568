import * as Path from "node:path"
import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const longest = [
  "proof/receiver.test.ts",
  "integration/kill.test.ts",
  "proof/powerCut.test.ts",
  "proof/uploader.test.ts",
  "client/ChunkStoreSqlite.test.ts",
  "examples/examples.test.ts",
  "integration/batches.test.ts",
  "hostile/names.test.ts"
]

/** So that none of them is left running alone at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const sorted = await super.sort(files)
    const isLong = ({ moduleId }: TestSpecification) => longest.some((name) => moduleId.endsWith(name))
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))]
  }
}

export default defineConfig({
  // examples import the package by its name: the tests are of the sources, and need no build
  resolve: {
    alias: [{ find: /^indexedcp\/(.+)$/, replacement: Path.join(import.meta.dirname, "src/$1.ts") }]
  },
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    testTimeout: 30_000,
    pool: "forks",
    // three, for many tests wait. Files share a process and its modules, so each leaves the process as it found it. None is
    // ended before the others: Vitest would fail over the second one that idles. There is room for what lives shortly, which
    // is most of what Effect makes: a sixth less time
    poolOptions: { forks: { minForks: 3, maxForks: 3, isolate: false, execArgv: ["--max-semi-space-size=64"] } },
    sequence: { sequencer: LongestFirst }
  }
})
