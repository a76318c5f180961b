"""The same job on a real Ray cluster of two machines' worth of processes: same table, whatever is killed midway."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet
import pytest
from numbered_pictures import number_scorer, write_pictures
from typer.testing import CliRunner

from mriqa.cli import app
from mriqa.scoring.jobs.runner import Job, work_folder
from mriqa.scoring.ray.cluster import OWN, RayCluster, Share
from mriqa.scoring.ray.engine import RayScorers
from mriqa.scoring.reading import BackendError

LONG = os.environ.get("MRIQA_LONG_TESTS")
STORE = 100 * 2**20
HELPERS = Path(__file__).parents[2] / "helpers"


@pytest.fixture(scope="module")
def environment() -> Iterator[None]:
    """Ray on the loopback address, with a token of its own, and workers that find this test's stand-ins."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**OWN, "RAY_AUTH_TOKEN": "0" * 64, "PYTHONPATH": str(HELPERS)}.items():
            patch.setenv(name, value)
        pytest.importorskip("ray.data")
        yield


@pytest.fixture(scope="module")
def cluster(environment) -> Iterator[Any]:
    """Two machines of one processor each."""
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    try:
        for number in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=STORE, **({} if number else {"include_dashboard": False}))
        yield cluster
    finally:
        cluster.shutdown()


def job(out: Path, folder: Path) -> Job:
    return Job.open(out, [folder], {"model": "numbers"}, shard_size=4)


def undisturbed(folder: Path) -> pyarrow.Table:
    out = folder.with_suffix(".parquet")
    job(out, folder).run(number_scorer())
    return pyarrow.parquet.read_table(out)


def scorers(process: psutil.Process) -> list[psutil.Process]:
    """The processes below this one that hold a scorer."""
    below = process.children(recursive=True)
    return [each for each in below if "ShardScorer" in " ".join(each.as_dict(["cmdline"], ad_value=[])["cmdline"])]


@contextmanager
def disturbed(disturb: Callable[[], None], at: int) -> Iterator[Callable[..., Any]]:
    """A progress bar that calls `disturb` when so many images are scored."""
    count = Counter()

    class Bar:
        def advance(self) -> None:
            count["images"] += 1
            if count["images"] == at:
                disturb()

        def move_to(self, completed: int) -> None:
            pass

    @contextmanager
    def progress(total: int, completed: int) -> Iterator[Bar]:
        yield Bar()

    yield progress
    assert count["images"] >= at


