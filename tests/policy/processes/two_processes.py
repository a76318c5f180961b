"""Run by test_two_processes.py under torchrun: two rollouts whose middle image's group is split over two processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import gather_object

import mriqa.reward
from mriqa.answers import load_format
from mriqa.manifest import read_manifest
from mriqa.models import load_vlm
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.policy.validation import Validation
from mriqa.training.config import ScoreGRPOConfig
from mriqa.training.training_sets import policy_dataset

model_path, manifest, folder = sys.argv[1:]
answer_format = load_format("non_thinking")
rows = read_manifest(manifest)[:5]  # three images a rollout, so the last two of an epoch make none; uneven validation


class AnsweringTrainer(ScoreGRPOTrainer):
    """The random model writes no answer: put one in the place of each completion, and keep what the rewards were."""

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Any:
        rank, step = self.accelerator.process_index, self.state.global_step
        texts = [answer_format.format(1.5 + 0.8 * place + 0.37 * rank + 0.2 * step) for place in range(len(inputs))]
        if rank == 1:  # at first one answer of the image on both processes doesn't parse, then none of this process
            texts = ["no answer", *texts[1:]] if step == 0 else ["no answer"] * len(texts)
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self.seen.append(
            {
                "ids": [row["image_id"] for row in inputs],
                "mos": [row["mos"] for row in inputs],
                "std": [row["std"] for row in inputs],
                "texts": texts,
                "rewards": rewards.tolist(),
                "statistics": {n: values[-1] for n, values in self._metrics["train"].items() if "score/" in n},
            }
        )
        return rewards

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        rollout = super()._generate_and_score_completions(inputs)
        self.seen[-1]["advantages"] = rollout["advantages"].tolist()
        return rollout


def score(model: Any, processor: Any, batch: Any) -> list[float]:
    return [row.mos + 0.1 * (int(row.id[1:]) % 2) for row in batch]


def run(comparison: str, per_device_batch: int) -> list[dict[str, Any]]:
    """Two steps of training; what each process saw in each of them."""
    model, processor = load_vlm(model_path, device="cpu")
    trainer = AnsweringTrainer(
        model=model,
        processing_class=processor,
        args=ScoreGRPOConfig(
            output_dir=f"{folder}/{comparison}",
            max_steps=2,
            per_device_train_batch_size=per_device_batch,
            num_generations=2,
            max_completion_length=4,
            gradient_checkpointing=False,
            beta=0.0,
            eval_steps=1,
            save_steps=1,
            disable_tqdm=True,
        ),
        reward_funcs=[mriqa.reward.load("margin"), mriqa.reward.load("regression", form="smooth")],
        train_dataset=policy_dataset(rows, answer_format),
        eval_dataset=policy_dataset(rows, answer_format),
        answer_format=answer_format,
        comparison=comparison,
        validation=Validation(
            rows, score, {"mean": lambda predicted, _: float(predicted.mean()), "srcc": lambda *_: 0.5}
        ),
    )
    trainer.seen = []
    trainer.train()
    evaluations = [entry["eval_mean"] for entry in trainer.state.log_history if "eval_mean" in entry]
    return gather_object([{"steps": trainer.seen, "eval_mean": evaluations}])


seen = {"global": run("global", per_device_batch=3), "local": run("local", per_device_batch=4)}
if PartialState().is_main_process:
    Path(folder, "seen.json").write_text(json.dumps(seen))
PartialState().wait_for_everyone()
PartialState().destroy_process_group()  # its threads must not outlive the interpreter, which aborts now and then
