import time
from fleeks_sdk import create_client
async def benchmark():
    timings = []
    async with create_client() as client:
        for i in range(10):
            start = time.time()
            ws = await client.workspaces.create(f"bench-{i}")
            elapsed = (time.time() - start) * 1000
            timings.append(elapsed)
            await ws.delete()
    print(f"Avg: {sum(timings)/len(timings):.0f}ms")
