"""Children that are talked to by pipes and share memory, and a grandchild under a shell."""

import multiprocessing
import subprocess
import threading

import told


def work(pipe, shared):
    count = 0
    while True:
        count += pipe.recv()
        with shared.get_lock():
            shared.value += 1
        pipe.send(count)


def start():
    ours, theirs = multiprocessing.Pipe()
    worker = multiprocessing.Process(target=work, args=(theirs, shared), daemon=True)
    worker.start()
    return ours, worker


shared = multiprocessing.Value("q", 0)
workers = [start() for _ in range(3)]
shell = subprocess.Popen(
    ["sh", "-c", "n=0; while read line; do n=$((n + 1)); echo $n; done"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)
lock = threading.Lock()


def step(count):
    with lock:
        counts = {}
        for number, (pipe, _) in enumerate(workers):
            pipe.send(1)
            counts["worker %d" % number] = pipe.recv()
        shell.stdin.write("on\n")
        shell.stdin.flush()
        counts["shell"] = int(shell.stdout.readline())
        counts["shared by three"] = shared.value // 3
    pids = [worker.pid for _, worker in workers] + [shell.pid]
    return counts, {"pids": pids}, {}


told.serve(step)
