import { describe, expect, it } from "@effect/vitest"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Pages from "../support/pages.ts"

/** As GitHub makes them. */
const anchors = (page: string): ReadonlyArray<string> =>
  [...Pages.read(page).replaceAll(/^```.*?^```$/gms, "").matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  )

/** The links of a page that do not lead out of the project. */
const links = (page: string): ReadonlyArray<string> =>
  [...Pages.read(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!).filter((link) => !/^[a-z]+:/.test(link))

describe("The pages", () => {
  it.each(Pages.pages)("%s links to what is there", (page) => {
    const broken = links(page).filter((link) => {
      const [path, anchor] = link.split("#") as [string, string?]
      const target = path === "" ? page : Path.join(Path.dirname(page), path)
      if (!Fs.existsSync(Path.join(Pages.root, target))) return true
      return anchor !== undefined && !anchors(target).includes(anchor)
    })
    expect(broken).toEqual([])
  })

  it("has a link to what holds it for each thing to rely on", () => {
    const relied = Pages.section("README.md", "## What you can rely on").split("###")[0]!.split(/^\* /m).slice(1)
    expect(relied.length).toBeGreaterThan(5)
    expect(relied.filter((promise) => !/\]\((test|bench)\//.test(promise))).toEqual([])
  })
})
