/**
 * `receiver.test.ts` with the real file system and SQLite, whose processes open both anew.
 */
import { provesReceiver } from "../support/proofReceiver.ts"
import { realDisk } from "../support/proofServer.ts"

provesReceiver("Receiver over a folder and SQLite", realDisk, 0.012)
