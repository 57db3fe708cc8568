import * as ApiKeys from "../../src/server/ApiKeys.ts"
import { suite } from "../contract/ApiKeys.ts"

suite("memory", ApiKeys.layerMemory)
