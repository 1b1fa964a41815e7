"""`fleeks shell` as a person uses it: in a real pseudo terminal, whose modes and size count.

shell.py FLEEKS PROJECT CONTAINER RUNTIME
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.request

FLEEKS, PROJECT, CONTAINER, RUNTIME = sys.argv[1:]
BASE, KEY = os.environ["FLEEKS_BASE_URL"], os.environ["FLEEKS_API_KEY"]
COMMON = ["--api", BASE]
PATIENCE = 40


class Person:
    """Sits at a terminal in which a program runs."""

    def __init__(self, arguments, rows=33, cols=111):
        self.master, slave = pty.openpty()
        self.size(rows, cols)
        self.before = termios.tcgetattr(slave)
        self.slave = slave
        self.seen = b""
        self.process = subprocess.Popen(
            [FLEEKS, "shell", PROJECT, *COMMON, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def size(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def types(self, text):
        os.write(self.master, text.encode())

    def sees(self, *texts):
        """One of them."""
        text = texts[0]
        deadline = time.monotonic() + PATIENCE
        while not any(text.encode() in self.seen for text in texts):
            left = deadline - time.monotonic()
            if left <= 0:
                raise SystemExit(f"{text!r} was not seen in {self.seen[-2000:]!r}")
            if select.select([self.master], [], [], min(left, 0.2))[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    raise SystemExit(f"the terminal ended before {text!r}: {self.seen[-2000:]!r}")

    def ends(self):
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise SystemExit(f"it does not end: {self.seen[-2000:]!r}")
            if select.select([self.master], [], [], 0.05)[0]:
                self.seen += os.read(self.master, 65536)
        while select.select([self.master], [], [], 0.05)[0]:
            self.seen += os.read(self.master, 65536)
        after = termios.tcgetattr(self.slave)
        assert after == self.before, "the terminal was left in another mode"
        return self.process.returncode


def call(method, path):
    request = urllib.request.Request(BASE + path, method=method, headers={"X-API-Key": KEY})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def run(*arguments, **options):
    return subprocess.run(
        [FLEEKS, "shell", PROJECT, *COMMON, *arguments],
        capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, **options,
    )


def main():
    # Its size, its modes, a new size, Ctrl-C, and the exit code.
    person = Person([])
    person.types("echo size-$(stty size)\r")
    person.sees("size-33 111")
    assert termios.tcgetattr(person.slave)[3] & termios.ICANON == 0, "not raw"
    person.size(21, 77)
    person.types("until stty size | grep 77; do sleep 0.1; done; echo size-$(stty size)\r")
    person.sees("size-21 77")
    # In a program of its own: a shell may lose the signal between two of its own commands.
    person.types("sh -c 'echo go-$((1+1)); exec sleep 1000'\r")
    person.sees("go-2")
    # It throws away what was typed and not read. gVisor shows the character as it is.
    person.types("\x03")
    person.sees("^C", "\x03")
    person.types("echo code-$?\r")
    person.sees("code-130")
    person.types("echo after-$((40+2))\r")
    person.sees("after-42")
    person.types("exit 9\r")
    assert person.ends() == 9, person.seen

    # A command in place of the shell.
    person = Person(["-e", "WHO=ada", "--", "sh", "-c", "echo $WHO at $(pwd); exit 3"])
    assert person.ends() == 3
    assert b"ada at /workspace" in person.seen, person.seen

    # Away and back: what was printed is there again.
    person = Person([])
    person.types("KEPT=yes; echo here-$((1+1))\r")
    person.sees("here-2")
    person.types("\r~.")
    assert person.ends() == 0
    assert b"--attach tty_" in person.seen, person.seen
    listed = json.loads(run("--list", "--json").stdout)
    running = [one for one in listed["terminals"] if one["status"] == "running"]
    assert len(running) == 1, listed
    terminal = running[0]["terminal_id"]
    assert terminal in run("--list").stdout
    person = Person(["--attach", terminal])
    person.sees("here-2")
    # Through a night, unnoticed.
    call("POST", f"/api/v1/sdk/containers/{CONTAINER}/hibernate")
    person.types("echo kept-$KEPT\r")
    person.sees("kept-yes")
    # Killed politely, it leaves the terminal as it was, here and there.
    person.process.send_signal(signal.SIGTERM)
    assert person.ends() == 0
    ended = run("--end", terminal)
    assert ended.returncode == 0, ended
    assert run("--attach", terminal).returncode == 2, "no terminal, no shell"
    person = Person(["--attach", terminal])
    assert person.ends() == 3, "what is not there has its code"

    # Without a terminal it says what to use.
    refused = run()
    assert refused.returncode == 2 and "fleeks exec" in refused.stderr, refused
    print(json.dumps({"ok": True, "runtime": RUNTIME}))


main()
