import { describe, expect, it } from "@effect/vitest"
import { Duration, Effect, Either, Layer, Option, Redacted, TestClock } from "effect"
import { ServerFailure } from "../../src/protocol/ProtocolError.ts"
import { Sha256 } from "../../src/protocol/Sha256.ts"
import * as ApiKeys from "../../src/server/ApiKeys.ts"
import * as Authenticator from "../../src/server/Authenticator.ts"
import * as Failures from "../../src/server/internal/failures.ts"
import * as Secrets from "../../src/server/internal/secrets.ts"
import { add, revoke } from "../contract/ApiKeys.ts"

const single = Redacted.make("the single key")

const attempt = (authorization: string | undefined, address = "10.0.0.1") =>
  Effect.flatMap(
    Authenticator.Authenticator,
    (authenticator) => authenticator.authenticate({ authorization: Option.fromNullable(authorization), address })
  )

/** The name behind a header, or the status of what it is refused with. */
const outcome = (authorization: string | undefined, address?: string) =>
  Effect.map(
    Effect.either(attempt(authorization, address)),
    Either.match({ onLeft: (error): string | number => error.status, onRight: ({ name }) => name })
  )

const bearer = (key: Redacted.Redacted) => `Bearer ${Redacted.value(key)}`

const fail = (times: number, address?: string) => Effect.replicateEffect(outcome("Bearer wrong", address), times)

const withKeys = (options?: Authenticator.KeysOptions) =>
  Layer.provideMerge(Authenticator.layerKeys(options), ApiKeys.layerMemory)

describe("Authenticator", () => {
  it.effect("takes the single key under its scheme in any case, as default", () =>
    Effect.gen(function*() {
      for (const header of [bearer(single), "bearer the single key", "BEARER   the single key"]) {
        expect(yield* attempt(header)).toEqual({ name: "default" })
      }
      const wrong = [
        undefined,
        "",
        "Bearer",
        "Bearer ",
        "the single key",
        "Basic the single key",
        "Bearer the single ke",
        "Bearer the single key!",
        "Bearer The single key"
      ]
      for (const header of wrong) expect([header, yield* outcome(header)]).toEqual([header, 401])
    }).pipe(Effect.provide(Authenticator.layer(single))))

  it.effect("takes nothing for an empty single key", () =>
    Effect.gen(function*() {
      for (const header of [undefined, "Bearer ", "Bearer  "]) expect(yield* outcome(header)).toBe(401)
    }).pipe(Effect.provide(Authenticator.layer(Redacted.make("")))))

  it.effect("takes named keys and the single one, each with its own rights", () =>
    Effect.gen(function*() {
      const { key } = yield* add({ name: "alice", can: ["upload"], prefix: "a/" })
      expect(yield* attempt(bearer(key))).toEqual({ name: "alice", can: ["upload"], prefix: "a/" })
      expect(yield* attempt(bearer(single))).toEqual({ name: "default" })
      expect([yield* outcome("Bearer wrong"), yield* outcome(undefined)]).toEqual([401, 401])
      yield* revoke("alice")
      expect(yield* outcome(bearer(key))).toBe(401)
    }).pipe(Effect.provide(withKeys({ single }))))

  it.effect("has no single key unless it is given one", () =>
    Effect.gen(function*() {
      expect([yield* outcome("Bearer "), yield* outcome("Bearer undefined")]).toEqual([401, 401])
    }).pipe(Effect.provide(withKeys())))

  it.effect("gives a key that is named and the single one too only what the named one may", () =>
    Effect.gen(function*() {
      const { key } = yield* add({ name: "alice", can: ["read"] })
      const both = Authenticator.layerKeys({ single: key })
      expect(yield* Effect.provide(attempt(bearer(key)), both)).toEqual({ name: "alice", can: ["read"] })
    }).pipe(Effect.provide(ApiKeys.layerMemory)))

  it.effect("refuses nobody while the named keys cannot be read, and still takes the single key", () =>
    Effect.gen(function*() {
      const failure = new ServerFailure({ message: "no disk" })
      const broken = Layer.succeed(ApiKeys.ApiKeys, {
        add: () => Effect.fail(failure),
        list: Effect.fail(failure),
        revoke: () => Effect.fail(failure),
        find: () => Effect.fail(failure)
      })
      yield* Effect.gen(function*() {
        expect(yield* outcome(bearer(single))).toBe("default")
        expect(yield* Effect.exit(outcome("Bearer perhaps"))).toMatchObject({ cause: { _tag: "Die", defect: failure } })
      }).pipe(Effect.provide(Layer.provide(Authenticator.layerKeys({ single }), broken)))
    }))

  it.effect("says in no error which key was sent or is right", () =>
    Effect.gen(function*() {
      const { key } = yield* add({ name: "alice" })
      yield* fail(1)
      for (const header of ["Bearer tried secret", "tried secret"]) {
        const error = yield* Effect.flip(attempt(header))
        const text = `${String(error)} ${JSON.stringify(error)}`
        for (const secret of ["tried secret", Redacted.value(single), Redacted.value(key)]) {
          expect(text).not.toContain(secret)
        }
      }
    }).pipe(Effect.provide(withKeys({ single, maxFailures: 2 }))))
})

const slowing = [
  ["layer", (maxFailures?: number) => Authenticator.layer(single, maxFailures === undefined ? {} : { maxFailures })],
  ["layerKeys", (maxFailures?: number) => withKeys({ single, ...(maxFailures === undefined ? {} : { maxFailures }) })]
] as const

