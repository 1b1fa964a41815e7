"""The README's quick example, with an app that serves."""
import asyncio
import json
import sys

from fleeks_sdk import create_client

APP = """
from http.server import BaseHTTPRequestHandler, HTTPServer

class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<h1>Hello from a sandbox</h1>")

HTTPServer(("0.0.0.0", 5000), Hello).serve_forever()
"""


async def main(project):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        await ws.files.create("app.py", APP)
        await ws.terminal.execute("python app.py &")
        preview = await ws.get_preview_url()
        print(json.dumps({"preview_url": preview.preview_url, "status": preview.status}))


asyncio.run(main(sys.argv[1]))
