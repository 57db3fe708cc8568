#!/usr/bin/env node
import * as CompileCache from "../compileCache.ts"
import * as Heap from "../heap.ts"

Heap.forSending()
CompileCache.enable()
const [{ program }, { start }] = await Promise.all([import("../indexcp.ts"), import("../main.ts")])
start(program)
