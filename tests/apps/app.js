// Answers every request with what it saw of it. Usage: node app.js HOST PORT
const http = require('http');
const [host, port] = [process.argv[2] || '0.0.0.0', Number(process.argv[3] || 3000)];

http.createServer((request, response) => {
  const chunks = [];
  request.on('data', (chunk) => chunks.push(chunk));
  request.on('end', () => {
    const body = Buffer.concat(chunks).toString();
    const seen = { app: 'node', pid: process.pid, method: request.method, path: request.url, headers: request.headers, body };
    response.writeHead(200, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(seen));
  });
}).listen(port, host, () => console.log(`listening on ${host}:${port}`));
