"""Runs the examples of docs/api/*.md as they stand: Python inside a client, shell with bash."""
import ast
import asyncio
import inspect
import json
import pathlib
import re
import subprocess
import sys

from fleeks_sdk import create_client

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


async def python(text, name, scope):
    code = compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, scope)
    if inspect.isawaitable(result):
        await result


async def shell(text, name):
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{name}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


async def page(path):
    text = path.read_text()
    ran = 0
    async with create_client() as client:
        scope = {"client": client}
        for match in BLOCK.finditer(text):
            name = f"{path.name}:{text[:match.start()].count(chr(10)) + 1}"
            kind, body = match.groups()
            try:
                if kind == "python":
                    await python(body, name, scope)
                elif kind == "bash":
                    await shell(body, name)
                else:
                    continue
            except Exception as error:
                raise AssertionError(f"the example at {name} fails: {error}") from error
            ran += 1
    return ran


async def main(directory):
    ran = {path.name: await page(path) for path in sorted(pathlib.Path(directory).glob("*.md"))}
    print(json.dumps(ran))


asyncio.run(main(sys.argv[1]))
