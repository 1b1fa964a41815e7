"""Runs the README's snippet with the SDK as customers have it, then opens what it made.

    make try                            against the `make up` that answers, or one of its own for the while
    make try ARGS='--runtime runc'      the arguments go to that one of its own

FLEEKS_BASE_URL (http://127.0.0.1:8080) and FLEEKS_DATA_DIR (/var/lib/fleeks) say where to look.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BASE_URL = "http://127.0.0.1:8080"
DATA_DIR = "/var/lib/fleeks"
READY_SECONDS = 120
SNIPPET_SECONDS = 120
ANSWER_SECONDS = 30
STOP_SECONDS = 30


def main():
    base = os.environ.get("FLEEKS_BASE_URL", BASE_URL)
    if healthy(base):
        data_dir = Path(os.environ.get("FLEEKS_DATA_DIR", DATA_DIR))
        say(f"using the platform that answers at {base}")
        attempt(base, data_dir)
    else:
        with platform_of_our_own(sys.argv[1:]) as (base, data_dir):
            attempt(base, data_dir)


def attempt(base, data_dir):
    ca = data_dir / "ca.pem"
    if not ca.exists():
        fail(f"there is no {ca}: set FLEEKS_DATA_DIR to the --data-dir of the platform at {base}")
    url = preview_url(run_snippet(base, data_dir))
    say(f"the snippet printed {url}")
    fetch(url, "--cacert", str(ca))
    twin = urllib.parse.urlsplit(url)
    port = urllib.parse.urlsplit(base).port or 80
    fetch(f"http://{twin.hostname}:{port}/")
    say("works")


def run_snippet(base, data_dir):
    blocks = re.findall(r"^```python\n(.*?)^```", (CHECKOUT / "README.md").read_text(), re.M | re.S)
    snippets = [block for block in blocks if "fleeks_sdk" in block]
    if not snippets:
        fail("README.md has no Python snippet that uses fleeks_sdk")
    snippet = snippets[0]
    for default, here in [(BASE_URL, base), (f"{DATA_DIR}/", f"{data_dir}/")]:
        if default not in snippet:
            fail(f"the README's snippet no longer names {default}")
        snippet = snippet.replace(default, here)
    environment = os.environ | {"NO_PROXY": "*", "PYTHONUNBUFFERED": "1"}
    try:
        ran = subprocess.run(
            [sys.executable, "-c", snippet], env=environment, timeout=SNIPPET_SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )
    except subprocess.TimeoutExpired:
        fail(f"the snippet did not end within {SNIPPET_SECONDS} s")
    if ran.returncode != 0:
        fail(f"the snippet failed with {ran.returncode}")
    return ran.stdout


def preview_url(output):
    urls = re.findall(r"https://[^\s\"']+", output)
    if not urls:
        fail(f"the snippet printed no https URL, but {output!r}")
    return urls[-1]


def fetch(url, *options):
    """Until it answers 200: the app inside may need a moment to listen."""
    parts = urllib.parse.urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # Not every resolver knows that *.localhost is this machine.
    here = f"{parts.hostname}:{port}:127.0.0.1"
    until = time.monotonic() + ANSWER_SECONDS
    while True:
        ran = subprocess.run(
            ["curl", "--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--resolve", here, *options,
             "--write-out", "\n%{http_code} %{http_version} %{time_total}", url],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )
        body, _, result = ran.stdout.rpartition("\n")
        if ran.returncode == 0 and result.startswith("200 "):
            status, version, seconds = result.split()
            say(f"{url} → {status} over HTTP/{version} in {float(seconds) * 1000:.0f} ms: {body.strip()[:60]!r}")
            return
        if time.monotonic() > until:
            fail(f"{url} did not answer 200 within {ANSWER_SECONDS} s: {ran.stderr.strip() or result} {body[:300]!r}")
        time.sleep(0.1)


@contextlib.contextmanager
def platform_of_our_own(arguments):
    program = os.environ.get("FLEEKS_BIN", CHECKOUT / "target/release/fleeks")
    scratch = Path(tempfile.mkdtemp(prefix="fleeks-try-"))
    data_dir, log, ready = scratch / "data", scratch / "log", scratch / "ready.json"
    command = [program, "up", "--data-dir", data_dir, "--http", "127.0.0.1:0", "--https", "127.0.0.1:0",
               "--admin", "off", "--pool", "python=1", "--ready-file", ready, *arguments]
    say("no platform answers; starting one")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    good = False
    try:
        until = time.monotonic() + READY_SECONDS
        while not ready.exists():
            if process.poll() is not None:
                fail(f"fleeks up ended with {process.returncode}")
            if time.monotonic() > until:
                fail(f"fleeks up was not ready within {READY_SECONDS} s")
            time.sleep(0.05)
        yield f"http://{json.loads(ready.read_text())['http']}", data_dir
        good = True
    finally:
        stop(process)
        if not good:
            sys.stderr.write(f"try: its log ends:\n{log.read_text(errors='replace')[-4000:]}\n")
        subprocess.run([program, "down", "--data-dir", data_dir], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, timeout=STOP_SECONDS, check=False)
        shutil.rmtree(scratch, ignore_errors=True)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def healthy(base):
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(f"{base}/health", timeout=5) as answer:
            return answer.status == 200
    except (OSError, ValueError, urllib.error.URLError):
        return False


def say(text):
    print(f"try: {text}", flush=True)


def fail(text):
    sys.exit(f"try: {text}")


if __name__ == "__main__":
    # `finally` blocks run on a polite end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
