"""The SDK's streaming client against the platform: polling and websocket, files, terminals, refusals, sleep."""
import asyncio
import json
import sys

import httpx
import socketio
from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksConnectionError

PATIENCE = 40


async def raw_connect_is_broken(client):
    """The SDK's own fault: it names an argument that python-socketio does not have."""
    try:
        await client.streaming.connect()
    except FleeksConnectionError as error:
        assert "unexpected keyword argument 'namespace'" in str(error), error
    else:
        raise AssertionError("the SDK can connect by itself: the detour below is not needed any more")
    client.streaming.connected = False


async def connect(client, transport, key=None):
    """As docs/api/streaming.md says."""
    streaming = client.streaming
    streaming.sio = socketio.AsyncClient(reconnection=False)
    streaming._register_event_handlers()
    streaming.started = asyncio.Queue()
    streaming.sio.on("sdk_file_watch_started", streaming.started.put)
    await streaming.sio.connect(
        client.config.socketio_url, auth={"api_key": key or client.api_key}, transports=[transport])
    assert streaming.sio.transport() == transport, streaming.sio.transport()
    streaming.connected = True
    return streaming


class Watch:
    """A watch that collects what it hears."""

    def __init__(self, streaming, project, patterns=None):
        self.events, self.streaming, self.grown = [], streaming, asyncio.Event()
        self.task = asyncio.create_task(self.listen(project, patterns))

    async def listen(self, project, patterns):
        async for event in self.streaming.watch_files(project, patterns):
            self.events.append(event)
            self.grown.set()

    async def started(self):
        await asyncio.wait_for(self.streaming.started.get(), PATIENCE)
        return self

    async def until(self, what, condition):
        async def grows():
            while not condition(self.events):
                self.grown.clear()
                await self.grown.wait()
        try:
            await asyncio.wait_for(grows(), PATIENCE)
        except asyncio.TimeoutError:
            raise AssertionError(f"no {what} in {self.words()[-50:]}") from None

    def words(self):
        return [(event["type"], event["path"]) for event in self.events]

    async def end(self):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def files(client, ws, project, transport):
    streaming = await connect(client, transport)
    watch = await Watch(streaming, project, ["**/*.py"]).started()
    top = f"t-{transport}"
    body = {"path": f"{top}/a.py", "content": "1", "encoding": "utf-8"}
    made = await client._make_request("POST", f"files/{project}", json=body)
    await ws.files.create(f"{top}/a.txt", "not told")
    steps = [
        ("echo 2 >> a.py", "modified", "a.py"), ("mv a.py b.py", "moved", "b.py"),
        ("mv b.py b.txt", "moved", "b.txt"), ("mv b.txt c.py", "moved", "c.py"), ("rm c.py", "deleted", "c.py"),
    ]
    await watch.until("first write", lambda events: watch.words() and watch.words()[0] == ("created", f"{top}/a.py"))
    for command, kind, name in steps:
        await ws.terminal.execute(f"cd {top} && {command}")
        await watch.until(command, lambda events: watch.words()[-1] == (kind, f"{top}/{name}"))
    told = [(kind, path) for kind, path in watch.words() if kind != "modified"]
    wanted = [(kind, f"{top}/{name}") for _, kind, name in steps[1:]]
    assert told == [("created", f"{top}/a.py"), *wanted], told
    first = watch.events[0]
    assert first["write_id"] == first["writeId"] == made["write_id"], (first, made)
    for event in watch.events:
        assert event["session_id"] == event["sessionId"] and event["event_type"] == event["eventType"] == event["type"], event
        assert event["timestamp"], event
    moved = next(event for event in watch.events if event["type"] == "moved")
    assert moved["old_path"] == moved["oldPath"] == f"{top}/a.py", moved

    # A thousand at once, in a directory that nobody could watch before.
    await ws.terminal.execute(f"mkdir {top}/burst; cd {top}/burst; for n in $(seq 1000); do echo $n > $n.py; done", timeout_seconds=60)
    all_of_them = {f"{top}/burst/{n}.py" for n in range(1, 1001)}
    created = lambda events: {event["path"] for event in events if event["type"] == "created"}
    await watch.until("burst", lambda events: all_of_them <= created(events))
    assert not [event for event in watch.events if event["type"] == "overflow"], watch.words()[-5:]

    # A second start of the same name takes the first one's place: each change is told once.
    session = next(iter(streaming._active_file_watches))
    await streaming.sio.emit("sdk:file_watch:start", {"session_id": session, "workspace_id": project, "patterns": ["**/*.py"]})
    await watch.started()
    await ws.files.create(f"{top}/once.py", "1")
    await ws.files.create(f"{top}/last.py", "1")
    await watch.until("last one", lambda events: events[-1]["path"] == f"{top}/last.py")
    assert watch.words().count(("created", f"{top}/once.py")) == 1, watch.words()[-5:]
    await watch.end()

    # A job's output, to its end.
    job = await ws.terminal.start_background_job("for n in 1 2 3; do echo line-ü-$n; sleep 0.1; done; echo oops >&2; exit 3")
    told = [event async for event in streaming.stream_terminal(project, job.job_id)]
    out = "".join(event["output"] for event in told if event.get("stream") == "stdout")
    err = "".join(event["output"] for event in told if event.get("stream") == "stderr")
    assert out == "line-ü-1\nline-ü-2\nline-ü-3\n" and err == "oops\n", told
    assert told[-1]["type"] == "session_ended" and told[-1]["exit_code"] == told[-1]["exitCode"] == 3, told[-1]

    # What cannot be streamed says so, and no loop waits for ever.
    gone = [event async for event in streaming.watch_files("no-such-project")]
    assert [event["type"] for event in gone] == ["error"] and "no such workspace" in gone[0]["message"], gone
    bad = [event async for event in streaming.watch_files(project, ["["])]
    assert bad[0]["type"] == "error" and "pattern" in bad[0]["message"], bad
    lost = [event async for event in streaming.stream_terminal(project, "job_nothing")]
    assert [event["type"] for event in lost] == ["error", "session_ended"], lost
    agent = [event async for event in streaming.stream_agent("agent_1")]
    assert [event["type"] for event in agent] == ["error"] and "customer" in agent[0]["message"], agent
    await streaming.disconnect()


