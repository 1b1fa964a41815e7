"""The article's loop: an agent iterates, each time in a workspace of its own."""
import asyncio
import json
import sys

from fleeks_sdk import create_client

TEST = """
import json
json.dump({"iteration": %d, "square": %d ** 2}, open("output.json", "w"))
print("done")
"""


async def main(count):
    async with create_client() as client:
        for iteration in range(count):
            ws = await client.workspaces.create(f"test-{iteration}")
            await ws.files.create("test.py", TEST % (iteration, iteration))
            job = await ws.terminal.execute("python test.py")
            assert job.exit_code == 0 and job.stdout.strip() == "done", job
            result = json.loads(await ws.files.read("output.json"))
            assert result == {"iteration": iteration, "square": iteration**2}, result
            await ws.delete()
    print(json.dumps({"iterations": count}))


asyncio.run(main(int(sys.argv[1])))
