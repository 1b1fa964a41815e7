"""The article's monitor: a background job that is hibernated and woken, and does not notice."""
import asyncio
import json
import sys

from fleeks_sdk import create_client

MONITOR = """
import os, time
notes = open("notes.txt", "a", buffering=1)   # an open file, at its offset
seen, began = [], time.monotonic()
while True:
    seen.append(len(seen))
    notes.write(f"{os.getpid()} {len(seen)} {sum(seen)}\\n")
    time.sleep(0.05)
"""


async def notes(ws):
    lines = (await ws.files.read("notes.txt")).splitlines()
    return [tuple(map(int, line.split())) for line in lines if len(line.split()) == 3]


async def more_than(ws, count):
    for _ in range(600):
        written = await notes(ws)
        if len(written) > count:
            return written
        await asyncio.sleep(0.05)
    raise AssertionError(f"no more than {count} notes")


async def main(project, times):
    async with create_client() as client:
        ws = await client.workspaces.create(project, "python")
        await ws.files.create("monitor.py", MONITOR)
        await ws.files.create("notes.txt", "")
        job = await ws.terminal.start_background_job("python monitor.py")
        await more_than(ws, 3)
        for _ in range(times):
            await ws.containers.hibernate()
            asleep = await notes(ws)
            woken = await client._make_request("POST", f"containers/{ws.container_id}/wake")
            assert woken.get("woken") == "memory", woken
            written = await more_than(ws, len(asleep) + 3)
            assert written[: len(asleep)] == asleep, "what was written stays"
            assert len({pid for pid, _, _ in written}) == 1, "the same process, with the same id"
            numbers = [n for _, n, _ in written]
            assert numbers == list(range(1, len(numbers) + 1)), f"and its memory: {len(asleep)} then {numbers}"
            assert all(total == n * (n - 1) // 2 for _, n, total in written), "all of it"
            state = await ws.terminal.get_job(job.job_id)
            assert state.status == "running", state
        stopped = await ws.terminal.stop_job(job.job_id)
        await ws.delete()
        print(json.dumps({"stopped": bool(stopped)}))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
