#!/usr/bin/env node
import { program } from "../indexcp-server.ts"
import { start } from "../main.ts"

start(program)
