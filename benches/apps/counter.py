"""Counts in memory, reads an open file line by line, writes another, and ticks."""

import os
import threading
import time

import told

with open("lines.txt", "w") as lines:
    lines.writelines("%d\n" % n for n in range(1, 200001))
lines, log = open("lines.txt"), open("log.txt", "w")
secret, ticks = os.urandom(16).hex(), 0


def tick():
    global ticks
    while True:
        time.sleep(0.02)
        ticks += 1


def step(count):
    log.write("%d\n" % count)
    log.flush()
    with open("log.txt") as written:
        logged = sum(1 for _ in written)
    return {"line": int(lines.readline()), "logged": logged}, {"secret": secret}, {"ticks": ticks}


threading.Thread(target=tick, daemon=True).start()
told.serve(step)
