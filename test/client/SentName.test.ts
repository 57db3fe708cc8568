import { describe, expect, it } from "@effect/vitest"
import { FastCheck } from "effect"
import { folderName, sentName } from "../../src/client/SentName.ts"

describe("sentName", () => {
  it.each([
    ["a.txt", "a.txt"],
    ["./a.txt", "a.txt"],
    ["logs/a.txt", "logs/a.txt"],
    ["./logs//./a.txt", "logs/a.txt"],
    ["/var/log/a.txt", "a.txt"],
    ["//a.txt", "a.txt"],
    ["../a.txt", "a.txt"],
    ["logs/../a.txt", "a.txt"],
    ["..a/b..", "..a/b.."],
    ["a\\b.txt", "a\\b.txt"],
    ["C:a.txt", "C:a.txt"],
    ["C:\\logs\\a.txt", "a.txt"],
    ["C:/logs/a.txt", "a.txt"],
    ["\\\\server\\share\\a.txt", "a.txt"],
    ["/", "/"],
    ["..", ".."],
    [".", "."],
    ["", ""]
  ])("sends %j as %j", (path, name) => {
    expect(sentName(path, "posix")).toBe(name)
  })

  it.each([
    ["logs\\a.txt", "logs/a.txt"],
    [".\\logs\\a.txt", "logs/a.txt"],
    ["C:\\logs\\a.txt", "a.txt"],
    ["C:/logs/a.txt", "a.txt"],
    ["C:a.txt", "a.txt"],
    ["\\logs\\a.txt", "a.txt"],
    ["\\\\server\\share\\a.txt", "a.txt"],
    ["..\\a.txt", "a.txt"],
    ["logs/..\\a.txt", "a.txt"]
  ])("sends %j as %j from Windows", (path, name) => {
    expect(sentName(path, "windows")).toBe(name)
  })

  const folder = FastCheck.constantFrom("", ".", "..", "a", "c\\d", "é", "/")
  it.prop("never sends a way out of a folder, nor an absolute path", [FastCheck.array(folder)], ([folders]) => {
    for (const platform of ["posix", "windows"] as const) {
      const name = sentName([...folders, "b.txt"].join("/"), platform)
      expect(name.startsWith("/")).toBe(false)
      expect(name.split("/")).not.toContain("..")
      expect(name.endsWith("b.txt")).toBe(true)
      expect(sentName(name, platform)).toBe(name)
    }
  })
})

describe("folderName", () => {
  it.each([
    ["photos", "/data/photos", "photos"],
    ["photos/", "/data/photos", "photos"],
    ["/data/photos", "/data/photos", "photos"],
    ["../photos", "/data/photos", "photos"],
    ["..", "/data/photos", "photos"],
    [".", "/data/photos", ""],
    ["././/", "/data/photos", ""],
    ["/", "/", ""],
    ["a\\b", "/data/a\\b", "a\\b"]
  ])("of %j, which is %j, is %j", (path, absolute, name) => {
    expect(folderName(path, absolute, "posix")).toBe(name)
  })

  it.each([
    ["photos", "C:\\data\\photos", "photos"],
    ["..\\photos\\", "C:\\data\\photos", "photos"],
    [".\\", "C:\\data\\photos", ""],
    ["C:\\", "C:\\", ""],
    ["\\\\server\\share\\photos", "\\\\server\\share\\photos", "photos"]
  ])("of %j, which is %j on Windows, is %j", (path, absolute, name) => {
    expect(folderName(path, absolute, "windows")).toBe(name)
  })
})
