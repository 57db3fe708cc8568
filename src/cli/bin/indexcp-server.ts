#!/usr/bin/env node
import { codesOf, program } from "../indexcp-server.ts"
import { start } from "../main.ts"

start(program, codesOf)
