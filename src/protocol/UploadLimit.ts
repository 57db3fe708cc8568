/**
 * `Upload-Limit`, by which a server tells what it takes (the field of the IETF resumable-uploads draft, a dictionary of
 * integers as in RFC 9651).
 *
 * @module
 */
import * as StructuredHeaders from "structured-headers"

/** What a server takes. What is not named has no limit. */
export interface UploadLimit {
  /** Bytes of a whole file at most. */
  readonly maxSize?: number
  /** Bytes of a body at least, but for the last one. */
  readonly minAppendSize?: number
  /** Bytes of a body at most. */
  readonly maxAppendSize?: number
  /** Seconds for which an unfinished upload is kept. */
  readonly maxAge?: number
}

const names = {
  maxSize: "max-size",
  minAppendSize: "min-append-size",
  maxAppendSize: "max-append-size",
  maxAge: "max-age"
} as const

const keys = Object.keys(names) as ReadonlyArray<keyof UploadLimit>

/** The value of the header; empty without any limit. */
export const encode = (limit: UploadLimit): string =>
  StructuredHeaders.serializeDictionary(
    new Map(keys.flatMap((key) => limit[key] === undefined ? [] : [[names[key], [limit[key], new Map()]]]))
  )

/** The limits in a header; members that are unknown or not whole numbers are passed over, as is a malformed header. */
export const decode = (header: string): UploadLimit => {
  try {
    const members = StructuredHeaders.parseDictionary(header)
    return Object.fromEntries(keys.flatMap((key) => {
      const value = members.get(names[key])?.[0]
      return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? [[key, value]] : []
    }))
  } catch {
    return {}
  }
}
