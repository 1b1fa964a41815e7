"""Each call that the SDK has for workspaces, files, terminal and containers, and its types."""
import asyncio
import json
import os
import sys
import tempfile

from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksAPIError, FleeksResourceNotFoundError, FleeksTimeoutError


async def raises(kind, awaitable, status=None):
    try:
        await awaitable
    except kind as error:
        assert status is None or getattr(error, "status_code", None) == status, error
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


async def workspaces(client, project):
    ws = await client.workspaces.create(project, "python")
    again = await client.workspaces.create(project, "python")
    assert ws.container_id == again.container_id, "create gets what is there"
    info = await ws.get_info()
    assert (info.project_id, info.template, info.status) == (project, "python", "ready"), info
    assert "python" in info.languages and info.created_at and info.resource_limits, info
    assert (await client.workspaces.get(project)).container_id == ws.container_id
    assert project in [one.project_id for one in await client.workspaces.list(page=1, page_size=100)]
    assert project in [one.project_id for one in await client.workspaces.list(status_filter="ready", page_size=100)]
    assert project not in [one.project_id for one in await client.workspaces.list(status_filter="stopped", page_size=100)]
    await raises(FleeksResourceNotFoundError, client.workspaces.get("no-such-project"))
    health = await ws.get_health()
    assert health.project_id == project and health.uptime_seconds >= 0, health
    preview = await ws.get_preview_url()
    assert preview.preview_url.startswith("https://") and preview.container_id == ws.container_id, preview
    return ws


async def files(ws):
    made = await ws.files.create("audit/one.txt", "eins")
    assert (made.path, made.name, made.type, made.size_bytes) == ("audit/one.txt", "one.txt", "file", 4), made
    assert await ws.files.read("/audit/one.txt") == await ws.files.read("/workspace/audit/one.txt") == "eins"
    await ws.files.create("audit/one.txt", "overwritten")
    assert await ws.files.read("./audit/one.txt") == "overwritten"
    await ws.files.update("audit/one.txt", "updated ✓")
    assert await ws.files.read("audit/one.txt") == "updated ✓"
    script = await ws.files.create("run.sh", "#!/bin/sh\necho ran\n", permissions="0755")
    assert script.permissions == "0755", script
    assert (await ws.terminal.execute("./run.sh")).stdout == "ran\n"
    made = await ws.files.mkdir("deep/er/still")
    assert made.type == "directory" and made.path == "deep/er/still", made
    listed = await ws.files.list("/", recursive=True)
    paths = [one.path for one in listed.files]
    assert "audit/one.txt" in paths and "deep/er/still" in paths, paths
    assert not any(path.startswith(".home") for path in paths), paths
    assert (await ws.files.get_info("audit/one.txt")).size_bytes == len("updated ✓".encode())
    with tempfile.TemporaryDirectory() as directory:
        local = os.path.join(directory, "grüße.bin")
        content = bytes(range(256)) * 20000
        with open(local, "wb") as file:
            file.write(content)
        up = await ws.files.upload("up/all.bin", local)
        assert up.size_bytes == len(content), up
        assert await ws.files.read_binary("up/all.bin") == content
        await raises(FleeksAPIError, ws.files.upload("up/all.bin", local, overwrite=False))
        await ws.files.upload("up/all.bin", local, overwrite=True)
    await ws.files.delete("audit/one.txt")
    await raises(FleeksResourceNotFoundError, ws.files.read("audit/one.txt"))
    await raises(FleeksResourceNotFoundError, ws.files.delete("audit/one.txt"))
    await raises(FleeksAPIError, ws.files.update("/", "x"))


async def terminal(ws):
    job = await ws.terminal.execute("echo out; echo err >&2; exit 3")
    assert (job.exit_code, job.stdout, job.stderr, job.status) == (3, "out\n", "err\n", "failed"), job
    job = await ws.terminal.execute("python --version")
    assert job.exit_code == 0 and "Python 3" in job.stdout and job.status == "completed", job
    await ws.files.mkdir("sub")
    job = await ws.terminal.execute("pwd; echo $GREETING", working_dir="/workspace/sub", environment={"GREETING": "grüß dich"})
    assert job.stdout == "/workspace/sub\ngrüß dich\n", job
    await raises(FleeksTimeoutError, ws.terminal.execute("sleep 60", timeout_seconds=1))
    background = await ws.terminal.start_background_job("for n in 1 2 3; do echo line $n; done; sleep 300")
    assert background.status == "running", background
    for _ in range(100):
        output = await ws.terminal.get_job_output(background.job_id, tail_lines=2)
        if "line 3" in output["stdout"]:
            break
        await asyncio.sleep(0.05)
    assert output["stdout"] == "line 2\nline 3\n", output
    assert background.job_id in [one.job_id for one in (await ws.terminal.list_jobs()).jobs]
    assert background.job_id in [one.job_id for one in (await ws.terminal.list_jobs(status_filter="running")).jobs]
    stopped = await ws.terminal.stop_job(background.job_id)
    assert "message" in stopped, stopped
    job = await ws.terminal.wait_for_job(background.job_id)
    assert job.status in ("failed", "completed"), job
    await raises(FleeksResourceNotFoundError, ws.terminal.get_job("job_aaaaaaaaaaaaaaaa"))


async def containers(ws):
    info = await ws.containers.get_info()
    assert info.container_id == ws.container_id and info.template == "python", info
    stats = await ws.containers.get_stats()
    assert stats.memory_mb > 0 and stats.process_count >= 1, stats
    ran = await ws.containers.exec("echo hi")
    assert (ran.exit_code, ran.stdout) == (0, "hi\n"), ran
    listed = await ws.containers.get_processes()
    assert listed.process_count == len(listed.processes) >= 1, listed
    restarted = await ws.containers.restart()
    assert restarted["status"], restarted
    assert (await ws.containers.exec("cat run.sh")).stdout.startswith("#!/bin/sh")


async def main(project):
    async with create_client() as client:
        ws = await workspaces(client, project)
        await files(ws)
        await terminal(ws)
        await containers(ws)
        await ws.delete()
        await raises(FleeksResourceNotFoundError, client.workspaces.get(project))
    async with create_client(api_key="fleeks_sk_" + "0" * 40) as stranger:
        await raises(FleeksAPIError, stranger.workspaces.list(), status=401)
    print(json.dumps({"ok": True}))


asyncio.run(main(sys.argv[1]))
