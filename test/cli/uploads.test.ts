import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Path from "node:path"
import { run, startServer, temporaryFolder } from "../support/cli.ts"

const uploads = (folder: string, ...words: ReadonlyArray<string>) =>
  run("indexcp-server", ["uploads", ...words, "--output-dir", folder])

const half = (url: string, id: string) =>
  Effect.promise(() =>
    fetch(`${url}/upload`, {
      method: "POST",
      headers: {
        "authorization": "Bearer k",
        "x-file-name": `${id}.bin`,
        "x-upload-id": id,
        "x-chunk-offset": "0",
        "x-file-size": "6"
      },
      body: "abc"
    })
  )

describe("indexcp-server uploads", () => {
  it.scopedLive("lists unfinished uploads while the server runs, and deletes them only when it does not", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* startServer()
        assert.include(yield* uploads(server.folder, "list"), { code: 0, stdout: "No unfinished uploads\n" })
        yield* half(server.url, "one")
        const listed = yield* uploads(server.folder, "list")
        assert.match(listed.stdout, /^one\.bin {2}receiving {2}3 of 6 bytes {2}\d{4}-/)
        const json = yield* uploads(server.folder, "list", "--json")
        assert.deepInclude(JSON.parse(json.stdout)[0], { uploadId: "one", size: 6, bytesReceived: 3 })
        assert.include(yield* uploads(server.folder, "purge", "--all"), {
          code: 3,
          stdout: "",
          stderr: `Another server is running on ${server.folder}, stop it first\n`
        })
        return server.folder
      }))
      assert.include(yield* uploads(folder, "list"), { code: 3, stderr: `No server has run on ${folder}\n` })
    }))

  it.scopedLive("deletes only what is old, unless all is asked for", () =>
    Effect.gen(function*() {
      const outputDir = Path.join(yield* temporaryFolder, "out")
      yield* Effect.scoped(Effect.flatMap(startServer({ outputDir }), ({ url }) => half(url, "one")))
      assert.include(yield* uploads(outputDir, "purge"), { code: 0, stdout: "" })
      const purged = yield* uploads(outputDir, "purge", "--all")
      assert.match(purged.stdout, /^one\.bin/)
      assert.include(purged, { code: 0, stderr: "1 of 1 unfinished uploads deleted\n" })
      assert.include(yield* uploads(outputDir, "list"), { stdout: "No unfinished uploads\n" })
    }))
})
