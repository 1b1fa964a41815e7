"""Every call of the SDK's preview manager, and what it answers."""
import asyncio
import json
import sys

from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksResourceNotFoundError, WorkspaceNotReadyError
from fleeks_sdk.lifecycle import LifecycleConfig

APP = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{os.environ['GREETING']} on {os.environ['PORT']}".encode()
        self.send_response(500 if self.path == "/broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


async def until(client, session_id, status):
    for _ in range(600):
        session = await client.previews.get(session_id)
        if session.status == status:
            return session
        await asyncio.sleep(0.05)
    raise AssertionError(f"not {status}: {session}")


async def main(project):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        number = (await ws.get_info()).db_project_id
        found = await client.previews.detect(number)
        assert found.project_id == number and found.suggested_command == "python main.py", found
        assert found.suggested_port == 8000 and found.confidence > 0, found

        await ws.files.create("shown.py", APP)
        asked = dict(port=4321, command="python shown.py", env_vars={"GREETING": "grüße"})
        session = await client.previews.start(number, **asked)
        assert (session.project_id, session.port) == (number, 4321), session
        assert session.status in ("starting", "running"), session
        again = await client.previews.start(number, **asked)
        assert again.session_id == session.session_id, "the same call gets what is there"
        session = await until(client, session.session_id, "running")
        assert session.preview_url == ws.preview_url and session.container_id == ws.container_id, session
        health = await client.previews.health(session.session_id)
        assert health.healthy and health.status_code == 200 and health.response_time_ms > 0, health
        runs = await ws.terminal.execute("pgrep -fc 'python shown.py$' || true")
        assert runs.stdout.strip() in ("1", "2"), f"started once: {runs}"

        other = await client.previews.start(number, port=4322, command="python shown.py",
                                            env_vars={"GREETING": "b"}, health_check_path="/broken")
        other = await until(client, other.session_id, "running")
        assert other.preview_url == ws.preview_url, "the youngest has the workspace's own address"
        session = await client.previews.get(session.session_id)
        assert "//4321--" in session.preview_url, session
        health = await client.previews.health(other.session_id)
        assert not health.healthy and health.status_code == 500, health
        listed = await client.previews.list(number)
        assert {one.session_id for one in listed.sessions} == {session.session_id, other.session_id}, listed
        assert listed.total == 2 and listed.project_id == number, listed

        failed = await client.previews.start(number, port=4323, command="echo no such app >&2; exit 7")
        failed = await until(client, failed.session_id, "failed")
        assert "exit code 7" in failed.error_message and "no such app" in failed.error_message, failed

        before = session.started_at
        session = await client.previews.refresh(session.session_id)
        assert session.started_at > before, session
        session = await until(client, session.session_id, "running")
        assert (await client.previews.health(session.session_id)).healthy

        stopped = await client.previews.stop(failed.session_id)
        assert stopped["status"] == "stopped", stopped
        await client.previews.stop(other.session_id)
        assert (await client.previews.get(other.session_id)).status == "stopped"
        assert len((await client.previews.list(number, status="stopped")).sessions) == 2
        assert len((await client.previews.list(number, status="all", limit=1)).sessions) == 1
        gone = await client.previews.cleanup(number)
        assert gone["stopped_count"] == 2, gone
        await client.previews.stop(other.session_id)
        try:
            await client.previews.get(other.session_id)
            raise AssertionError("a forgotten session is there")
        except FleeksResourceNotFoundError:
            pass
        assert (await client.previews.health(session.session_id)).healthy

        # Asleep, and nothing wakes it but a wake: the SDK has a word for that.
        await ws.containers.configure_lifecycle(LifecycleConfig(auto_wake=False))
        await ws.containers.hibernate()
        for call in (client.previews.start(number, port=4999, command="true"), client.previews.start(number)):
            try:
                await call
                raise AssertionError("started though it sleeps")
            except WorkspaceNotReadyError as error:
                assert error.project_id == number and error.remediation, error
        assert (await client.previews.detect(number)).suggested_port == 8000, "files can be looked at"
        health = await client.previews.health(session.session_id)
        assert not health.healthy and "wakes" in health.error, health
        assert (await client.previews.get(session.session_id)).status == "running"
        await ws.containers.wake()
        health = await client.previews.health(session.session_id)
        assert health.healthy, health
        await ws.delete()
        print(json.dumps({"url": session.preview_url, "session": session.session_id, "number": number}))


asyncio.run(main(sys.argv[1]))
