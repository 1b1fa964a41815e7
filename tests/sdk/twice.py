"""Every POST sent twice at once, as the SDK does when its caller gives up and it tries again."""
import asyncio
import json
import sys

from fleeks_sdk import create_client


async def main(project):
    async with create_client() as client:
        async def twice(endpoint, body=None, prefix="/api/v1/sdk"):
            call = lambda: client._make_request("POST", endpoint, json=body, _url_prefix=prefix)
            return await asyncio.gather(call(), call())

        first, second = await twice("workspaces", {"project_id": project, "template": "python"})
        for made in (first, second):
            made.pop("last_activity_at")
        assert first == second, (first, second)
        container, number = first["container_id"], first["db_project_id"]
        await twice(f"files/{project}", {"path": "a.txt", "content": "once", "encoding": "utf-8"})
        await twice(f"files/{project}/directories", {"path": "d/e", "parents": True})
        run = {"project_id": project, "command": "echo ran >> log", "working_dir": "/workspace", "timeout_seconds": 20}
        for job in await twice("terminal/execute", run):
            assert job["exit_code"] == 0, job
        run["command"] = "sleep 300"
        await twice("terminal/background", run)
        for ran in await twice(f"containers/{container}/exec", {"command": "cat a.txt", "working_dir": "/workspace", "timeout_seconds": 20}):
            assert ran["stdout"] == "once", ran
        for call, body in [("heartbeat", None), ("extend-timeout", {"additional_minutes": 5}), ("keep-alive", {"enabled": False})]:
            await twice(f"containers/{container}/{call}", body)
        start = {"framework": "custom", "port": 8456, "command": "python -m http.server $PORT", "health_check_path": "/", "auto_detect": True}
        one, other = await twice(f"preview/sessions/{number}/start", start, "/api/v1")
        assert one["session_id"] == other["session_id"], (one, other)
        await twice(f"preview/sessions/{number}/detect", None, "/api/v1")
        await twice(f"preview/sessions/{one['session_id']}/refresh", None, "/api/v1")
        assert (await client.previews.list(number)).total == 1
        for slept in await twice(f"containers/{container}/hibernate"):
            assert slept["status"] == "hibernated", slept
        for woken in await twice(f"containers/{container}/wake"):
            assert woken["status"] == "running", woken
        await twice(f"containers/{container}/restart")
        await twice(f"workspaces/{project}/share-links", {"expires_in_seconds": 60})
        assert (await client.workspaces.get(project)).container_id == container
        await client.workspaces.delete(project)
        print(json.dumps({"ok": True}))


asyncio.run(main(sys.argv[1]))
