"""Every POST sent twice at once, as the SDK does when its caller gives up and it tries again. Which there are
the API's description says: one that is not sent here fails."""
import asyncio
import io
import json
import re
import tarfile
import sys

from fleeks_sdk import create_client


async def main(project):
    async with create_client() as client:
        sent = []

        async def twice(endpoint, body=None, prefix="/api/v1/sdk"):
            sent.append(f"{prefix}/{endpoint}")
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
        for terminal in await twice(f"workspaces/{project}/terminals", {"cols": 80, "rows": 24, "command": "cat"}):
            assert terminal["status"] == "running", terminal
        start = {"framework": "custom", "port": 8456, "command": "python -m http.server $PORT", "health_check_path": "/", "auto_detect": True}
        one, other = await twice(f"preview/sessions/{number}/start", start, "/api/v1")
        assert one["session_id"] == other["session_id"], (one, other)
        await twice(f"preview/sessions/{number}/detect", None, "/api/v1")
        await twice(f"preview/sessions/{one['session_id']}/refresh", None, "/api/v1")
        assert (await client.previews.list(number)).total == 1
        for still in await twice(f"containers/{container}/freeze"):
            assert still["status"] == "frozen", still
        for slept in await twice(f"containers/{container}/hibernate"):
            assert slept["status"] == "hibernated", slept
        for woken in await twice(f"containers/{container}/wake"):
            assert woken["status"] == "running", woken
        await twice(f"containers/{container}/restart")
        await twice(f"workspaces/{project}/share-links", {"expires_in_seconds": 60})
        assert (await client.workspaces.get(project)).container_id == container
        await streams_twice(client, project, sent)
        for key in await twice("keys", {"owner_name": f"twice-{project}", "scopes": ["read"]}, "/api/v1"):
            await client._make_request("DELETE", f"keys/{key['key_id']}", _url_prefix="/api/v1")
        await client.workspaces.delete(project)
        for template in await twice("templates/static/build", None, "/api/v1"):
            assert template["name"] == "static", template
        sent.append("/api/v1/prune")
        prune = lambda: client._client.post("/api/v1/prune", params={"dry_run": "true"})
        for answer in await asyncio.gather(prune(), prune()):
            # Others may just be installing something here.
            assert answer.status_code in (200, 409), answer.text
        await all_were_sent(client, sent)
        print(json.dumps({"ok": True}))


async def streams_twice(client, project, sent):
    """Those whose body is no JSON."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        entry = tarfile.TarInfo("up/a.txt")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    http, files = client._client, f"/api/v1/sdk/files/{project}"
    form = b'--b\r\nContent-Disposition: form-data; name="path"\r\n\r\nform.txt\r\n--b\r\nContent-Disposition: form-data; name="overwrite"' \
        b'\r\n\r\ntrue\r\n--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n'
    for end, query, headers, body in [
        ("archive", {}, {}, out.getvalue()),
        ("upload", {}, {}, form),
        ("uploads", {"path": "parts.txt"}, {"Upload-Length": "3"}, b""),
    ]:
        sent.append(f"{files}/{end}")
        call = lambda: http.post(f"{files}/{end}", params=query, headers=headers, content=body)
        for answer in await asyncio.gather(call(), call()):
            assert answer.is_success, (end, answer.status_code, answer.text)


async def all_were_sent(client, sent):
    described = (await client._client.get("/openapi.json")).json()["paths"]
    for path, calls in described.items():
        if "post" in calls and "not served" not in calls["post"].get("tags", []):
            pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + "/?")
            assert any(pattern.fullmatch(one) for one in sent), f"POST {path} was not sent"


asyncio.run(main(sys.argv[1]))
