"""Counts in memory, and writes down each number. Usage: python tally.py PORT

Every 20 ms a line `BOOT NUMBER` is added to tally.log, where BOOT is another one for each process.
GET / answers with BOOT and a number that no other request gets.
"""
import http.server
import json
import os
import sys
import threading
import time

BOOT = os.urandom(4).hex()
log = open("tally.log", "ab", buffering=0)
lock = threading.Lock()
served = 0


def write_down():
    number = 0
    while True:
        number += 1
        log.write(f"{BOOT} {number}\n".encode())
        time.sleep(0.02)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global served
        with lock:
            served += 1
            number = served
        body = json.dumps({"boot": BOOT, "number": number}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


threading.Thread(target=write_down, daemon=True).start()
Server(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
