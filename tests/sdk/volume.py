"""Files at volume, by plain HTTP: archives, pages, ranges, writers that race, uploads in parts."""
import asyncio
import hashlib
import io
import json
import os
import sys
import tarfile
import time
import zipfile

import httpx

BASE, KEY = os.environ["FLEEKS_BASE_URL"], os.environ["FLEEKS_API_KEY"]


class Files:
    def __init__(self, http, project):
        self.http, self.project = http, project

    async def call(self, method, end="", expect=(200,), **rest):
        answer = await self.http.request(method, f"/api/v1/sdk/files/{self.project}{end}", **rest)
        assert answer.status_code in expect, f"{method} {end}: {answer.status_code} {answer.text[:400]}"
        return answer

    async def run(self, command, timeout=25):
        body = {"project_id": self.project, "command": command, "timeout_seconds": timeout}
        answer = await self.http.post("/api/v1/sdk/terminal/execute", json=body)
        assert answer.status_code == 200 and answer.json()["exit_code"] == 0, answer.text[:600]
        return answer.json()["stdout"]

    async def total(self):
        listed = await self.call("GET", params={"path": "/", "recursive": "true", "include_hidden": "true"})
        return listed.json()["total_count"]


def tar(entries, mode="w:gz"):
    """Of (name, content), or of whole TarInfos."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for entry, content in entries:
            if isinstance(entry, str):
                name, entry = entry, tarfile.TarInfo(entry)
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content) if content is not None else None)
    return out.getvalue()


def special(name, kind, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry, None


async def many(files, count):
    """Ten thousand small files, up at once, listed in pages, seen inside, and down again."""
    content = {f"many/{number % 100:02}/file-{number:05}.txt": f"content {number}\n".encode() for number in range(count)}
    began = time.monotonic()
    done = (await files.call("PUT", "/archive", content=tar(content.items()))).json()
    took = time.monotonic() - began
    assert done["files"] == count, done
    seen, cursor, pages = [], None, 0
    while True:
        query = {"path": "many", "recursive": "true", "limit": "3000"} | ({"cursor": cursor} if cursor else {})
        page = (await files.call("GET", params=query)).json()
        assert len(page["files"]) <= 3000 and page["total_count"] == count + 100, page["total_count"]
        seen += [one["path"] for one in page["files"] if one["type"] == "file"]
        pages, cursor = pages + 1, page.get("next_cursor")
        if not cursor:
            break
    assert seen == sorted(content) and pages == (count + 100 + 2999) // 3000, (len(seen), pages)
    assert await files.run("find many -type f | wc -l; cat many/07/file-00007.txt") == f"{count}\ncontent 7\n"
    for form, opened in (("tar.gz", "r:gz"), ("tar", "r:")):
        down = await files.call("GET", "/archive", params={"path": "many", "format": form})
        with tarfile.open(fileobj=io.BytesIO(down.content), mode=opened) as archive:
            back = {"many/" + one.name: archive.extractfile(one).read() for one in archive if one.isfile()}
        assert back == content, (form, len(back))
    down = await files.call("GET", "/archive", params={"path": "many/00", "format": "zip"})
    with zipfile.ZipFile(io.BytesIO(down.content)) as archive:
        assert archive.testzip() is None
        assert archive.read("file-00000.txt") == b"content 0\n"
    # A zip in, into a directory of its own.
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("grüße/ünïcode ✓.txt", "zip")
    await files.call("POST", "/archive", params={"path": "z"}, content=out.getvalue())
    assert await files.run("cat 'z/grüße/ünïcode ✓.txt'") == "zip"
    await files.call("DELETE", "/content", params={"path": "many"})
    return round(took, 2)


async def links_and_modes(files):
    entries = [("bin/run.sh", b"#!/bin/sh\necho ran\n"), special("cmd", tarfile.SYMTYPE, "bin/run.sh")]
    script = tarfile.TarInfo("bin/run.sh")
    script.mode, script.size = 0o6755, len(entries[0][1])
    await files.call("PUT", "/archive", params={"path": "links"}, content=tar([(script, entries[0][1]), entries[1]]))
    assert await files.run("links/cmd; stat -c %a links/bin/run.sh; readlink links/cmd") == "ran\n755\nbin/run.sh\n"
    await files.run("ln -s /etc/passwd links/out; mkfifo links/fifo")
    down = await files.call("GET", "/archive", params={"path": "links"})
    # A FIFO that was made on gVisor is not on the disk.
    assert down.headers["x-left-out"] in ("1", "2"), down.headers
    names = tarfile.open(fileobj=io.BytesIO(down.content), mode="r:gz").getnames()
    assert sorted(names) == ["bin", "bin/run.sh", "cmd"], names
    # Up again where they are already; not if they must not be.
    await files.call("PUT", "/archive", params={"path": "links"}, content=down.content)
    await files.call("PUT", "/archive", params={"path": "links", "overwrite": "false"}, content=down.content, expect=(409,))


async def hostile(files):
    """Refused as a whole: nothing of them is there afterwards."""
    await files.call("POST", json={"path": "there/file", "content": "x"})
    await files.call("POST", json={"path": "dir/inner", "content": "x"})
    before = await files.total()
    good = ("good.txt", b"good")
    bomb = tarfile.TarInfo("bomb")
    bomb.size = 100 << 20
    bombed = io.BytesIO()
    with tarfile.open(fileobj=bombed, mode="w:gz") as archive:
        archive.addfile(bomb, io.BytesIO(bytes(bomb.size)))
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive:
        archive.writestr("../zip", "x")
    bad = {
        "absolute": tar([good, ("/etc/x", b"x")]),
        "up": tar([good, ("../x", b"x")]),
        "link out": tar([good, special("l", tarfile.SYMTYPE, "../../etc/passwd")]),
        "through a link": tar([good, special("l", tarfile.SYMTYPE, "."), ("l/x", b"x")]),
        "hard link": tar([good, special("h", tarfile.LNKTYPE, "good.txt")]),
        "device": tar([good, special("d", tarfile.CHRTYPE)]),
        "fifo": tar([good, special("f", tarfile.FIFOTYPE)]),
        "bomb": bombed.getvalue(),
        "cut off": tar([good, ("x", os.urandom(10_000))])[:-100],
        "zip up": twice.getvalue(),
        "a file in the way": tar([good, ("there/file/x", b"x")]),
        "a directory in the way": tar([good, ("dir", b"x")]),
        "text": b"this is no archive",
        "nothing": b"",
    }
    for what, content in bad.items():
        answer = await files.call("PUT", "/archive", content=content, expect=(422,))
        assert answer.json()["detail"] and "written" not in answer.json(), (what, answer.text)
        assert await files.total() == before, what
    return len(bad)


async def ranges(files):
    content = os.urandom(300_000)
    await files.call("PUT", "/raw", params={"path": "range.bin"}, content=content)
    where = {"params": {"path": "range.bin"}}
    whole = await files.call("GET", "/raw", **where)
    tag = whole.headers["etag"]
    assert whole.content == content and whole.headers["accept-ranges"] == "bytes"
    for asked, expected in [("bytes=0-0", content[:1]), ("bytes=1000-1999", content[1000:2000]), ("bytes=-5", content[-5:]), ("bytes=299999-", content[-1:])]:
        part = await files.call("GET", "/raw", headers={"Range": asked, "If-Range": tag}, expect=(206,), **where)
        assert part.content == expected and part.headers["content-range"].endswith("/300000"), part.headers
    await files.call("GET", "/raw", headers={"Range": "bytes=300000-"}, expect=(416,), **where)
    await files.call("GET", "/raw", headers={"If-None-Match": tag}, expect=(304,), **where)
    head = await files.call("HEAD", "/raw", **where)
    assert head.headers["content-length"] == "300000" and not head.content
    # Another content of the same length: parts of the old one are of no use.
    await files.call("PUT", "/raw", params={"path": "range.bin"}, content=content[::-1])
    other = await files.call("GET", "/raw", headers={"Range": "bytes=0-9", "If-Range": tag}, **where)
    assert other.content == content[::-1] and other.headers["etag"] != tag


READER = """
import time
seen, end = set(), time.time() + 60
while time.time() < end and not __import__("os").path.exists("stop"):
    content = open("raced", "rb").read()
    assert len(content) == 100_000 and len(set(content)) == 1, (len(content), set(content))
    seen.add(content[0])