def test_the_command_itself_is_killed_and_goes_on(environment, tmp_path, request):
    """On a cluster of its own, which dies with it, and of which nothing listens to the outside."""
    folder = write_pictures(tmp_path / "pictures", 120, broken=(7,))
    out, log = tmp_path / "scores.parquet", tmp_path / "log"
    own = RayCluster(workers=2, object_store=STORE)
    driver = multiprocessing.get_context("spawn").Process(target=_drive, args=(out, folder, log, own))
    driver.start()
    done = work_folder(out) / "done"
    wait_until(lambda: (done.is_dir() and len(list(done.glob("*.jsonl"))) >= 3) or not driver.is_alive())
    process = psutil.Process(driver.pid)
    listening = [
        connection.laddr.ip
        for each in process.children(recursive=True)
        for connection in each.as_dict(["net_connections"], ad_value=[])["net_connections"]
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening and all("127.0.0.1" in address for address in listening)
    orphans = scorers(process)
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    finished = [json.loads(line)["image"] for file in done.glob("*.jsonl") for line in file.read_text().splitlines()]
    assert 0 < len(finished) < 120
    wait_until(lambda: not any(each.is_running() for each in orphans))
    _drive(out, folder, log, RayCluster(request.getfixturevalue("cluster").address))
    assert pyarrow.parquet.read_table(out) == undisturbed(folder)
    times = Counter(map(int, log.read_text().split()))
    assert all(times[int(Path(image).stem)] == 1 for image in finished if image != str(folder / "00007.png"))


def _drive(out: Path, folder: Path, log: Path, cluster: RayCluster) -> None:
    load = partial(number_scorer, pause=0.2, log=log)
    assert job(out, folder).run_on(RayScorers(load, cluster)).complete


def test_the_command_gives_the_same_table_on_a_cluster(cluster, tmp_path, monkeypatch):
    from mriqa.embedded import build_tiny_qwen3_vl

    build_tiny_qwen3_vl(tmp_path / "model")
    folder = write_pictures(tmp_path / "pictures", 12, broken=(5,))
    monkeypatch.chdir(tmp_path)
    on_ray = ["--engine", "ray", "--ray-address", cluster.address, "--workers", "1"]
    for name, more in (("local", []), ("ray", on_ray)):
        command = ["score", "pictures", "-m", "model", "-o", f"{name}.parquet", "--shard-size", "4", "--device", "cpu"]
        shown = CliRunner().invoke(app, command + more)
        assert shown.exit_code == 1 and "1 of 12 images have no score; the first: pictures/00005.png" in shown.output
    ours, theirs = (pyarrow.parquet.read_table(f"{name}.parquet") for name in ("ray", "local"))
    assert ours == theirs
    assert ours["image"].to_pylist() == [f"pictures/{file.name}" for file in sorted(folder.iterdir())]


@pytest.mark.parametrize(
    "what", ["process", pytest.param("machine", marks=pytest.mark.skipif(not LONG, reason="takes half a minute more"))]
)
def test_a_worker_killed_midway_costs_nothing(cluster, tmp_path, what):
    folder = write_pictures(tmp_path / "pictures", 120, broken=(7,))
    killed = []

    def disturb() -> None:
        if what == "machine":
            cluster.remove_node(cluster.list_all_nodes()[1], allow_graceful=False)
            killed.append(what)
        else:
            victim = scorers(psutil.Process())[0]
            victim.kill()
            killed.append(victim.pid)

    out, log = tmp_path / "scores.parquet", tmp_path / "log"
    engine = RayScorers(partial(number_scorer, pause=0.1, log=log), RayCluster(cluster.address))
    with disturbed(disturb, at=30) as progress:
        assert job(out, folder).run_on(engine, progress=progress).complete
    assert len(killed) == 1
    assert pyarrow.parquet.read_table(out) == undisturbed(folder)
    again = [number for number, times in Counter(map(int, log.read_text().split())).items() if times > 1]
    assert len(again) < 30  # what the dead worker had in hand, not the whole job


def test_a_failing_worker_is_one_sentence(cluster, tmp_path):
    folder = write_pictures(tmp_path / "pictures", 12)
    engine = RayScorers(partial(number_scorer, dies_after=2), RayCluster(cluster.address))
    with pytest.raises(BackendError, match="^The Ray workers have failed: The server is gone.$"):
        job(tmp_path / "scores.parquet", folder).run_on(engine)


def wait_until(happened: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_a_worker_gets_of_the_cluster():
    machine, accelerated = {"CPU": 8.0}, {"CPU": 32.0, "GPU": 4.0}
    assert RayCluster().share_of([machine, machine]) == Share(2, 8, 0)
    assert RayCluster(workers=4).share_of([machine, machine]) == Share(4, 4, 0)
    assert RayCluster(workers=3).share_of([machine, {"CPU": 2.0}]) == Share(3, 1, 0)
    assert RayCluster().share_of([machine, accelerated, accelerated]) == Share(8, 1, 1)
    assert RayCluster(accelerators=2).share_of([accelerated]) == Share(2, 1, 2)
    assert RayCluster(accelerators=0).share_of([accelerated]) == Share(1, 32, 0)
    with pytest.raises(BackendError, match="no processors"):
        RayCluster().share_of([{"memory": 1e9}])


def test_refusals(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = write_pictures(tmp_path / "pictures", 2)
    for arguments, said in (
        (["--engine", "ray"], "needs a file to write"),
        (["--workers", "2", "-o", "scores.csv"], "--workers goes with --engine ray"),
        (["--engine", "ray", "--ray-address", "ray://head:10001", "-o", "scores.csv"], "is a Ray Client address"),
    ):
        shown = CliRunner().invoke(app, ["score", str(folder), *arguments])
        assert shown.exit_code == 2 and said in " ".join(shown.output.replace("│", " ").split())
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"pip install 'mriqa\[ray\]'"), RayCluster().joined():
        pass
