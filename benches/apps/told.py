"""What the workloads of the cycles share: GET / makes one step and tells all that is remembered."""

import http.server
import json
import os
import sys

PORT = 5000


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def serve(step):
    """`step(count)` returns (counts, same, grows): what must be the number of steps, what must
    never change, and what must never fall."""
    remembered = {"count": 0, "chain": 0}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self):
            count = remembered["count"] = remembered["count"] + 1
            remembered["chain"] = (remembered["chain"] * 1664525 + count + 1013904223) % 2**32
            counts, same, grows = step(count)
            same["pid"] = os.getpid()
            told = dict(remembered, counts=counts, same=same, grows=grows)
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    Server(("0.0.0.0", PORT), Handler).serve_forever()


def arguments():
    return sys.argv[1:]