print("seen", len(seen))
"""


async def races(files, rounds):
    """Many writers of one file: whoever reads it, inside or outside, sees one of them whole."""
    await files.call("PUT", "/raw", params={"path": "raced"}, content=b"a" * 100_000)
    await files.call("POST", json={"path": "reader.py", "content": READER})
    reader = asyncio.create_task(files.run("python reader.py", 100))

    async def writer(letter):
        for _ in range(rounds):
            await files.call("PUT", "/raw", params={"path": "raced"}, content=letter * 100_000)
            content = (await files.call("GET", "/raw", params={"path": "raced"})).content
            assert len(content) == 100_000 and len(set(content)) == 1
    await asyncio.gather(*(writer(bytes([letter])) for letter in b"abcdefgh"))
    await files.call("POST", json={"path": "stop", "content": ""})
    assert int((await reader).split()[1]) >= 1
    assert not [one for one in (await files.run("ls -A")).split() if one.endswith(".tmp")]


async def parts(files):
    """An upload that breaks off goes on where it is."""
    content = os.urandom(3_000_000)
    begun = await files.call("POST", "/uploads", headers={"Upload-Length": str(len(content)), "Tus-Resumable": "1.0.0"},
                             params={"path": "large/file.bin", "sha256": hashlib.sha256(content).hexdigest()}, expect=(201,))
    place = begun.headers["location"].removeprefix(f"/api/v1/sdk/files/{files.project}")

    async def patch(offset, body, expect=(204,)):
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        return await files.call("PATCH", place, headers=headers, content=body, expect=expect)
    assert (await patch(0, content[:1_000_000])).headers["upload-offset"] == "1000000"
    await files.call("GET", "/raw", params={"path": "large/file.bin"}, expect=(404,))
    wrong = await patch(0, content, expect=(409,))
    assert wrong.headers["upload-offset"] == "1000000" and wrong.json()["offset"] == 1_000_000

    async def broken():
        yield content[1_000_000:1_400_000]
        await asyncio.sleep(0.3)
        raise OSError("the network is gone")
    try:
        await patch(1_000_000, broken())
        raise AssertionError("it was not broken off")
    except (OSError, httpx.HTTPError):
        pass
    for _ in range(100):
        offset = int((await files.call("HEAD", place)).headers["upload-offset"])
        if offset > 1_000_000:
            break
        await asyncio.sleep(0.1)
    assert 1_000_000 < offset <= 1_400_000, offset
    await patch(offset, content[offset:] + b"more", expect=(422,))
    offset = int((await files.call("HEAD", place)).headers["upload-offset"])
    await patch(offset, content[offset:])
    assert (await files.call("GET", "/raw", params={"path": "large/file.bin"})).content == content
    # Whoever did not hear the answer asks again.
    assert (await files.call("GET", place)).json()["complete"] is True
    assert (await patch(len(content), b"")).status_code == 204
    await files.call("DELETE", place, expect=(204,))
    await files.call("HEAD", place, expect=(404,))
    # Another sum, another owner of the place, no length, too large.
    begun = await files.call("POST", "/uploads", headers={"Upload-Length": "3"}, params={"path": "sum", "sha256": "0" * 64}, expect=(201,))
    place = f"/uploads/{begun.json()['upload_id']}"
    await patch(0, b"abc", expect=(422,))
    await files.call("GET", "/raw", params={"path": "sum"}, expect=(404,))
    # Of nothing no part comes: it is there at once, or refused.
    nothing = {"Upload-Length": "0", "Tus-Resumable": "1.0.0"}
    await files.call("POST", "/uploads", headers=nothing, params={"path": "large/file.bin", "overwrite": "false"}, expect=(409,))
    begun = await files.call("POST", "/uploads", headers=nothing, params={"path": "empty"}, expect=(201,))
    assert begun.json()["complete"] is True, begun.text
    assert (await files.call("GET", "/raw", params={"path": "empty"})).content == b""
    # What tus asks of a server besides.
    said = (await files.call("OPTIONS", "/uploads", expect=(204,))).headers
    assert said["tus-version"] == "1.0.0" and "creation" in said["tus-extension"], said
    other = await files.call("POST", "/uploads", headers={**nothing, "Tus-Resumable": "0.2.2"}, params={"path": "x"}, expect=(412,))
    assert other.headers["tus-version"] == "1.0.0"
    await files.call("POST", "/uploads", params={"path": "x"}, expect=(422,))
    await files.call("POST", "/uploads", params={"path": "x"}, headers={"Upload-Length": str(1 << 60)}, expect=(413,))
    await files.call("GET", "/uploads/upl_nosuch", expect=(404,))


async def slow_readers(files):
    """Forty who have asked for a large file and do not take it keep nobody from reading."""
    await files.run("head -c 64M /dev/zero > large.bin")
    where = f"/api/v1/sdk/files/{files.project}/raw"
    async with httpx.AsyncClient(base_url=BASE, headers={"X-API-Key": KEY}, timeout=60, trust_env=False,
                                 limits=httpx.Limits(max_connections=50)) as slow:
        async def take_a_little(number):
            async with slow.stream("GET", where, params={"path": "large.bin"}) as answer:
                assert answer.status_code == 200, answer.status_code
                await anext(answer.aiter_raw())
                taken.append(number)
                await enough.wait()
        taken, enough = [], asyncio.Event()
        readers = [asyncio.create_task(take_a_little(number)) for number in range(40)]
        for _ in range(300):
            if len(taken) == 40:
                break
            await asyncio.sleep(0.1)
        assert len(taken) == 40, f"{len(taken)} were answered"
        for _ in range(20):
            part = await files.call("GET", "/raw", params={"path": "large.bin"}, headers={"Range": "bytes=0-9"}, expect=(206,))
            assert part.content == bytes(10)
        enough.set()
        await asyncio.gather(*readers)
    await files.call("DELETE", "/content", params={"path": "large.bin"})


async def strange(files):
    """Names, numbers and bodies that nobody sends: an answer of the API's own, and no fault of it."""
    names = ["a" * 256, "/".join(["d"] * 3000), "nul\0", "new\nline", "tab\t", " ", "...", "-rf", "\u202egnp.exe", "\ufeffbom",
             "\U0001f600", "a\\b", "con", "%2e%2e/%2e%2e/etc/passwd", "~", "$HOME", "`id`", "*", "{a,b}"]
    for name in names:
        made = await files.call("POST", json={"path": name, "content": "x"}, expect=(200, 422))
        if made.status_code == 200:
            assert (await files.call("GET", "/raw", params={"path": name})).content == b"x", name
            await files.call("DELETE", "/content", params={"path": name})
    await files.call("GET", params={"path": b"\xff\xfe"}, expect=(400, 404, 422))
    for query in ({"limit": "-1"}, {"limit": "1e9"}, {"limit": "\u0663"}, {"limit": "9" * 50}, {"limit": "5", "cursor": "\u2713"}):
        await files.call("GET", params={"path": "/"} | query, expect=(422,))
    deep = b'{"path": "deep", "content": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    for body in (deep, b'{"path": "x", "content": "\xff"}', b'{"path": "x", "content": 1e999}', b"\xff\xfe{", b"null", b'{"path":' * 5000):
        await files.call("POST", content=body, expect=(400, 422))
    execute = {"project_id": files.project, "command": "env", "timeout_seconds": 20}
    for environment in ({"A=B": "x"}, {"": "x"}, {"A\0": "x"}, {"A": "x\0"}, {"A": "x" * 200_000}, {f"V{n}": "" for n in range(600)}, {"A": 1}, ["A"]):
        answer = await files.http.post("/api/v1/sdk/terminal/execute", json=execute | {"environment": environment})
        assert answer.status_code == 422 and answer.json()["detail"], (str(environment)[:80], answer.text)
    for seconds in (-1, 0, 3601, 1 << 70, 1.5, "x", None):
        answer = await files.http.post("/api/v1/sdk/terminal/execute", json=execute | {"timeout_seconds": seconds})
        assert answer.status_code == 422 or seconds is None, (seconds, answer.text)


async def half(files):
    """The first half, for `rest` to go on after the platform was killed."""
    content = bytes(range(256)) * 8192
    begun = await files.call("POST", "/uploads", headers={"Upload-Length": str(len(content))}, params={"path": "halves"}, expect=(201,))
    place = f"/uploads/{begun.json()['upload_id']}"
    await files.call("PATCH", place, headers={"Upload-Offset": "0"}, content=content[: 1 << 20], expect=(204,))
    return place


async def rest(files, place):
    content = bytes(range(256)) * 8192
    assert (await files.call("HEAD", place)).headers["upload-offset"] == str(1 << 20)
    await files.call("PATCH", place, headers={"Upload-Offset": str(1 << 20)}, content=content[1 << 20 :], expect=(204,))
    assert (await files.call("GET", "/raw", params={"path": "halves"})).content == content


async def main(part, project, *more):
    headers = {"X-API-Key": KEY}
    async with httpx.AsyncClient(base_url=BASE, headers=headers, timeout=120, trust_env=False) as http:
        files = Files(http, project)
        if part == "all":
            count, rounds = map(int, more)
            parts_of_it = [
                lambda: many(files, count), lambda: links_and_modes(files), lambda: hostile(files), lambda: ranges(files),
                lambda: races(files, rounds), lambda: parts(files), lambda: strange(files), lambda: slow_readers(files)]
            took = []
            for one in parts_of_it:
                began = time.monotonic()
                await one()
                took.append(round(time.monotonic() - began, 2))
            print(json.dumps({"ok": True, "took_s": took}))
        elif part == "half":
            print(json.dumps({"place": await half(files)}))
        elif part == "rest":
            await rest(files, more[0])
            print(json.dumps({"ok": True}))


asyncio.run(main(*sys.argv[1:]))
