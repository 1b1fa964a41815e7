"""A server that is as large in memory as it is told, half of it noise and half text, and tells
what it remembers. Usage: mass.py MIB PORT"""

import os
import socket
import sys
import threading
import zlib


def resident():
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) << 10
    return 0


def filled(size):
    """Half of each page-sized run cannot be compressed, half can."""
    text = b"".join(b"%06d GET /orders/%d 200 ok, user=alice\n" % (n, n * n) for n in range(1600))
    memory = bytearray()
    while len(memory) < size:
        memory += os.urandom(32768) + text[:32768]
    return memory


memory = filled(max(0, (int(sys.argv[1]) << 20) - resident()))
secret = os.urandom(8).hex()
count = 0
lock = threading.Lock()


def answer(connection):
    global count
    with connection:
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(65536)
            if not more:
                return
            head += more
        with lock:
            count += 1
            number = count
        body = f"{os.getpid()} {secret} {number}"
        if b"GET /check" in head:
            body += f" {zlib.crc32(memory)} {resident()}"
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body.encode())
        )


server = socket.create_server(("0.0.0.0", int(sys.argv[2])), backlog=1024)
while True:
    threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()
