import { afterAll, beforeAll, describe, expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { install, type Installed, type Program } from "../support/installed.ts"
import { chunk, client, filesIn, folder, home, listening, read, write } from "../support/promise.ts"

const examples = Path.resolve(import.meta.dirname, "../../examples")

let installed: Installed
beforeAll(async () => {
  installed = await install()
})
afterAll(() => installed.remove())

/** Runs an example in a folder of its own. */
const run = async (name: string, at: string, args: ReadonlyArray<string> = [], key = "k"): Promise<Program> =>
  await installed.run(name, Fs.readFileSync(Path.join(examples, name), "utf8"), {
    cwd: at,
    args,
    variables: { PORT: "0", INDEXCP_API_KEY: key }
  })

/** Runs an example to its end, and returns what it has said. */
const finish = async (name: string, at: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const { code, stderr, stdout } = await (await run(name, at, args)).ended
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  return stdout
}

/** Starts an example that listens; stopping it by a signal must end it. */
const serve = async (name: string) => {
  const at = folder()
  const program = await run(name, at)
  const url = (await program.said(/[Ll]istening on "?(http:\S+?)"?\s/)).replace("0.0.0.0", "127.0.0.1")
  return {
    at,
    program,
    url,
    stop: async () => {
      program.kill("SIGTERM")
      return await program.ended
    }
  }
}

const post = (url: string, headers: Record<string, string>, body = "hello") =>
  fetch(url, { method: "POST", headers, body })

describe("Examples, servers", () => {
  it("server-basic takes files, and ends when it is told to", async () => {
    const source = home()
    const { at, stop, url } = await serve("server-basic.ts")
    expect(await client().bufferAndUpload(write(source, "a.txt", "hello"), url)).toBe("a.txt")
    expect(await stop()).toMatchObject({ code: 0, stderr: "" })
    expect(read(at, "uploads", "a.txt")).toBe("hello")
  })

  it("server-custom-filename names them by key and time", async () => {
    const source = home()
    const { stop, url } = await serve("server-custom-filename.ts")
    expect(await client().bufferAndUpload(write(source, "a.txt", "hello"), url)).toMatch(/^default\/a_\d{10}\.txt$/)
    expect(await stop()).toMatchObject({ code: 0 })
  })

  it("server-simple appends everything to one file", async () => {
    const { at, stop, url } = await serve("server-simple.ts")
    for (const body of ["one ", "two"]) await post(url, {}, body)
    expect(await stop()).toMatchObject({ code: 0 })
    expect(read(at, "uploaded_file.txt")).toBe("one two")
  })

  it("embed-express stands beside the app's routes, and tells who has sent what", async () => {
    const source = home()
    const { at, program, stop, url } = await serve("embed-express.ts")
    expect(await (await fetch(new URL("/", url))).text()).toBe("The app's own page")
    await client({ apiKey: "the laptop's key" }).bufferAndUpload(write(source, "a.txt", "hello"), url)
    await program.said(/laptop has sent a\.txt, 5 bytes/)
    expect(await stop()).toMatchObject({ code: 0 })
    expect(filesIn(Path.join(at, "uploads"))).toEqual(["a.txt"])
  })
})

describe("Examples, clients", () => {
  it("complete-demo sends a file to itself", async () => {
    const at = folder()
    write(at, "a.txt", "hello")
    const said = await finish("complete-demo.ts", at, "./a.txt")
    expect(said).toMatch(/1 chunks in the buffer\nUploaded: \.\/a\.txt -> a\.txt\n$/)
    expect(read(at, "uploads", "a.txt")).toBe("hello")
  })

  it("client-mapping prints what the server calls each file, and which it has not", async () => {
    const at = folder()
    for (const name of ["a.txt", "b.txt"]) write(at, name, name)
    const { url } = await listening({ filenameGenerator: (name) => `got-${name}`, maxFileSize: 10 })
    const said = await finish("client-mapping.ts", at, url, "./a.txt", "b.txt")
    expect(said).toContain("Uploaded: ./a.txt -> got-a.txt\nUploaded: b.txt -> got-b.txt\n")
    write(at, "long.txt", "longer than ten bytes")
    const { code, stderr, stdout } = await (await run("client-mapping.ts", at, [url, "a.txt", "long.txt"])).ended
    expect(code).toBe(1)
    expect(stdout).toContain("Uploaded: a.txt -> got-a (1).txt")
    expect(stderr).toContain("Not uploaded: long.txt: The server answered 413")
  })

  it("client-stream sends a file chunk by chunk", async () => {
    const at = folder()
    const bytes = Buffer.alloc(2_500_000, "abcdefg")
    write(at, "large.bin", bytes)
    const { folder: received, url } = await listening()
    const said = await finish("client-stream.ts", at, url, "large.bin")
    expect(said).toContain("Uploaded chunk 2 of large.bin\nStreaming upload complete\n")
    expect(Fs.readFileSync(Path.join(received, "large.bin")).equals(bytes)).toBe(true)
  })

  it("client-background tells its progress and ends", async () => {
    const at = folder()
    write(at, "a.txt", "hello")
    const { url } = await listening()
    const said = await finish("client-background.ts", at, url, "a.txt")
    expect(said).toBe("a.txt: 5 of 5 bytes\nUploaded 1 of 1 files\n")
  })
})

describe("Examples for Effect", () => {
  it("effect-app mounts the receiver under a path, with the app's users", async () => {
    const source = home()
    const { at, stop, url } = await serve("effect-app.ts")
    const endpoint = `${url}/files/upload`
    expect(await (await fetch(url)).text()).toBe("The app's own page")
    expect(await client({ apiKey: "anna's session" }).bufferAndUpload(write(source, "a.txt", "hello"), endpoint))
      .toBe("anna/a.txt")
    expect((await post(endpoint, chunk("b.txt"))).status).toBe(401)
    expect((await fetch(`${url}/files/other`)).status).toBe(404)
    expect(await stop()).toMatchObject({ code: 0 })
    expect(read(at, "uploads", "anna", "a.txt")).toBe("hello")
  })

  it("effect-api mounts it beside an HttpApi, each with its own keys", async () => {
    const source = home()
    const { stop, url } = await serve("effect-api.ts")
    const latest = (key: string) => fetch(`${url}/latest`, { headers: { authorization: `Bearer ${key}` } })
    expect(await (await latest("a member's token")).json()).toBe("No news")
    expect((await latest("the uploaders' key")).status).not.toBe(200)
    const one = client({ apiKey: "the uploaders' key" })
    expect(await one.bufferAndUpload(write(source, "a.txt", "hello"), `${url}/files/upload`)).toBe("a.txt")
    expect((await post(`${url}/files/upload`, chunk("b.txt", 0, "a member's token"))).status).toBe(401)
    expect(await stop()).toMatchObject({ code: 0 })
  })

  it("effect-uploader sends with a client, a database, a tracer and a logger of its own", async () => {
    const at = folder()
    for (const name of ["a.txt", "b.txt"]) write(at, name, name)
    const agents: Array<string | undefined> = []
    const { folder: received, url } = await listening({
      filenameGenerator: (name, _index, { headers }) => {
        agents.push(headers["user-agent"])
        return name
      }
    })
    const { code, stderr, stdout } = await (await run("effect-uploader.ts", at, [url, "a.txt", "b.txt"])).ended
    expect({ code, stdout }).toEqual({ code: 0, stdout: "2 letters sent\n" })
    expect(stderr).toMatch(/"message":"a\.txt: delivered"/)
    expect(stderr).toMatch(/^span Uploader\.file$/m)
    expect(stderr).toMatch(/^span letters$/m)
    expect(agents).toEqual(["letters/1.0", "letters/1.0"])
    expect(filesIn(received)).toEqual(["a.txt", "b.txt"])
    expect(filesIn(at)).toEqual(expect.arrayContaining(["letters.db", "outbox.db"]))
  })

  it("effect-authenticator takes signed keys, and no others", async () => {
    const source = home()
    const { program, stop, url } = await serve("effect-authenticator.ts")
    const key = await program.said(/A key: (\S+)/)
    expect(await client({ apiKey: key }).bufferAndUpload(write(source, "a.txt", "hello"), url)).toBe("a.txt")
    expect((await post(url, chunk("b.txt", 0, key.replace("guest", "admin")))).status).toBe(401)
    // may not delete
    const asked = await fetch(`${url}/u1`, { method: "DELETE", headers: { authorization: `Bearer ${key}` } })
    expect(asked.status).toBe(403)
    await stop()
  })

  it("effect-filename-generator takes names from a database", async () => {
    const source = home()
    const { stop, url } = await serve("effect-filename-generator.ts")
    const one = client()
    const names = [
      await one.bufferAndUpload(write(source, "a.txt", "a"), url),
      await one.bufferAndUpload(write(source, "b.txt", "b"), url)
    ]
    expect(names).toEqual(["file-1", "file-2"])
    await stop()
  })

  it("effect-upload-storage puts files into a bucket", async () => {
    const source = home()
    const { at, program, stop, url } = await serve("effect-upload-storage.ts")
    await client({ chunkSize: 1000 }).bufferAndUpload(write(source, "a.bin", Buffer.alloc(10_000_000)), url)
    await program.said(/a\.bin is in the bucket, 10000000 bytes/)
    await post(url, chunk("old.txt"))
    await stop()
    expect(filesIn(Path.join(at, "uploads"))).toEqual([])
  })

  it("effect-chunk-storage keeps nothing in plain text in its buffer", async () => {
    const at = folder()
    write(at, "a.txt", "very secret ".repeat(1000))
    const nowhere = await run("effect-chunk-storage.ts", at, ["http://127.0.0.1:1/nobody", "a.txt"])
    await nowhere.said(/a\.txt: in the buffer/)
    nowhere.kill("SIGKILL")
    await nowhere.ended
    const kept = Fs.readdirSync(at).filter((name) => name.startsWith("encrypted.db"))
    expect(kept).toContain("encrypted.db")
    for (const name of kept) expect(Fs.readFileSync(Path.join(at, name)).includes("very secret")).toBe(false)
    const { folder: received, url } = await listening()
    expect(await finish("effect-chunk-storage.ts", at, url)).toBe("a.txt: delivered\n")
    expect(read(received, "a.txt")).toBe("very secret ".repeat(1000))
  })
})
