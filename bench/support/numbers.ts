/**
 * Medians and other numbers, and how they are written.
 *
 * @module
 */
import { GiB, KiB, MiB } from "./settings.ts"

/** The value that so large a part of the others does not exceed, 0 to 1 (nearest rank); `NaN` of none. */
export const quantile = (values: ReadonlyArray<number>, part: number): number => {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)] ?? Number.NaN
}

/** The middle one, or the mean of the middle two; `NaN` of none. */
export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const [low = Number.NaN, high = low] = sorted.slice(Math.floor((sorted.length - 1) / 2), sorted.length / 2 + 1)
  return (low + high) / 2
}

/** Three digits that count. */
export const digits = (value: number): string =>
  !Number.isFinite(value)
    ? "–"
    : value >= 100
    ? value.toFixed(0)
    : value >= 10
    ? value.toFixed(1)
    : value >= 0.1
    ? value.toFixed(2)
    : value.toFixed(4)

export const bytesText = (bytes: number): string => {
  const [unit, name] = bytes >= GiB ? [GiB, "GiB"] : bytes >= MiB ? [MiB, "MiB"] : [KiB, "KiB"]
  return `${Number((bytes / unit).toFixed(2))} ${name}`
}

export const secondsText = (seconds: number): string =>
  seconds < 1 ? `${digits(seconds * 1000)} ms` : `${digits(seconds)} s`

/** Memory is told in millions of bytes, as its bounds are. */
export const memoryText = (bytes: number): string => Number.isFinite(bytes) ? `${(bytes / 1e6).toFixed(0)} MB` : "–"
