/**
 * The help of a program with many options: in sections, close together.
 *
 * @module
 */
import { flagOf } from "./settings.ts"

/** What a terminal is told about colours. */
// oxlint-disable-next-line no-control-regex -- control characters are what is looked for
const colours = /(?:\x1b\[[\d;]*m)*/.source

/** Puts the name of each section before its first option, and what an option is about right below it. */
export const arrange =
  (sections: Readonly<Record<string, Readonly<Record<string, unknown>>>>) => (help: string): string => {
    const titles = new Map(
      Object.entries(sections).map(([title, settings]) => [flagOf(Object.keys(settings)[0] ?? ""), title])
    )
    return help
      .replace(new RegExp(`^(${colours}\\$ .*? )\\[.*`, "m"), "$1[options]")
      .replace(
        new RegExp(`^(${colours}(--[\\w-]+).*)\\n\\n( +.*)\\n(?:\\n(?=${colours}--))?`, "gm"),
        (_, option: string, name: string, about: string) => {
          const title = titles.get(name)
          return `${title === undefined ? "" : `\n${title}\n\n`}  ${option}\n    ${about}\n`
        }
      )
  }
