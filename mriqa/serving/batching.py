"""Batches across requests: whatever has come while the model was busy is its next batch.

So a lone image waits for nobody, and under load the batches fill by themselves. The event loop only hands over: files
are decoded in a few threads, and the model works in one. No more pictures are decoded than the next two batches need.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from mriqa.images import ImageError
from mriqa.scoring.scorer import Score

if TYPE_CHECKING:
    from types import TracebackType

    from mriqa.scoring.scorer import Scorer

DECODERS = 2
BATCHES_DECODED = 2

_log = logging.getLogger("mriqa.serving")
_Job = tuple[Image.Image, "asyncio.Future[Score]"]


class Batcher:
    """Scores single images in batches: `async with Batcher(scorer, decode) as batcher: await batcher.score(…)`.

    Args:
        scorer: its `score` is called from one thread, with at most `scorer.batch_size` pictures.
        decode: a file's bytes to a picture; raises ImageError.
        observe: is told of every batch: how many images, how many seconds.
    """

    def __init__(
        self,
        scorer: Scorer,
        decode: Callable[[bytes], Image.Image],
        observe: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        self.scorer, self.decode, self.observe = scorer, decode, observe
        self.seconds_per_image = 0.0  # lately

    async def __aenter__(self) -> Batcher:
        self._room = asyncio.Semaphore(BATCHES_DECODED * self.scorer.batch_size)
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._model = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._worker.cancel()
        await asyncio.gather(self._worker, return_exceptions=True)
        for pool in (self._decoders, self._model):
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def alive(self) -> bool:
        """Whether images can be scored."""
        return not self._worker.done()

    async def score(self, name: str, read: Callable[[], Awaitable[bytes]]) -> Score:
        """The score of the file that `read` gives, under `name`; a file that is no image gets an error.

        Raises what the scorer raises on this image alone.
        """
        loop = asyncio.get_running_loop()
        async with self._room:
            try:
                picture = await loop.run_in_executor(self._decoders, self.decode, await read())
            except ImageError as error:
                return Score(name, math.nan, math.nan, str(error))
            scored: asyncio.Future[Score] = loop.create_future()
            self._jobs.put_nowait((picture, scored))
            return replace(await scored, image=name)

    async def _work(self) -> None:
        while True:
            jobs = [await self._jobs.get()]
            while len(jobs) < self.scorer.batch_size and not self._jobs.empty():
                jobs.append(self._jobs.get_nowait())
            await self._answer([job for job in jobs if not job[1].done()])

    async def _answer(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        try:
            scores = await loop.run_in_executor(self._model, self.scorer.score, [picture for picture, _ in jobs])
        except Exception as error:  # whatever it is, it must not end the service for everybody
            if len(jobs) > 1:
                _log.warning("A batch of %d images failed (%s); taking them one at a time.", len(jobs), error)
                for job in jobs:
                    await self._answer([job])
            elif not jobs[0][1].done():
                jobs[0][1].set_exception(error)
            return
        seconds = time.perf_counter() - started
        self.seconds_per_image = 0.8 * self.seconds_per_image + 0.2 * seconds / len(jobs)
        self.observe(len(jobs), seconds)
        for (_, scored), score in zip(jobs, scores, strict=True):
            if not scored.done():
                scored.set_result(score)
