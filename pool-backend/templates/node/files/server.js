// A web server from the standard library: the least that has a URL.
const http = require("node:http");

http
  .createServer((request, response) => {
    response.writeHead(200, { "Content-Type": "text/plain; charset=utf-8" });
    response.end("Hello from Node.js\n");
  })
  .listen(3000, "0.0.0.0");
