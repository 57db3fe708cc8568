/**
 * The settings of `indexcp-server`: all there are, and what the server makes of them.
 *
 * @module
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import * as Struct from "effect/Struct"
import * as Path from "node:path"
import * as FileName from "../protocol/FileName.ts"
import * as Kind from "./settingKinds.ts"
import { optional, setting, type Values } from "./settings.ts"

/** What the settings are about, in the order of the help. */
export const sections = {
  "WHERE FILES GO": {
    outputDir: setting(Kind.text("folder"), ".", "The folder for received files, made if missing"),
    onConflict: setting(
      Kind.choice("rename", "overwrite", "reject"),
      "rename",
      "What to do when a file of that name is there already"
    ),
    pathMode: setting(
      Kind.choice("sanitize", "ignore", "allow-paths", "timestamp"),
      "sanitize",
      "What becomes of the folders in a client's name"
    ),
    fileMode: setting(Kind.mode, "0640", "The mode of received files"),
    durability: setting(
      Kind.choice("power", "process"),
      "power",
      "What a 200 survives: loss of power, or only the death of the process"
    ),
    simple: setting(
      Kind.flag,
      "false",
      `Without a key, appends every body to ${FileName.absent}; for trying things out`
    )
  },
  "WHERE CLIENTS CONNECT": {
    host: setting(
      Kind.text("address", "an address, like 127.0.0.1 or 0.0.0.0"),
      "127.0.0.1",
      "The address to listen on"
    ),
    port: setting(Kind.count(0, 65535), "3000", "The port to listen on; 0 for any free one"),
    socket: optional(Kind.text("path"), "A Unix-domain socket to listen on, in place of address and port"),
    basePath: setting(Kind.urlPath, "", "What stands before /upload in every URL, like /files. Default: nothing"),
    tlsCert: optional(
      Kind.text("file"),
      "The certificate (PEM) for HTTPS, with --tls-key. Read again on SIGHUP. Default: HTTP"
    ),
    tlsKey: optional(Kind.text("file"), "The private key (PEM) of the certificate"),
    trustProxy: setting(Kind.flag, "false", "Take the client's address from X-Forwarded-For, behind a proxy of yours"),
    corsOrigin: optional(
      Kind.origins,
      "Web pages that may send files, like https://app.example, with commas between them. Default: none"
    )
  },
  "WHO MAY SEND": {
    apiKey: optional(Kind.secret("key"), "The API key"),
    maxAuthFailures: setting(Kind.count(1), "50", "Wrong keys from one address before it has to wait")
  },
  LIMITS: {
    maxChunkSize: setting(Kind.bytes(1), "1GiB", "The largest chunk"),
    maxFileSize: setting(Kind.bytes(1), "5TiB", "The largest file"),
    maxHeaderSize: setting(Kind.bytes(1024), "16KiB", "The largest first line and headers of a request"),
    maxNameLength: setting(Kind.count(1), "4096", "The longest file name, in bytes"),
    maxOpenUploads: setting(Kind.count(1), "10000", "Unfinished uploads of one key"),
    maxKeyBytes: optional(
      Kind.bytes(1),
      "Bytes that one key may have on record, unfinished or complete. Default: no limit"
    ),
    minFreeSpace: setting(Kind.bytes(0), "256MiB", "Disk space that stays free"),
    maxRequests: setting(Kind.count(1), "1000", "Requests at a time"),
    maxConnections: setting(Kind.count(1), "2000", "Connections at a time"),
    bodyMemory: setting(Kind.bytes(1), "64MiB", "Memory for bodies on their way to the disk")
  },
  TIMES: {
    headersTimeout: setting(Kind.timer, "15s", "How long the headers of a request may take"),
    keepAliveTimeout: setting(Kind.timer, "65s", "How long a connection stays open on which nothing is asked"),
    bodyTimeout: setting(Kind.timer, "30s", "In so much time a body has to come as fast as --min-body-rate"),
    minBodyRate: setting(Kind.rate, "100B/s", "A body that comes slower than this is cut off"),
    drainTimeout: setting(Kind.timer, "10s", "How long requests may take to end when the server stops"),
    unfinishedLifetime: setting(
      Kind.duration,
      "7d",
      "An unfinished upload is deleted so long after its last chunk"
    ),
    endedLifetime: setting(Kind.duration, "30d", "How long a finished or deleted upload is remembered"),
    revision1Idle: setting(
      Kind.duration,
      "24h",
      "After so long, the first chunk of an old client starts a new file whatever its bytes"
    ),
    revision1Lifetime: setting(
      Kind.duration,
      "365d",
      "An upload of an old client can be gone on with so long after its last chunk"
    )
  },
  OPERATION: {
    onComplete: optional(Kind.text("command"), "A command to run after each received file. Default: none"),
    metricsKey: optional(Kind.secret("key"), "The key for /metrics"),
    metricsAddress: optional(
      Kind.address,
      "Where /metrics is alone, like 127.0.0.1:9100. Default: beside /upload, with --metrics-key only"
    ),
    logFormat: setting(Kind.choice("human", "json"), "human", "Logs on stderr, as lines to read or as JSON"),
    logLevel: setting(
      Kind.choice("trace", "debug", "info", "warning", "error", "fatal", "none"),
      "info",
      "The least that is logged"
    )
  }
} as const

/** All settings by their names. */
export const table = {
  ...sections["WHERE FILES GO"],
  ...sections["WHERE CLIENTS CONNECT"],
  ...sections["WHO MAY SEND"],
  ...sections.LIMITS,
  ...sections.TIMES,
  ...sections.OPERATION
} as const

export type ServerSettings = Values<typeof table>

/** Without what is absent: a default of the server stands only where nothing does. */
type Present<T> =
  & { readonly [K in keyof T as undefined extends T[K] ? never : K]: T[K] }
  & { readonly [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined> }

const present = <T extends object>(all: T): Present<T> =>
  Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as Present<T>

/** Each SIGHUP from when somebody listens for them; before, one ends the process as always. */
const hangups: Stream.Stream<void> = Stream.async<void>((emit) => {
  const onHangup = () => void emit.single(undefined)
  process.on("SIGHUP", onHangup)
  return Effect.sync(() => process.off("SIGHUP", onHangup))
})

/** What the server takes of the settings. */
export const serverOptions = (settings: ServerSettings) => {
  const { tlsCert: cert, tlsKey: key } = settings
  return present({
    ...Struct.omit(settings, "logFormat", "logLevel", "simple", "tlsCert", "tlsKey"),
    outputDir: Path.resolve(settings.outputDir),
    tls: cert === undefined || key === undefined ? undefined : { cert, key, reload: hangups }
  })
}
