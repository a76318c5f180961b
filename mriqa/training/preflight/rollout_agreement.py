"""Whether a rollout and the update give the same completion the same probability, be it sampled here or by vLLM.

What differs here is what the ratio of policy optimisation takes for a change of the policy. An engine that reads
another prompt (TRL #6294: image tokens expanded twice; #6401: pictures cut up differently in colocate mode), or that
has other weights than the policy, shows in nothing else.

Legend: R rows, two for each sample; P prompt tokens, C completion tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList
from trl.data_utils import prepare_multimodal_messages

from mriqa.policy.prompts_once import PromptsOnce
from mriqa.policy.sampling import sample_completions
from mriqa.policy.trainer import ScoreGRPOTrainer
from mriqa.policy.validation import whole_model
from mriqa.training.preflight.agreement import disagreement, limit_of, quiet_passes
from mriqa.training.preflight.findings import Finding, left_out, passed, problem
from mriqa.training.preflight.planned_run import PlannedRun

LENGTH = 8  # tokens sampled here; an engine samples as many as in training
EACH = 2  # completions of a prompt
LIMIT_OF_ENGINE = 0.1  # vLLM's kernels are others than the policy's

BY_ENGINE = (
    "it reads another prompt (image tokens expanded twice, TRL #6294, or pictures cut up differently in colocate mode, "
    "#6401) or has other weights than the policy: leave out --use_vllm, or try --vllm_mode server"
)
BY_OURSELVES = (
    "they don't see the same prompt or the same weights: try --shared_prefix false, and another release of transformers"
)


class Recorder(LogitsProcessor):
    """Notes the log-probabilities (R, V) that each step of sampling draws from, at a temperature of its own."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append((scores.float() / self.temperature).log_softmax(-1))
        return scores


def check_rollout(run: PlannedRun) -> Finding:
    """Completions of the samples, their log-probabilities as they were sampled, and as the update reads them."""
    trainer = run.trainer
    if not isinstance(trainer, ScoreGRPOTrainer):
        return left_out("Nothing is sampled.")
    unlike_engine = trainer.use_vllm and _why_not_comparable(trainer)
    if unlike_engine:
        return left_out(f"vLLM's log-probabilities aren't those of the policy here: {unlike_engine}.")
    conversations = [
        prepare_multimodal_messages(row["prompt"], images=[row["image"]]) for row in run.samples for _ in range(EACH)
    ]
    prompts = trainer._tokenize_prompts(conversations)
    once = trainer.processing_class
    if trainer.why_not_shared is not None:
        once = PromptsOnce(run.processor, trainer._prepare_input, trainer.chat_template_kwargs, images_per_row=True)
        once.process(conversations)
    with quiet_passes(trainer):
        if trainer.use_vllm:
            completions, logps = trainer._generate_single_turn(*prompts, EACH)
            sampled = [torch.tensor(row) for row in logps]
        else:
            completions, sampled = _here(trainer, once)
        trained_RC = _as_trained(trainer, once, completions)
    apart = max(
        disagreement(sampled_C.to(trained_RC.device), trained_C[: len(sampled_C)])
        for sampled_C, trained_C in zip(sampled, trained_RC, strict=True)
    )
    limit = max(LIMIT_OF_ENGINE, limit_of(trainer)) if trainer.use_vllm else limit_of(trainer)
    engine = "vLLM" if trainer.use_vllm else "The rollout"
    if apart > limit:
        cause = BY_ENGINE if trainer.use_vllm else BY_OURSELVES
        return problem(
            f"{engine} gives its own completions log-probabilities that differ by {apart:.2g} from those that the "
            f"update reads, where rounding explains {limit:g}, so {cause}."
        )
    return passed(f"{engine} and update agree on {len(completions)} completions: within {apart:.1g} of each other.")


def _why_not_comparable(trainer: Any) -> str | None:
    if trainer.top_p not in (None, 1.0) or trainer.top_k not in (None, 0, -1) or trainer.min_p not in (None, 0.0):
        return "top_p, top_k or min_p cut off a part of the distribution"
    if trainer.why_not_shared is None and trainer.logps_temperature != trainer.temperature:
        return "the update reads them at logps_temperature"
    return None


def _here(trainer: Any, once: PromptsOnce) -> tuple[list[list[int]], list[torch.Tensor]]:
    """Completions of LENGTH tokens, and their log-probabilities, by the way in which the trainer samples here."""
    recorder = Recorder(trainer.logps_temperature)
    processors = LogitsProcessorList([recorder])
    tokenizer = trainer.processor.tokenizer
    with whole_model(trainer) as model:
        if trainer._why_not_own_sampling() is None:
            completions = sample_completions(
                model, once.prompts, once.prompt_of_R, processors, max_new_tokens=LENGTH, eos_ids=[],
                pad_id=tokenizer.pad_token_id,
            )  # fmt: skip
        else:
            rows = torch.tensor(once.prompt_of_R)
            inputs = {name: once.prompts[name][rows] for name in ("input_ids", "attention_mask")} | dict(once())
            generate: Any = model.generate  # mypy takes it for a tensor
            ids_RT = generate(
                **inputs, logits_processor=processors, do_sample=True, top_k=0, top_p=1.0, temperature=1.0,
                repetition_penalty=1.0, min_new_tokens=None, max_new_tokens=LENGTH, eos_token_id=None,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
            completions = ids_RT[:, once.prompts["input_ids"].shape[1] :].tolist()
    logps_RCV = torch.stack(recorder.steps, dim=1)
    chosen_RC = torch.tensor(completions, device=logps_RCV.device)
    return completions, list(logps_RCV.gather(-1, chosen_RC[..., None])[..., 0])


def _as_trained(trainer: Any, once: PromptsOnce, completions: list[list[int]]) -> torch.Tensor:
    """Log-probabilities (R, C) of the completions by the trainer's own method, as in the update."""
    rows = torch.tensor(once.prompt_of_R)
    prompt_RP, mask_RP = (once.prompts[name][rows] for name in ("input_ids", "attention_mask"))
    longest = max(map(len, completions))
    pad = trainer.processor.tokenizer.pad_token_id
    ids_RC = torch.tensor([ids + [pad] * (longest - len(ids)) for ids in completions], device=prompt_RP.device)
    mask_RC = torch.tensor(
        [[1] * len(ids) + [0] * (longest - len(ids)) for ids in completions], device=prompt_RP.device
    )
    fields = dict(once())
    for name in ("mm_token_type_ids", "token_type_ids"):
        if fields.get(name) is not None:
            fields[name] = torch.cat([fields[name], torch.zeros_like(ids_RC)], dim=1)
    logps_RC, _, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model,
        torch.cat([prompt_RP, ids_RC], dim=1),
        torch.cat([mask_RP, mask_RC], dim=1),
        longest,
        num_images=[1] * len(once.images),
        **fields,
    )
    return logps_RC
