/**
 * Where an upload stands: what each file in flight has acknowledged, and all of them together. Never falls, never passes
 * the whole.
 *
 * @module
 */
import type { FileId } from "../client/ChunkStore.ts"
import type { UploadEvent } from "../client/UploadEvent.ts"

/** What there was to send when an upload began. */
export interface Start {
  readonly files: number
  /** Bytes. */
  readonly size: number
  /** Bytes. */
  readonly acknowledged: number
  /** Of those files the newest; any file with a higher number came later. */
  readonly newest: number
}

/** Nothing is known in advance. */
export const nothing: Start = { files: 0, size: 0, acknowledged: 0, newest: -1 }

/** How far back the rate looks. Milliseconds. */
const rateWindow = 10_000

/** Two points of time closer than this are one. Milliseconds. */
const resolution = 200

/** Bytes a second over a sliding window. */
export interface Meter {
  readonly add: (now: number, bytes: number) => void
  /** 0 when nothing came for the whole window. */
  readonly rate: (now: number) => number
}

export const meter = (begun: number): Meter => {
  let points = [{ at: begun, bytes: 0 }]
  return {
    add: (now, bytes) => {
      const last = points[points.length - 1]!
      if (points.length > 1 && now - last.at < resolution) last.bytes += bytes
      else points.push({ at: now, bytes: last.bytes + bytes })
    },
    rate: (now) => {
      // the last point before the window is where the window begins
      const first = points.findLastIndex(({ at }) => at <= now - rateWindow)
      if (first > 0) points = points.slice(first)
      const [from] = points
      const from0 = Math.max(from!.at, now - rateWindow)
      const bytes = points[points.length - 1]!.bytes - from!.bytes
      return now - from0 < resolution ? 0 : bytes / (now - from0) * 1000
    }
  }
}

/** Bytes, and the rate at which they grow. */
export interface Standing {
  readonly size: number
  readonly acknowledged: number
  /** Bytes a second. */
  readonly rate: number
  /** Milliseconds; `undefined` while nobody can tell. */
  readonly left: number | undefined
}

/** A file in flight. */
export interface Row extends Standing {
  readonly path: string
  /** What it waits for, and until when (milliseconds since 1970). */
  readonly waiting: { readonly reason: string; readonly until: number } | undefined
}

export interface Total extends Standing {
  readonly files: number
  /** Ended well or badly. */
  readonly ended: number
  /** Files came that were not there at the start, so more may: nobody knows the whole, and a percentage might fall. */
  readonly grows: boolean
}

export interface Tally {
  readonly on: (event: UploadEvent, now: number) => void
  /** The files in flight, in the order in which they began. */
  readonly rows: (now: number) => ReadonlyArray<Row>
  readonly total: (now: number) => Total
}

interface Flight {
  readonly path: string
  size: number
  acknowledged: number
  waiting: Row["waiting"]
  readonly meter: Meter
}

const standing = (size: number, acknowledged: number, rate: number): Standing => ({
  size,
  acknowledged,
  rate,
  left: rate > 0 ? (size - acknowledged) / rate * 1000 : undefined
})

/** With `endless`, what ended is forgotten when nothing is left to do and something new begins. */
export const make = (start: Start, begun: number, endless = false): Tally => {
  const flights = new Map<FileId, Flight>()
  /** Those that came later, are counted, and are not delivered. */
  const later = new Set<FileId>()
  let all = { ...start, ended: 0, grows: false }
  const whole = meter(begun)

  const begin = (
    event: { readonly file: FileId; readonly path: string; readonly size: number },
    acknowledged: number,
    now: number
  ) => {
    if (endless && flights.size === 0 && all.ended >= all.files) {
      all = { files: 0, size: 0, acknowledged: 0, newest: -1, ended: 0, grows: true }
      later.clear()
    }
    if (event.file > all.newest && !later.has(event.file)) {
      later.add(event.file)
      all.grows = true
      all.files++
      all.size += event.size
      all.acknowledged += acknowledged
    }
    const flight = { path: event.path, size: event.size, acknowledged, waiting: undefined, meter: meter(now) }
    flights.set(event.file, flight)
    return flight
  }

  const grow = (flight: Flight, to: number, now: number) => {
    const more = Math.min(to, flight.size) - flight.acknowledged
    if (more <= 0) return
    flight.acknowledged += more
    flight.meter.add(now, more)
    all.acknowledged += more
    whole.add(now, more)
  }

  return {
    on: (event, now) => {
      switch (event._tag) {
        case "Started":
          begin(event, Math.min(event.acknowledged, event.size), now)
          return
        case "Progress": {
          const flight = flights.get(event.file) ?? begin(event, 0, now)
          flight.waiting = undefined
          grow(flight, event.acknowledged, now)
          return
        }
        case "Waiting": {
          const flight = flights.get(event.file)
          if (flight !== undefined) flight.waiting = { reason: event.reason, until: now + event.delay }
          return
        }
        case "Finished": {
          const flight = flights.get(event.file)
          if (flight === undefined && event.file > all.newest && !later.has(event.file)) {
            all.grows = true
            all.files++
            all.size += event.size
          }
          if (flight !== undefined && event.state === "delivered") grow(flight, flight.size, now)
          flights.delete(event.file)
          if (event.state === "delivered") later.delete(event.file)
          all.ended++
          return
        }
        default:
      }
    },
    rows: (now) =>
      [...flights.values()].map(({ acknowledged, meter, path, size, waiting }) => ({
        path,
        waiting,
        ...standing(size, acknowledged, meter.rate(now))
      })),
    total: (now) => ({
      files: all.files,
      grows: all.grows,
      ended: Math.min(all.ended, all.files),
      ...standing(all.size, Math.min(all.acknowledged, all.size), whole.rate(now))
    })
  }
}
