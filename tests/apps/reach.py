"""Prints which of the targets `ADDRESS PORT …` can be connected to, or `none`."""
import concurrent.futures
import socket
import sys


def reach(target):
    try:
        socket.create_connection(target, timeout=2).close()
        return True
    except OSError:
        return False


words = sys.argv[1:]
targets = [(words[n], int(words[n + 1])) for n in range(0, len(words), 2)]
with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
    reached = [f"{host} {port}" for (host, port), yes in zip(targets, pool.map(reach, targets)) if yes]
print(", ".join(reached) or "none")
