import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

const longest = [
  "proof/receiver.test.ts",
  "proof/uploader.test.ts",
  "integration/kill.test.ts",
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
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    testTimeout: 30_000,
    pool: "forks",
    poolOptions: { forks: { maxForks: 3, isolate: false } },
    sequence: { sequencer: LongestFirst }
  }
})
