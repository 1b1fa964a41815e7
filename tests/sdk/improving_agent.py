"""The article's self-improving agent: what it learned goes on across hibernation and restarts."""
import asyncio
import json
import sys

from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksResourceNotFoundError

TASK = """
import json, pathlib
memory = json.loads(pathlib.Path("/workspace/memory.json").read_text())
print("pattern", memory["iteration"])
raise SystemExit(memory["iteration"] % 7 == 0)
"""


async def main(project, iterations):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        container = ws.container_id
        await ws.files.create("task.py", TASK)
        try:
            memory = json.loads(await ws.files.read("/workspace/memory.json"))
        except FleeksResourceNotFoundError:
            memory = {"patterns": [], "iteration": 0}
        slept = restarted = 0
        for i in range(iterations):
            memory["iteration"] += 1
            await ws.files.create("/workspace/memory.json", json.dumps(memory))
            result = await ws.terminal.execute("python task.py")
            if result.exit_code == 0:
                memory["patterns"].append(result.stdout.strip())
            await ws.files.create("/workspace/memory.json", json.dumps(memory))
            if i % 5 == 2:
                await ws.containers.hibernate()
                slept += 1
            if i % 8 == 4:
                await ws.containers.restart()
                restarted += 1
            # What an agent finds that comes back later, by name.
            ws = await client.workspaces.create(project)
            memory = json.loads(await ws.files.read("/workspace/memory.json"))
        assert ws.container_id == container, "the same container id for all that time"
        numbers = range(1, memory["iteration"] + 1)
        assert memory["patterns"] == [f"pattern {n}" for n in numbers if n % 7], memory
        url = (await ws.get_preview_url()).preview_url
        await ws.delete()
        print(json.dumps({"iteration": memory["iteration"], "slept": slept, "restarted": restarted, "url": url}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
