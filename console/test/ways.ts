// Ways out of the network that the walk has for itself, so that no other sandbox's interface cuts the
// browser's connections: FLEEKS_WAYS is a directory with a Unix socket for each port that is reached by
// it, named as the port. Without it the browser is in the network of the machine, and nothing is done.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type Server, connect, createServer } from "node:net";
import { tie } from "./relay";

export async function openWays(): Promise<{ close(): void }> {
  const directory = process.env["FLEEKS_WAYS"];
  const servers = directory
    ? await Promise.all(readdirSync(directory).map((port) => open(Number(port), join(directory, port))))
    : [];
  return { close: () => servers.forEach((server) => server.close()) };
}

async function open(port: number, path: string): Promise<Server> {
  const server = createServer((near) => tie(near, connect(path)));
  await new Promise<void>((done, failed) => {
    server.once("error", failed);
    server.listen(port, "127.0.0.1", done);
  });
  return server;
}
