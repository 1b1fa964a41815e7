import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

const greet = (name: string): string => `Hello from ${name}\n`;

createServer((_request: IncomingMessage, response: ServerResponse) => {
  response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
  response.end(greet("TypeScript"));
}).listen(3000, "0.0.0.0");
