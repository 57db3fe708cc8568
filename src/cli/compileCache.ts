/**
 * Keeps what the engine made of the program's text for the next start, where Node can do that (22.1 and newer).
 *
 * @module
 */
import * as Module from "node:module"
import { homedir } from "node:os"
import * as Path from "node:path"

/** A folder of the user's own: whoever can write to it can put code there. */
const folder = (): string =>
  Path.join(
    [process.env["XDG_CACHE_HOME"], process.env["LOCALAPPDATA"]].find((path) =>
      path !== undefined && Path.isAbsolute(path)
    ) ??
      Path.join(homedir(), ".cache"),
    "indexedcp"
  )

/** For all that is imported from now on. Where it cannot be done, the program starts as it would without. */
export const enable = (): void => {
  const { enableCompileCache } = Module as { readonly enableCompileCache?: (folder: string) => unknown }
  if (enableCompileCache === undefined) return
  try {
    enableCompileCache(folder())
  } catch {
    // a user without a home
  }
}
