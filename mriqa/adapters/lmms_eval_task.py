"""A rated data set as a task of lmms-eval (0.7.3, MIT), to measure any model that lmms-eval runs as a scorer.

    from mriqa.adapters import write_lmms_eval_task

    write_lmms_eval_task("koniq_test.jsonl", "lmms_tasks", name="koniq", scale="koniq10k")

and then `lmms-eval --model qwen2_5_vl --model_args pretrained=MODEL --tasks koniq --include_path lmms_tasks`.

The model is asked with the prompt of an answer format and its answers are read by the same parser as everywhere, so a
greedy answer has the score that `mriqa score --readout greedy` gives. Reported: SRCC and PLCC over the answers that
state a score, and the share that do. lmms-eval hands over whole pictures: views in a model's `mriqa.json` play no part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mriqa.answers import AnswerFormat, load_format
from mriqa.eval.metrics import plcc, srcc
from mriqa.files import write_json, write_jsonl, write_text
from mriqa.images import load_image
from mriqa.manifest import Scale, read_manifest
from mriqa.scoring.backend import default_max_tokens

if TYPE_CHECKING:
    from PIL import Image

FUNCTIONS = '''"""Called by the tasks in this folder."""

from pathlib import Path

from mriqa.adapters.lmms_eval_task import TaskFunctions

_task = TaskFunctions.beside(Path(__file__).parent, "{name}")
to_visual, to_text, to_target = _task.to_visual, _task.to_text, _task.to_target
process_results, srcc, plcc, parsed = _task.process_results, _task.srcc, _task.plcc, _task.parsed
'''


def write_lmms_eval_task(
    manifest: str | Path,
    folder: str | Path,
    *,
    name: str,
    scale: Scale | str | None = None,
    answer_format: AnswerFormat | str | Path = "non_thinking",
    max_new_tokens: int | None = None,
) -> Path:
    """Write the task `name` to `folder`, for lmms-eval's `--include_path`, and return the path of its YAML file.

    Args:
        manifest, scale: rated images and the scale of their scores, as `mriqa.manifest.read_manifest` takes them.
        answer_format: the prompt and the grammar of answers: an AnswerFormat, a bundled name or a YAML file.
        max_new_tokens: of an answer; None for enough.

    Raises ManifestError and AnswerFormatError. Files of an earlier task of that name are replaced.
    """
    wanted = answer_format if isinstance(answer_format, AnswerFormat) else load_format(answer_format)
    rows = read_manifest(manifest, scale=scale, check_images=False)
    folder = Path(folder).absolute()
    data = folder / f"{name}.jsonl"
    write_jsonl(({"id": row.id, "image": str(row.image.absolute()), "mos": row.mos} for row in rows), data)
    write_json(wanted.to_dict(), folder / f"{name}.format.json", ensure_ascii=False)
    write_text(FUNCTIONS.format(name=name), folder / f"{name}_functions.py")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "generate_until",
        "generation_kwargs": {
            "max_new_tokens": max_new_tokens or default_max_tokens(wanted),
            "temperature": 0,
            "do_sample": False,
        },
        "metadata": [{"version": 1.0}],
    }
    # `!function` is lmms-eval's own tag, which the YAML writer knows nothing of.
    module = f"{name}_functions"
    calls = {"doc_to_visual": "to_visual", "doc_to_text": "to_text", "doc_to_target": "to_target"}
    lines = [f"{key}: !function {module}.{value}\n" for key, value in calls.items()]
    lines += [f"process_results: !function {module}.process_results\nmetric_list:\n"]
    for metric in ("srcc", "plcc", "parsed"):
        lines.append(
            f"  - metric: {metric}\n    aggregation: !function {module}.{metric}\n    higher_is_better: true\n"
        )
    path = folder / f"{name}.yaml"
    write_text(yaml.safe_dump(task, sort_keys=False) + "".join(lines), path)
    return path


class TaskFunctions:
    """What lmms-eval calls: picture and prompt for a row of the data, the score of an answer, and the metrics."""

    def __init__(self, answer_format: AnswerFormat) -> None:
        self.answer_format = answer_format

    @classmethod
    def beside(cls, folder: Path, name: str) -> TaskFunctions:
        """Those of the task that was written to the folder under that name."""
        text = (folder / f"{name}.format.json").read_text(encoding="utf-8")
        return cls(AnswerFormat.from_dict(json.loads(text)))

    def to_visual(self, doc: Mapping[str, Any]) -> list[Image.Image]:
        return [load_image(doc["image"])]

    def to_text(self, doc: Mapping[str, Any], lmms_eval_specific_kwargs: Any = None) -> str:
        """The prompt, a system prompt in front of it: a task of lmms-eval has no other place for one."""
        return "\n\n".join(part for part in (self.answer_format.system, self.answer_format.user) if part)

    def to_target(self, doc: Mapping[str, Any]) -> str:
        return f"{doc['mos']:.2f}"

    def process_results(self, doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
        """For each metric (score, human score), the score being NaN where the answer states none."""
        pair = (self.answer_format.parse(results[0]), doc["mos"])
        return {"srcc": pair, "plcc": pair, "parsed": pair}

    def srcc(self, pairs: Sequence[tuple[float, float]]) -> float:
        return srcc(*_stated(pairs))

    def plcc(self, pairs: Sequence[tuple[float, float]]) -> float:
        return plcc(*_stated(pairs))

    def parsed(self, pairs: Sequence[tuple[float, float]]) -> float:
        return len(_stated(pairs)[0]) / len(pairs)


def _stated(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    stated = [pair for pair in pairs if not math.isnan(pair[0])]
    return [score for score, _ in stated], [mos for _, mos in stated]
