"""Many clients at once, each with its own connections, on a few workspaces: all are served right."""
import asyncio
import json
import sys

from fleeks_sdk import create_client


async def one(project, number, rounds):
    async with create_client() as client:
        ws = await client.workspaces.create(f"{project}-{number % 4}", "default")
        for turn in range(rounds):
            text = f"{number} {turn}"
            await ws.files.create(f"c{number}/a.txt", text)
            ran = await ws.terminal.execute(f"cat c{number}/a.txt")
            assert ran.stdout == text, ran
            assert await ws.files.read(f"c{number}/a.txt") == text
            info = await ws.get_info()
            assert info.status == "ready", info
        return ws.container_id


async def main(project, clients, rounds):
    containers = await asyncio.gather(*(one(project, number, rounds) for number in range(clients)))
    async with create_client() as client:
        for number in range(4):
            await client.workspaces.delete(f"{project}-{number}")
    assert len(set(containers)) == min(4, clients), containers
    print(json.dumps({"clients": clients, "calls": clients * (1 + 4 * rounds)}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
