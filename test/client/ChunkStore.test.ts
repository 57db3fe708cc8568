import * as ChunkStore from "../../src/client/ChunkStore.ts"
import { suite } from "../contract/ChunkStore.ts"

suite("memory", ChunkStore.layerMemory)
