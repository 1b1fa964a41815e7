"""Runs the README's snippet with the SDK as customers have it, then opens what it made.

    make try                            against the `make up` that answers, or one of its own for the while
    make try ARGS='--runtime runc'      the arguments go to that one of its own

The platform is found at FLEEKS_BASE_URL (http://127.0.0.1:8080), its key and CA in FLEEKS_DATA_DIR
(/var/lib/fleeks); FLEEKS_API_KEY wins over the key there.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
READY_SECONDS = 120
SNIPPET_SECONDS = 120
ANSWER_SECONDS = 30
STOP_SECONDS = 30


def main():
    base = os.environ.get("FLEEKS_BASE_URL", "http://127.0.0.1:8080")
    if healthy(base):
        data_dir = Path(os.environ.get("FLEEKS_DATA_DIR", "/var/lib/fleeks"))
        say(f"using the platform that answers at {base}")
        attempt(base, data_dir)
    else:
        with platform_of_our_own(sys.argv[1:]) as (base, data_dir):
            attempt(base, data_dir)


def attempt(base, data_dir):
    ca = data_dir / "ca.pem"
    if not ca.exists():
        fail(f"there is no {ca}: set FLEEKS_DATA_DIR to the platform's --data-dir")
    url = preview_url(run_snippet(base, api_key(data_dir)))
    say(f"the snippet printed {url}")
    fetch(url, "--cacert", str(ca))
    twin = urllib.parse.urlsplit(url)
    port = urllib.parse.urlsplit(base).port or 80
    fetch(f"http://{twin.hostname}:{port}/")
    say("works")


def run_snippet(base, key):
    blocks = re.findall(r"^```python\n(.*?)^```", (CHECKOUT / "README.md").read_text(), re.M | re.S)
    snippets = [block for block in blocks if "fleeks_sdk" in block]
    if not snippets:
        fail("README.md has no Python snippet that uses fleeks_sdk")
    environment = os.environ | {"FLEEKS_BASE_URL": base, "FLEEKS_API_KEY": key, "PYTHONUNBUFFERED": "1"}
    try:
        ran = subprocess.run(
            [sys.executable, "-c", snippets[0]], env=environment, timeout=SNIPPET_SECONDS,
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


def api_key(data_dir):
    if key := os.environ.get("FLEEKS_API_KEY"):
        return key
    try:
        return (data_dir / "api-key").read_text().strip()
    except OSError as error:
        fail(f"{error}: set FLEEKS_DATA_DIR to the platform's --data-dir, or FLEEKS_API_KEY")


@contextlib.contextmanager
def platform_of_our_own(arguments):
    program = os.environ.get("FLEEKS_BIN", CHECKOUT / "target/release/fleeks")
    http, https = free_ports(2)
    base = f"http://127.0.0.1:{http}"
    scratch = Path(tempfile.mkdtemp(prefix="fleeks-try-"))
    log = scratch / "log"
    command = [program, "up", "--data-dir", scratch / "data", "--http", f"127.0.0.1:{http}",
               "--https", f"127.0.0.1:{https}", "--pool", "python=1", *arguments]
    say(f"none answers; starting one at {base}")
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    good = False
    try:
        until = time.monotonic() + READY_SECONDS
        while not healthy(base):
            if process.poll() is not None:
                fail(f"fleeks up ended with {process.returncode}")
            if time.monotonic() > until:
                fail(f"fleeks up was not ready within {READY_SECONDS} s")
            time.sleep(0.1)
        yield base, scratch / "data"
        good = True
    finally:
        stop(process)
        if not good:
            sys.stderr.write(f"try: the end of its log:\n{log.read_text(errors='replace')[-4000:]}\n")
        subprocess.run([program, "down", "--data-dir", scratch / "data"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, timeout=STOP_SECONDS, check=False)
        shutil.rmtree(scratch, ignore_errors=True)


def stop(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count):
    with contextlib.ExitStack() as held:
        listeners = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]


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
