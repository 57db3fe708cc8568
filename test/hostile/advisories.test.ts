/**
 * What has gone wrong with other servers that take uploads, told of this one.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Authenticator from "../../src/server/Authenticator.ts"
import { type Headers, one, type Row, run, world } from "../support/hostile.ts"
import { authorized, connect, head, type RawAnswer, request } from "../support/rawHttp.ts"

const file = (id: string, name = "n.txt") => ({
  "x-file-name": name,
  "x-upload-id": id,
  "x-chunk-offset": 0,
  "x-file-size": 3
})

/** Headers that mean something to other servers and nothing here: the upload is one like any other. */
const foreign: Readonly<Record<string, Headers>> = {
  "a method override": {
    "x-http-method-override": "DELETE",
    "x-http-method": "PUT",
    "x-method-override": "PATCH"
  },
  "another path": { "x-original-url": "/metrics", "x-rewrite-url": "/../x", "x-forwarded-prefix": "/../.." },
  "another host": { "x-forwarded-host": "evil.example", "x-host": "evil.example", forwarded: "host=evil.example" },
  "another address": { "x-forwarded-for": "10.0.0.1, ../x", "x-real-ip": "10.0.0.1", "client-ip": "10.0.0.1" },
  "another scheme": { "x-forwarded-proto": "javascript", "front-end-https": "on" },
  "a range": { range: "bytes=0-99999999999", "content-range": "bytes 0-2/9999999999999" },
  "a range of a tus server": { "upload-offset": "../x", "upload-length": "-1", "tus-resumable": "1.0.0" },
  "metadata of a tus server": { "upload-metadata": "filename Li4vLi4veA==,filetype dGV4dC9odG1s" },
  "parts of tus uploads": { "upload-concat": "final;/upload/a /upload/../../etc/passwd" },
  "an upload that is deferred": { "upload-defer-length": "1", "upload-complete": "?1" },
  "a disposition": { "content-disposition": "attachment; filename=\"../../x\"; filename*=UTF-8''..%2f..%2fx" },
  "a location": { "content-location": "/../x", destination: "http://evil.example/../x", slug: "../x" },
  "a form": { "content-type": "multipart/form-data; boundary=" + "-".repeat(5000) },
  "a form without a boundary": { "content-type": "multipart/form-data" },
  "a type that is none": { "content-type": "../../x; charset=\0".replace("\0", "utf-7") },
  "JSON": { "content-type": "application/json" },
  "a page": { "content-type": "text/html; charset=utf-7" },
  "an origin": { origin: "https://evil.example", referer: "https://evil.example/", "sec-fetch-site": "cross-site" },
  "names of objects": { "__proto__": "polluted", constructor: "polluted", "prototype.polluted": "1" },
  "a trace": { traceparent: "00-zz", tracestate: "a".repeat(5000), b3: "1-1-1-1" },
  "a request id": { "x-request-id": "a b=c level=ERROR message=forged" },
  "a long request id": { "x-request-id": "a".repeat(8000) },
  "an agent that is looked up": { "user-agent": "${jndi:ldap://127.0.0.1:1/a} () { :; }; /bin/false" },
  "cookies": { cookie: "a=b; ".repeat(1000) },
  "languages without end": { "accept-language": "a,".repeat(4000), accept: "*/*;q=0." + "9".repeat(4000) },
  "hops": { connection: "x-file-name, x-upload-id, authorization, content-length" },
  "a wish": { prefer: "respond-async", "if-modified-since": "x".repeat(3000), "if-range": "*" },
  "the name of another upload's folder": { "x-file-path": "../../x", "x-folder": "..", "uploader-file-id": "../x" }
}

