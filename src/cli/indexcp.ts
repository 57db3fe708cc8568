/**
 * `indexcp`: the client on the command line.
 *
 * @module
 */
import * as Command from "@effect/cli/Command"
import * as HelpDoc from "@effect/cli/HelpDoc"
import { add } from "./add.ts"
import { clear, remove, retry } from "./buffer.ts"
import { list } from "./list.ts"
import { run } from "./main.ts"
import { bufferAndUpload, upload } from "./send.ts"
import { verify } from "./verify.ts"
import { watch } from "./watch.ts"

/** The `indexcp` command. */
export const command = Command.make("indexcp").pipe(
  Command.withDescription("Put files into a buffer on this machine, and send them until the server holds them"),
  Command.withSubcommands([add, list, upload, watch, bufferAndUpload, verify, remove, retry, clear])
)

const description = "Moves files over bad networks and loses nothing"

const footer = HelpDoc.blocks([
  HelpDoc.h1("MORE"),
  HelpDoc.enumeration([
    HelpDoc.p("indexcp help <command>"),
    HelpDoc.p("indexcp --version"),
    HelpDoc.p("indexcp --completions bash | zsh | fish")
  ]),
  HelpDoc.h1("THE API KEY"),
  HelpDoc.p("--api-key, else INDEXCP_API_KEY, else INDEXEDCP_API_KEY, else it is asked for on a terminal."),
  HelpDoc.h1("OTHER VARIABLES"),
  HelpDoc.p("INDEXCP_MAX_BUFFER, HTTP_PROXY, HTTPS_PROXY, NO_PROXY, NO_COLOR"),
  HelpDoc.h1("EXIT CODES"),
  HelpDoc.enumeration([
    HelpDoc.p("0 all is delivered, or there was nothing to do"),
    HelpDoc.p("1 unexpected, 2 usage"),
    HelpDoc.p("3 some files failed for good, could not be read, or found no room in the buffer"),
    HelpDoc.p("4 the key is missing or was refused"),
    HelpDoc.p("5 gave up waiting; the data is kept"),
    HelpDoc.p("6 not confirmed by an old server; the data is kept"),
    HelpDoc.p("130 or 143 interrupted; upload again to go on")
  ])
])

/** Runs `indexcp` with the words behind its name, to its exit code. */
export const program = (words: ReadonlyArray<string>) => run(command, { name: "indexcp", description, footer }, words)
