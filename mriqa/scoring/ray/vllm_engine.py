"""Score a job on a Ray cluster by Ray Data's own vLLM processor: engines in actors, fed by tasks that open the images.

    images.sqlite → Shards (this machine) → Requests (tasks, anywhere) → vLLM engines (actors) → answers → this process

Prompt, pictures, grammar and the reading of answers are those of `mriqa.scoring.vllm_backend`. Pictures travel to the
engines decoded, through Ray's object store, so that those who open images need no accelerator. The processor keeps one
answer to a request, so this is for the greedy readout; samples come from `mriqa.scoring.ray.engine`, with a vLLM
backend in each worker.
"""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mriqa.images import ImageError, load_image
from mriqa.models import load_processor
from mriqa.scoring.jobs.batch import to_row
from mriqa.scoring.jobs.opening import Opener
from mriqa.scoring.jobs.runner import Job
from mriqa.scoring.prompts import prompt_text
from mriqa.scoring.ray.cluster import RayCluster, Share
from mriqa.scoring.ray.engine import batches, listed, unpacked
from mriqa.scoring.reading import BackendError, Reading
from mriqa.scoring.scorer import Scorer
from mriqa.scoring.vllm_backend import VLLMBackend
from mriqa.views import ViewSettings, views

if TYPE_CHECKING:
    import pyarrow
    from PIL import Image
    from ray.data.llm import vLLMEngineProcessorConfig

FAILED = "__inference_error__"  # Ray's column for "TypeName: reason"; rows that have one already pass by the engine
ANSWERS = ["number", "view", "n_views", "generated_text", FAILED]


class RayVLLM:
    """vLLM by Ray's processor, a `mriqa.scoring.jobs.runner.Engine`, for a scorer that describes what to ask.

    The scorer's backend is a vLLM one that was not started (`backend_options={"start": False}`), by greedy readout.
    """

    takes_all = True

    def __init__(self, scorer: Scorer, cluster: RayCluster) -> None:
        if not isinstance(scorer.backend, VLLMBackend) or scorer.readout_name != "greedy":
            raise ValueError("Ray's vLLM processor asks for one greedy answer: give a vLLM scorer with that readout.")
        self.scorer, self.backend, self.cluster = scorer, scorer.backend, cluster

    def rows(self, job: Job, shards: Sequence[int]) -> Generator[tuple[int, dict[str, Any]], None, None]:
        """The rows of the shards, as their answers come. Raises BackendError, and ModelError for the processor."""
        if importlib.util.find_spec("vllm") is None:
            raise BackendError("The vLLM backend needs vLLM, which is not installed: pip install 'mriqa[vllm]'.")
        requests = Requests(
            self.scorer.views,
            prompt_text(load_processor(Path(self.backend.model)), self.scorer.answer_format),
            self.backend.generation.max_new_tokens,
            self.backend.generation.grammar,
        )
        with self.cluster.joined() as share:
            from ray.data.llm import build_processor

            processor = build_processor(self._config(share), preprocess_map_kwargs={"num_cpus": _half(share.cpus)})
            asked = listed(job, shards).map_batches(requests, batch_format="pyarrow", num_cpus=_half(share.cpus))
            arrived: dict[int, dict[int, Reading | str]] = defaultdict(dict)
            for batch in batches(processor(asked).select_columns(ANSWERS)):
                for answer in batch.to_pylist():
                    number = answer["number"]
                    arrived[number][answer["view"]] = self._outcome(answer)
                    if len(arrived[number]) == answer["n_views"]:
                        outcomes = [outcome for _, outcome in sorted(arrived.pop(number).items())]
                        (item,) = job.images.part(number, number + 1)
                        yield number, to_row(self.scorer.score_of(item.name, outcomes), job.text)

    def _config(self, share: Share) -> vLLMEngineProcessorConfig:
        from ray.data.llm import vLLMEngineProcessorConfig

        on_processors = {"bundles": [{"CPU": _half(share.cpus)}]}
        return vLLMEngineProcessorConfig(
            model_source=self.backend.model,
            engine_kwargs=dict(self.backend.options),
            placement_group_config=None if share.accelerators else on_processors,
            batch_size=self.scorer.batch_size,
            concurrency=(share.workers, share.workers),
            should_continue_on_error=True,
            log_engine_metrics=False,
            # The requests are complete, and vLLM reads its tokens itself.
            prepare_multimodal_stage=False,
            chat_template_stage=False,
            tokenize_stage=False,
            detokenize_stage=False,
        )

    def _outcome(self, answer: Mapping[str, Any]) -> Reading | str:
        if not answer[FAILED]:
            return self.backend.generation.reading([answer["generated_text"]])
        kind, _, reason = answer[FAILED].partition(": ")
        if kind == ImageError.__name__:
            return reason
        # The death of an engine never arrives here, as Ray sees to it.
        return f"vLLM refuses this image: {(reason.splitlines() or ['it gives no reason'])[0]}"


@dataclass(frozen=True)
class Requests:
    """A task's work: images in, what Ray's processor takes out: a row for each view, or why an image has none."""

    views: ViewSettings
    prompt: str
    max_tokens: int
    grammar: str | None

    def __call__(self, batch: pyarrow.Table) -> Iterator[dict[str, Any]]:
        with Opener() as opener:
            for number, item in zip(batch["number"].to_pylist(), unpacked(batch["item"]), strict=True):
                try:
                    pictures = views(load_image(opener.open(item)), self.views)
                except ImageError as error:
                    yield self._row(number, 0, 1, None, f"{ImageError.__name__}: {error}")
                else:
                    for view, picture in enumerate(pictures):
                        yield self._row(number, view, len(pictures), picture, "")

    def _row(self, number: int, view: int, n_views: int, picture: Image.Image | None, failed: str) -> dict[str, Any]:
        row = {
            "number": number,
            "view": view,
            "n_views": n_views,
            "prompt": self.prompt,
            "multimodal_data": {"image": picture},
            "sampling_params": {
                "temperature": 0.0,
                "max_tokens": self.max_tokens,
                "structured_outputs": {"regex": self.grammar} if self.grammar else None,
            },
            FAILED: failed,
        }
        return {name: [value] for name, value in row.items()}


def _half(cpus: int) -> float:
    """Of a worker's processors, one half opens images."""
    return cpus / 2 if cpus < 2 else cpus // 2
