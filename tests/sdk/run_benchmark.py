"""Runs the article's 'Benchmark It Yourself' as it stands there, and reads the timings that it took."""
import asyncio
import json
import pathlib
import sys

TEXT = pathlib.Path(__file__).with_name("benchmark_it_yourself.py").read_text()
taken = []


def watch(frame, event, _):
    # The script keeps them to itself; they are read when it returns for good.
    if event == "return" and frame.f_code.co_name == "benchmark" and "timings" in frame.f_locals:
        taken[:] = frame.f_locals["timings"]


def main(rounds):
    scope = {}
    exec(compile(TEXT, "benchmark_it_yourself.py", "exec"), scope)
    timings = []
    for _ in range(rounds):
        sys.setprofile(watch)
        try:
            asyncio.run(scope["benchmark"]())
        finally:
            sys.setprofile(None)
        assert len(taken) == 10, taken
        timings += taken
    print(json.dumps({"milliseconds": timings}))


main(int(sys.argv[1]))
