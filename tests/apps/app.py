"""A web app on the standard library alone. Usage: python app.py HOST PORT [NAME]

GET  /            what it saw of the request, as JSON
GET  /sse         one event; the next one only after POST /go; then the end
POST /go          lets every waiting /sse go on
GET  /download    ?bytes=N of the pattern; &chunked=1 without a length
PUT  /upload      how many bytes came and whether they were the pattern
GET  /ws          websocket that sends back what it gets
"""
import asyncio
import base64
import hashlib
import json
import os
import sys
from urllib.parse import parse_qs, urlsplit

HOST = sys.argv[1] if len(sys.argv) > 1 else "0.0.0.0"
PORT = int(sys.argv[2]) if len(sys.argv) > 2 else 5000
NAME = sys.argv[3] if len(sys.argv) > 3 else "python"
PATTERN = bytes(range(256)) * 512
go = asyncio.Event()


async def read_head(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    first, *lines = head.decode("latin1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {}
    for line in lines:
        if line:
            name, value = line.split(":", 1)
            headers[name.strip().lower()] = value.strip()
    return method, urlsplit(target), headers


async def body_of(reader, headers):
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return
    left = int(headers.get("content-length", 0))
    while left:
        chunk = await reader.read(min(left, 1 << 16))
        if not chunk:
            raise EOFError
        left -= len(chunk)
        yield chunk


def answer(writer, value, status="200 OK"):
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def upload(reader, writer, headers):
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    total, good = 0, True
    async for chunk in body_of(reader, headers):
        at = total % 256
        for start in range(0, len(chunk), 1 << 16):
            part = chunk[start:start + (1 << 16)]
            good = good and part == PATTERN[(at + start) % 256:][:len(part)]
        total += len(chunk)
    answer(writer, {"bytes": total, "good": good})


async def download(writer, query):
    left, chunked = int(query["bytes"][0]), "chunked" in query
    how = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {left}"
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n{how}\r\n\r\n".encode())
    while left:
        part = PATTERN[:min(left, 1 << 16)]
        left -= len(part)
        writer.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")


async def events(writer):
    go.clear()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nConnection: close\r\n\r\n")
    writer.write(b"data: first\n\n")
    await writer.drain()
    await go.wait()
    writer.write(b"data: second\n\n")
    await writer.drain()


async def websocket(reader, writer, headers):
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    writer.write((
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode())
    while True:
        first, second = await reader.readexactly(2)
        size = second & 127
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await reader.readexactly(8), "big")
        mask = await reader.readexactly(4)
        data = await reader.readexactly(size)
        stretched = (mask * (size // 4 + 1))[:size]
        data = (int.from_bytes(data, "big") ^ int.from_bytes(stretched, "big")).to_bytes(size, "big")
        kind = first & 15
        if kind == 9:
            first = first & 0xF0 | 10
        if size < 126:
            head = bytes([first, size])
        elif size < 1 << 16:
            head = bytes([first, 126]) + size.to_bytes(2, "big")
        else:
            head = bytes([first, 127]) + size.to_bytes(8, "big")
        if kind != 10:
            writer.write(head + data)
            await writer.drain()
        if kind == 8:
            return


async def one_request(reader, writer):
    method, url, headers = await read_head(reader)
    query = parse_qs(url.query)
    if url.path == "/ws":
        await websocket(reader, writer, headers)
        return False
    if url.path == "/sse":
        await events(writer)
        return False
    if url.path == "/upload":
        await upload(reader, writer, headers)
    elif url.path == "/download":
        await download(writer, query)
    else:
        if url.path == "/go":
            go.set()
        body = b"".join([chunk async for chunk in body_of(reader, headers)])
        target = url.path + ("?" + url.query if url.query else "")
        answer(writer, {"app": NAME, "pid": os.getpid(), "method": method, "path": target,
                        "headers": headers, "body": body.decode("latin1")})
    await writer.drain()
    return headers.get("connection", "").lower() != "close"


async def serve(reader, writer):
    try:
        while await one_request(reader, writer):
            pass
    except (EOFError, ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, HOST, PORT, limit=1 << 20)
    print(f"listening on {HOST}:{PORT}", flush=True)
    await server.serve_forever()


asyncio.run(main())