const rows: ReadonlyArray<Row> = [
  ...Object.entries(foreign).map(([name, headers], at) =>
    one(name, { ...file(`foreign-${at}`), ...headers }, [200], { appears: ["n.txt"] })
  ),
  // CVE-like: a form whose parts name paths is a body and nothing else
  one(
    "a form with paths in it",
    {
      "x-file-name": "n.txt",
      "x-upload-id": "form",
      "x-chunk-offset": 0,
      "content-type": "multipart/form-data; boundary=x"
    },
    [200],
    {
      body: "--x\r\ncontent-disposition: form-data; name=\"__proto__\"; filename=\"../../x\"\r\n\r\nabc\r\n--x--"
    }
  ),
  one("a body that is a request", { "x-file-name": "n.txt", "x-upload-id": "body", "x-chunk-offset": 0 }, [200], {
    body: head("POST", "/upload", { ...authorized, ...file("inner"), "content-length": 3 }) + "abc"
  }),
  // a name is shown nowhere but in JSON
  one("a name that would be a header", file("echo-1", "n%0d%0aset-cookie: a=b"), [200], {
    appears: ["n%0d%0aset-cookie_ a=b"]
  }),
  one("a name that would be a page", file("echo-2", "<script>alert(1)<_script>.html"), [200], {
    appears: ["<script>alert(1)<_script>.html"]
  }),
  one("a name that would be a name of an object", file("echo-3", "__proto__"), [200], { appears: ["__proto__"] }),
  one("a name that would end JSON", file("echo-4", "n\",\"complete\":false,\"x\":\"y.txt"), [200], {
    appears: ["n\",\"complete\"_false,\"x\"_\"y.txt"]
  }),
  // what takes a regular expression long
  one("a key of spaces", { authorization: `Bearer ${" ".repeat(15_000)}x` }, [401]),
  one("a digest of backslashes", { ...file("slow-1"), "content-digest": `a="${"\\\\".repeat(7000)}` }, [400]),
  one("a digest of inner lists", { ...file("slow-2"), "content-digest": `a=${"( ".repeat(7000)}` }, [400]),
  one("a name of dots and spaces", file("slow-3", ". ".repeat(2000) + "x"), [200], { appears: /^[. _]+_$|^\. .*$/ }),
  one("a name of dots", { ...file("slow-4", ".".repeat(4000)) }, [400]),
  one("a length of zeros", { ...file("slow-5"), "x-file-size": "0".repeat(15_000) }, [400])
]

