/**
 * A folder tree, one file after the other: sorted by name, and in memory only the names of the folders on the way down.
 *
 * @internal
 */
import type * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"

/** A place in the tree, by its three names. */
export interface Place {
  /** As a user would type it. */
  readonly path: string
  readonly absolute: string
  /** From where the names begin, with `/`; empty for the folder that they begin in. */
  readonly name: string
}

/** A file. */
export interface Found extends Place {
  readonly info: FileSystem.File.Info
}

/** Something in the tree that is no file, or cannot be looked at. */
export interface Passed extends Place {
  readonly reason: PlatformError.PlatformError | Exclude<FileSystem.File.Type, "File" | "Directory">
}

export interface Walker {
  /** The next one; fails with `None` at the end. */
  readonly next: Effect.Effect<Either.Either<Found, Passed>, Option.Option<never>>
}

/** Below `root`, which is a folder. Links to files are followed; links to folders are not, so that no walk is endless. */
export const make = (
  fileSystem: FileSystem.FileSystem,
  path: Path.Path,
  root: Place,
  wanted: (name: string) => boolean = () => true
): Effect.Effect<Walker, PlatformError.PlatformError> =>
  Effect.gen(function*() {
    /** The last name is the next one. */
    const open = (place: Place) =>
      Effect.map(fileSystem.readDirectory(place.absolute), (names) => ({
        place,
        names: names.filter(wanted).sort().toReversed()
      }))
    const folders = [yield* open(root)]

    const next: Walker["next"] = Effect.gen(function*() {
      while (folders.length > 0) {
        const folder = folders[folders.length - 1]!
        const name = folder.names.pop()
        if (name === undefined) {
          folders.pop()
          continue
        }
        const place: Place = {
          path: path.join(folder.place.path, name),
          absolute: path.join(folder.place.absolute, name),
          name: folder.place.name === "" ? name : `${folder.place.name}/${name}`
        }
        const passed = (reason: Passed["reason"]) => Either.left<Passed>({ ...place, reason })
        const info = yield* Effect.either(fileSystem.stat(place.absolute))
        if (Either.isLeft(info)) return passed(info.left)
        const { type } = info.right
        if (type === "File") return Either.right<Found>({ ...place, info: info.right })
        if (type !== "Directory") return passed(type)
        if (yield* Effect.isSuccess(fileSystem.readLink(place.absolute))) return passed("SymbolicLink")
        const below = yield* Effect.either(open(place))
        if (Either.isLeft(below)) return passed(below.left)
        folders.push(below.right)
      }
      return yield* Effect.fail(Option.none())
    })

    return { next }
  })
