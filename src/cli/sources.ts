/**
 * The paths of a command line as sources.
 *
 * @module
 */
import * as Args from "@effect/cli/Args"
import * as HelpDoc from "@effect/cli/HelpDoc"
import * as Options from "@effect/cli/Options"
import * as NodeStream from "@effect/platform-node/NodeStream"
import * as FileSystem from "@effect/platform/FileSystem"
import type * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Source from "../client/Source.ts"
import * as ExitCode from "./ExitCode.ts"

export const options = {
  recursive: Options.boolean("recursive").pipe(
    Options.withAlias("r"),
    Options.withDescription("Of folders, every file below them; servers are told the paths from the folder on")
  ),
  name: Options.text("name").pipe(
    Options.withDescription("What the server is told instead of the path; needed for -"),
    Options.optional
  )
}

const about = "Files; with -r folders too; - is standard input"

/** One path or more. */
export const paths = Args.text({ name: "path" }).pipe(Args.withDescription(about), Args.atLeast(1))

/** One path or more, and behind them a URL. The parser would take the URL for a path too. */
export const pathsAndUrl = Args.text({ name: "file>... <url" }).pipe(
  Args.withDescription(`${about}. Last the server, like http://127.0.0.1:3000/upload`),
  Args.repeated,
  Args.mapEffect((words) => {
    const url = words[words.length - 1]
    return url === undefined || words.length < 2
      ? Effect.fail(HelpDoc.p(`Missing argument ${url === undefined ? "<file>" : "<url>"}`))
      : Effect.succeed({ paths: words.slice(0, -1), url })
  })
)

export interface Asked {
  readonly recursive: boolean
  readonly name: Option.Option<string>
}

type Sources = Stream.Stream<
  Either.Either<Source.Source, Source.SourceError>,
  never,
  FileSystem.FileSystem | Path.Path
>

/** What standard input is written as. */
const standardInput = "-"

const refuse = (line: string) => new ExitCode.Exit({ code: ExitCode.usage, line })

const complaint = (paths: ReadonlyArray<string>, { name }: Asked): string | undefined => {
  if (Option.contains(name, "")) return "--name is empty"
  if (Option.isSome(name) && paths.length > 1) return "--name is for one file, and there are several"
  if (Option.isNone(name) && paths.includes(standardInput)) {
    return "Standard input needs a --name (a file called - is ./-)"
  }
  return undefined
}

/** Whatever the paths name, each looked at when its turn has come. */
export const of = (paths: ReadonlyArray<string>, asked: Asked): Effect.Effect<Sources, ExitCode.Exit> =>
  Effect.suspend(() => {
    const line = complaint(paths, asked)
    if (line !== undefined) return refuse(line)
    const named = Option.match(asked.name, { onNone: () => ({}), onSome: (name) => ({ name }) })
    const one = (path: string): Sources => {
      if (path === standardInput) {
        return Stream.make(Either.right(Source.stream(Option.getOrElse(asked.name, () => path), NodeStream.stdin)))
      }
      return Stream.unwrap(Effect.gen(function*() {
        const fileSystem = yield* FileSystem.FileSystem
        const info = yield* Effect.option(fileSystem.stat(path))
        if (!Option.exists(info, ({ type }) => type === "Directory")) {
          return Stream.make(yield* Effect.either(Source.file(path, named)))
        }
        if (asked.recursive) {
          return Stream.catchAll(Source.folder(path, named), (error) => Stream.make(Either.left(error)))
        }
        const message = `${path} is a folder, not a file; with -r the files below it are taken`
        return Stream.make(Either.left(new Source.SourceError({ path, message })))
      }))
    }
    // one at a time: a path is looked at when those before it are done
    return Effect.succeed(Stream.flatMap(Stream.fromIterable(paths).pipe(Stream.rechunk(1)), one))
  })
