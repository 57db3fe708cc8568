#!/usr/bin/env node
import * as CompileCache from "../compileCache.ts"
import * as Heap from "../heap.ts"

Heap.forReceiving()
CompileCache.enable()
const [{ codesOf, program }, { start }] = await Promise.all([import("../indexcp-server.ts"), import("../main.ts")])
start(program, codesOf)
