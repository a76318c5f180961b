"""Work by several processes comes back in order, and a failure in one of them comes through."""

from __future__ import annotations

import os

import pytest
import torch

from mriqa.embedded.parallel import map_processes


def _squared(number: int) -> tuple[int, int, int]:
    return number**2, torch.get_num_threads(), os.getpid()


def _refused(number: int) -> None:
    raise ValueError(f"not {number}")


def test_results_come_in_order_from_other_processes_of_one_thread():
    squares, threads, processes = zip(*map_processes(_squared, range(8), "numbers", "number"))
    assert squares == tuple(number**2 for number in range(8))
    assert set(threads) == {1}
    assert os.getpid() not in processes


def test_a_failure_comes_through():
    with pytest.raises(ValueError, match="not 3"):
        map_processes(_refused, [3], "numbers", "number")
