import * as UploadStore from "../../src/server/UploadStore.ts"
import { suite } from "../contract/UploadStore.ts"

suite("memory", UploadStore.layerMemory)
