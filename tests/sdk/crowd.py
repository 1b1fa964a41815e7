"""Many clients at once, each with its own connections and mixed work, on a few workspaces: all are served right."""
import asyncio
import io
import json
import sys
import tarfile

from fleeks_sdk import create_client


def archive(text):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        entry = tarfile.TarInfo("in/a.txt")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text.encode()))
    return out.getvalue()


async def one(project, number, rounds):
    async with create_client() as client:
        name = f"{project}-{number % 4}"
        ws = await client.workspaces.create(name, "default")
        for turn in range(rounds):
            text = f"{number} {turn}"
            await ws.files.create(f"c{number}/a.txt", text)
            ran = await ws.terminal.execute(f"cat c{number}/a.txt")
            assert ran.stdout == text, ran
            assert await ws.files.read(f"c{number}/a.txt") == text
            info = await ws.get_info()
            assert info.status == "ready", info
            # What else a client does, each something else.
            match number % 6:
                case 0:
                    up = {"path": f"c{number}"}
                    await client.post_raw(f"files/{name}/archive", archive(text), "application/gzip", params=up)
                    assert await ws.files.read(f"c{number}/in/a.txt") == text
                case 1:
                    job = await ws.terminal.start_background_job(f"echo {text}; sleep 300")
                    assert (await ws.terminal.stop_job(job.job_id))["message"]
                case 2:
                    listed = await ws.files.list(f"c{number}", recursive=True)
                    assert f"c{number}/a.txt" in [one.path for one in listed.files], listed
                case 3:
                    ran = await ws.containers.exec(f"cat c{number}/a.txt")
                    assert ran.stdout == text, ran
                case 4:
                    assert (await ws.get_health()).project_id == name
                    assert (await ws.containers.get_stats()).process_count >= 1
                case 5:
                    assert (await ws.get_preview_url()).container_id == ws.container_id
                    assert (await ws.containers.heartbeat()).container_id == ws.container_id
        return ws.container_id


async def main(project, clients, rounds):
    containers = await asyncio.gather(*(one(project, number, rounds) for number in range(clients)))
    async with create_client() as client:
        for number in range(4):
            await client.workspaces.delete(f"{project}-{number}")
    assert len(set(containers)) == min(4, clients), containers
    print(json.dumps({"clients": clients, "calls": clients * (1 + 5 * rounds)}))


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
