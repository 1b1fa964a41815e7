"""The article's self-improving agent: what it learned is there after its container restarted."""
import asyncio
import json
import sys

from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksResourceNotFoundError


async def learn(client, project, times):
    ws = await client.workspaces.create(project)
    try:
        memory = json.loads(await ws.files.read("/workspace/memory.json"))
    except FleeksResourceNotFoundError:
        memory = {"patterns": [], "iteration": 0}
    for _ in range(times):
        memory["iteration"] += 1
        result = await ws.terminal.execute(f"python -c 'print({memory['iteration']} * 2)'")
        if result.exit_code == 0:
            memory["patterns"].append(int(result.stdout))
        await ws.files.create("/workspace/memory.json", json.dumps(memory))
    return ws


async def main(project, times):
    async with create_client() as client:
        ws = await learn(client, project, times)
        await ws.containers.restart()
        again = await learn(client, project, times)
        assert again.container_id == ws.container_id, "the container id must stay valid"
        memory = json.loads(await again.files.read("memory.json"))
        assert memory["patterns"] == [2 * n for n in range(1, 2 * times + 1)], memory
        preview = await again.get_preview_url()
        await again.delete()
        told = {"iteration": memory["iteration"], "patterns": len(memory["patterns"]), "url": preview.preview_url}
        print(json.dumps(told))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
