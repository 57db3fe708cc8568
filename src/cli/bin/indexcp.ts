#!/usr/bin/env node
import { program } from "../indexcp.ts"
import { start } from "../main.ts"

start(program)
