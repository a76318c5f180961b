"""Work on many pictures with a few threads: torch and Pillow release the interpreter lock while they compute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
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
