import { describe, expect, it } from "@effect/vitest"
import { once } from "node:events"
import * as Http from "node:http"
import type * as Net from "node:net"
import * as Path from "node:path"
import { onTestFinished, vi } from "vitest"
import { createSimpleServer } from "../../src/promise.ts"
import { client, filesIn, folder, home, read, write } from "../support/promise.ts"

/** A listening one that appends to this file. */
const started = async (file: string) => {
  const server = createSimpleServer(file, 0)
  onTestFinished(() => void server.close())
  await once(server, "listening")
  return { server, url: `http://127.0.0.1:${(server.address() as Net.AddressInfo).port}/upload` }
}

describe("createSimpleServer", () => {
  it("is a Node server on this machine that appends every body to one file", async () => {
    const at = home()
    const { server, url } = await started(Path.join(at, "out.txt"))
    expect(server).toBeInstanceOf(Http.Server)
    expect((server.address() as Net.AddressInfo).address).toBe("127.0.0.1")
    for (const body of ["one ", "two"]) {
      const answer = await fetch(url, { method: "POST", body })
      expect([answer.status, await answer.text()]).toEqual([200, "Chunk received\n"])
    }
    expect((await fetch(url)).status).toBe(404)
    expect(read(at, "out.txt")).toBe("one two")
    expect(filesIn(at)).toEqual(["out.txt"])
  })

  it("takes files of the client", async () => {
    const at = home()
    const out = Path.join(folder(), "out.txt")
    const { url } = await started(out)
    expect(await client().bufferAndUpload(write(at, "a.txt", "hello"), url)).toBe("a.txt")
    expect(read(out)).toBe("hello")
  })

  it("answers 500 and says why on stderr when the file cannot be written", async () => {
    const { url } = await started(Path.join(folder(), "not there", "out.txt"))
    const said = vi.spyOn(console, "error").mockImplementation(() => {})
    onTestFinished(() => said.mockRestore())
    expect((await fetch(url, { method: "POST", body: "lost" })).status).toBe(500)
    expect(said).toHaveBeenCalledWith(expect.stringContaining("ENOENT: no such file or directory"))
  })

  it("tells of a port in use as Node's servers do", async () => {
    const { server } = await started(Path.join(folder(), "out.txt"))
    const second = createSimpleServer("out.txt", (server.address() as Net.AddressInfo).port)
    const [error] = await once(second, "error") as [NodeJS.ErrnoException]
    expect(error.code).toBe("EADDRINUSE")
  })
})
