"""Claims on work among workers that share a folder only."""

from __future__ import annotations

import json
import os
import time

import pytest

from mriqa.scoring.jobs.claims import Claims


def other_worker(folder, claim, machine="elsewhere", process=1, age=0.0):
    """What a worker of another machine leaves that was last seen `age` seconds ago."""
    (folder / "worker-other").write_text(json.dumps({"machine": machine, "process": process}))
    (folder / claim).write_text("other")
    then = time.time() - age
    os.utime(folder / "worker-other", (then, then))


def test_only_one_worker_gets_a_claim_until_it_is_released(tmp_path):
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        assert first.take("1") and not second.take("1") and second.take("2")
        first.release("1")
        assert second.take("1")
    assert os.listdir(tmp_path) == []


def test_leaving_gives_up_all_claims(tmp_path):
    with Claims(tmp_path) as second:
        with Claims(tmp_path) as first:
            assert first.take("1")
        assert second.take("1")


@pytest.mark.parametrize(("age", "taken"), [(0.0, False), (40.0, False), (80.0, True)])
def test_a_worker_elsewhere_counts_as_dead_after_its_lease(tmp_path, age, taken):
    other_worker(tmp_path, "1", age=age)
    with Claims(tmp_path, lease=60.0) as claims:
        assert claims.take("1") is taken


def test_a_process_of_this_machine_that_is_gone_is_dead_at_once(tmp_path):
    with Claims(tmp_path) as claims:
        machine = json.loads((tmp_path / f"worker-{claims.worker}").read_text())["machine"]
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        other_worker(tmp_path, "1", machine, child)
        assert claims.take("1")
        other_worker(tmp_path, "2", machine, os.getpid())
        assert not claims.take("2")


def test_a_living_worker_keeps_showing_it(tmp_path):
    with Claims(tmp_path, lease=0.6) as claims:
        sign = tmp_path / f"worker-{claims.worker}"
        os.utime(sign, (0, 0))
        deadline = time.monotonic() + 20
        while sign.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert sign.stat().st_mtime > 0


def test_a_claim_that_was_never_signed_falls_after_the_lease(tmp_path):
    (tmp_path / "1").touch()
    with Claims(tmp_path) as claims:
        assert not claims.take("1")
        os.utime(tmp_path / "1", (1, 1))
        assert claims.take("1")
