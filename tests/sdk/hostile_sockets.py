"""What nobody should say to Socket.IO, said to it; meanwhile and afterwards it serves those who should be served."""
import asyncio
import json
import sys

import aiohttp
import httpx
from fleeks_sdk import create_client

PATIENCE = 60
ENDS = (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSING, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
# As docs/api/streaming.md has them.
SOCKETS = 64
SESSIONS = 32


class Raw:
    """A websocket without manners."""

    def __init__(self, session, base, key=None):
        self.session, self.url, self.key = session, f"{base}/socket.io/?EIO=4&transport=websocket", key

    async def __aenter__(self):
        self.ws = await self.session.ws_connect(self.url, max_msg_size=0)
        assert (await self.ws.receive_str()).startswith("0{")
        if self.key:
            await self.ws.send_str("40" + json.dumps({"api_key": self.key}))
            answer = await self.text()
            self.welcome = answer.startswith("40")
            self.refusal = answer
        return self

    async def __aexit__(self, *_):
        # Gone without a goodbye.
        self.ws._response.close()

    async def text(self):
        """The next message; heartbeats are answered. None: it ended."""
        while True:
            message = await asyncio.wait_for(self.ws.receive(), PATIENCE)
            if message.type in ENDS:
                return None
            if message.data == "2":
                try:
                    await self.ws.send_str("3")
                except (ConnectionError, aiohttp.ClientError):
                    return None
                continue
            return message.data

    async def emit(self, event, **data):
        await self.ws.send_str("42" + json.dumps([event, data]))

    async def event(self, name):
        while True:
            text = await self.text()
            assert text is not None, f"it ended before {name}"
            if text.startswith("42"):
                event, data = json.loads(text[2:])
                if event == name:
                    return data

    async def ended(self):
        while await self.text() is not None:
            pass


async def poller(api, key):
    """A polled socket with a key: its address."""
    async with asyncio.timeout(PATIENCE):
        while True:
            sid = json.loads((await api.get("/socket.io/?EIO=4&transport=polling")).text[1:])["sid"]
            url = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
            assert (await api.post(url, content="40" + json.dumps({"api_key": key}))).text == "ok"
            packets = []
            while not any(packet.startswith("4") for packet in packets):
                packets += (await api.get(url)).text.split("\x1e")
            if any(packet.startswith("40") for packet in packets):
                return url
            assert any("too many sockets" in packet for packet in packets), packets
            await asyncio.sleep(0.1)


async def silent_strangers(session, base):
    """Who shows no key goes, by either transport, and so does who shows a wrong one."""
    async with Raw(session, base) as silent, Raw(session, base, "fleeks_sk_" + "x" * 52) as wrong:
        assert not wrong.welcome and "invalid api key" in wrong.refusal, wrong.refusal
        await silent.ended()
        await wrong.ended()
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE) as api:
        sid = json.loads((await api.get("/socket.io/?EIO=4&transport=polling")).text[1:])["sid"]
        url = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
        while (await api.get(url)).status_code == 200:
            pass
        assert (await api.get(url)).status_code == 400


async def junk(session, base, key):
    """What is no packet ends the socket or is passed over; nothing else comes of it."""
    deep = '42["sdk:file_watch:start",' + "[" * 20000
    texts = ["", "x", "4", "49", "42", "42[", "42{}", "42[1]", "4\u0000", "44{}", "5", "1", "6", "43/,[]", deep,
             '42["sdk:file_watch:start"]', '42["sdk:file_watch:start",7,8]', '451000-["a",{"_placeholder":true,"num":0}]',
             '42["sdk:file_watch:start",{"session_id":' + '"' + "s" * 300 + '"}]', "a" * 65537, "42" + "9" * 60000]
    for text in texts:
        for known in [key, None]:
            async with Raw(session, base, known) as raw:
                await raw.ws.send_str(text)
                await raw.ws.send_bytes(b"\x00\xff" * 100)
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE) as api:
        for body in ["x" * 70000, "\x1e" * 60000, "4" + "\x1e4" * 20000, "b!!!!", "0"]:
            sid = json.loads((await api.get("/socket.io/?EIO=4&transport=polling")).text[1:])["sid"]
            answer = await api.post(f"/socket.io/?EIO=4&transport=polling&sid={sid}", content=body)
            assert answer.status_code < 500, (body[:5], answer.text)
        for query, method, status in [
            ("", "GET", 400), ("EIO=3&transport=polling", "GET", 400), ("EIO=4&transport=carrier-pigeon", "GET", 400),
            ("EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA", "GET", 400), ("EIO=4&transport=polling", "POST", 405),
            ("EIO=4&transport=polling&sid=%00", "GET", 400), ("EIO=4&transport=websocket", "GET", 426),
            ("EIO=4&transport=polling", "DELETE", 405),
        ]:
            answer = await api.request(method, f"/socket.io/?{query}")
            assert answer.status_code == status and answer.json()["detail"], (query, method, answer.text)
        assert (await api.get("/socket.io/admin/?EIO=4&transport=polling")).status_code == 401
    try:
        await session.ws_connect(f"{base}/socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAA")
    except aiohttp.WSServerHandshakeError as error:
        assert error.status == 400, error
    else:
        raise AssertionError("a websocket of nobody")


