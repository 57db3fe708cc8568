/**
 * The model itself, by examples that can be read off PROTOCOL.md, section 3: so that model and server cannot be wrong
 * together in an obvious way.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Model from "./model.ts"

/** Plays requests one after the other; answers are told by their status, receipts by the fields asked for. */
const play = (policy: Model.Policy = "rename") => {
  let world = Model.empty(policy)
  const keep = ({ answer, world: next }: Model.Outcome) => {
    world = next
    return answer
  }
  const common = { principal: "default", name: "/data/a.txt", index: 0, sized: true }
  return {
    send1: (index: number, body: string, more: Partial<Model.Chunk1> = {}) =>
      keep(Model.receive(world, { ...common, revision: 1, address: "10.0.0.1", index, body, ...more })),
    send2: (offset: number, body: string, more: Partial<Model.Chunk2> = {}, slot?: number) =>
      keep(Model.receive(world, { ...common, revision: 2, id: "u1", known: false, offset, body, ...more }, slot)),
    resume: (slot: number, breaks = false) => keep(Model.resume(world, slot, breaks)),
    abort: (id = "u1") => keep(Model.abort(world, "default", id)),
    state: (id = "u1", principal = "default") => Model.state(world, principal, id),
    outside: (name: string, bytes?: string) => void (world = Model.outside(world, name, bytes)),
    pass: (milliseconds: number) => void (world = Model.pass(world, milliseconds)),
    crash: () => void (world = Model.crash(world)),
    flights: () => world.flights.map(({ slot }) => slot),
    files: () => Model.visible(world)
  }
}

const ok = (receipt: Partial<Model.Receipt>) => ({ status: 200, receipt })
const hour = 3600 * 1000

describe("the model, revision 2", () => {
  it("puts a file together from chunks in any order, and shows nothing before", () => {
    const { files, send2, state } = play()
    expect(send2(4, "ef")).toMatchObject(ok({ duplicate: false, bytesReceived: 2, complete: false }))
    expect(state()).toMatchObject({ size: null, missing: [[0, 4]], state: "receiving" })
    send2(0, "ab", { size: 6 })
    expect(files()).toEqual({})
    expect(send2(2, "cd", { whole: "abcdef" })).toMatchObject(ok({ complete: true, file: "abcdef" }))
    expect(files()).toEqual({ "a.txt": "abcdef" })
  })

  it("The same range with the same bytes: duplicate; anything else that touches committed bytes: 409", () => {
    const { send2, state } = play()
    send2(2, "cde", { size: 8 })
    expect(send2(2, "cde")).toMatchObject(ok({ duplicate: true }))
    for (const [offset, body] of [[2, "xxx"], [2, "cd"], [2, "cdef"], [0, "abc"], [3, "d"], [4, "ef"]] as const) {
      expect(send2(offset, body)).toEqual({ status: 409 })
    }
    expect(send2(5, "fghi")).toEqual({ status: 409 })
    expect(send2(5, "f", { size: 9 })).toEqual({ status: 409 })
    expect(state()).toMatchObject({ bytesReceived: 3, missing: [[0, 2], [5, 8]] })
  })

  it("keeps nothing of cut bodies and of those that are not what Content-Digest says", () => {
    const { send2, state } = play()
    expect(send2(0, "abc", { arrives: 2 })).toEqual({ status: 0 })
    expect(send2(0, "abx", { digest: "abc" })).toEqual({ status: 422 })
    expect(state()).toMatchObject({ bytesReceived: 0 })
    expect(send2(0, "abc", { size: 3, digest: "abc" })).toMatchObject(ok({ complete: true }))
  })

  it("An empty body stores nothing: an empty file is one empty chunk, an unknown length is closed by one", () => {
    const { files, send2 } = play()
    expect(send2(0, "", { size: 0 })).toMatchObject(ok({ complete: true, file: "" }))
    send2(0, "abc", { id: "u2" })
    expect(send2(3, "", { id: "u2", size: 3 })).toMatchObject(ok({ complete: true, actualFilename: "a (1).txt" }))
    expect(files()).toEqual({ "a.txt": "", "a (1).txt": "abc" })
  })

  it("A newer request for exactly the same range takes over; an overlap in another way gets 503", () => {
    const { flights, resume, send2 } = play()
    expect(send2(0, "abcd", { size: 4 }, 1)).toBe(undefined)
    expect(send2(2, "cd")).toEqual({ status: 503 })
    expect(send2(0, "wxyz", { size: 4 }, 2)).toBe(undefined)
    expect(flights()).toEqual([2])
    expect(resume(2)).toMatchObject(ok({ complete: true, file: "wxyz" }))
  })

  it("A whole file that is not what Repr-Digest says: 409, failed, not published, until it is deleted", () => {
    const { abort, files, send2, state } = play()
    expect(send2(0, "abx", { size: 3, whole: "abc" })).toEqual({ status: 409 })
    expect([state()?.state, state()?.bytesReceived, files()]).toEqual(["failed", 3, {}])
    expect(send2(0, "abx")).toEqual({ status: 409 })
    expect(abort()).toEqual({ status: 204 })
    expect([state(), send2(0, "abx")]).toEqual([undefined, { status: 412 }])
  })

  it("remembers completed and deleted uploads, each for its principal alone", () => {
    const { abort, files, outside, send2, state } = play()
    send2(0, "abc", { size: 3 })
    expect(send2(0, "abc", { known: true })).toMatchObject(ok({ duplicate: true, complete: true }))
    expect(abort()).toEqual({ status: 409 })
    expect(state("u1", "other")).toBe(undefined)
    expect(send2(0, "x", { principal: "other", known: true })).toEqual({ status: 412 })
    outside("a.txt")
    expect(send2(0, "abc")).toMatchObject(ok({ duplicate: true, complete: true }))
    expect(files()).toEqual({})
    send2(0, "a", { id: "u2" })
    expect([abort("u2"), abort("u2")]).toEqual([{ status: 204 }, { status: 404 }])
  })

  it("settles a taken name by the policy, and never mixes two uploads in one file", () => {
    const files = (["rename", "overwrite", "reject"] as const).map((policy) => {
      const { files, outside, send2 } = play(policy)
      outside("a.txt", "theirs")
      return [send2(0, "abc", { size: 3 })?.status, files()]
    })
    expect(files).toEqual([
      [200, { "a.txt": "theirs", "a (1).txt": "abc" }],
      [200, { "a.txt": "abc" }],
      [409, { "a.txt": "theirs" }]
    ])
    const { outside, send2, files: shown } = play("reject")
    send2(0, "ab")
    expect(send2(0, "x", { id: "u2" })).toEqual({ status: 409 })
    outside("a.txt", "theirs")
    expect(send2(2, "c", { size: 3 })).toMatchObject(ok({ actualFilename: "a (1).txt" }))
    expect(shown()).toEqual({ "a.txt": "theirs", "a (1).txt": "abc" })
  })

  it("keeps an unfinished upload for 7 days after its last chunk, and the memory of others for 30", () => {
    const { pass, send2, state } = play()
    send2(0, "ab")
    pass(7 * 24 * hour)
    expect(state()?.bytesReceived).toBe(2)
    pass(hour)
    expect([state(), send2(2, "c")]).toEqual([undefined, { status: 412 }])
    pass(31 * 24 * hour)
    expect(send2(0, "abc", { size: 3 })).toMatchObject(ok({ complete: true }))
  })
})

