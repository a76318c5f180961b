"""Every convention gets the scorer's own scores, as (score − 1) / 4, whatever form the pictures come in."""

from __future__ import annotations

import asyncio
import math
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

import mriqa
from mriqa.adapters import QualityReward, for_image_generation, for_swift, for_trl, for_verl
from mriqa.embedded import build_tiny_qwen3_vl

COLOURS_N1C = np.array([[[250, 10, 10]], [[10, 10, 250]], [[250, 250, 250]], [[10, 10, 10]]], dtype=np.uint8)
NOISE_NHWC = np.random.default_rng(0).integers(0, 6, (4, 64, 80, 3), dtype=np.uint8)
PIXELS_NHWC = COLOURS_N1C[:, None] + NOISE_NHWC
PICTURES = [Image.fromarray(pixels) for pixels in PIXELS_NHWC]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return build_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def scorer(model):
    return mriqa.Scorer.from_pretrained(model, device="cpu")


@pytest.fixture(scope="module")
def expected_N(scorer):
    scores_N = np.array([scorer.score([picture])[0].score for picture in PICTURES])
    assert len(set(scores_N.round(3))) == 4
    return (scores_N - 1) / 4


def as_tensor() -> torch.Tensor:
    return torch.from_numpy(PIXELS_NHWC).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize(
    "form",
    ["pillow", "bytes array", "float array", "tensor", "list of tensors"],
)
def test_image_generation_takes_every_form(scorer, expected_N, form):
    images = {
        "pillow": PICTURES,
        "bytes array": PIXELS_NHWC,
        "float array": PIXELS_NHWC / 255,
        "tensor": as_tensor(),
        "list of tensors": list(as_tensor()),
    }[form]
    rewards_N, info = for_image_generation(scorer)(images, ["a prompt"] * 4, [{}] * 4)
    np.testing.assert_allclose(rewards_N, expected_N, atol=1e-5)
    np.testing.assert_allclose(info["quality"], 1 + 4 * expected_N, atol=1e-4)
    assert (info["quality_std"] > 0).all()


def test_what_cannot_be_scored_earns_nothing_and_shifts_nobody(scorer, expected_N):
    broken = torch.full((3, 64, 80), math.nan)
    rewards_N = QualityReward(scorer)([None, PICTURES[0], b"no image", broken, PICTURES[1]])
    np.testing.assert_allclose(rewards_N, [0, expected_N[0], 0, 0, expected_N[1]], atol=1e-5)
    assert QualityReward(scorer)([]).shape == (0,)


def test_samplers_overshoot_is_clipped_and_wrong_shapes_are_named(scorer):
    wild = as_tensor() * 3 - 1
    reward = QualityReward(scorer)
    np.testing.assert_allclose(reward(wild), reward(wild.clamp(0, 1)), atol=1e-12)
    np.testing.assert_allclose(reward(as_tensor().to(torch.bfloat16)), reward(as_tensor()), atol=0.02)
    with pytest.raises(ValueError, match=r"\(3, H, W\), not \(64, 80, 3\)"):
        reward(torch.from_numpy(PIXELS_NHWC))
    with pytest.raises(ValueError, match="not int64"):
        reward(PIXELS_NHWC.astype(np.int64))


def render(text, row):
    """The picture whose number the policy wrote, out of the row's own."""
    number = re.search(r"\d", text)
    return row["pictures"][int(number[0]) % 4] if number else None


def test_trl_and_swift_columns_become_rows(scorer, expected_N):
    columns = {"prompts": ["p"] * 3, "pictures": [PICTURES] * 3, "trainer_state": object(), "log_metric": print}
    texts = ["the 2nd: 2", "none", "0"]
    wanted = pytest.approx([expected_N[2], 0, expected_N[0]], abs=1e-5)
    conversations = [[{"role": "assistant", "content": text}] for text in texts]
    reward = for_trl(scorer, render)
    assert reward.__name__ == "image_quality"  # under which TRL logs it
    for completions in (texts, conversations):
        rewards = reward(completions=completions, completion_ids=[[1]] * 3, **columns)
        assert rewards == wanted and all(type(value) is float for value in rewards)
    assert for_swift(scorer, render)(args=object())(texts, **columns) == wanted

    shown = [{"role": "tool", "content": [{"type": "text", "text": "here"}, {"type": "image", "image": PICTURES[3]}]}]
    assert for_trl(scorer)(completions=[shown, "only text"]) == pytest.approx([expected_N[3], 0], abs=1e-5)


def test_verl_calls_one_by_one_from_many_threads(scorer, expected_N):
    compute_score = for_verl(scorer, render)

    async def rollout():
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(4) as pool:
            calls = [
                loop.run_in_executor(
                    pool,
                    lambda n=n: compute_score(
                        data_source="d", solution_str=str(n), ground_truth=None, extra_info={"pictures": PICTURES}
                    ),
                )
                for n in range(4)
            ]
            return await asyncio.gather(*calls)

    results = asyncio.run(rollout())
    np.testing.assert_allclose([result["score"] for result in results], expected_N, atol=1e-5)
    np.testing.assert_allclose([result["quality"] for result in results], 1 + 4 * expected_N, atol=1e-4)
    nothing = compute_score(data_source="d", solution_str="?", ground_truth=None, extra_info={"pictures": PICTURES})
    assert nothing == {"score": 0.0, "quality": 0.0}

    images = for_verl(scorer)
    one = images(data_source="d", solution_image=as_tensor()[1], ground_truth="", extra_info={})
    four = images(data_source="d", solution_image=as_tensor(), ground_truth="", extra_info={})
    assert one["score"] == pytest.approx(expected_N[1], abs=1e-5)
    assert four["score"] == pytest.approx(expected_N.mean(), abs=1e-5)
    with pytest.raises(ValueError, match="render"):
        images(data_source="d", solution_str="text", ground_truth="")


def test_trl_trains_with_it(model, scorer, expected_N, tmp_path):
    """One step of TRL's own GRPOTrainer: the mean reward that it logs is that of the pictures the policy chose."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    from mriqa.models import load_vlm

    policy, processor = load_vlm(model, device="cpu")
    chosen = []

    def choose(text, row):
        chosen.append(len(text) % 4)
        return PICTURES[chosen[-1]]

    settings = {
        "output_dir": str(tmp_path),
        "max_steps": 1,
        "per_device_train_batch_size": 4,
        "num_generations": 4,
        "max_completion_length": 4,
        "report_to": "none",
        "use_cpu": True,
        "logging_steps": 1,
        "disable_tqdm": True,
        "save_strategy": "no",
        "gradient_checkpointing": False,
    }
    prompt = [{"role": "user", "content": [{"type": "text", "text": "Choose a picture."}]}]
    trainer = GRPOTrainer(
        model=policy,
        processing_class=processor,
        args=GRPOConfig(**settings),
        reward_funcs=[for_trl(scorer, choose)],
        train_dataset=Dataset.from_list([{"prompt": prompt}] * 4),
    )
    trainer.train()
    logged = next(entry for entry in trainer.state.log_history if "reward" in entry)
    assert len(chosen) == 4
    assert logged["rewards/image_quality/mean"] == pytest.approx(expected_N[chosen].mean(), abs=1e-4)
