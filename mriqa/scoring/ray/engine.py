"""Score a job on a Ray cluster: Ray Data streams its shards through workers that hold the model.

    images.sqlite → Shards (a task on this machine) → ShardScorer (actors, anywhere) → rows → this process

The list of images and the table are this machine's affair, so that only the images and the model have to be within the
workers' reach. A shard is one block of the dataset and one task: a worker or a machine that dies costs the shards that
it had in work, which Ray gives to others, and each shard's rows come from one task, as they would without Ray. This
process writes them (`mriqa.scoring.jobs.runner`); if it dies, the same command goes on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mriqa.scoring.jobs.batch import score_items, to_row
from mriqa.scoring.jobs.image_list import ImageList
from mriqa.scoring.jobs.runner import LIST, Job
from mriqa.scoring.jobs.sources import Item
from mriqa.scoring.ray.cluster import RayCluster
from mriqa.scoring.reading import BackendError, first_line

if TYPE_CHECKING:
    import pyarrow
    from ray.data import Dataset

    from mriqa.scoring.scorer import Scorer

RAISED = re.compile(r"^[\w.]+(?:Error|Exception): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class RayScorers:
    """An engine (`mriqa.scoring.jobs.runner.Engine`): a scorer in each worker, which `load` makes there."""

    load: Callable[[], Scorer]
    cluster: RayCluster
    takes_all = True

    def rows(self, job: Job, shards: Sequence[int]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """The rows of the shards, a shard after the other as they are finished. Raises BackendError."""
        with self.cluster.joined() as share:
            from ray.data import ActorPoolStrategy

            dataset = listed(job, shards).map_batches(
                ShardScorer,
                fn_constructor_args=(self.load, job.shard_size, job.text),
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=share.workers),
                num_cpus=share.cpus,
                num_gpus=share.accelerators or None,
            )
            for batch in batches(dataset):
                for number, row in zip(batch["number"].to_pylist(), batch["row"].to_pylist(), strict=True):
                    yield number, json.loads(row)


class ShardScorer:
    """An actor's work: all images of a shard in, their rows out."""

    def __init__(self, load: Callable[[], Scorer], shard_size: int, text: bool) -> None:
        self.scorer, self.shard_size, self.text = load(), shard_size, text

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        import pyarrow

        numbers = batch["number"].to_pylist()
        items = zip(numbers, unpacked(batch["item"]), strict=True)
        rows: list[str] = []
        # Each shard by itself, so that its batches and seeds are those it has elsewhere.
        for _, shard in groupby(items, key=lambda numbered: numbered[0] // self.shard_size):
            scores = score_items(self.scorer, [item for _, item in shard])
            rows += [json.dumps(to_row(score, self.text)) for score in scores]
        return pyarrow.table({"number": numbers, "row": rows})


def listed(job: Job, shards: Sequence[int]) -> Dataset:
    """The images of the shards as columns `number` and `item`, a block a shard, read from the list as they are used."""
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Shards(Datasource):
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *more: Any, **options: Any) -> list[ReadTask]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(partial(_read, path, job.shard_size, shard), unknown) for shard in shards]

    path = str((job.folder / LIST).resolve())
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    # These short tasks need no processor of their own, of which the workers may hold all.
    return ray.data.read_datasource(
        Shards(), override_num_blocks=len(shards), num_cpus=0, concurrency=1, label_selector=here
    )


def _read(path: str, shard_size: int, shard: int) -> list[pyarrow.Table]:
    import pyarrow

    first = shard * shard_size
    images = ImageList(path)
    items = images.part(first, first + shard_size)
    images.close()
    # JSON has a place for names that are no UTF-8.
    packed = [json.dumps(astuple(item)) for item in items]
    return [pyarrow.table({"number": range(first, first + len(items)), "item": packed})]


def unpacked(column: Any) -> list[Item]:
    """The items of a column `item`."""
    return [Item(*json.loads(text)) for text in column.to_pylist()]


def batches(dataset: Dataset) -> Generator[pyarrow.Table, None, None]:
    """The dataset's blocks as they come. Raises BackendError with the reason of a worker that fails."""
    from ray.exceptions import RayError

    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except RayError as error:
        # Of the worker's exception only the traceback arrives, as text, among those of Ray's own.
        raised = RAISED.search(str(error))
        raise BackendError(f"The Ray workers have failed: {raised[1] if raised else first_line(error)}") from error
