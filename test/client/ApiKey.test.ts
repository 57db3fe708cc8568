/**
 * Where the client's key comes from.
 *
 * @module
 */
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Option, Redacted } from "effect"
import * as ApiKey from "../../src/client/ApiKey.ts"

const get = Effect.flatMap(ApiKey.ApiKey, ({ get }) => Effect.map(get, Redacted.value))

const layer = (environment: Record<string, string>, options: Parameters<typeof ApiKey.layerFromEnv>[0] = {}) =>
  ApiKey.layerFromEnv(options).pipe(
    Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(environment)))))
  )

const both = { INDEXCP_API_KEY: "first", INDEXEDCP_API_KEY: "second" }
const given = Option.some(Redacted.make("given"))
const prompt = Effect.succeed(Redacted.make("prompted"))

describe("ApiKey", () => {
  it.effect.each<readonly [string, Record<string, string>, Parameters<typeof ApiKey.layerFromEnv>[0], string]>([
    ["the given value before all others", both, { given, prompt }, "given"],
    ["then INDEXCP_API_KEY", both, { given: Option.none(), prompt }, "first"],
    ["then INDEXEDCP_API_KEY", { INDEXEDCP_API_KEY: "second" }, { prompt }, "second"],
    ["an empty variable counts as none", { ...both, INDEXCP_API_KEY: "" }, { prompt }, "second"],
    ["then what a prompt answers", {}, { prompt }, "prompted"],
    ["also when the variables are empty", { INDEXCP_API_KEY: "", INDEXEDCP_API_KEY: "" }, { prompt }, "prompted"],
    ["white space around it does not count", { INDEXCP_API_KEY: " first\n" }, {}, "first"]
  ])("is %s", ([, environment, options, key]) =>
    Effect.gen(function*() {
      expect(yield* get).toBe(key)
    }).pipe(Effect.provide(layer(environment, options))))

  it.effect.each<readonly [string, Parameters<typeof ApiKey.layerFromEnv>[0]]>([
    ["without any", {}],
    ["with an empty one given", { given: Option.some(Redacted.make("")) }],
    ["with an empty answer to the prompt", { prompt: Effect.succeed(Redacted.make(" ")) }]
  ])("fails %s, and says what to do", ([, options]) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(get)
      expect(error._tag).toBe("ApiKeyMissing")
      expect(error.message).toContain("INDEXCP_API_KEY")
    }).pipe(Effect.provide(layer({}, options))))

  it.effect("asks once, when the key is first needed", () =>
    Effect.gen(function*() {
      let asked = 0
      const counting = Effect.sync(() => {
        asked++
        return Redacted.make("prompted")
      })
      yield* Effect.gen(function*() {
        expect(asked).toBe(0)
        expect(yield* Effect.all([get, get, get], { concurrency: 3 })).toEqual(["prompted", "prompted", "prompted"])
        expect(asked).toBe(1)
      }).pipe(Effect.provide(layer({}, { prompt: counting })))
    }))

  it.effect("does not show itself", () =>
    Effect.gen(function*() {
      const { get } = yield* ApiKey.ApiKey
      const key = yield* get
      expect(`${String(key)} ${JSON.stringify(key)}`).not.toContain("first")
    }).pipe(Effect.provide(layer(both))))
})
