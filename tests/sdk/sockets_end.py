"""Clients that hear the server go, and of those that want to, each comes back to the next one."""
import asyncio
import sys
from pathlib import Path

import aiohttp
import socketio
from fleeks_sdk import create_client

PATIENCE = 120


class Client:
    def __init__(self, url, key, transport, project, returns):
        self.events = asyncio.Queue()
        self.returns = returns
        self.sio = socketio.AsyncClient(reconnection=returns)
        self.arguments = dict(url=url, auth={"api_key": key}, transports=[transport], wait_timeout=10)
        self.project = project
        for event in ["sdk_file_watch_started", "sdk_file_watch_change"]:
            self.sio.on(event, self.told(event))
        self.sio.on("connect", self.connected)
        self.sio.on("disconnect", self.told("disconnect"))

    def told(self, event):
        async def tell(data=None):
            await self.events.put((event, data))
        return tell

    async def connected(self):
        await self.sio.emit("sdk_file_watch_start", {"sessionId": "s", "workspaceId": self.project})

    async def until(self, event):
        while True:
            name, data = await asyncio.wait_for(self.events.get(), PATIENCE)
            if name == event:
                return data


async def main(project, ready):
    async with create_client() as client:
        await client.workspaces.create(project, "python")
        clients = [
            Client(client.config.socketio_url, client.api_key, transport, project, returns)
            for transport in ["polling", "websocket"]
            for returns in [False, True]
        ]
        for one in clients:
            await one.sio.connect(**one.arguments)
            await one.until("sdk_file_watch_started")
        # One that has said nothing yet.
        connected = asyncio.Event()
        strangers = [asyncio.create_task(stranger(client.config.base_url, connected))]
        await asyncio.wait_for(connected.wait(), PATIENCE)
        Path(ready).touch()
        for one in clients:
            await one.until("disconnect")
        await asyncio.gather(*strangers)
        returning = [one for one in clients if one.returns]
        for one in returning:
            await one.until("sdk_file_watch_started")
        workspace = await client.workspaces.get(project)
        await workspace.files.create("news.txt", "they are back")
        for one in returning:
            await one.until("sdk_file_watch_change")
        for one in clients:
            await one.sio.disconnect()


async def stranger(base, connected):
    """Its connection ends with the server, whatever it says."""
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{base}/socket.io/?EIO=4&transport=websocket") as socket:
            assert (await socket.receive_str()).startswith("0{")
            connected.set()
            async with asyncio.timeout(PATIENCE):
                # It is asked whether it is there; then it ends.
                while (message := await socket.receive()).type == aiohttp.WSMsgType.TEXT:
                    assert message.data == "2", message


asyncio.run(main(*sys.argv[1:]))