for (const [kind, layer] of slowing) {
  describe(`Authenticator.${kind}, repeated failures`, () => {
    it.effect("refuses 50 at once and then one each second, and says when the next one is", () =>
      Effect.gen(function*() {
        expect(yield* fail(52)).toEqual([...Array.from({ length: 50 }, () => 401), 429, 429])
        expect(yield* Effect.flip(attempt(undefined))).toMatchObject({ _tag: "TooMany", retryAfter: 1 })
        yield* TestClock.adjust(Duration.millis(999))
        expect(yield* outcome("Bearer wrong")).toBe(429)
        yield* TestClock.adjust(Duration.millis(1))
        expect(yield* fail(2)).toEqual([401, 429])
        yield* TestClock.adjust(Duration.seconds(3))
        expect(yield* fail(4)).toEqual([401, 401, 401, 429])
        yield* TestClock.adjust(Duration.hours(1))
        expect((yield* fail(51)).filter((status) => status === 401)).toHaveLength(50)
      }).pipe(Effect.provide(layer())))

    it.effect("always takes a right key from there, for which nothing is counted, and slows no other address", () =>
      Effect.gen(function*() {
        for (let time = 0; time < 10; time++) expect(yield* outcome(bearer(single))).toBe("default")
        expect(yield* fail(4)).toEqual([401, 401, 401, 429])
        expect(yield* outcome(bearer(single))).toBe("default")
        expect(yield* outcome("Bearer wrong", "10.0.0.2")).toBe(401)
        // the right key has not excused the failures either
        expect(yield* outcome("Bearer wrong")).toBe(429)
      }).pipe(Effect.provide(layer(3))))

    it.effect("counts requests without a key too", () =>
      Effect.gen(function*() {
        expect([yield* outcome(undefined), yield* outcome("Basic x"), yield* outcome(undefined)]).toEqual([
          401,
          401,
          429
        ])
      }).pipe(Effect.provide(layer(2))))

    it.effect("slows nobody where there are no addresses", () =>
      Effect.gen(function*() {
        expect(new Set(yield* fail(10, ""))).toEqual(new Set([401]))
      }).pipe(Effect.provide(layer(1))))

    it.effect("takes all of an IPv6 /64 for one address", () =>
      Effect.gen(function*() {
        expect(yield* outcome("Bearer wrong", "2001:db8::1")).toBe(401)
        expect(yield* outcome("Bearer wrong", "2001:db8::ffff:2")).toBe(429)
        expect(yield* outcome("Bearer wrong", "2001:db8:0:1::1")).toBe(401)
      }).pipe(Effect.provide(layer(1))))

    it.effect("refuses at least one a second, whatever it is told", () =>
      Effect.gen(function*() {
        expect(yield* fail(2)).toEqual([401, 429])
      }).pipe(Effect.provide(layer(0))))
  })
}

describe("failures", () => {
  it("knows what counts as one address", () => {
    const places: ReadonlyArray<readonly [string, string]> = [
      ["10.0.0.1", "10.0.0.1"],
      ["::ffff:10.0.0.1", "10.0.0.1"],
      ["::FFFF:a00:1", "10.0.0.1"],
      ["0:0:0:0:0:ffff:10.0.0.1", "10.0.0.1"],
      ["::1", "0:0:0:0::/64"],
      ["::", "0:0:0:0::/64"],
      ["fe80::1%eth0", "fe80:0:0:0::/64"],
      ["2001:0db8:0000:0001:2:3:4:5", "2001:db8:0:1::/64"],
      ["2001:DB8::1:0:0:0:1", "2001:db8:0:1::/64"],
      ["1:2:3:4:5:6:7::", "1:2:3:4::/64"],
      ["no:address", "no:address"],
      ["unix:", "unix:"]
    ]
    expect(places.map(([address]) => [address, Failures.placeOf(address)])).toEqual(places)
  })

  it.effect("remembers 10 000 addresses, and forgets first who failed longest ago", () =>
    Effect.gen(function*() {
      const failures = Failures.make({ maxFailures: 2 })
      const count = (address: string) =>
        Effect.map(Effect.either(failures.count(address)), (counted) => Either.isRight(counted))
      expect([yield* count("early"), yield* count("early"), yield* count("early")]).toEqual([true, true, false])
      expect([yield* count("again"), yield* count("other")]).toEqual([true, true])
      yield* Effect.forEach(Array.from({ length: 9997 }, (_, at) => `${at}`), count, { discard: true })
      expect([yield* count("early"), yield* count("again")]).toEqual([false, true])
      // one too many
      yield* count("last")
      expect([yield* count("early"), yield* count("again")]).toEqual([true, false])
    }))
})

describe("secrets", () => {
  it("are equal only when every digit of their hashes is", () => {
    const hash = Secrets.hash("the key")
    const changed = (at: number) => Sha256.make(hash.slice(0, at) + (hash[at] === "0" ? "1" : "0") + hash.slice(at + 1))
    const equal = (other: Sha256) => Secrets.equal(Secrets.digest(hash), Secrets.digest(other))
    expect(equal(Secrets.hash("the key"))).toBe(true)
    expect(Array.from({ length: 64 }, (_, at) => at).filter((at) => equal(changed(at)))).toEqual([])
  })
})
