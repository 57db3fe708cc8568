/**
 * nginx as a WebDAV server, and curl: the same bytes as objects of their own, on one connection.
 *
 * @module
 */
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import type { Server, World } from "../support/contest.ts"
import { firstLine } from "../support/machine.ts"
import * as Measure from "../support/measure.ts"

/** Both are there. */
export const isInstalled = (): boolean =>
  firstLine("nginx", "-v") !== undefined && firstLine("curl", "--version") !== undefined

const freePort = (): Promise<number> =>
  new Promise((resolve, reject) => {
    const server = Net.createServer().on("error", reject)
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0))
    })
  })

/** One process, and nothing outside of the folder. Bodies wait on the same file system, so that they are moved, not copied. */
const configuration = (folder: string, received: string, port: number): string =>
  `daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr error;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/unused;
  fastcgi_temp_path ${folder}/unused;
  uwsgi_temp_path ${folder}/unused;
  scgi_temp_path ${folder}/unused;
  client_max_body_size 0;
  keepalive_requests 1000000;
  server {
    listen 127.0.0.1:${port};
    root ${received};
    dav_methods PUT;
  }
}
`

export const serve = async ({ folder, received }: World): Promise<Server> => {
  const port = await freePort()
  const file = Path.join(folder, "nginx.conf")
  Fs.writeFileSync(file, configuration(folder, received, port))
  const process = await Measure.start(
    { file: "nginx", args: ["-e", "stderr", "-p", folder, "-c", file] },
    port
  )
  return { process, url: `http://127.0.0.1:${port}/` }
}

/** Puts each file of a folder. */
export const put = ({ folder }: World, url: string, objects: string): Measure.Command => {
  const file = Path.join(folder, "curl.conf")
  Fs.writeFileSync(
    file,
    [
      // curl would ask before each body whether it is welcome
      `silent\nshow-error\nfail\nheader = "Expect:"`,
      ...Fs.readdirSync(objects).map((name) =>
        `upload-file = "${Path.join(objects, name)}"\nurl = "${url}${name}"\noutput = "/dev/null"`
      )
    ].join("\n")
  )
  return { file: "curl", args: ["--disable", "--config", file] }
}
