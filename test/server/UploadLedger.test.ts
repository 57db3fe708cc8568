import * as UploadLedger from "../../src/server/UploadLedger.ts"
import { suite } from "../contract/UploadLedger.ts"

suite("memory", UploadLedger.layerMemory)
