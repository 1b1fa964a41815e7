"""The learning agent, one sitting: reads memory.json, learns, writes it. Asks nothing of its past."""
import asyncio
import json
import sys

from fleeks_sdk import create_client
from fleeks_sdk.exceptions import FleeksResourceNotFoundError


async def main(project, times, then):
    async with create_client() as client:
        ws = await client.workspaces.create(project)
        try:
            memory = json.loads(await ws.files.read("/workspace/memory.json"))
        except FleeksResourceNotFoundError:
            memory = {"patterns": [], "iteration": 0}
        for _ in range(times):
            memory["iteration"] += 1
            result = await ws.terminal.execute(f"python -c 'print({memory['iteration']} * 2)'")
            assert result.exit_code == 0, result
            memory["patterns"].append(int(result.stdout))
            await ws.files.create("/workspace/memory.json", json.dumps(memory))
        if then == "hibernate":
            await ws.containers.hibernate()
        print(json.dumps({"container": ws.container_id, **memory}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
