"""Run by test_crash.py: train with recipes/mr_grpo.py in processes that are really killed, and resume.

    python crash_runs.py PLAN.json RESULTS.json

The plan is a list of runs, {"argv": [options of the recipe], "processes": P, "kill": null or a moment}. A moment is
{"change": k}: before the k-th change of the file system by process 0 (open for writing, mkdir, rename, remove, ...);
{"step": k}: within the k-th training step; {"seconds": t}: t seconds after the start. A process kills itself with
SIGKILL, or is killed, and with it all processes of its run. The results are the exit status of each run's processes,
the negative signal where one killed it, and the number of changes process 0 made.

Everything is imported once, and each process is a fork of this one, so that a run costs no start.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")


def main(plan_file: str, results_file: str) -> None:
    sys.path.insert(0, str(Path(__file__).parents[3] / "recipes"))
    import mr_grpo

    results = []
    for run in json.loads(Path(plan_file).read_text()):
        with tempfile.TemporaryFile() as changes:
            results.append(run_once(mr_grpo, run["argv"], run["processes"], run["kill"] or {}, changes))
        Path(results_file).write_text(json.dumps(results))
        print(json.dumps(results[-1]), run["kill"], flush=True)


def run_once(recipe: Any, argv: list[str], processes: int, kill: dict[str, Any], changes: Any) -> dict[str, Any]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            if processes > 1:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
                os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port))
            status = 1
            try:
                if rank == 0:
                    watch(argv[argv.index("--output_dir") + 1], kill.get("change"), changes)
                    die_within(kill.get("step"))
                status = recipe.main(argv)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        children.append(child)

    if "seconds" in kill:
        time.sleep(max(0.0, started + kill["seconds"] - time.monotonic()))
        for child in children:
            os.kill(child, signal.SIGKILL)
    first = os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])
    if first != 0:  # what a launcher does to the others
        for child in children[1:]:
            os.kill(child, signal.SIGKILL)
    statuses = [first] + [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children[1:]]
    changes.seek(0, os.SEEK_END)
    return {"statuses": statuses, "changes": changes.tell(), "seconds": round(time.monotonic() - started, 2)}


def watch(folder: str, last: int | None, changes: Any) -> None:
    """Count this process's changes of files below `folder`; die before change number `last`."""

    def on_event(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            counts = isinstance(path, str) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            counts = event in CHANGES
            path = args[0] if counts else ""
        if not counts or not (str(path).startswith(folder) or (isinstance(args[-1], int) and args[-1] > 2)):
            return
        os.write(changes.fileno(), b".")
        if last is not None and os.lseek(changes.fileno(), 0, os.SEEK_CUR) >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(on_event)


def die_within(last: int | None) -> None:
    if last is None:
        return
    from mriqa.policy.trainer import ScoreGRPOTrainer as trainer

    update, steps = trainer.training_step, iter(range(1, last + 1))

    def training_step(self: Any, *args: Any) -> Any:
        loss = update(self, *args)
        if next(steps) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    trainer.training_step = training_step


if __name__ == "__main__":
    main(*sys.argv[1:])
