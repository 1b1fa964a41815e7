"""The article's monitor: a fix that was found once is applied at once, also after a sleep."""
import asyncio
import json
import sys

from fleeks_sdk import create_client

MONITOR = """
import json, pathlib, time
root = pathlib.Path("/workspace")
fixes, failing, healed = root / "fixes.json", root / "failing", root / "healed"
failing.mkdir(exist_ok=True)
healed.mkdir(exist_ok=True)
investigated = 0
while True:
    for pod in sorted(failing.iterdir()):
        memory = json.loads(fixes.read_text()) if fixes.exists() else {}
        issue = pod.read_text()
        if not issue:
            continue
        known = issue in memory
        if not known:
            investigated += 1
            memory[issue] = f"restart {issue}"
            fixes.write_text(json.dumps(memory))
        said = json.dumps({"fix": memory[issue], "known": known, "investigated": investigated})
        (root / "told").write_text(said)
        (root / "told").rename(healed / pod.name)
        pod.unlink()
    time.sleep(0.05)
"""


async def main(project):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        await ws.files.create("monitor.py", MONITOR)
        job = await ws.terminal.start_background_job("python monitor.py")

        async def heals(pod, issue):
            await ws.files.create(f"failing/{pod}", issue)
            for _ in range(600):
                names = [one.name for one in (await ws.files.list("/healed")).files]
                if pod in names:
                    return json.loads(await ws.files.read(f"healed/{pod}"))
                await asyncio.sleep(0.05)
            names = {place: [one.name for one in (await ws.files.list(place)).files] for place in ["/failing", "/healed"]}
            there = await ws.terminal.execute("ps ax; ls -la failing healed")
            state = await ws.terminal.get_job(job.job_id)
            raise AssertionError(f"{pod} was not healed: {names}\n{there.stdout}\n{state}")

        for _ in range(600):
            if "healed" in [one.name for one in (await ws.files.list("/")).files]:
                break
            await asyncio.sleep(0.05)
        first = await heals("pod-1", "oom")
        assert first == {"fix": "restart oom", "known": False, "investigated": 1}, first
        second = await heals("pod-2", "oom")
        assert second == {"fix": "restart oom", "known": True, "investigated": 1}, second
        await ws.containers.hibernate()
        # The pod that fails while it sleeps wakes it; its own memory is as it was.
        third = await heals("pod-3", "oom")
        assert third == {"fix": "restart oom", "known": True, "investigated": 1}, third
        other = await heals("pod-4", "disk")
        assert other["investigated"] == 2, other
        assert (await ws.terminal.get_job(job.job_id)).status == "running"
        # A new process knows the fixes, too: they are on the volume.
        await ws.containers.restart()
        await ws.terminal.start_background_job("python monitor.py")
        fifth = await heals("pod-5", "disk")
        assert fifth == {"fix": "restart disk", "known": True, "investigated": 0}, fifth
        await ws.delete()
        print(json.dumps({"healed": 5}))


asyncio.run(main(sys.argv[1]))