async def floods(session, base, key, project):
    """Thousands of namespaces and events are nothing; thousands of streams are refused."""
    async with Raw(session, base, key) as raw:
        for n in range(3000):
            await raw.ws.send_str(f'40/room{n},{{"api_key":"{key}"}}')
            if n % 100 == 99:
                # The refusals are read, or the engine's queue fills.
                for _ in range(100):
                    assert "Invalid namespace" in await raw.text()
        for n in range(3000):
            await raw.emit(f"event{n}", room="x" * 100)
        for n in range(SESSIONS + 5):
            await raw.emit("sdk:file_watch:start", session_id=f"s{n}", workspace_id=project)
        for _ in range(5):
            refused = await raw.event("sdk_file_watch_error")
            assert "more than 32 streams" in refused["error"], refused
        # A second one of a name is no further one, and one that is stopped leaves its place.
        await raw.emit("sdk:file_watch:start", session_id="s0", workspace_id=project)
        await raw.emit("sdk:file_watch:stop", sessionId="s1")
        await raw.emit("sdk_file_watch_start", sessionId="one more", workspaceId=project)
        while (await raw.event("sdk_file_watch_started"))["session_id"] != "one more":
            pass
    async with Raw(session, base, key) as raw:
        # Who asks on and reads nothing is cut off.
        try:
            for n in range(200_000):
                await raw.emit("sdk:agent_stream:start", session_id=f"{n}" + "s" * 200, agent_id="a")
        except (ConnectionError, aiohttp.ClientError):
            pass
        await raw.ended()


async def places(session, base, api):
    """A key has so many sockets; each place is given back, however its socket ends."""
    made = (await api.post("/api/v1/keys", json={"name": "sockets"})).json()
    key = made["key"]
    for _ in range(2):
        async def come():
            # Places of the round before come back within a moment.
            async with asyncio.timeout(PATIENCE):
                while True:
                    raw = await Raw(session, base, key).__aenter__()
                    if raw.welcome:
                        return raw
                    assert "too many sockets" in raw.refusal, raw.refusal
                    await raw.__aexit__()
                    await asyncio.sleep(0.1)
        all_of_them = [await come() for _ in range(SOCKETS)]
        async with Raw(session, base, key) as raw:
            assert not raw.welcome and "too many sockets" in raw.refusal, raw.refusal
        for raw in all_of_them[:SOCKETS // 2]:
            await raw.ws.close()
        for raw in all_of_them[SOCKETS // 2:]:
            await raw.__aexit__()
    # One that leaves its namespace but not its connection still has its place.
    async with Raw(session, base, key) as raw:
        await raw.ws.send_str("41")
        # An upgrade that goes wrong ends its socket.
        url = await poller(api, key)
        ws = await session.ws_connect(base + url.replace("polling", "websocket"))
        await ws.send_str("4junk")
        while (await api.get(url)).status_code == 200:
            await asyncio.sleep(0.1)
        await ws.close()
    assert (await api.delete(f"/api/v1/keys/{made['key_id']}")).status_code < 300


def resident(pid):
    """Of the platform, in MiB."""
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) // 1024


async def slow_readers(session, base, key, ws, project, pid):
    """They have some of it waiting for them, and nobody else waits for them."""
    before = resident(pid)
    job = await ws.terminal.start_background_job("while [ ! -e flood ]; do sleep 0.1; done; yes \"$(printf %0400d 7)\" | head -c 60000000; echo; echo over")
    wanted = dict(workspace_id=project, terminal_session_id=job.job_id)
    slow = [await Raw(session, base, key).__aenter__() for _ in range(8)]
    for raw in slow:
        await raw.emit("sdk:terminal_stream:start", session_id="t", **wanted)
        await raw.emit("sdk:file_watch:start", session_id="w", workspace_id=project)
        await raw.event("sdk_file_watch_started")
    # A poller that never polls again.
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE) as api:
        url = await poller(api, key)
        start = "42" + json.dumps(["sdk:terminal_stream:start", dict(session_id="t", **wanted)])
        await api.post(url, content=start)
        async with Raw(session, base, key) as quick:
            await quick.emit("sdk:terminal_stream:start", session_id="t", **wanted)
            await quick.emit("sdk:file_watch:start", session_id="w", workspace_id=project)
            await quick.event("sdk_file_watch_started")
            await ws.files.create("flood", "1")
            heard = watched = 0
            while True:
                text = await quick.text()
                assert text is not None, "the quick one was cut off"
                event, data = json.loads(text[2:])
                watched += event == "sdk_file_watch_change" and data["path"] == "flood"
                if event == "sdk_terminal_stream_output":
                    heard += len(data["output"].encode())
                    heard += data.get("stdout_bytes", 0)
                    if data["type"] == "session_ended":
                        break
            assert heard >= 60_000_000 and watched == 1, (heard, watched)
        grown = resident(pid) - before
        assert grown < 200, f"{grown} MiB more than before"
        # More polls at once than anybody needs.
        codes = [answer.status_code for answer in await asyncio.gather(*[api.get(url) for _ in range(12)])]
        assert set(codes) <= {200, 400, 429}, codes
    for raw in slow:
        await raw.__aexit__()


async def main(project, pid):
    async with create_client() as client, aiohttp.ClientSession() as session:
        base, key = client.config.base_url, client.api_key
        ws = await client.workspaces.create(project, "python")
        async with httpx.AsyncClient(base_url=base, headers={"X-API-Key": key}, timeout=PATIENCE) as api:
            async with Raw(session, base, key) as witness:
                await witness.emit("sdk:file_watch:start", session_id="w", workspace_id=project, patterns=["*.witness"])
                await witness.event("sdk_file_watch_started")
                await asyncio.gather(
                    silent_strangers(session, base), junk(session, base, key), places(session, base, api))
                await floods(session, base, key, project)
                await ws.files.create("a.witness", "1")
                change = await witness.event("sdk_file_watch_change")
                assert change["path"] == "a.witness", change
            await slow_readers(session, base, key, ws, project, pid)
            assert (await api.get("/health")).status_code == 200
        await ws.delete()
    print(json.dumps({"ok": True}))


asyncio.run(main(*sys.argv[1:]))
