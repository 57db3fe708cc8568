/**
 * The proof of "exactly once, whole" for the server: whatever comes in whatever order, with whatever faults on the way,
 * the real `Receiver` answers as the model of PROTOCOL.md does, and shows the files that the model shows.
 *
 * `INDEXEDCP_STEPS=5000000 npx vitest run test/proof` runs for a long time, `INDEXEDCP_SEED=7` draws other steps; each
 * test prints how many steps of which kinds it took, and its seed. A step is one request that reaches the receiver, one
 * fault, or one restart. A difference is printed with the fewest commands that show it.
 */
import { provesReceiver } from "../support/proofReceiver.ts"
import { memoryDisk } from "../support/proofServer.ts"

provesReceiver("Receiver over memory", memoryDisk, 0.89)