describe("What befell other servers", () => {
  it.scopedLive("does not befall this one", () => Effect.flatMap(world(), (hostile) => run(hostile, rows)), 60_000)

  it.scopedLive("says nothing to pages of other origins", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const answers: Array<RawAnswer> = []
      for (const [at, method] of ["OPTIONS", "POST", "GET"].entries()) {
        const answer = yield* request(hostile.port, method, method === "GET" ? "/upload/cors-1" : "/upload", {
          ...authorized,
          ...file(`cors-${at}`),
          origin: "https://evil.example",
          "access-control-request-method": "POST"
        }, method === "POST" ? "abc" : "")
        expect(Object.keys(answer.headers).filter((name) => name.startsWith("access-control"))).toEqual([])
        answers.push(answer)
      }
      yield* hostile.check(answers, { statuses: [200, 404], appears: ["n.txt"] })
    }))

  it.scopedLive("names in its answers only what JSON can hold, in headers nothing of a client's", () =>
    Effect.gen(function*() {
      const hostile = yield* world()
      const connection = yield* connect(hostile.port)
      const name = "%0d%0ax-injected:%201%0d%0a%0d%0aHTTP/1.1%20200%20OK%00%1b[31m%e2%80%ae"
      yield* connection.write(
        head("POST", "/upload", {
          ...authorized,
          ...file("inject", name),
          "x-file-name-encoding": "percent",
          "x-request-id": "evil;injected=1",
          "content-length": 3
        }),
        "abc",
        head("GET", "/upload/inject", { ...authorized, connection: "close" })
      )
      const answer = yield* connection.answer
      const state = yield* connection.answer
      expect(yield* connection.rest).toBe("")
      for (const { body, headers } of [answer, state]) {
        expect(headers["x-injected"]).toBeUndefined()
        expect(JSON.stringify(headers)).not.toMatch(/injected/)
        // oxlint-disable-next-line no-control-regex -- what would do something to whoever shows it
        expect(body).not.toMatch(/[\0-\x1f]/)
        expect(headers["content-type"]).toBe("application/json")
      }
      const { actualFilename } = JSON.parse(answer.body) as { readonly actualFilename: string }
      expect(actualFilename).toMatch(/^1\.1 200 OK__\[31m_$/)
      yield* hostile.check([answer], { statuses: [200], appears: [actualFilename] })
    }))

  it.scopedLive("lets nobody touch, see or finish what another key has sent", () =>
    Effect.gen(function*() {
      const hostile = yield* world({
        authenticator: Authenticator.layerMemory({ default: "key 1", mallory: "key 2", "../default": "key 3" })
      })
      const { folder, port } = hostile
      const mallory = ["Bearer key 2", "Bearer key 3"]
      const send = (authorization: string, offset: number, body: string, more: Headers = {}) =>
        request(port, "POST", "/upload", {
          authorization,
          ...file("shared"),
          "x-file-size": 6,
          "x-chunk-offset": offset,
          ...more
        }, body)
      expect((yield* send(authorized.authorization, 0, "abc")).status).toBe(200)
      for (const authorization of mallory) {
        for (const method of ["GET", "DELETE"]) {
          const answer = yield* request(port, method, "/upload/shared", { authorization })
          expect([method, answer.status, answer.body.includes("n.txt")]).toEqual([method, 404, false])
        }
        // "you know this upload": not for this key
        expect((yield* send(authorization, 3, "bad", { "if-match": "*" })).status).toBe(412)
      }
      const done = yield* send(authorized.authorization, 3, "def")
      expect(JSON.parse(done.body)).toMatchObject({ complete: true, actualFilename: "n.txt" })
      for (const authorization of mallory) {
        expect((yield* request(port, "GET", "/upload/shared?check=content", { authorization })).status).toBe(404)
        expect((yield* request(port, "DELETE", "/upload/shared", { authorization })).status).toBe(404)
        expect((yield* send(authorization, 0, "bad", { "if-match": "*" })).status).toBe(412)
      }
      // the id of a completed upload under another key is an upload of its own, and another file
      const own = yield* send("Bearer key 2", 0, "theirs")
      expect(JSON.parse(own.body)).toMatchObject({ complete: true, duplicate: false, actualFilename: "n (1).txt" })
      // revision 1 neither goes on with another key's file
      const first = yield* request(port, "POST", "/upload", { ...authorized, "x-file-name": "one.txt" }, "abc")
      const other = yield* request(port, "POST", "/upload", {
        authorization: "Bearer key 2",
        "x-file-name": "one.txt",
        "x-chunk-index": 1
      }, "bad")
      expect([first.status, other.status]).toEqual([200, 409])
      expect(Fs.readFileSync(Path.join(folder, "n.txt"), "utf8")).toBe("abcdef")
      expect(Fs.readFileSync(Path.join(folder, "one.txt"), "utf8")).toBe("abc")
      yield* hostile.check([done, own, first], { statuses: [200], appears: ["n.txt", "n (1).txt", "one.txt"] })
    }))

  it.scopedLive("keeps a key to its folder, whatever it calls its files", () =>
    Effect.gen(function*() {
      const hostile = yield* world({
        pathMode: "allow-paths",
        authenticator: Layer.succeed(Authenticator.Authenticator, {
          authenticate: () => Effect.succeed({ name: "default", prefix: "mine/" })
        })
      })
      for (const name of ["../x", "..\\x", "/../x", "mine/../../x"]) {
        const answer = yield* request(hostile.port, "POST", "/upload", { ...authorized, "x-file-name": name }, "abc")
        expect([name, answer.status]).toEqual([name, 400])
      }
      const absolute = yield* request(
        hostile.port,
        "POST",
        "/upload",
        { ...authorized, "x-file-name": "/etc/x" },
        "abc"
      )
      expect(JSON.parse(absolute.body)).toMatchObject({ actualFilename: "mine/etc/x" })
      yield* hostile.check([absolute], { statuses: [200], appears: ["mine", "mine/etc", "mine/etc/x"] })
    }))
})
