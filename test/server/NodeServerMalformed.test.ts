/**
 * Bytes that are no request, or of which nobody knows where they end: 400, closed, and nothing behind them is executed.
 */
import { describe, expect, it } from "@effect/vitest"
import { Effect } from "effect"
import * as EchoServer from "../support/echoServer.ts"
import { connect, request } from "../support/rawHttp.ts"

const host = "Host: test\r\n"
/** What stands behind each bad request: nobody may execute it. */
const smuggled = `POST /smuggled HTTP/1.1\r\n${host}Content-Length: 3\r\n\r\nbad`

const post = (headers: string, body = "") => `POST /bad HTTP/1.1\r\n${host}${headers}\r\n${body}`
const get = (headers: string) => `GET /bad HTTP/1.1\r\n${headers}\r\n`
const chunked = "Transfer-Encoding: chunked\r\n"
const abc = "3\r\nabc\r\n0\r\n\r\n"

const refused: Readonly<Record<string, string>> = {
  "Content-Length before Transfer-Encoding": post(`Content-Length: 5\r\n${chunked}`, "0\r\n\r\n"),
  "Transfer-Encoding before Content-Length": post(`${chunked}Content-Length: 5\r\n`, "0\r\n\r\n"),
  "Content-Length with a coding other than chunked": post("Transfer-Encoding: gzip\r\nContent-Length: 3\r\n", "abc"),
  "Content-Length with identity": post("Transfer-Encoding: identity\r\nContent-Length: 3\r\n", "abc"),
  "the same Content-Length twice": post("Content-Length: 3\r\nContent-Length: 3\r\n", "abc"),
  "two Content-Lengths": post("Content-Length: 3\r\nContent-Length: 0\r\n", "abc"),
  "a list of Content-Lengths": post("Content-Length: 3, 3\r\n", "abc"),
  "a Content-Length with a sign": post("Content-Length: +3\r\n", "abc"),
  "a negative Content-Length": post("Content-Length: -3\r\n", "abc"),
  "a hexadecimal Content-Length": post("Content-Length: 0x3\r\n", "abc"),
  "an empty Content-Length": post("Content-Length:\r\n", "abc"),
  "a Content-Length past 64 bits": post("Content-Length: 18446744073709551616\r\n", "abc"),
  "a coding before chunked": post("Transfer-Encoding: gzip, chunked\r\n", abc),
  "a coding before chunked, in two headers": post(`Transfer-Encoding: gzip\r\n${chunked}`, abc),
  "a coding before chunked, behind more headers than Node shows": post(
    `${"x:\r\n".repeat(2500)}Transfer-Encoding: gzip\r\n${chunked}`,
    abc
  ),
  "an empty coding before chunked": post("Transfer-Encoding: , chunked\r\n", abc),
  "an empty coding behind chunked": post("Transfer-Encoding: chunked,\r\n", abc),
  "an empty coding": post("Transfer-Encoding:\r\n"),
  "an empty coding and a body": post("Transfer-Encoding:\r\n", abc),
  "chunked twice": post("Transfer-Encoding: chunked, chunked\r\n", abc),
  "chunked twice, in two headers": post(`${chunked}${chunked}`, abc),
  "chunked before another coding": post("Transfer-Encoding: chunked, identity\r\n", abc),
  "chunked before another coding, in two headers": post(`${chunked}Transfer-Encoding: identity\r\n`, abc),
  "identity alone": post("Transfer-Encoding: identity\r\n"),
  "gzip alone": post("Transfer-Encoding: gzip\r\n"),
  "a coding of another name": post("Transfer-Encoding: xchunked\r\n", abc),
  "chunked in quotes": post("Transfer-Encoding: \"chunked\"\r\n", abc),
  "chunked with a parameter": post("Transfer-Encoding: chunked;q=1\r\n", abc),
  "chunked behind a vertical tab": post("Transfer-Encoding: \x0bchunked\r\n", abc),
  "a coding for a GET": get(`${host}Transfer-Encoding: gzip\r\n`),
  "a coding in HTTP/1.0": `POST /bad HTTP/1.0\r\n${host}${chunked}\r\n${abc}`,
  "a folded header": get(`${host}X: 1\r\n 2\r\n`),
  "a folded coding": post("Transfer-Encoding:\r\n chunked\r\n", abc),
  "a folded first header": get(` X: 1\r\n${host}`),
  "lines that end in LF": "GET /bad HTTP/1.1\nHost: test\n\n",
  "one line that ends in LF": "GET /bad HTTP/1.1\r\nHost: test\nX: 1\r\n\r\n",
  "a CR within a value": get(`${host}X: a\rb\r\n`),
  "a CR that ends a line": "GET /bad HTTP/1.1\r\nHost: test\rX: 1\r\n\r\n",
  "a NUL within a value": get(`${host}X: a\0b\r\n`),
  "a control character within a value": get(`${host}X: a\x01b\r\n`),
  "a space within a name": get(`${host}X Y: 1\r\n`),
  "a space behind a name": post("Transfer-Encoding : chunked\r\n", abc),
  "a header without a name": get(`${host}: 1\r\n`),
  "a line without a colon": get(`${host}abc\r\n`),
  "a piece without a size": post(chunked, "\r\nabc\r\n0\r\n\r\n"),
  "a piece whose size is no number": post(chunked, "xyz\r\nabc\r\n0\r\n\r\n"),
  "a later piece whose size is no number": post(chunked, "3\r\nabc\r\nzz\r\n\r\n"),
  "a piece of negative size": post(chunked, "-3\r\nabc\r\n0\r\n\r\n"),
  "a piece whose size has a prefix": post(chunked, "0x3\r\nabc\r\n0\r\n\r\n"),
  "a piece whose size has a space": post(chunked, "3 \r\nabc\r\n0\r\n\r\n"),
  "a piece of more bytes than can be": post(chunked, "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
  "pieces whose lines end in LF": post(chunked, "3\nabc\n0\n\n"),
  "a piece longer than its size": post(chunked, "3\r\nabcd\r\n0\r\n\r\n"),
  "an extension with a LF": post(chunked, "3;a\nb\r\nabc\r\n0\r\n\r\n"),
  "too many extensions": post(chunked, `3;a=${"b".repeat(20_000)}\r\nabc\r\n0\r\n\r\n`),
  "a Content-Length behind the body": post(chunked, "3\r\nabc\r\n0\r\nContent-Length: 5\r\n\r\n"),
  "a coding behind the body": post(chunked, "3\r\nabc\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"),
  "no Host": get(""),
  "two Hosts": get(`${host}Host: other\r\n`),
  "the same Host twice": get(`${host}${host}`),
  "a Host that is a URL": get("Host: http://test/\r\n"),
  "a Host with a space": get("Host: test other\r\n"),
  "HTTP/0.9": "GET /bad\r\n\r\n",
  "HTTP/0.9 by name": `GET /bad HTTP/0.9\r\n${host}\r\n`,
  "HTTP/1.2": `GET /bad HTTP/1.2\r\n${host}\r\n`,
  "HTTP/2.0": `GET /bad HTTP/2.0\r\n${host}\r\n`,
  "HTTP/3.0": `GET /bad HTTP/3.0\r\n${host}\r\n`,
  "http in small letters": `GET /bad http/1.1\r\n${host}\r\n`,
  "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  "a TLS hello": "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
  "another protocol": "SSH-2.0-OpenSSH_9.9\r\n",
  "prose": "hello, is anybody there?\r\n\r\n",
  "a method nobody knows": `FROB /bad HTTP/1.1\r\n${host}\r\n`,
  "a method in small letters": `get /bad HTTP/1.1\r\n${host}\r\n`,
  "tabs in the first line": `GET\t/bad\tHTTP/1.1\r\n${host}\r\n`,
  "a space in the target": `GET /b ad HTTP/1.1\r\n${host}\r\n`,
  "a control character in the target": `GET /b\x01ad HTTP/1.1\r\n${host}\r\n`,
  "CONNECT": `CONNECT test:80 HTTP/1.1\r\n${host}\r\n`
}

const latin = (text: string) => Buffer.from(text, "latin1")

describe("NodeServer, malformed requests", () => {
  it.scopedLive("answers 400, closes, and executes nothing that stands behind", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make()
      yield* Effect.forEach(Object.entries(refused), ([name, bytes]) =>
        Effect.gen(function*() {
          const connection = yield* connect(port)
          yield* connection.write(latin(bytes + smuggled))
          const answer = yield* connection.answer.pipe(
            Effect.timeoutFail({ duration: "5 seconds", onTimeout: () => name }),
            Effect.orDie
          )
          expect([name, answer.status, answer.headers["connection"]]).toEqual([name, 400, "close"])
          expect([name, JSON.parse(answer.body)]).toEqual([name, {
            error: "Malformed request",
            message: expect.stringMatching(/^.{20,}$/)
          }])
          expect([name, yield* connection.rest]).toEqual([name, ""])
          expect([name, (yield* request(port, "POST", "/good", {}, name)).body]).toEqual([name, name])
        }), { concurrency: 4 })
      expect(asked.filter(({ body, url }) => url !== "/good" && body !== "broken")).toEqual([])
    }))

  it.scopedLive("sees bytes that come one at a time as those that come together", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make()
      const names = ["an empty coding", "a coding before chunked", "two Hosts", "a later piece whose size is no number"]
      for (const name of names) {
        const connection = yield* connect(port)
        for (const byte of latin(refused[name]! + smuggled)) yield* connection.write(Uint8Array.of(byte))
        expect([name, (yield* connection.answer).status, yield* connection.rest]).toEqual([name, 400, ""])
      }
      expect(asked.filter(({ url }) => url === "/smuggled")).toEqual([])
    }))

  it.scopedLive("takes what is unusual but right", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make()
      const right: ReadonlyArray<readonly [bytes: string, url: string, body: string]> = [
        [`POST /1 HTTP/1.1\r\n${host}${chunked}\r\n3;a="b;c"\r\nabc\r\n0\r\nX-Trailer: 1\r\n\r\n`, "/1", "abc"],
        [`POST /2 HTTP/1.1\r\n${host}Transfer-Encoding: Chunked\r\n\r\n${abc}`, "/2", "abc"],
        [`\r\n\r\nPOST /3 HTTP/1.1\r\n${host}Content-Length: 1\r\n\r\na`, "/3", "a"],
        [`POST http://other:80/4?a=b HTTP/1.1\r\n${host}Content-Length: 1\r\n\r\na`, "/4?a=b", "a"],
        [`POST HTTPS://test HTTP/1.1\r\n${host}Content-Length: 1\r\n\r\na`, "/", "a"],
        [`POST http://test?a HTTP/1.1\r\n${host}Content-Length: 1\r\n\r\na`, "/?a", "a"],
        [`OPTIONS * HTTP/1.1\r\n${host}\r\n`, "*", ""],
        ["GET /5 HTTP/1.1\r\nHost:\r\n\r\n", "/5", ""],
        ["GET /6 HTTP/1.1\r\nHost: [::1]:3000\r\n\r\n", "/6", ""],
        [`POST /7 HTTP/1.1\r\n${host}Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc`, "/7", "abc"],
        ["POST /8 HTTP/1.0\r\nContent-Length: 1\r\n\r\na", "/8", "a"],
        [`GET /9 HTTP/1.1\r\n${host}Connection: close\r\n\r\n`, "/9", ""]
      ]
      for (const [bytes, url, body] of right) {
        const connection = yield* connect(port)
        yield* connection.write(bytes)
        const answer = yield* connection.answer
        expect([url, answer.status, answer.body]).toEqual([url, 200, body])
        expect(asked.pop()).toMatchObject({ url, body })
      }
    }))
})