describe("the model, revision 1", () => {
  it("writes the next index, takes an earlier one as a repeat, and refuses one past the next", () => {
    const { files, send1 } = play()
    expect(send1(0, "ab")).toEqual(ok({ actualFilename: "a.txt", chunkIndex: 0, clientFilename: "/data/a.txt" }))
    send1(1, "cd")
    send1(1, "cd")
    send1(0, "ab")
    expect(send1(3, "gh")).toEqual({ status: 409, names: "chunk 2" })
    expect(files()).toEqual({ "a.txt": "abcd" })
  })

  it("starts a new version only at index 0 or at the replay cursor, and carries over what precedes it", () => {
    const { files, send1 } = play()
    for (const [index, body] of ["ab", "cd", "ef"].entries()) send1(index, body)
    expect(send1(1, "XX")).toMatchObject({ status: 409 })
    send1(0, "ab")
    expect(send1(1, "CD")).toMatchObject(ok({ actualFilename: "a (1).txt" }))
    expect(send1(0, "zz")).toMatchObject(ok({ actualFilename: "a (2).txt" }))
    expect(files()).toEqual({ "a.txt": "abcdef", "a (1).txt": "abCD", "a (2).txt": "zz" })
  })

  it("tells clients apart by their address, and takes a chunk from a new one if only one upload expects it", () => {
    const { files, send1 } = play()
    send1(0, "ab")
    expect(send1(0, "ab", { address: "10.0.0.2" })).toMatchObject(ok({ actualFilename: "a (1).txt" }))
    expect(send1(1, "cd", { address: "10.0.0.3" })).toEqual({ status: 409 })
    send1(1, "cd")
    expect(send1(2, "ef", { address: "10.0.0.3" })).toMatchObject(ok({ actualFilename: "a.txt" }))
    expect(files()).toEqual({ "a.txt": "abcdef", "a (1).txt": "ab" })
  })

  it("links the file again when it is gone; index 0 then starts a new one, as it does after 24 hours", () => {
    const { files, outside, pass, send1 } = play()
    send1(0, "ab")
    outside("a.txt")
    send1(1, "cd")
    expect(files()).toEqual({ "a.txt": "abcd" })
    outside("a.txt", "theirs")
    expect(send1(2, "ef")).toMatchObject(ok({ actualFilename: "a (1).txt" }))
    outside("a (1).txt")
    expect(send1(0, "ab")).toMatchObject(ok({ actualFilename: "a (1).txt" }))
    pass(25 * hour)
    expect(send1(0, "ab")).toMatchObject(ok({ actualFilename: "a (2).txt" }))
    expect(files()).toEqual({ "a.txt": "theirs", "a (1).txt": "ab", "a (2).txt": "ab" })
  })

  it("is as long as what was acknowledged after any failure, and leaves no trace of a first chunk that failed", () => {
    const { crash, files, send1 } = play()
    send1(0, "wrong", { digest: "right" })
    expect(files()).toEqual({})
    send1(0, "ab")
    send1(1, "cdef", { arrives: 3 })
    crash()
    expect(files()).toEqual({ "a.txt": "ab" })
  })
})