async def keys(client, project):
    """Wrong ones, other owners', such that may only look, and one that is revoked."""
    refused = []
    for wrong in ["fleeks_sk_" + "x" * 52, ""]:
        sio = socketio.AsyncClient(reconnection=False)
        sio.on("connect_error", refused.append)
        try:
            await sio.connect(client.config.socketio_url, auth={"api_key": wrong})
        except socketio.exceptions.ConnectionError:
            pass
        else:
            raise AssertionError("a wrong key is taken")
        await sio.disconnect()
    assert {"message": "invalid api key"} in refused, refused
    async with httpx.AsyncClient(base_url=client.config.base_url, headers={"X-API-Key": client.api_key}) as api:
        async def key(**terms):
            answer = await api.post("/api/v1/keys", json=terms)
            assert answer.status_code in (200, 201), answer.text
            return answer.json()

        stranger = await key(owner_name=f"stranger-{project}")
        streaming = await connect(client, "websocket", stranger["key"])
        gone = [event async for event in streaming.watch_files(project)]
        assert gone[0]["type"] == "error" and "no such workspace" in gone[0]["message"], gone
        await streaming.disconnect()

        looker = await key(scopes=["read"])
        streaming = await connect(client, "websocket", looker["key"])
        watch = await Watch(streaming, project).started()
        ended = asyncio.Event()
        streaming.sio.on("disconnect", lambda *reason: ended.set())
        revoked = await api.delete(f"/api/v1/keys/{looker['key_id']}")
        assert revoked.status_code < 300, revoked.text
        await asyncio.wait_for(ended.wait(), PATIENCE)
        await watch.end()


async def sleep(client, ws, project):
    """A watch and a followed job go on when the workspace has slept, and do not keep it awake."""
    streaming = await connect(client, "websocket")
    watch = await Watch(streaming, project).started()
    job = await ws.terminal.start_background_job("echo before; while [ ! -e go ]; do sleep 0.1; done; echo after")
    told = []

    async def follow():
        async for event in streaming.stream_terminal(project, job.job_id):
            told.append(event)
    following = asyncio.create_task(follow())
    while not any(event.get("output") == "before\n" for event in told):
        await asyncio.sleep(0.05)
    slept = await ws.containers.hibernate()
    assert slept.status == "hibernated", slept
    await ws.files.create("woken.py", "1")
    about = lambda events, path: any(event["path"] == path for event in events)
    await watch.until("woken.py", lambda events: about(events, "woken.py"))
    # It is listened to again as soon as that was told.
    await ws.terminal.execute("touch go")
    await watch.until("go", lambda events: about(events, "go"))
    await asyncio.wait_for(following, PATIENCE)
    out = "".join(event["output"] for event in told if event.get("stream") == "stdout")
    assert out == "before\nafter\n" and told[-1]["type"] == "session_ended", told
    await watch.end()
    await streaming.disconnect()


async def main(project):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        await raw_connect_is_broken(client)
        for transport in ["polling", "websocket"]:
            await files(client, ws, project, transport)
        await keys(client, project)
        await sleep(client, ws, project)
        await ws.delete()
        print(json.dumps({"ok": True}))


asyncio.run(main(sys.argv[1]))