describe("NodeServer, requests behind others on a connection", () => {
  it.scopedLive("answers them in order", () =>
    Effect.gen(function*() {
      const { port } = yield* EchoServer.make()
      const connection = yield* connect(port)
      for (const body of ["a", "b", "c"]) yield* connection.write(post("Content-Length: 1\r\n", body))
      expect([yield* connection.answer, yield* connection.answer, yield* connection.answer].map(({ body }) => body))
        .toEqual(["a", "b", "c"])
    }))

  it.scopedLive("lets a request end that bytes without sense follow, and then answers those", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make()
      for (const rubbish of ["rubbish\r\n\r\n", `CONNECT test:80 HTTP/1.1\r\n${host}\r\n`, get(`${host}${host}`)]) {
        const connection = yield* connect(port)
        yield* connection.write(post("Content-Length: 1\r\n", "a") + rubbish + smuggled)
        const answer = yield* connection.answer
        expect([answer.status, answer.body]).toEqual([200, "a"])
        expect((yield* connection.answer).status).toBe(400)
        expect(yield* connection.rest).toBe("")
      }
      expect(asked.filter(({ url }) => url === "/smuggled")).toEqual([])
    }))

  it.scopedLive("does not answer what follows a request that said it is the last", () =>
    Effect.gen(function*() {
      const { asked, port } = yield* EchoServer.make()
      const connection = yield* connect(port)
      yield* connection.write(post("Connection: close\r\nContent-Length: 1\r\n", "a") + smuggled)
      expect((yield* connection.answer).body).toBe("a")
      expect([yield* connection.rest, asked.length]).toEqual(["", 1])
    }))
})
