/**
 * A folder tree in the order of its names; in memory are only the names of the folders on the way down.
 *
 * @internal
 */
import type * as PlatformError from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Arr from "effect/Array"
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
  /** The next ones, which were looked at together; fails with `None` at the end. */
  readonly next: Effect.Effect<Arr.NonEmptyArray<Either.Either<Found, Passed>>, Option.Option<never>>
}

interface Looked {
  readonly place: Place
  readonly info: Either.Either<FileSystem.File.Info, PlatformError.PlatformError>
  readonly isFolder: boolean
}

/** So many entries of a folder are looked at together, as many of them at once. */
const together = { entries: 128, atOnce: 16 }

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
        looked: new Array<Looked>(),
        names: names.filter(wanted).sort().toReversed()
      }))
    const folders = [yield* open(root)]

    /** What stands at the next places of a folder, those that were not taken yet. */
    const look = (folder: Effect.Effect.Success<ReturnType<typeof open>>) =>
      Effect.forEach(folder.names.splice(-together.entries).toReversed(), (name) => {
        const place: Place = {
          path: path.join(folder.place.path, name),
          absolute: path.join(folder.place.absolute, name),
          name: folder.place.name === "" ? name : `${folder.place.name}/${name}`
        }
        return Effect.map(Effect.either(fileSystem.stat(place.absolute)), (info) => ({
          place,
          info,
          isFolder: Either.isRight(info) && info.right.type === "Directory"
        }))
      }, { concurrency: together.atOnce })

    const next: Walker["next"] = Effect.gen(function*() {
      const found: Array<Either.Either<Found, Passed>> = []
      while (folders.length > 0) {
        const folder = folders[folders.length - 1]!
        const isFolder = folder.looked[0]?.isFolder === true
        // what lies in a folder is looked at when all before it are taken
        if (Arr.isNonEmptyArray(found) && (isFolder || folder.looked.length === 0)) {
          return found
        }
        const entry = folder.looked.shift()
        if (entry === undefined) {
          if (folder.names.length === 0) {
            folders.pop()
          } else folder.looked = yield* look(folder)
          continue
        }
        const { info, place } = entry
        const pass = (reason: Passed["reason"]) => void found.push(Either.left({ ...place, reason }))
        if (Either.isLeft(info)) {
          pass(info.left)
          continue
        }
        const { type } = info.right
        if (type === "File") {
          found.push(Either.right({ ...place, info: info.right }))
        } else if (type !== "Directory") {
          pass(type)
        } else if (yield* Effect.isSuccess(fileSystem.readLink(place.absolute))) {
          pass("SymbolicLink")
        } else {
          const below = yield* Effect.either(open(place))
          if (Either.isLeft(below)) pass(below.left)
          else folders.push(below.right)
        }
      }
      return Arr.isNonEmptyArray(found) ? found : yield* Effect.fail(Option.none())
    })

    return { next }
  })
