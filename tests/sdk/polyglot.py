"""The article's polyglot workspace: Python for the numbers, Node for the API, one workspace, a URL for each."""
import asyncio
import json
import sys

from fleeks_sdk import create_client

ANALYZE = """
import http.server, json, statistics
class Analysis(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"language": "python", "median": statistics.median([3, 1, 2])}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Analysis).serve_forever()
"""

API = """
const http = require('http');
http.createServer((_, answer) => {
  http.get('http://127.0.0.1:8000/', (analysis) => {
    let text = '';
    analysis.on('data', (part) => { text += part; });
    analysis.on('end', () => {
      answer.setHeader('Content-Type', 'application/json');
      answer.end(JSON.stringify({ language: 'node', analysis: JSON.parse(text) }));
    });
  }).on('error', (error) => { answer.statusCode = 502; answer.end(String(error)); });
}).listen(3000, '127.0.0.1');
"""


async def until(client, session_id):
    for _ in range(600):
        session = await client.previews.get(session_id)
        if session.status == "running":
            return session
        await asyncio.sleep(0.05)
    raise AssertionError(f"not running: {session}")


async def main(project):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        info = await ws.get_info()
        assert {"python"} <= set(info.languages), info
        # Without waiting in between, as the article's agent does.
        await ws.files.create("analyze.py", ANALYZE)
        started = await ws.terminal.execute("python analyze.py &")
        assert started.exit_code == 0, started
        await ws.files.create("api.js", API)
        started = await ws.terminal.execute("node api.js &")
        assert started.exit_code == 0, started
        preview = await ws.get_preview_url()
        number = info.db_project_id
        analysis = await until(client, (await client.previews.start(number, port=8000)).session_id)
        api = await until(client, (await client.previews.start(number, port=3000)).session_id)
        assert (analysis.port, api.port) == (8000, 3000), (analysis, api)
        assert (await client.previews.list(number)).total == 2
        for session in (analysis, api):
            health = await client.previews.health(session.session_id)
            assert health.healthy and health.status_code == 200, health
        print(json.dumps({"url": preview.preview_url, "container": ws.container_id}))


asyncio.run(main(sys.argv[1]))
