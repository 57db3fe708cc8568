// Preloaded into Node programs under measurement: says at the end what the process has used, which nobody can read afterwards.
"use strict"
const { readFileSync, writeFileSync } = require("node:fs")

const file = process.env.BENCH_USAGE

/** `maxRSS` counts what the parent had in memory when it forked; the kernel's own mark of this program does not. */
const peakBytes = () => {
  try {
    return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) * 1024
  } catch {
    return process.resourceUsage().maxRSS * 1024
  }
}

process.on("exit", () => {
  const { userCPUTime, systemCPUTime } = process.resourceUsage()
  writeFileSync(file, JSON.stringify({ cpuSeconds: (userCPUTime + systemCPUTime) / 1e6, peakBytes: peakBytes() }))
})
