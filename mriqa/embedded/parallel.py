"""Work on many pictures with a few threads or processes.

Threads share what they work with, a network for example, and do where torch computes for long without the interpreter.
Where pictures are made and measured, thousands of short calls want the interpreter: processes are faster there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_threads(
    function: Callable[[Item], Result], items: Sequence[Item], label: str, unit: str, workers: int = 2
) -> list[Result]:
    """``function`` of each item, in order, ``workers`` at a time, with a progress bar.

    Each worker computes with one torch thread: workers that each start several fight over the same cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(workers) as pool:
            return list(tqdm(pool.map(function, items), label, len(items), unit=unit))
    finally:
        torch.set_num_threads(threads)


def map_processes(
    function: Callable[[Item], Result], items: Sequence[Item], label: str, unit: str, workers: int = 2
) -> list[Result]:
    """``function`` of each item, in order, by ``workers`` processes of one torch thread each, with a progress bar."""
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        results = Parallel(return_as="generator")(delayed(function)(item) for item in items)
        return list(tqdm(results, label, len(items), unit=unit))
