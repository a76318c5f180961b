"""Many images to one table: killed at any moment, by several workers at once, each image comes exactly once."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest
from numbered_pictures import number_scorer, score_of, write_pictures

from mriqa.scoring.jobs.runner import Job, Outcome, was_just_finished, work_folder
from mriqa.scoring.jobs.tables import OutputError
from mriqa.scoring.reading import BackendError

FORK = multiprocessing.get_context("fork")  # what the workers need is imported already
LONG = os.environ.get("MRIQA_LONG_TESTS")  # the crash test at its full size: 5,000 images, 20 kills


def run(
    out: Path, folder: Path, part=(0, 1), shard_size: int = 8, overwrite: bool = False, **options
) -> Outcome | None:
    """A worker's whole life, as the command has it; None where it has nothing to do."""
    if was_just_finished(out):
        return None
    job = Job.open(out, [folder], {"model": "numbers"}, shard_size=shard_size, overwrite=overwrite)
    try:
        return job.run(number_scorer(**options), part)
    finally:
        job.close()


def expected(folder: Path, broken=()) -> list[dict]:
    files = sorted(folder.iterdir())
    return [
        {"image": str(file), "score": None if number in broken else score_of(number)}
        for number, file in enumerate(files)
    ]


def table(out: Path) -> list[dict]:
    if out.suffix == ".parquet":
        rows = pyarrow.parquet.read_table(out).to_pylist()
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    return [{"image": row["image"], "score": row["score"]} for row in rows]


def test_the_table_has_each_image_in_order_and_bad_ones_with_their_reason(tmp_path):
    folder = write_pictures(tmp_path / "pictures", 21, broken=(0, 9, 20))
    outcome = run(tmp_path / "scores.parquet", folder)
    assert (outcome.complete, outcome.n_images, outcome.n_failed) == (True, 21, 3)
    assert outcome.first_failure[0].endswith("00000.png") and "corrupt" in outcome.first_failure[1]
    assert table(tmp_path / "scores.parquet") == expected(folder, (0, 9, 20))
    assert sorted(os.listdir(tmp_path)) == ["pictures", "scores.parquet"]
    with pytest.raises(OutputError, match="--overwrite"):
        run(tmp_path / "scores.parquet", folder)


def test_a_stop_at_any_moment_loses_nothing(tmp_path):
    """A child process ends without warning before its n-th operation on files of the job, for every n there is."""
    folder = write_pictures(tmp_path / "pictures", 5)
    moment, last = 0, 0
    while last == 0:
        out = tmp_path / f"{moment}" / "scores.jsonl"
        child = FORK.Process(target=_run_until, args=(moment, out, folder))
        child.start()
        child.join()
        last = child.exitcode == 0
        if not out.exists() or work_folder(out).exists():
            run(out, folder, shard_size=2)
        assert table(out) == expected(folder), f"stopped before operation {moment}"
        assert [name for name in os.listdir(out.parent) if not name.startswith(".")] == ["scores.jsonl"]
        moment += 1
    assert moment > 40  # it did stop in between


def _run_until(moment: int, out: Path, folder: Path) -> None:
    left = [moment]

    def stop(event: str, arguments: tuple) -> None:
        if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir") and str(out.parent) in str(arguments[0]):
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1

    sys.addaudithook(stop)
    run(out, folder, shard_size=2)


def test_a_dead_backend_stops_the_run_and_the_next_one_goes_on(tmp_path):
    folder, out, log = write_pictures(tmp_path / "pictures", 40), tmp_path / "scores.jsonl", tmp_path / "log"
    with pytest.raises(BackendError):
        run(out, folder, dies_after=20, log=log)
    assert len(os.listdir(work_folder(out) / "done")) == 2 and not out.exists()
    run(out, folder, log=log)
    assert table(out) == expected(folder)
    assert len(log.read_text().split()) == 40 + 4  # a batch of the third shard came twice


def test_another_job_in_the_same_place_is_refused(tmp_path):
    folder, out = write_pictures(tmp_path / "pictures", 9), tmp_path / "scores.jsonl"
    with pytest.raises(BackendError):
        run(out, folder, dies_after=8)
    with pytest.raises(OutputError, match="another model"):
        Job.open(out, [folder], {"model": "letters"})
    with pytest.raises(OutputError, match="another sources"):
        Job.open(out, [folder / "00000.png"], {"model": "numbers"})
    with pytest.raises(BackendError):  # where nothing has been done yet there is nothing to go on with
        run(tmp_path / "other.jsonl", folder, dies_after=0)
    Job.open(tmp_path / "other.jsonl", [folder], {"model": "letters"}).close()
    (folder / "99999.png").write_bytes(b"later")  # the list is made once
    assert run(out, folder).n_images == 9


def test_parts_are_disjoint_and_the_last_one_writes_the_table(tmp_path):
    folder, out, log = write_pictures(tmp_path / "pictures", 50), tmp_path / "scores.jsonl", tmp_path / "log"
    first = run(out, folder, part=(1, 3), log=log)
    assert (first.complete, first.n_done, first.n_images) == (False, 16, 50) and not out.exists()
    assert not run(out, folder, part=(0, 3), log=log).complete
    assert run(out, folder, part=(2, 3), log=log).complete
    assert table(out) == expected(folder)
    assert sorted(map(int, log.read_text().split())) == list(range(50))


def test_workers_at_once_do_not_collide(tmp_path):
    folder, out, log = write_pictures(tmp_path / "pictures", 200), tmp_path / "scores.jsonl", tmp_path / "log"
    workers = [FORK.Process(target=run, args=(out, folder), kwargs={"log": log, "pause": 0.005}) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert table(out) == expected(folder)
    assert sorted(map(int, log.read_text().split())) == list(range(200))


def test_random_kills(tmp_path):
    """Workers are killed at random moments, half of them by SIGKILL, and others take their places."""
    images, kills, pause = (5000, 20, 0.01) if LONG else (600, 5, 0.02)  # seconds a batch of 4 takes
    draw = random.Random(0)
    folder, out = write_pictures(tmp_path / "pictures", images, broken=(7,)), tmp_path / "scores.parquet"

    def start():
        worker = FORK.Process(target=run, args=(out, folder), kwargs={"pause": pause, "shard_size": 16})
        worker.start()
        return worker

    workers = [start(), start()]
    for number in range(kills):
        time.sleep(draw.uniform(0.02, 0.1))
        place = draw.randrange(2)
        assert workers[place].is_alive(), f"the run was over before kill {number}"
        os.kill(workers[place].pid, signal.SIGKILL if draw.random() < 0.5 else signal.SIGTERM)
        workers[place].join()
        workers[place] = start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    undisturbed = tmp_path / "undisturbed.parquet"
    run(undisturbed, folder)
    assert pyarrow.parquet.read_table(out) == pyarrow.parquet.read_table(undisturbed)
    assert table(out) == expected(folder, (7,))
