"""How soon the first score is there from a cold start, beside importing torch and transformers alone.

    python benchmarks/cold_start.py                  # some minutes
    python benchmarks/cold_start.py --quick          # one round
    python benchmarks/cold_start.py --json cold_start.json

The baseline is `python -c "import torch, transformers"`, in turn with ours. Ours, with the model in the package, on one
thread: `mriqa score photo.jpg` until it has ended, `mriqa serve` until /health says ok, and `mriqa demo` until the page
is handed out. A claim is in seconds of processor time of all processes, which whatever else the machine does hardly
changes; seconds by the clock are in the settings. Files that Python compiles once are there already, and so is what the
system keeps of files in memory: each side runs once beforehand (not with --quick).
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from scoring import write_images
from timing import Claim, machine, parser, write

BASELINE = [sys.executable, "-c", "import torch, transformers"]
PAGES = {"serve": "/health", "demo": "/"}
PATIENCE = 300  # seconds
Cost = tuple[float, float]
"""Seconds of the processor and by the clock."""


def whole_run(command: Sequence[str]) -> Cost:
    """The cost of a command from its start to its end."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    clock, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, clock


def until_ready(command: str) -> Cost:
    """The cost of `mriqa serve` or `mriqa demo` until it answers; it is ended then."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "mriqa", command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not answers(f"http://127.0.0.1:{port}{PAGES[command]}"):
            if server.poll() is not None or time.perf_counter() - started > PATIENCE:
                raise SystemExit(f"mriqa {command} didn't come up.")
            time.sleep(0.02)
        clock = time.perf_counter() - started
        spent = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK"), clock
    finally:
        server.terminate()
        server.wait(60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def measure(photo: Path, rounds: int) -> list[Claim]:
    """A claim for each of the three starts, all of them and the baseline in turn."""
    sides: dict[str, Callable[[], Cost]] = {
        "imports": lambda: whole_run(BASELINE),
        "score": lambda: whole_run([sys.executable, "-m", "mriqa", "score", str(photo)]),
        "serve": lambda: until_ready("serve"),
        "demo": lambda: until_ready("demo"),
    }
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name, side in sides.items():
            cost = side()
            if turn or rounds == 1:  # the first one warms up
                costs[name].append(cost)
    processor, clock = ({n: statistics.median(c[which] for c in many) for n, many in costs.items()} for which in (0, 1))
    return [
        Claim(
            f"cold_start/{name}",
            processor[name],
            processor["imports"],
            "import torch, transformers",
            "s",
            {"rounds": len(costs[name]), "clock_s": clock[name], "baseline_clock_s": clock["imports"], **machine()},
        )
        for name in ("score", "serve", "demo")
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line entry."""
    arguments = parser(__doc__).parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="mriqa-") as folder:
        (photo,) = write_images(Path(folder), 1, 512)
        claims = measure(photo, 1 if arguments.quick else 8)
    for claim in claims:
        clock, other = claim.settings["clock_s"], claim.settings["baseline_clock_s"]
        print(f"{claim.name}: by the clock {clock:.2f} s for {other:.2f} s, {clock / other:.2f} times as long")
    write(claims, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
